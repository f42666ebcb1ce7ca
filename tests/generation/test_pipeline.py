import math

import pytest
import torch

from videopoet.errors import MediaError, TaskError
from videopoet.generation.given import clip_to_hear
from videopoet.generation.pipeline import VideoPoet
from videopoet.generation.request import Request
from videopoet.media.files import probe, read_audio, read_video
from videopoet.media.types import Audio, Image, Video
from videopoet.sequence.tasks import TASKS

every_task = pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
SOUND_SAMPLES = 34_000  # of 17 frames at 8 a second


@every_task
def test_a_task_gives_what_the_table_says(poet, task, given):
    steps = []
    result = poet.generate(task.name, seed=1, on_step=lambda *step: steps.append(step), **given(task))
    kind = {"video": Video, "image": Image, "audio": Audio, "text": str}[task.gives[0]]
    with_clip = task.name == "video_to_audio"
    assert isinstance(result.media, Video if with_clip else kind)
    if isinstance(result.media, Video):
        assert (result.media.height, result.media.width, result.media.frame_rate) == (16, 16, 8.0)
        assert result.media.audio is not None
        assert result.media.audio.seconds == result.media.seconds
    done, total = steps[-1]
    captions = task.gives == ("text",)  # which may end before their last step
    assert steps == sorted(set(steps)) and {each for _, each in steps} == {total}
    assert captions or done == total


def test_the_seed_decides_and_is_reported(poet):
    first = poet.generate("unconditional")
    again = poet.generate("unconditional", seed=first.seed)
    other = poet.generate("unconditional", seed=first.seed + 1)
    assert torch.equal(first.media.frames, again.media.frames)
    assert torch.equal(first.media.audio.samples, again.media.audio.samples)
    assert not torch.equal(first.media.frames, other.media.frames)


def test_sound_that_comes_with_a_clip_is_chosen_as_the_model_says_for_sound(make_poet):
    def sounds(temperature):
        poet = make_poet(task_sampling={"video_to_audio": {"temperature": temperature}})
        made = [poet.generate("text_to_video", prompt="a red ball", temperature=0.0, seed=seed) for seed in (1, 2)]
        assert torch.equal(made[0].media.frames, made[1].media.frames)
        return [one.media.audio.samples for one in made]

    assert torch.equal(*sounds(0.0)) and not torch.equal(*sounds(1.0))


def test_sound_does_not_change_the_picture(poet):
    with_sound = poet.generate("text_to_video", prompt="a red ball", seed=1)
    without = poet.generate("text_to_video", prompt="a red ball", seed=1, sound=False)
    assert torch.equal(with_sound.media.frames, without.media.frames)
    assert without.media.audio is None


def test_a_negative_prompt_is_refused_where_the_model_itself_guides_by_nothing(poet):
    settings = poet.parts.settings.model_copy(update={"guidance_scale": 1.0})
    unguided = VideoPoet(**{**vars(poet.parts), "settings": settings})
    with pytest.raises(TaskError, match="negative_prompt .'blue'. is given and guidance_scale is 1"):
        unguided.generate("text_to_video", prompt="a red ball", negative_prompt="blue", seed=1)


def test_the_prompt_the_negative_prompt_and_guidance_matter(poet):
    def frames(**given):
        return poet.generate("text_to_video", seed=1, sound=False, **given).media.frames

    usual = frames(prompt="a red ball")
    assert torch.equal(usual, frames(prompt="a red ball", guidance_scale=3.0))
    for changed in ({"prompt": "a blue star"}, {"negative_prompt": "a blue star"}, {"guidance_scale": 1.0}):
        assert not torch.equal(usual, frames(**({"prompt": "a red ball"} | changed)))


@pytest.mark.parametrize(
    ("length", "num_frames"),
    [
        ({"num_frames": 1}, 1),
        ({"num_frames": 9}, 9),
        ({"num_frames": 33}, 33),
        ({"seconds": 1.0}, 8),
        ({"seconds": 3.0}, 24),
    ],
)
def test_a_clip_has_the_length_asked_for(poet, length, num_frames):
    media = poet.generate("text_to_video", prompt="a red ball", seed=1, **length).media
    assert media.num_frames == num_frames
    assert media.audio.seconds == num_frames / 8


