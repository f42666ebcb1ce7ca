import importlib.util

import pytest
import torch

from videopoet.data.toybox import ToyBox
from videopoet.evaluation.oracle import Reading


@pytest.fixture
def fidelity(benchmark):
    return benchmark("text_to_video_fidelity")


@pytest.fixture(scope="module")
def poet(root):
    """The poet of random weights that the tests of generation have."""
    spec = importlib.util.spec_from_file_location("generation_conftest", root / "tests" / "generation" / "conftest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.make_poet()


def subject(motion, colour="red"):
    return ToyBox().scene(0, num_subjects=1, colour=colour, motion=motion).subjects[0]


def reading(colour, motion):
    return Reading(colour, motion, torch.zeros(17, 2))


@pytest.mark.parametrize("sampling", [{}, {"guidance_scale": 1.0, "temperature": 0.7, "top_k": 5, "top_p": 1.0}])
def test_clips_made_at_once_are_those_that_the_model_makes_one_by_one(fidelity, poet, sampling):
    prompts = ["a red ball bounces", "a blue star", "a ball"]
    together = fidelity.generate(poet, prompts, [5, 6, 7], **sampling)
    for video, prompt, seed in zip(together, prompts, [5, 6, 7], strict=True):
        alone = poet.generate("text_to_video", prompt=prompt, seed=seed, sound=False, **sampling).media
        assert (video - alone.pixels()).abs().max() < 0.02


def test_a_clip_is_right_where_it_shows_what_was_asked(fidelity):
    subjects = [subject("left"), subject("orbit"), subject("up")]
    readings = [reading("red", "left"), reading("red", "fall"), reading(None, None)]
    assert fidelity.right("colour", readings, subjects) == [True, True, False]
    assert fidelity.right("motion", readings, subjects) == [True, False, False]
    assert fidelity.right("direction", readings, subjects) == [True, False]


def test_chance_reads_each_clip_against_the_other_prompts_alone(fidelity):
    subjects = [subject("left"), subject("left", colour="blue"), subject("up")]
    readings = [reading("red", "left"), reading("blue", "left"), reading("red", "up")]
    assert sum(fidelity.by_chance("colour", readings, subjects)) == 2
    assert len(fidelity.by_chance("colour", readings, subjects)) == 6
    assert sum(fidelity.by_chance("direction", readings, subjects)) == 2
