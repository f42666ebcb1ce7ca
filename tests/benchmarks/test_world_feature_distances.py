import pytest
import torch


@pytest.fixture
def world_feature_distances(benchmark):
    return benchmark("world_feature_distances")


def test_clips_are_harmed_as_the_names_say(world_feature_distances):
    video = torch.rand(2, 3, 5, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    harmed = world_feature_distances.damaged(video, torch.Generator().manual_seed(1))
    assert all(each.shape == video.shape for each in harmed.values())
    assert torch.equal(harmed["truth"], video) and torch.equal(harmed["backwards"].flip(2), video)
    assert torch.equal(harmed["neighbouring frames exchanged"], video[:, :, [1, 0, 3, 2, 4]])
    assert (harmed["frozen"] == video[:, :, :1]).all()
    shuffled = harmed["frames shuffled"]
    assert not torch.equal(shuffled, video) and torch.equal(shuffled.sort(dim=2).values, video.sort(dim=2).values)
    assert harmed["blur, sigma 1"].std() < video.std() / 2


def test_truth_is_nearer_than_frozen_clips_and_wfd_alone_shrinks_with_more(world_feature_distances):
    far, floors = world_feature_distances.measured(64, 0)
    assert all(far["truth"][name] < far["frozen"][name] for name in ("wfd", "mmd", "mmd_narrow", "mmd_wide"))
    assert far["truth"]["wfd"] < floors[32]["wfd"] < floors[16]["wfd"]
    assert abs(floors[16]["mmd"]) < far["frozen"]["mmd"]