def test_a_longer_clip_begins_like_a_shorter_one(poet):
    long, short = (poet.generate("unconditional", seed=1, num_frames=length).media for length in (25, 9))
    assert torch.equal(long.frames[:, :9], short.frames)
    torch.testing.assert_close(long.audio.samples[:, : 9 * 2000], short.audio.samples)


@pytest.mark.parametrize(
    ("task", "asked", "nearest"),
    [
        ("text_to_video", 8, 9),
        ("text_to_video", 2, 1),
        ("image_to_video", 20, 21),
        ("video_continuation", 9, 8),
        ("video_continuation", 1, 4),
    ],
)
def test_a_length_off_the_grid_is_refused_and_the_nearest_named(poet, given, task, asked, nearest):
    with pytest.raises(TaskError, match=f"num_frames is {asked},.* use {nearest}$") as caught:
        poet.generate(task, num_frames=asked, **given(TASKS[task]))
    assert caught.value.code == "frames_not_on_grid"
    assert poet.generate(task, num_frames=nearest, seed=1, sound=False, **given(TASKS[task])).media


@pytest.mark.parametrize("size", [{"height": 63}, {"width": 32}, {"height": 1024, "width": 1024}])
def test_a_size_the_model_was_not_trained_on_is_refused(poet, size):
    with pytest.raises(TaskError, match="use 16x16") as caught:
        poet.generate("text_to_video", prompt="a red ball", **size)
    assert caught.value.code == "size_invalid"


def test_a_task_the_model_was_not_trained_for_is_refused(make_poet):
    poet = make_poet(tasks=("text_to_video",))
    with pytest.raises(TaskError, match="text_to_video") as caught:
        poet.generate("unconditional")
    assert caught.value.code == "task_unsupported"
    with pytest.raises(TaskError, match="33 frames") as caught:
        poet.generate("text_to_video", prompt="a red ball", num_frames=33)
    assert caught.value.code == "range"
    result = poet.generate("text_to_video", prompt="a red ball")
    assert result.media.audio is None
    assert "silent" in result.warnings[0]


def test_words_that_the_model_does_not_know_are_named(poet):
    result = poet.generate("text_to_image", prompt="a paper ball, a glass star")
    assert len(result.warnings) == 1
    assert "'paper', 'glass'" in result.warnings[0] and "'ball'" not in result.warnings[0]
    assert poet.generate("text_to_image", prompt="a red ball").warnings == ()


@pytest.mark.parametrize(
    ("prompt", "code"),
    [
        ("", "prompt_empty"),
        (" \u200b\n", "prompt_empty"),
        ("a ball <bov_o>", "prompt_special_token"),
        ("a\0ball", "prompt_invalid_character"),
        ("a ball \ud800", "prompt_invalid_character"),
        ("ball " * 65, "prompt_too_long"),
    ],
)
def test_a_bad_prompt_is_refused_in_both_places(poet, prompt, code):
    for given in ({"prompt": prompt}, {"prompt": "a ball", "negative_prompt": prompt}):
        with pytest.raises(TaskError) as caught:
            poet.generate("text_to_video", **given)
        assert caught.value.code == code


# Clips that go on


@pytest.mark.parametrize("length", [{}, {"num_frames": 4}, {"seconds": 2.5}])
def test_a_continuation_is_the_clip_and_what_follows(poet, random_clip, random_sound, length):
    sound = random_sound(20 / 8, sample_rate=44_100, channels=2)
    clip = random_clip(20, audio=sound)
    made = poet.generate("video_continuation", video=clip, seed=1, **length).media
    new = {"num_frames": 4, "seconds": 20}[next(iter(length))] if length else 8
    assert made.num_frames == 20 + new
    assert torch.equal(made.frames[:, :20], clip.frames)
    assert (made.audio.sample_rate, made.audio.num_channels) == (44_100, 2)
    assert torch.equal(made.audio.samples[:, : sound.num_samples], sound.samples)
    assert made.audio.num_samples == pytest.approx(made.seconds * 44_100, abs=2)
    assert made.audio.samples[:, sound.num_samples :].abs().max() > 0


