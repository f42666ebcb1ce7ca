import pytest
import torch

from videopoet.data.tokenizer_batches import AudioBatches, Mixed, Sounds, Stage, VideoBatches, _cropped
from videopoet.data.toybox import Config, ToyBox


@pytest.fixture(scope="module")
def world():
    return ToyBox(Config(height=32, width=32, num_frames=9))


def test_batches_of_two_sources_come_by_lot_in_the_share_that_is_asked_for():
    mixed = Mixed(lambda index: ("own", index), lambda index: ("other", index), share=0.3, seed=0)
    drawn = [mixed(index) for index in range(1000)]
    assert [index for _, index in drawn] == list(range(1000))
    assert 250 < sum(name == "other" for name, _ in drawn) < 350
    assert mixed(7) == drawn[7]


def test_stages_follow_one_another(world):
    stages = (
        Stage(num_batches=2, batch_size=4, num_frames=1, windows_per_clip=2),
        Stage(num_batches=1, batch_size=2, num_frames=5),
    )
    source = VideoBatches(world, stages, seed=0)
    assert [tuple(source(index).shape[i] for i in (0, 2)) for index in range(4)] == [(4, 1), (4, 1), (2, 5), (2, 5)]
    assert torch.equal(source(3), source(3)) and not torch.equal(source(2), source(3))


def test_sounds_are_cropped_and_may_all_strike(world):
    source = AudioBatches(world, Sounds(batch_size=3, num_samples=4000, impact_share=1.0), seed=0)
    assert source(0).shape == (3, 1, 4000)
    whole = AudioBatches(world, Sounds(batch_size=3, impact_share=1.0), seed=0)(0)
    assert (whole.abs().amax(dim=-1) > 0.1).all()


def test_a_stage_of_two_scales_draws_batches_of_both_at_about_one_cost(world):
    batches = VideoBatches(world, (Stage(num_batches=1, batch_size=6, num_frames=5, scales=(1, 2)),), seed=0)
    assert {tuple(batches(index).shape) for index in range(8)} == {(6, 3, 5, 32, 32), (1, 3, 5, 64, 64)}


def test_a_stage_of_clips_and_pictures_draws_batches_of_both_as_often_as_it_says(world):
    stage = Stage(num_batches=1, batch_size=2, num_frames=5, image_share=0.25, image_batch_size=6)
    batches = VideoBatches(world, (stage,), seed=0)
    shapes = [tuple(batches(index).shape) for index in range(40)]
    assert set(shapes) == {(2, 3, 5, 32, 32), (6, 3, 1, 32, 32)}
    assert 4 <= shapes.count((6, 3, 1, 32, 32)) <= 16
    assert sum(kind.share for kind in stage.model_copy(update={"scales": (1, 2)}).kinds) == 1


def test_crops_show_subjects_at_the_cost_of_whole_frames(world):
    stage = Stage(
        num_batches=1, batch_size=2, num_frames=5, image_share=0.5, image_batch_size=3, crop_share=1.0, crop_size=16
    )
    batches = VideoBatches(world, (stage,), seed=0)
    assert {tuple(batches(index).shape) for index in range(8)} == {(8, 3, 5, 16, 16), (12, 3, 1, 16, 16)}
    assert torch.equal(batches(3), batches(3))
    seen = torch.zeros(32, 32, dtype=torch.bool)
    seen[2:4, 27:30] = True
    window = seen.float().expand(3, 5, 32, 32)
    crops = [_cropped(window, seen, 16, torch.Generator().manual_seed(seed)) for seed in range(20)]
    assert all(crop.shape == (3, 5, 16, 16) and crop.any() for crop in crops)
    anywhere = [_cropped(window, None, 16, torch.Generator().manual_seed(seed)).any() for seed in range(20)]
    assert 0 < sum(anywhere) < 20


def test_a_stage_of_crops_and_whole_frames_draws_both(world):
    stage = Stage(num_batches=1, batch_size=2, num_frames=5, crop_share=0.5, crop_size=16)
    batches = VideoBatches(world, (stage,), seed=0)
    assert {tuple(batches(index).shape) for index in range(10)} == {(8, 3, 5, 16, 16), (2, 3, 5, 32, 32)}
