import gc
import json
import math

import pytest
import torch

from videopoet.errors import MediaError, TaskError
from videopoet.generation import composition
from videopoet.generation.soundtrack import Soundtrack
from videopoet.generation.story import Scene, read_story, scenes_of
from videopoet.generation.window import Window
from videopoet.media.files import probe, read_video
from videopoet.media.types import Video

STORY = [{"prompt": "a red ball", "seconds": 3}, {"prompt": "a blue star flies", "seconds": 2}]


def whole(film) -> Video:
    parts = list(film)
    return Video(torch.cat([part.frames for part in parts], dim=1), parts[0].frame_rate)


def sound_of(parts) -> torch.Tensor:
    return torch.cat([part.audio.samples for part in parts], dim=1)


# What a film shows


@pytest.mark.parametrize("beginning", [None, "image"])
def test_a_film_of_one_scene_is_what_generate_makes(poet, materials, tmp_path, beginning):
    given = {} if beginning is None else {beginning: materials[beginning]}
    task = "text_to_video" if beginning is None else "image_to_video"
    film = poet.film([Scene("a red ball", 5.0)], seed=7, **given)
    made = poet.generate(task, prompt="a red ball", seconds=5.0, seed=7, **given).media
    parts = list(film)
    assert torch.equal(whole(film).frames, made.frames)
    assert torch.equal(sound_of(parts), made.audio.samples)
    assert all(part.audio.seconds == part.seconds for part in parts)
    film.save(tmp_path / "film.mp4", metadata=False)
    made.save(tmp_path / "made.mp4")
    assert (tmp_path / "film.mp4").read_bytes() == (tmp_path / "made.mp4").read_bytes()


def test_a_scene_changes_what_follows_it_and_nothing_before(poet):
    film, other = (
        whole(poet.film([*STORY[:1], {"prompt": prompt, "seconds": 2}], seed=1, sound=False)).frames
        for prompt in ("a blue star flies", "a ball")
    )
    assert film.shape[1] == other.shape[1] == 40
    assert torch.equal(film[:, :24], other[:, :24])
    assert not torch.equal(film[:, 24:], other[:, 24:])


def test_scenes_keep_their_lengths_to_the_nearest_frame(poet):
    story = [Scene("a ball", seconds) for seconds in (1.2, 0.1, 0.3, 1.475)]
    parts = list(poet.film(story, seed=1))
    assert sum(part.num_frames for part in parts) == round(8 * sum(scene.seconds for scene in story))
    assert sound_of(parts).shape[1] == sum(part.num_frames for part in parts) * 2000


def test_a_film_goes_on_from_a_clip_and_begins_with_it(poet, random_clip, random_sound):
    clip = random_clip(20, audio=random_sound(2.5, sample_rate=44_100, channels=2))
    parts = list(poet.film(STORY, video=clip, seed=1))
    assert torch.equal(parts[0].frames, clip.frames)
    assert [part.num_frames for part in parts[1:]] == [8] * 5
    assert {(part.audio.sample_rate, part.audio.num_channels) for part in parts} == {(16_000, 1)}
    assert parts[0].audio.samples.abs().max() > 0.1
    made = poet.generate("video_continuation", prompt="a red ball", video=clip, seconds=3, seed=1, sound=False).media
    assert torch.equal(torch.cat([part.frames for part in parts[1:4]], dim=1), made.frames[:, 20:])
    silent = list(poet.film(STORY, video=clip, seed=1, sound=False))
    assert all(part.audio is None for part in silent)


def test_a_film_says_at_once_what_it_cuts_of_its_beginning(poet, random_picture, random_clip):
    story = [{"prompt": "a red ball", "seconds": 1}]
    (said,) = poet.film(story, image=random_picture(16, 40), sound=False).warnings
    assert "40x16 and is used at 16x16" in said
    assert not poet.film(story, video=random_clip(17), sound=False).warnings


def test_a_camera_move_of_a_scene_is_read_by_the_model(make_poet, poet):
    moved = whole(poet.film([STORY[0], {**STORY[1], "camera": "zoom in"}], seed=1, sound=False)).frames
    said = whole(
        poet.film([STORY[0], {**STORY[1], "prompt": "a blue star flies, zoom in"}], seed=1, sound=False)
    ).frames
    plain = whole(poet.film(STORY, seed=1, sound=False)).frames
    assert torch.equal(moved, said) and not torch.equal(moved, plain)


def test_a_saved_film_tells_its_story(poet, tmp_path):
    film = poet.film(STORY, seed=9)
    film.save(tmp_path / "film.mp4")
    facts = probe(tmp_path / "film.mp4")
    assert (facts.num_frames, facts.audio_codec) == (40, "aac")
    assert facts.metadata == film.metadata
    assert facts.metadata["seed"] == 9
    assert [scene["prompt"] for scene in facts.metadata["story"]] == ["a red ball", "a blue star flies"]
    seen = read_video(tmp_path / "film.mp4")
    assert seen.num_frames == 40 and seen.audio.seconds == pytest.approx(5.0, abs=0.1)


# Memory


def test_a_film_of_twenty_windows_holds_no_more_than_one_of_nine(poet, monkeypatch):
    monkeypatch.setattr(composition, "ROWS_AT_ONCE", 4)

    def most_held(seconds):
        """The most bytes of tensors, and the most tensors, alive whenever a part arrives."""
        most = (0, 0)
        for part in poet.film([Scene("a red ball", seconds)], seed=1):
            del part
            alive = [one.numel() * one.element_size() for one in gc.get_objects() if type(one) is torch.Tensor]
            most = max(most, (sum(alive), len(alive)))
        return most

    short, long = most_held(10.1), most_held(21.1)
    assert long[0] <= short[0] * 1.01
    assert long[1] <= short[1] + 2