def test_a_continuation_depends_on_the_last_nine_frames_alone(poet, random_clip):
    clip, other = random_clip(20, seed=0), random_clip(20, seed=1)
    other.frames[:, 11:] = clip.frames[:, 11:]
    first, second = (poet.generate("video_continuation", video=video, seed=1).media for video in (clip, other))
    assert torch.equal(first.frames[:, 20:], second.frames[:, 20:])
    other.frames[:, 11:] = 255 - clip.frames[:, 11:]
    third = poet.generate("video_continuation", video=other, seed=1).media
    assert not torch.equal(first.frames[:, 20:], third.frames[:, 20:])


def test_a_clip_too_short_to_go_on_from_is_refused(poet, random_clip):
    with pytest.raises(MediaError, match="8 frames.*9 are needed") as caught:
        poet.generate("video_continuation", video=random_clip(8))
    assert caught.value.code == "video_too_short"


def test_a_continuation_without_sound_keeps_the_clips_own(poet, random_clip, random_sound):
    clip = random_clip(20, audio=random_sound(2.5))
    made = poet.generate("video_continuation", video=clip, seed=1, sound=False).media
    assert torch.equal(made.audio.samples, clip.audio.samples)


def test_a_silent_clip_stays_silent_where_it_goes_on(poet, random_clip):
    made = poet.generate("video_continuation", video=random_clip(20), seed=1).media
    assert not made.audio.samples[:, : 20 * 2000].any()
    assert made.audio.samples[:, 20 * 2000 :].any()


def test_a_picture_comes_to_life_from_its_first_frame_on(poet, random_picture):
    picture = random_picture(16, 16)
    made = poet.generate("image_to_video", image=picture, seed=1, sound=False).media
    kept = poet.reconstruct(Video(picture.frame[:, None], 8.0)).video
    assert torch.equal(made.frames[:, :1], kept.frames)


def test_a_wide_picture_is_cut_to_its_middle(poet, random_picture):
    picture = random_picture(16, 40)
    middle = Image(picture.frame[:, :, 12:28].contiguous())
    made = poet.generate("image_to_video", image=picture, seed=1, sound=False).media
    expected = poet.generate("image_to_video", image=middle, seed=1, sound=False).media
    assert torch.equal(made.frames, expected.frames)


def test_what_is_cut_of_another_shape_is_said(poet, random_picture, random_clip, random_sound, tmp_path):
    wide, tall = random_picture(16, 40), random_clip(17, height=32, width=16)
    wide.save(tmp_path / "wide.png")
    requests = {
        "image_to_video": {"image": tmp_path / "wide.png"},
        "audio_video_continuation": {"image": wide, "audio": random_sound(2.0)},
        "video_continuation": {"video": tall, "num_frames": 4},
        "video_captioning": {"video": tall},
        "inpainting": {"video": tall},
    }
    for task, inputs in requests.items():
        (said,) = poet.generate(task, **inputs, seed=1, sound=False, progress=False).warnings
        size, share = ("40x16", "40% of its width") if "image" in inputs else ("16x32", "50% of its height")
        assert f"{size} and is used at 16x16: the middle {share}; outpainting" in said


def test_what_is_kept_whole_or_hardly_differs_in_shape_warns_of_nothing(poet, random_clip):
    near, tall = random_clip(17, height=100, width=102), random_clip(17, height=32, width=16)
    requests = [("inpainting", near), ("video_captioning", near), ("outpainting", tall), ("video_to_audio", tall)]
    for task, video in requests:
        assert not poet.generate(task, video=video, seed=1, sound=False, progress=False).warnings


# Sound and sight


@pytest.mark.parametrize("num_frames", [1, 30, 70])
def test_a_clip_that_gets_sound_keeps_its_frames(poet, random_clip, num_frames):
    clip = random_clip(num_frames, height=24, width=36, frame_rate=30.0)
    made = poet.generate("video_to_audio", video=clip, seed=1).media
    assert torch.equal(made.frames, clip.frames)
    assert made.frame_rate == 30.0
    assert made.audio.seconds == pytest.approx(clip.seconds, abs=1e-4)
    assert made.audio.sample_rate == 16_000


