import pytest
import torch

from videopoet.data.overview import crop, overview, sample, seen_share, sheet
from videopoet.data.prepared import Dataset, PreparedClips
from videopoet.data.toybox import Config


@pytest.fixture(scope="module")
def data(dataset):
    return Dataset(dataset[0])


@pytest.mark.parametrize("size", [(32, 32), (16, 32), (16, 16)])
def test_the_bright_part_is_what_training_is_shown(data, size):
    world = PreparedClips(data, Config(height=size[0], width=size[1], num_frames=9))
    for place in range(len(world)):
        scene = world.scene(place)
        stored = data.tensor(data.row(scene.number), "video")
        top, left, height, width = crop(tuple(stored.shape[2:]), size)
        part = stored[..., top : top + height, left : left + width].float()
        seen = (world.render([scene]).video[0] + 1) * 127.5
        small = torch.nn.functional.interpolate(part, size, mode="bilinear", antialias=True)
        assert (small - seen).abs().mean() < 4


def test_what_is_too_small_is_counted_and_not_seen(data):
    facts = overview(data, (32, 48))
    training = facts["training"]
    assert training["too_small"] == sum(data.sizes[2 * n + 1] < 48 for n in range(len(data))) > 0
    assert sum(one["clips"] for one in training["shown"]) + training["too_small"] == len(data)
    assert crop((32, 32), (32, 48)) == (0, 0, 0, 0) and seen_share((32, 64), (32, 32)) == 0.5


def test_figures_are_those_of_the_dataset(data, dataset):
    facts = overview(data, (32, 32))
    assert facts["clips"] == dataset[1]["clips"] and facts["tokens"] is None
    assert facts["hours"] == pytest.approx(dataset[1]["seconds"]["kept"] / 3600, abs=1e-4)


def test_a_sample_is_drawn_by_its_seed_without_repeats(data):
    drawn = {tuple(sample(data, 3, seed)) for seed in range(5)}
    assert all(len(set(numbers)) == 3 for numbers in drawn) and len(drawn) > 1
    assert sample(data, 100) == list(range(len(data)))


def test_a_sheet_shows_clips_of_all_shapes_and_dims_what_is_cut(data):
    numbers = list(range(len(data)))
    whole, cut = sheet(data, numbers, (16, 32)), sheet(data, numbers, (32, 32))
    assert whole.frame.shape == cut.frame.shape and not torch.equal(whole.frame, cut.frame)
