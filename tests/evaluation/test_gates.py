import pytest
import torch

from videopoet.data.toybox import Config, ToyBox
from videopoet.evaluation import prompts
from videopoet.evaluation.gates import CHANGED, INVALID, is_told_apart, slots
from videopoet.evaluation.reading import read_clip

WORLD = ToyBox(Config(split="validation"))


@pytest.mark.parametrize("combinations", ["seen", "held_out"])
def test_truth_is_read_in_every_slot(combinations):
    world = ToyBox(Config(split="validation", combinations=combinations))
    scenes = [world.scene(seed, num_subjects=1) for seed in range(400, 405)]
    clips = world.render(scenes)
    for scene, video, audio in zip(scenes, clips.video, clips.audio, strict=True):
        right = slots(read_clip(video, clips.frame_rate, audio, clips.sample_rate), scene)
        assert all(right.values()), (scene.seed, [slot for slot, hit in right.items() if not hit])


def test_truth_outside_the_range_of_training_is_read_in_every_slot():
    scenes = [prompts.scene("outside", 3_000_400 + number, number, WORLD) for number in range(5)]
    clips = WORLD.render(scenes)
    for scene, video, audio in zip(scenes, clips.video, clips.audio, strict=True):
        right = slots(read_clip(video, clips.frame_rate, audio, clips.sample_rate), scene)
        assert all(right.values()), (scene.seed, [slot for slot, hit in right.items() if not hit])


@pytest.mark.parametrize("name", INVALID)
def test_what_is_no_clip_of_ours_is_invalid(name):
    for seed in range(2):
        found = INVALID[name](WORLD, seed).read(WORLD)
        assert not found.valid and found.reason, seed


@pytest.mark.parametrize("name", CHANGED)
def test_a_change_changes_what_was_changed_and_nothing_else(name):
    for seed in range(2):
        one, other = CHANGED[name](WORLD, seed)
        first, second = one.read(WORLD), other.read(WORLD)
        assert is_told_apart(name, first, second), seed
        assert not is_told_apart(name, first, first), seed


def test_noise_as_a_tokenizer_leaves_it_changes_no_slot():
    scenes = [WORLD.scene(seed, num_subjects=1, colour="red", size="big") for seed in range(2)]
    clips = WORLD.render(scenes, audio=False)
    noise = 0.1 * torch.randn(clips.video.shape, generator=torch.Generator().manual_seed(0))
    for scene, video in zip(scenes, (clips.video + noise).clamp(-1, 1), strict=True):
        right = slots(read_clip(video, 8.0), scene)
        assert right["colour"] and right["shape"] and right["motion"] and right["scenery"] and right["camera"]


def test_a_refused_clip_does_not_count_as_told_apart():
    one, _ = CHANGED["mirrored"](WORLD, 0)
    flipped = read_clip(one.video.flip(3), WORLD.config.frame_rate)
    assert not flipped.valid, "a mirrored place is none of the toy box's"
    assert not is_told_apart("mirrored", one.read(WORLD), flipped)
