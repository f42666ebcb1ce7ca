import pytest
import torch

from videopoet.data.mixed import Mixed
from videopoet.data.tokenizer_batches import AudioBatches, Sounds, Stage, VideoBatches, Windows, _cropped
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
    videos = [source(index).video for index in range(4)]
    assert [(len(video), video.shape[2]) for video in videos] == [(4, 1), (4, 1), (2, 5), (2, 5)]
    assert torch.equal(source(3).video, videos[3]) and not torch.equal(videos[2], videos[3])


def test_sounds_are_cropped_and_may_all_strike(world):
    source = AudioBatches(world, Sounds(batch_size=3, num_samples=4000, impact_share=1.0), seed=0)
    assert source(0).shape == (3, 1, 4000)
    whole = AudioBatches(world, Sounds(batch_size=3, impact_share=1.0), seed=0)(0)
    assert (whole.abs().amax(dim=-1) > 0.1).all()


def test_a_stage_of_two_scales_draws_batches_of_both_at_about_one_cost(world):
    batches = VideoBatches(world, (Stage(num_batches=1, batch_size=6, num_frames=5, scales=(1, 2)),), seed=0)
    assert {tuple(batches(index).video.shape) for index in range(8)} == {(6, 3, 5, 32, 32), (1, 3, 5, 64, 64)}


def test_a_stage_of_clips_and_pictures_draws_batches_of_both_as_often_as_it_says(world):
    stage = Stage(num_batches=1, batch_size=2, num_frames=5, image_share=0.25, image_batch_size=6)
    batches = VideoBatches(world, (stage,), seed=0)
    shapes = [tuple(batches(index).video.shape) for index in range(40)]
    assert set(shapes) == {(2, 3, 5, 32, 32), (6, 3, 1, 32, 32)}
    assert 4 <= shapes.count((6, 3, 1, 32, 32)) <= 16
    assert sum(kind.share for kind in stage.model_copy(update={"scales": (1, 2)}).kinds) == 1


def test_crops_show_subjects_at_the_cost_of_whole_frames(world):
    stage = Stage(
        num_batches=1, batch_size=2, num_frames=5, image_share=0.5, image_batch_size=3, crop_share=1.0, crop_size=16
    )
    batches = VideoBatches(world, (stage,), seed=0)
    assert {tuple(batches(index).video.shape) for index in range(8)} == {(8, 3, 5, 16, 16), (12, 3, 1, 16, 16)}
    assert torch.equal(batches(3).video, batches(3).video)
    subjects = torch.zeros(1, 5, 32, 32, dtype=torch.bool)
    subjects[..., 2:4, 27:30] = True
    video = subjects.float().expand(3, 5, 32, 32)
    crops = [_cropped(Windows(video, subjects), 16, torch.Generator().manual_seed(seed)) for seed in range(20)]
    for crop in crops:
        assert crop.video.shape == (3, 5, 16, 16) and crop.video.any()
        assert torch.equal(crop.video[:1] > 0, crop.subjects)
    anywhere = [_cropped(Windows(video), 16, torch.Generator().manual_seed(seed)).video.any() for seed in range(20)]
    assert 0 < sum(anywhere) < 20


def test_windows_know_where_their_subjects_are(world):
    whole = Stage(num_batches=1, batch_size=3, num_frames=5)
    assert VideoBatches(world, (whole,), seed=0)(0).subjects is None
    for frames in (1, 5):
        for crop_share in (0.0, 1.0):
            stage = Stage(num_batches=1, batch_size=3, num_frames=frames, crop_share=crop_share, crop_size=16)
            video, subjects = VideoBatches(world, (stage,), seed=0, with_subjects=True)(0)
            assert subjects.shape == (len(video), 1, *video.shape[2:]) and subjects.dtype == torch.bool
            assert 0 < subjects.float().mean() < 0.7


def test_a_stage_of_crops_and_whole_frames_draws_both(world):
    stage = Stage(num_batches=1, batch_size=2, num_frames=5, crop_share=0.5, crop_size=16)
    batches = VideoBatches(world, (stage,), seed=0)
    assert {tuple(batches(index).video.shape) for index in range(10)} == {(8, 3, 5, 16, 16), (2, 3, 5, 32, 32)}