def test_a_film_that_is_stopped_leaves_no_file(poet, tmp_path):
    class Stopped(Exception):
        pass

    def stop(done, total):
        if done > total // 2:
            raise Stopped

    with pytest.raises(Stopped):
        poet.film([Scene("a red ball", 20)], seed=1, on_step=stop).save(tmp_path / "film.mp4")
    assert list(tmp_path.iterdir()) == []


def test_a_model_in_training_stays_in_training(poet):
    poet.parts.language_model.train()
    parts = iter(poet.film([Scene("a ball", 3)], seed=1))
    next(parts)
    parts.close()
    assert poet.parts.language_model.training
    poet.parts.language_model.eval()


# The joints of the sound


def tone(window, frequency=440.0, phase=0.0):
    times = torch.arange(window.num_samples) / window.sample_rate
    return torch.sin(2 * math.pi * frequency * times + phase)[None]


def test_sounds_fade_into_one_another_and_keep_their_length(poet):
    window = Window(poet.parts)
    track = Soundtrack(window)
    one, other = torch.ones(1, window.num_samples), -torch.ones(1, window.num_samples)
    assert track.add(one, 0, 17) is None
    first = track.add(other, 9, 8)
    assert first.shape[1] == 34_000 and track.end().shape[1] == 16_000
    joined = torch.cat([first, track.end()], dim=1)[0]
    assert joined.diff().abs().max() < 0.02  # a hard joint would jump by 2
    assert (joined[:33_000] == 1).all() and (joined[34_000:] == -1).all()


def test_unlike_sounds_keep_their_power_through_a_joint(poet):
    window = Window(poet.parts)
    stream = torch.Generator().manual_seed(0)
    power = torch.zeros(34_000)
    for _ in range(200):
        track = Soundtrack(window)
        track.add(torch.randn(1, window.num_samples, generator=stream), 0, 17)
        power += track.add(torch.randn(1, window.num_samples, generator=stream), 9, 8)[0] ** 2 / 200
    faded = power[33_600:].view(-1, 40).mean(dim=1)
    assert (faded - 1).abs().max() < 0.15


# Stories


def test_a_story_is_read_from_a_file(tmp_path):
    file = tmp_path / "story.json"
    file.write_text(json.dumps([{"prompt": "a ball", "seconds": 2, "camera": "pan left"}]))
    assert read_story(file) == (Scene("a ball", 2, "pan left"),)


@pytest.mark.parametrize(
    ("story", "said", "code"),
    [
        ([], "must be a list of scenes", "story_invalid"),
        ("a ball", "must be a list of scenes", "story_invalid"),
        ({"prompt": "a ball", "seconds": 2}, "must be a list of scenes", "story_invalid"),
        (["a ball"], "scene 1 is 'a ball'", "story_invalid"),
        ([STORY[0], {"prompt": "a ball"}], "scene 2 lacks 'seconds'", "story_invalid"),
        ([{"prompt": "a ball", "seconds": 2, "sound": 1}], "scene 1 has 'sound'", "story_invalid"),
        ([{"prompt": 3, "seconds": 2}], "prompt of a scene is 3", "type"),
        ([{"prompt": "a ball", "seconds": "2"}], "seconds of a scene is '2'", "type"),
        ([{"prompt": "a ball", "seconds": 0}], "above 0", "range"),
        ([{"prompt": "a ball", "seconds": math.nan}], "above 0", "range"),
        ([{"prompt": "a ball", "seconds": 2000}] * 2, "4000 seconds.*3600 are the most", "range"),
    ],
)
def test_a_bad_story_is_refused(story, said, code):
    with pytest.raises(TaskError, match=said) as caught:
        scenes_of(story)
    assert caught.value.code == code


@pytest.mark.parametrize(("text", "code"), [(None, "story_missing"), ("{", "story_invalid"), ("3", "story_invalid")])
def test_a_file_that_is_no_story_is_refused(tmp_path, text, code):
    if text is not None:
        (tmp_path / "story.json").write_text(text)
    with pytest.raises(TaskError) as caught:
        read_story(tmp_path / "story.json")
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("story", "inputs", "said"),
    [
        (STORY, {"prompt": "a ball"}, "each scene has its own"),
        (STORY, {"seconds": 4}, "each scene has its own"),
        (STORY, {"upscale": 2}, "cannot be upscaled"),
        (STORY, {"audio": "a.wav"}, "has no place for it"),
        (STORY, {"top_p": 7.0}, "top_p"),
        ([STORY[0], {**STORY[1], "camera": "spin"}], {}, "'spin'"),
        ([STORY[0], {**STORY[1], "prompt": "<bov_o>"}], {}, "bov_o"),
        ([{"prompt": "a ball", "seconds": 0.5}, STORY[1]], {}, "at least 1.125 seconds"),
    ],
)
def test_what_a_film_cannot_be_made_of_is_refused_at_once(poet, story, inputs, said):
    with pytest.raises(TaskError, match=said):
        poet.film(story, **inputs)


def test_a_model_that_cannot_go_on_makes_no_long_film(make_poet, tmp_path, poet):
    with pytest.raises(TaskError, match="not trained to go on"):
        make_poet(tasks=("text_to_video",)).film(STORY)
    with pytest.raises(MediaError, match="'.gif'"):
        poet.film(STORY, seed=1).save(tmp_path / "film.gif")
