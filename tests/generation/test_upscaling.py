import pytest
import torch

from videopoet import runtime
from videopoet.errors import CheckpointError, ConfigError, MediaError, TaskError, VideoPoetError
from videopoet.generation import upscaling
from videopoet.generation.masked_decoding import MaskedSampling
from videopoet.generation.pipeline import VideoPoet
from videopoet.media.files import read_video
from videopoet.media.types import Image, Video
from videopoet.models import super_resolution
from videopoet.models.super_resolution import SuperResolution

FEW = MaskedSampling(num_steps=2)


def with_super_resolution(poet: VideoPoet, **values) -> VideoPoet:
    torch.manual_seed(1)
    config = {"num_bits": 6, "text_size": poet.parts.text_encoder.size, "width": 32, "head_width": 16}
    config |= {"hidden_width": 48, "num_blocks": 1, "windows": ((1, None, 4), (1, 4, None), (5, 4, 4))}
    model = SuperResolution(super_resolution.Config(**(config | values)))
    for parameter in model.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.3)
    parts = poet.parts
    return VideoPoet(
        parts.video_tokenizer,
        parts.audio_tokenizer,
        parts.text_encoder,
        parts.language_model,
        parts.vocabulary,
        parts.settings.model_copy(update={"upscaling": FEW}),
        model.eval(),
    )


@pytest.fixture(scope="module")
def large(poet) -> VideoPoet:
    return with_super_resolution(poet)


@pytest.mark.parametrize("shape", [(17, 16, 16), (1, 24, 16), (20, 16, 8), (43, 17, 13)])
@pytest.mark.parametrize("factor", [2, 4])
def test_a_clip_of_any_size_and_length_becomes_so_many_times_as_large(large, random_clip, random_sound, shape, factor):
    sound = random_sound()
    clip = random_clip(*shape, frame_rate=12.5, audio=sound)
    made = upscaling.upscale(large.parts, clip, factor)
    assert isinstance(made, Video)
    assert made.frames.shape == (3, shape[0], factor * shape[1], factor * shape[2])
    assert made.frame_rate == 12.5 and made.audio is sound


def test_a_picture_is_upscaled_too(large, random_picture):
    made = upscaling.upscale(large.parts, random_picture(), 2)
    assert isinstance(made, Image) and made.frame.shape == (3, 32, 32)


def test_a_seed_gives_the_same_clip_again_and_another_seed_another(large, random_clip):
    clip = random_clip(17)
    one, again, other = (upscaling.upscale(large.parts, clip, seed=seed).frames for seed in (3, 3, 4))
    assert torch.equal(one, again) and not torch.equal(one, other)


def test_what_comes_later_changes_nothing_that_was_upscaled_before(large, random_clip):
    clip = random_clip(40)
    whole, first = upscaling.upscale(large.parts, clip), upscaling.upscale(large.parts, Video(clip.frames[:, :17], 8.0))
    assert torch.equal(whole.frames[:, :17], first.frames)


def test_a_window_is_decoded_with_the_codes_of_the_frames_before_it(large, random_clip, monkeypatch):
    seen = []

    def decode(model, codes, *rest):
        seen.append(codes.clone())
        return codes.clamp_min(0)

    monkeypatch.setattr(upscaling, "decode", decode)
    made = upscaling.upscale(large.parts, random_clip(29), 2)
    first, second = seen
    assert (first == -1).all() and (second[:, 2:] == -1).all()
    shown = Video(made.frames[:, 12:17], 1.0).pixels()
    with torch.no_grad(), runtime.autocast("cpu"):
        assert torch.equal(second[:, :2], large.parts.video_tokenizer.encode(shown[None]))


