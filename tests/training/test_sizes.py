"""A run whose clips have several sizes makes a poet that makes them; one with more codes goes on from fewer."""

import pytest

from videopoet import presets
from videopoet.config import override
from videopoet.errors import ConfigError, TaskError
from videopoet.generation.pipeline import VideoPoet
from videopoet.sequence.tasks import TASKS
from videopoet.tokenizers.magvit_v2 import MagvitV2
from videopoet.training import run
from videopoet.training.plan import plan

FEW_STEPS = [
    f"{stage}.training.{name}={value}"
    for stage in ("video_tokenizer", "audio_tokenizer", "language_model")
    for name, value in (("num_steps", 6), ("validate_every", 100), ("checkpoint_every", 100))
]
SIZES = "language_model.mixture.sizes=[[48,24],[24,48]]"


def config(*settings):
    return override(presets.preset("tiny"), [*FEW_STEPS, "language_model.mixture.pool_batches=2", *settings])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    output = tmp_path_factory.mktemp("run")
    run.train(config(SIZES), output, stages=("video_tokenizer", "audio_tokenizer", "language_model"))
    return output


@pytest.fixture(scope="module")
def poet(folder):
    return VideoPoet.from_pretrained(folder / "poet")


@pytest.mark.parametrize(("height", "width"), [(32, 32), (48, 24), (24, 48)])
def test_the_poet_makes_clips_of_every_size_it_was_trained_on(poet, height, width):
    assert poet.parts.vocabulary.config.resolutions == ((48, 24), (24, 48))
    clip = poet.generate("text_to_video", prompt="a red ball", height=height, width=width, seed=1).media
    assert (clip.height, clip.width, clip.num_frames) == (height, width, 9)
    assert clip.audio is not None
    picture = poet.generate("text_to_image", prompt="a red ball", height=height, width=width, seed=1).media
    assert (picture.height, picture.width) == (height, width)
    film = list(poet.film([{"prompt": "a red ball", "seconds": 2}], height=height, width=width, seed=1))
    assert {(part.height, part.width) for part in film} == {(height, width)}
    assert set(poet.parts.settings.tasks) == set(TASKS)


def test_another_size_is_refused_and_those_there_are_named(poet):
    with pytest.raises(TaskError, match="32x32, 24x48, 48x24; use 24x48"):
        poet.generate("text_to_video", prompt="a red ball", height=48, width=32)


def test_a_model_learns_new_sizes_from_where_it_is(folder, tmp_path):
    more = config("language_model.mixture.sizes=[[48,24],[64,32]]", f"init_from={folder / 'poet'}")
    run.train(more, tmp_path, stages=("language_model",))
    grown = VideoPoet.from_pretrained(tmp_path / "poet").parts.vocabulary
    assert grown.config.resolutions == ((48, 24), (24, 48), (64, 32))


@pytest.mark.parametrize(
    ("sizes", "said"), [("[[48,20]]", "48x20 is off the grid; multiples of 8"), ("[[32,32]]", "named twice")]
)
def test_sizes_that_cannot_be_trained_are_refused_at_once(sizes, said):
    with pytest.raises(ConfigError, match=said):
        config(f"language_model.mixture.sizes={sizes}")


def test_a_model_goes_on_in_codes_of_more_bits(folder, tmp_path):
    more = config(SIZES, f"init_from={folder / 'poet'}", "video_tokenizer.model.num_bits=10")
    run.train(more, tmp_path, stages=("video_tokenizer", "language_model"))
    before, grown = (VideoPoet.from_pretrained(place / "poet") for place in (folder, tmp_path))
    added = 2**10 - before.parts.video_tokenizer.num_codes
    assert grown.parts.vocabulary.config.visual_codes == grown.parts.video_tokenizer.num_codes == 2**10
    assert len(grown.parts.language_model.head_weight) == len(before.parts.language_model.head_weight) + added
    assert grown.generate("text_to_video", prompt="a red ball", seed=1).media.num_frames == 9
    planned = {stage.stage: stage.parameters for stage in plan(more)}
    assert planned["language_model"]["tables"] == grown.parts.language_model.head_weight.numel()


def test_another_tokenizers_codes_begin_as_those_that_lay_in_their_places(folder, tmp_path):
    told = "language_model.translated_clips=8"
    more = config(SIZES, told, f"init_from={folder / 'poet'}", "language_model.training.num_steps=1")
    run.train(more, tmp_path, stages=("video_tokenizer", "language_model"))
    before, after = (VideoPoet.from_pretrained(place / "poet").parts for place in (folder, tmp_path))
    first, last = before.vocabulary.range("video")
    moved = (after.language_model.head_weight - before.language_model.head_weight).abs().mean(dim=1)
    assert moved[first:last].mean() > 5 * moved[:first].mean()


def test_codes_of_another_grid_cannot_be_translated(folder, tmp_path):
    more = config("language_model.translated_clips=8", f"init_from={folder / 'poet'}")
    coarse = more.video_tokenizer.model.model_copy(update={"patch_size": 8})
    MagvitV2(coarse).save(tmp_path / "video_tokenizer" / "final")
    with pytest.raises(ConfigError, match="2x2 now and were 3x4x4.*set language_model.translated_clips=0"):
        run.train(more, tmp_path, stages=("language_model",), resume=True)
