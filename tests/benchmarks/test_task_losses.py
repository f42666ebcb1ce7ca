import importlib.util
import math

import pytest

from videopoet.data.mixture import MixtureConfig, Share, TaskBatches
from videopoet.data.toybox import Config, ToyBox
from videopoet.sequence.tasks import TASKS


@pytest.fixture
def task_losses(benchmark):
    return benchmark("task_losses")


@pytest.fixture(scope="module")
def poet(root):
    spec = importlib.util.spec_from_file_location("poets", root / "tests" / "generation" / "conftest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.make_poet()


@pytest.mark.parametrize("task", ["text_to_video", "video_captioning"])
def test_equal_clips_are_known_by_their_hash_and_give_equal_losses(task_losses, poet, task):
    parts, settings = poet.parts, poet.parts.settings
    mixture = MixtureConfig(shares=tuple(Share(task=name, batch_size=8, weight=1) for name in TASKS))
    world = ToyBox(Config(height=settings.height, width=settings.width, num_frames=settings.num_frames))
    tools = (parts.video_tokenizer, parts.audio_tokenizer, parts.text_encoder, parts.vocabulary)
    first, again, other = (
        task_losses.losses(poet, TaskBatches(world, mixture, *tools, seed), task, 8) for seed in (0, 0, 1)
    )
    assert first == again and first[2] != other[2]
    assert first[0] != other[0]
    if task == "text_to_video":
        assert first[1] == pytest.approx(math.log(parts.video_tokenizer.num_codes), rel=1e-4)