def test_a_faithful_clip_scaled_down_again_is_what_was_given(large):
    # Smooth: what overshoots the range of pixels is clipped and cannot come back.
    ramp = torch.linspace(60, 190, 16)
    frames = (ramp[:, None] + ramp) / 2
    clip = Video(frames.expand(3, 9, 16, 16).round().to(torch.uint8), 8.0)
    free, halfway, faithful = (
        upscaling.upscale(large.parts, clip, sampling=MaskedSampling(faithfulness=share)).frames.float()
        for share in (0, 0.5, 1)
    )

    def error(made):
        return (upscaling.bicubic(made, 16, 16) - clip.frames.float()).abs().mean()

    assert error(faithful) < 0.5 * error(free)
    assert error(faithful) < error(halfway) < error(free)
    assert not torch.equal(faithful, upscaling.bicubic(clip.frames.float(), 32, 32))


def test_the_prompt_has_a_say(large, random_clip):
    sampling = MaskedSampling(num_steps=2, temperature=0, choice_temperature=0, text_guidance=4)
    clip, prompt = random_clip(17), torch.tensor(large.parts.text_encoder.encode("a red ball"))
    silent, told = (upscaling.upscale(large.parts, clip, prompt=words, sampling=sampling) for words in (None, prompt))
    assert not torch.equal(silent.frames, told.frames)


def test_generate_upscales_what_it_makes_and_says_so(large, poet):
    plain = poet.generate("text_to_video", prompt="a red ball", seed=5, progress=False)
    seen = []
    made = large.generate(
        "text_to_video", prompt="a red ball", seed=5, upscale=2, progress=False, on_step=lambda *step: seen.append(step)
    )
    assert made.metadata["upscale"] == 2 and made.metadata["seed"] == 5
    assert (made.media.height, made.media.num_frames) == (2 * plain.media.height, plain.media.num_frames)
    assert torch.equal(made.media.audio.samples, plain.media.audio.samples)
    assert seen[-1][0] == seen[-1][1] and all(done <= total for done, total in seen)


@pytest.mark.parametrize("task", ["text_to_video", "text_to_image"])
def test_frames_are_shown_as_drafts_and_again_when_they_are_upscaled(large, task):
    stream = large.stream(task, prompt="a red ball", seed=3, upscale=2)
    *drafts, final = list(stream)
    assert all(piece.draft and piece.frames.shape[2:] == (16, 16) for piece in drafts)
    assert (final.first, final.draft) == (0, False) and final.frames.shape[1] == sum(
        piece.frames.shape[1] for piece in drafts
    )
    made = stream.result.media
    assert torch.equal(final.frames, made.frames if isinstance(made, Video) else made.frame[:, None])


def test_a_clip_of_ones_own_is_upscaled_with_its_settings_in_the_metadata(large, random_clip):
    result = large.upscale(random_clip(9), 2, prompt="a red ball", seed=1, num_steps=3, progress=False)
    assert result.media.frames.shape == (3, 9, 32, 32)
    assert {"upscale": 2, "num_steps": 3, "seed": 1, "prompt": "a red ball"}.items() <= result.metadata.items()
    with pytest.raises(ConfigError, match="num_step"):
        large.upscale(random_clip(9), num_step=3)


def test_a_clip_of_ones_own_is_upscaled_from_the_time_asked_for_on(large, random_clip, random_picture, tmp_path):
    clip = random_clip(20)
    clip.save(tmp_path / "clip.mkv")
    rest = large.upscale(read_video(tmp_path / "clip.mkv", start=1.0), seed=1, progress=False)
    result = large.upscale(tmp_path / "clip.mkv", start=1.0, seed=1, progress=False)
    assert torch.equal(result.media.frames, rest.media.frames) and result.metadata["start"] == 1.0
    assert torch.equal(large.upscale(clip, start=1.0, seed=1, progress=False).media.frames, rest.media.frames)
    for media, start, said in (
        (clip, 3, r"start is 3 s and it ends after 2\.50 s"),
        (clip, -1, "start is -1; it must be from 0"),
        (clip, "1", "it must be a number"),
        (random_picture(), 1, r"was given start \(1\) and a picture"),
    ):
        with pytest.raises(VideoPoetError, match=said):
            large.upscale(media, start=start)