def test_sound_of_a_long_clip_follows_each_part_of_it(poet, random_clip):
    clip, other = random_clip(34), random_clip(34)
    other.frames[:, 17:] = 255 - clip.frames[:, 17:]
    first = poet.generate("video_to_audio", video=clip, seed=1).media.audio.samples
    second = poet.generate("video_to_audio", video=other, seed=1).media.audio.samples
    faded = SOUND_SAMPLES - 800
    assert torch.equal(first[:, :faded], second[:, :faded])
    assert not torch.equal(first[:, SOUND_SAMPLES:], second[:, SOUND_SAMPLES:])


def test_a_short_sound_gives_a_short_clip_with_that_sound(poet, random_sound):
    sound = random_sound(1.0, sample_rate=22_050, channels=2)
    made = poet.generate("audio_to_video", audio=sound, seed=1).media
    assert made.num_frames == 8
    assert torch.equal(made.audio.samples, sound.samples)


def test_a_long_sound_is_cut_and_that_is_said(poet, random_sound):
    result = poet.generate("audio_to_video", audio=random_sound(3.0), seed=1)
    assert result.media.num_frames == 17
    assert "longer than 2.125 seconds" in result.warnings[0] and "--start" in result.warnings[0]


def test_of_a_long_file_of_sound_only_the_first_window_is_heard(poet, random_sound, tmp_path):
    sound = random_sound(70.0)
    sound.save(tmp_path / "long.wav")
    for start, first in ((None, 0), (65.0, 65 * 16_000)):
        result = poet.generate("audio_to_video", audio=tmp_path / "long.wav", start=start, seed=1)
        heard = result.media.audio.samples
        assert (heard - sound.samples[:, first : first + 34_000]).abs().max() < 1e-4
        assert "longer than 2.125 seconds" in result.warnings[0]


def test_a_silent_sound_is_said(poet):
    result = poet.generate("audio_to_video", audio=Audio(torch.zeros(1, 16_000), 16_000), seed=1)
    assert "silent" in result.warnings[0]


def test_a_sound_too_short_to_go_on_from_is_refused(poet, random_picture, random_sound):
    with pytest.raises(MediaError, match="0.1 seconds") as caught:
        poet.generate("audio_video_continuation", image=random_picture(), audio=random_sound(0.1))
    assert caught.value.code == "audio_too_short"


def test_a_sound_from_words_has_the_length_asked_for(poet):
    assert poet.generate("text_to_audio", prompt="a ball", seconds=0.5).media.num_samples == 8000
    with pytest.raises(TaskError, match="2.125 at most") as caught:
        poet.generate("text_to_audio", prompt="a ball", seconds=3.0)
    assert caught.value.code == "range"


# Edits


@pytest.mark.parametrize("task", ["inpainting", "outpainting"])
def test_a_painted_clip_has_the_length_and_the_sound_of_the_given_one(poet, random_clip, random_sound, task):
    clip = random_clip(13, audio=random_sound(13 / 8))
    made = poet.generate(task, video=clip, mask="dynamic_vertical", seed=1).media
    assert made.num_frames == 13
    assert torch.equal(made.audio.samples, clip.audio.samples)


def test_what_inpainting_hides_cannot_matter(poet, random_clip):
    clip, other = random_clip(17), random_clip(17)
    other.frames[:, :, 4:12, 4:12] = 0
    first, second = (poet.generate("inpainting", video=video, seed=1).media.frames for video in (clip, other))
    assert torch.equal(first, second)


def test_a_clip_longer_than_a_window_is_cut_and_that_is_said(poet, random_clip):
    result = poet.generate("inpainting", video=random_clip(40), seed=1)
    assert result.media.num_frames == 17
    assert "40 frames" in result.warnings[0] and "first 17; --start says" in result.warnings[0]


@pytest.mark.parametrize("task", ["inpainting", "video_continuation", "video_to_audio", "video_captioning"])
def test_a_clip_is_used_from_the_time_asked_for_on(poet, random_clip, random_sound, task):
    clip = random_clip(30, audio=random_sound(30 / 8))
    rest = Video(clip.frames[:, 16:], 8.0, Audio(clip.audio.samples[:, 32_000:], 16_000))
    found = poet.generate(task, video=clip, start=2.0, seed=1)
    wanted = poet.generate(task, video=rest, seed=1)
    assert found.metadata == {**wanted.metadata, "start": 2.0} and found.warnings == wanted.warnings
    if task == "video_captioning":
        assert found.media == wanted.media
    else:
        assert torch.equal(found.media.frames, wanted.media.frames)
        assert torch.equal(found.media.audio.samples, wanted.media.audio.samples)


