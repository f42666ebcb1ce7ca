import ast

import pytest
import torch

from videopoet.data.toybox import Config, ToyBox
from videopoet.evaluation import oracle
from videopoet.evaluation.oracle import MOTIONS, PALETTE, hear_impacts, read_subject

WORLD = ToyBox(Config(split="validation"))
MIRRORED = {"left": "right", "right": "left"}
REVERSED = MIRRORED | {"up": "down", "down": "up", "grow": "shrink", "shrink": "grow"}


def scene(seed=0, **slots):
    return WORLD.scene(seed, num_subjects=1, camera="still", **slots)


def clip(seed=0, **slots):
    return WORLD.render([scene(seed, **slots)], audio=False).video[0]


def read(video):
    return read_subject(video)[:2]


@pytest.fixture(scope="module")
def known():
    """Subjects, their tracks and what is read of them."""
    scenes = [scene(seed) for seed in range(20)]
    clips = WORLD.render(scenes, audio=False, truth=True)
    assert clips.tracks is not None
    return [
        (scene.subjects[0], tracks[0], read_subject(video))
        for scene, tracks, video in zip(scenes, clips.tracks, clips.video, strict=True)
    ]


def test_colour_and_motion_of_ground_truth_are_read(known):
    assert [read[:2] for _, _, read in known] == [(subject.colour, subject.motion) for subject, _, _ in known]


def test_the_track_lies_on_the_subject(known):
    for subject, track, read in known:
        if subject.colour != "white":
            assert (read.track - track).norm(dim=1).median() < 3, subject.triple


@pytest.mark.parametrize("colour", PALETTE)
def test_every_colour_is_told(colour):
    assert read(clip(seed=3, colour=colour, motion="up", kind="sea")) == (colour, "up")


@pytest.mark.parametrize("motion", MOTIONS)
def test_every_motion_is_told(motion):
    assert read(clip(seed=4, colour="red", motion=motion, kind="grass")) == ("red", motion)


@pytest.mark.parametrize("motion", ["left", "right", "up", "orbit", "grow"])
def test_a_mirrored_clip_moves_the_other_way(motion):
    video = clip(seed=5, colour="blue", motion=motion)
    assert read(video.flip(3)) == ("blue", MIRRORED.get(motion, motion))


@pytest.mark.parametrize("motion", ["left", "up", "down", "still", "orbit", "grow", "shrink"])
def test_a_reversed_clip_moves_the_other_way(motion):
    video = clip(seed=6, colour="pink", motion=motion)
    assert read(video.flip(1)) == ("pink", REVERSED.get(motion, motion))


def test_another_colour_is_another_reading():
    video = clip(seed=7, colour="red", motion="left", kind="snow")
    assert read(video[[2, 1, 0]]) == ("blue", "left")
    assert read(video[[1, 0, 2]]) == ("green", "left")


@pytest.mark.parametrize("kind", ["grass", "sea", "sand", "night", "street", "room", "forest"])
def test_scenery_alone_has_no_subject(kind):
    passing = clip(seed=8, colour="red", size="small", motion="right", kind=kind)
    scenery = passing.median(dim=1, keepdim=True).values.expand(-1, 17, -1, -1)
    reading = read_subject(scenery)
    assert reading[:2] == (None, None)
    assert reading.track.isnan().all()


@pytest.mark.parametrize("shade", [-1.0, 0.0, 1.0])
def test_a_blank_clip_has_no_subject(shade):
    assert read(torch.full((3, 17, 64, 64), shade)) == (None, None)


def test_one_frame_has_a_colour_and_no_motion():
    assert read(clip(colour="green", motion="still")[:, :1]) == ("green", None)


def test_one_stray_frame_does_not_change_the_motion():
    video = clip(seed=9, colour="purple", motion="right", size="medium")
    stray = video.clone()
    stray[:, 8] = video[:, 8].roll(20, dims=1)
    assert read(stray) == ("purple", "right")


def test_the_oracle_never_sees_labels():
    tree = ast.parse(open(oracle.__file__, encoding="utf-8").read())
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    modules |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert not any(str(module).startswith("videopoet") for module in modules)


@pytest.mark.parametrize("shape", ["ball", "square", "raccoon"])
@pytest.mark.parametrize("motion", ["bounce", "fall", "left"])
def test_impacts_are_heard_when_they_happen(shape, motion):
    one = scene(seed=10, shape=shape, motion=motion)
    audio = WORLD.render([one]).audio
    heard = hear_impacts(audio[0, 0], 16_000).tolist()
    assert heard == pytest.approx([impact.seconds for impact in one.impacts], abs=0.01)
    assert bool(heard) == (motion != "left")


def test_silence_has_no_impacts():
    assert len(hear_impacts(torch.zeros(34_000), 16_000)) == 0