@pytest.mark.parametrize(("num_frames", "factor"), [(17, 2), (18, 2), (29, 4), (30, 2)])
def test_the_steps_foretold_are_those_taken(large, random_clip, num_frames, factor):
    steps = []
    upscaling.upscale(large.parts, random_clip(num_frames), factor, on_step=lambda: steps.append(1))
    assert len(steps) == upscaling.num_steps(large.parts, num_frames, factor)


def test_the_steps_of_a_long_clip_end_with_its_upscaling(large):
    seen = []
    large.generate(
        "unconditional",
        num_frames=33,
        upscale=2,
        seed=1,
        progress=False,
        on_step=lambda done, total: seen.append((done, total)),
    )
    assert seen[-1][0] == seen[-1][1]


def test_a_poet_with_super_resolution_is_saved_whole(large, poet, random_clip, tmp_path):
    large.save_pretrained(tmp_path / "large", torch.float32)
    loaded = VideoPoet.from_pretrained(tmp_path / "large", device="cpu")
    assert loaded.parts.settings.upscaling == FEW
    assert torch.equal(
        upscaling.upscale(loaded.parts, random_clip(9)).frames, upscaling.upscale(large.parts, random_clip(9)).frames
    )
    assert "super_resolution" in loaded.describe()["parameters"]
    poet.save_pretrained(tmp_path / "plain")
    assert VideoPoet.from_pretrained(tmp_path / "plain", device="cpu").parts.super_resolution is None


def test_super_resolution_for_other_codes_is_refused(poet):
    with pytest.raises(CheckpointError, match="256 visual codes"):
        with_super_resolution(poet, num_bits=8)


def test_a_poet_without_super_resolution_says_so_before_it_works(poet, random_clip):
    steps = []
    with pytest.raises(TaskError, match="has no super-resolution"):
        poet.generate("text_to_video", prompt="a ball", upscale=2, on_step=lambda *step: steps.append(step))
    assert not steps
    with pytest.raises(TaskError, match="has no super-resolution"):
        poet.upscale(random_clip())


@pytest.mark.parametrize(
    ("task", "inputs", "message"),
    [
        ("text_to_video", {"prompt": "a ball", "upscale": 3}, "2 and 4 fit"),
        ("text_to_video", {"prompt": "a ball", "upscale": 8}, "from 2 to 4"),
        ("text_to_video", {"prompt": "a ball", "upscale": 2.0}, "a whole number"),
        ("text_to_audio", {"prompt": "a ball", "upscale": 2}, "only clips and pictures"),
    ],
)
def test_other_factors_and_sounds_are_refused(large, task, inputs, message):
    with pytest.raises(TaskError, match=message):
        large.generate(task, **inputs)


def test_what_would_not_fit_into_memory_is_refused(large):
    clip = Video(torch.zeros(3, 17, 1024, 1024, dtype=torch.uint8), 8.0)
    with pytest.raises(MediaError, match=r"1024x1024 .* 456x456") as refused:
        upscaling.upscale(large.parts, clip)
    assert refused.value.code == "video_too_large"
    assert upscaling.upscale(large.parts, Video(clip.frames[:, :1, :64, :64], 8.0)).frames.shape[2:] == (128, 128)


def test_what_was_given_is_still_there_when_a_larger_result_is_scaled_down_again(large, random_clip, monkeypatch):
    asked = []

    def upscale(parts, media, factor, prompt, seed, sampling, **more):
        asked.append((sampling or parts.settings.upscaling).faithfulness)
        return media

    monkeypatch.setattr(upscaling, "upscale", upscale)
    for task in ("text_to_video", "video_continuation", "inpainting"):
        given = {"prompt": "a ball"} if task == "text_to_video" else {"video": random_clip(17)}
        large.generate(task, upscale=2, seed=0, sound=False, progress=False, **given)
    assert asked == [0, 1, 1]


def test_guidance_towards_words_that_are_not_there_is_refused(large, random_clip):
    with pytest.raises(TaskError, match="text_guidance is 6 and there is no prompt to follow"):
        large.upscale(random_clip(17), text_guidance=6)