def test_a_file_is_used_from_the_time_asked_for_on(poet, random_clip, tmp_path):
    clip = random_clip(40)
    clip.save(tmp_path / "clip.mkv")
    result = poet.generate("video_continuation", video=tmp_path / "clip.mkv", start=3.1, seed=1)
    assert torch.equal(result.media.frames[:, :16], read_video(tmp_path / "clip.mkv").frames[:, 24:])


@pytest.mark.parametrize("given", [{"video": 2}, {"audio": 2}])
def test_a_start_after_the_end_is_refused(poet, random_clip, random_sound, given):
    made = {"video": random_clip(16), "audio": random_sound(2.0)}
    name = next(iter(given))
    task = {"video": "inpainting", "audio": "audio_to_video"}[name]
    with pytest.raises(MediaError, match=r"start is 2 s and it ends after 2\.00 s") as caught:
        poet.generate(task, **{name: made[name]}, start=2)
    assert caught.value.code == "start_beyond_end"


def test_a_clip_too_long_to_go_on_from_is_refused_and_where_to_begin_is_said(poet, random_clip, tmp_path):
    random_clip(8 * 62).save(tmp_path / "long.mp4")
    with pytest.raises(MediaError, match=r"begin at 2\.\d s or later, with --start") as caught:
        poet.generate("video_continuation", video=tmp_path / "long.mp4")
    assert caught.value.code == "video_too_long"
    made = poet.generate("video_continuation", video=tmp_path / "long.mp4", start=60.0, seed=1).media
    assert made.num_frames == 2 * 8 + 8


def test_of_a_long_clip_that_gets_sound_the_first_minute_is_kept(random_clip, tmp_path):
    random_clip(8 * 62).save(tmp_path / "long.mp4")
    warnings = []
    assert clip_to_hear(tmp_path / "long.mp4", None, warnings).num_frames == 480
    assert "longer than 60 seconds" in warnings[0] and "--start" in warnings[0]
    assert clip_to_hear(tmp_path / "long.mp4", 2.0, warnings[1:]).num_frames == 480
    assert clip_to_hear(tmp_path / "long.mp4", 50.0, kept := []).num_frames == 96 and not kept


def test_more_frames_than_are_given_cannot_be_painted(poet, random_clip):
    with pytest.raises(TaskError, match="at most 9") as caught:
        poet.generate("inpainting", video=random_clip(9), num_frames=13)
    assert caught.value.code == "range"


@pytest.mark.parametrize(
    "structure",
    [
        torch.zeros(2, 17, 16, 16),
        torch.zeros(3, 17, 16, 8),
        torch.zeros(3, 18, 16, 16),
        torch.zeros(3, 0, 16, 16),
        torch.full((3, 17, 16, 16), float("nan")),
        torch.full((3, 17, 16, 16), 2.0),
        torch.zeros(3, 17, 16, 16, dtype=torch.int64),
    ],
)
def test_a_bad_structure_is_refused(poet, structure):
    with pytest.raises(TaskError) as caught:
        poet.generate("stylization", prompt="a ball", structure=structure)
    assert caught.value.code == "control_invalid"


# What comes back


def test_a_saved_clip_says_how_it_was_made(poet, tmp_path):
    result = poet.generate("text_to_video", prompt="a red ball", negative_prompt="a star", seed=7, top_k=5)
    result.save(tmp_path / "clip.mp4")
    facts = probe(tmp_path / "clip.mp4")
    assert (facts.kind, facts.num_frames, facts.audio_codec) == ("video", 17, "aac")
    metadata = facts.metadata
    assert metadata == result.metadata
    assert metadata["generator"].startswith("videopoet ")
    assert (metadata["prompt"], metadata["negative_prompt"], metadata["seed"], metadata["top_k"]) == (
        "a red ball",
        "a star",
        7,
        5,
    )
    result.save(tmp_path / "plain.mp4", metadata=False)
    assert probe(tmp_path / "plain.mp4").metadata == {}


