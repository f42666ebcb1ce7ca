import pytest
import torch
from torch.nn import functional as F

from videopoet.data.toybox import Config, ToyBox
from videopoet.errors import CheckpointError
from videopoet.evaluation import world_network
from videopoet.evaluation.metrics.world_feature_frechet import WorldFeatureFrechet, world_features


@pytest.fixture(scope="module")
def clips():
    world = ToyBox(Config(split="validation"))
    return world.render([world.scene(seed) for seed in range(48)], audio=False).video


@pytest.fixture(scope="module")
def true(clips):
    return [world_features(clip) for clip in clips]


@pytest.fixture
def distance(true):
    return lambda clips: WorldFeatureFrechet().summarize([world_features(clip) for clip in clips], true)["wfd"]


def blurred(clips, sigma):
    reach = torch.arange(-3 * sigma, 3 * sigma + 1)
    weights = torch.exp(-(reach**2) / (2 * sigma**2))
    weights = (weights / weights.sum()).expand(3, 1, 1, 1, -1)
    for kernel, padding in ((weights, (0, 0, 3 * sigma)), (weights.transpose(3, 4), (0, 3 * sigma, 0))):
        clips = F.conv3d(clips, kernel, padding=padding, groups=3)
    return clips


def frozen(clips, frames):
    return torch.cat([clips[:, :, :frames], clips[:, :, frames - 1 : frames].expand_as(clips[:, :, frames:])], dim=2)


def shuffled(clips, count):
    order = torch.randperm(clips.shape[2], generator=torch.Generator().manual_seed(0))
    return torch.cat([clips[:count, :, order], clips[count:]])


def test_the_truth_is_no_distance_from_itself(true):
    assert WorldFeatureFrechet().summarize(true, true)["wfd"] == pytest.approx(0, abs=1e-3)


def test_mmd_is_none_of_the_truth_and_grows_with_the_harm_at_each_width(clips, true):
    harms = [true, *([world_features(clip) for clip in blurred(clips, sigma)] for sigma in (1, 4))]
    found = [WorldFeatureFrechet().summarize(harm, true) for harm in harms]
    for name in ("mmd", "mmd_narrow", "mmd_wide"):
        assert found[0][name] < min(found[1][name], 0) and max(found[1][name], 0) < found[2][name]


def test_the_more_clips_are_blurred_the_further_they_are(clips, distance):
    distances = [distance(blurred(clips, sigma)) for sigma in (1, 2, 4)]
    assert 1 < distances[0] and distances == sorted(distances)


def test_the_sooner_clips_freeze_the_further_they_are(clips, distance):
    distances = [distance(frozen(clips, frames)) for frames in (14, 8, 1)]
    assert 1 < distances[0] and distances == sorted(distances)


def test_the_more_clips_have_their_frames_shuffled_the_further_the_set_is(clips, distance):
    distances = [distance(shuffled(clips, count)) for count in (12, 24, 48)]
    assert 1 < distances[0] and distances == sorted(distances)


def test_clips_of_other_sizes_and_lengths_have_as_many_features(clips):
    small = F.interpolate(clips[0], (32, 48))
    for clip in (clips[0], small, clips[0][:, :1]):
        assert world_features(clip).shape == (world_network.WIDTH,)


def test_the_network_reads_what_a_clip_shows(clips):
    world = ToyBox(Config(split="validation"))
    with torch.no_grad():
        logits = world_network.world_network()(clips)
    for label, least in (("scenery", 0.9), ("colour", 0.7), ("camera", 0.7)):
        answers = [world_network.LABELS[label][index] for index in logits[label].argmax(dim=1).tolist()]
        right = 0
        for seed, answer in enumerate(answers):
            scene = world.scene(seed)
            true = {"scenery": [scene.kind], "camera": [scene.camera]}.get(label) or [
                subject.colour for subject in scene.subjects
            ]
            right += answer in true
        assert right / len(answers) > least, label


def test_the_weights_are_few_enough_to_ship():
    network = world_network.WorldNetwork()
    assert sum(each.numel() for each in network.parameters()) < 250_000
    assert world_network.FILE.stat().st_size < 2**19


def test_other_weights_are_refused(tmp_path, monkeypatch):
    weights = bytearray(world_network.FILE.read_bytes())
    weights[-1] ^= 1
    changed = tmp_path / world_network.FILE.name
    changed.write_bytes(weights)
    monkeypatch.setattr(world_network, "FILE", changed)
    world_network.world_network.cache_clear()
    with pytest.raises(CheckpointError, match="restore"):
        world_features(torch.zeros(3, 2, 64, 64))
    changed.unlink()
    with pytest.raises(CheckpointError, match="no world_network"):
        world_features(torch.zeros(3, 2, 64, 64))