def test_metadata_names_no_file(poet, random_picture, tmp_path):
    random_picture().save(tmp_path / "secret.png")
    result = poet.generate("image_to_video", image=tmp_path / "secret.png", seed=1)
    assert "secret" not in str(result.metadata)


def test_a_caption_is_saved_as_text_and_a_clips_sound_alone_as_wav(poet, random_clip, tmp_path):
    caption = poet.generate("video_captioning", video=random_clip(), seed=1)
    caption.save(tmp_path / "caption.txt")
    assert (tmp_path / "caption.txt").read_text() == caption.media + "\n"
    clip = poet.generate("video_to_audio", video=random_clip(), seed=1)
    clip.save(tmp_path / "sound.wav")
    assert read_audio(tmp_path / "sound.wav").num_samples == clip.media.audio.num_samples


def test_a_model_in_training_stays_in_training(poet):
    poet.parts.language_model.train()
    poet.generate("text_to_image", prompt="a ball", progress=False)
    assert poet.parts.language_model.training
    poet.parts.language_model.eval()


def test_what_a_step_raises_ends_the_work(poet):
    class Cancelled(Exception):
        pass

    def cancel(done, total):
        if done == 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        poet(Request(task="unconditional"), on_step=cancel)


@pytest.mark.parametrize(("num_frames", "kept"), [(1, 1), (4, 1), (17, 17), (30, 29)])
def test_a_reconstruction_keeps_what_fits_the_grid(poet, random_clip, random_sound, num_frames, kept):
    seen = poet.reconstruct(random_clip(num_frames, height=20, width=30, audio=random_sound(num_frames / 8)))
    assert (seen.video.num_frames, seen.video.height, seen.video.width) == (kept, 16, 16)
    assert seen.video.audio is not None and 0 <= seen.video.seconds - seen.video.audio.seconds < 0.125
    codes = (1 + (kept - 1) // 4) * 2 * 2
    assert seen.bits_per_pixel == pytest.approx(codes * 6 / (kept * 16 * 16))
    assert 0 < seen.psnr < 40 and -1 <= seen.ssim <= 1


def test_a_reconstruction_begins_at_start_and_says_what_it_leaves_out(poet, random_clip, tmp_path):
    clip = random_clip(40, height=16, width=32)
    clip.save(tmp_path / "clip.mkv")
    seen = poet.reconstruct(tmp_path / "clip.mkv", start=1.0)
    assert seen.video.num_frames == 29
    rest = poet.reconstruct(read_video(tmp_path / "clip.mkv", start=1.0))
    assert torch.equal(seen.video.frames, rest.video.frames) and seen.psnr == rest.psnr
    cut, ending = seen.warnings
    assert "32x16 and is used at 16x16: the middle 50% of its width; crop it yourself" in cut
    assert "has 32 frames at 8 a second; the tokens hold the first 29" in ending
    assert not poet.reconstruct(random_clip(17, height=32, width=32)).warnings
    with pytest.raises(MediaError, match=r"start is 9 s and it ends after 5\.00 s"):
        poet.reconstruct(clip, start=9)
    with pytest.raises(TaskError, match="start is nan; it must be from 0 to"):
        poet.reconstruct(clip, start=math.nan)


def test_a_real_clip_goes_on(poet, real_media):
    path = next((real_media / "video").rglob("*.mp4"))
    made = poet.generate("video_continuation", video=path, seed=1)
    assert made.media.num_frames > 9 + 8
    heard = poet.generate("video_to_audio", video=str(path), seed=1).media
    assert (heard.height, heard.width) == (probe(path).height, probe(path).width)


def test_a_picture_is_captioned_as_a_clip_at_rest(poet, random_picture, tmp_path):
    picture = random_picture()
    picture.save(tmp_path / "photo.png")
    at_rest = Video(picture.frame[:, None].expand(-1, 17, -1, -1).contiguous(), 8.0)
    caption = poet.generate("video_captioning", video=at_rest, seed=1).media
    assert poet.generate("video_captioning", video=tmp_path / "photo.png", seed=1).media == caption
