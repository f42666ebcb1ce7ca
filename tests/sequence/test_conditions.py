import pytest
import torch

from videopoet.runtime import generator
from videopoet.sequence.conditions import MAGVIT_REGIONS, REGIONS, keep_mask, masked_clip, random_mask, random_region


@pytest.fixture
def clip():
    return torch.rand(2, 3, 5, 16, 16, generator=generator("clip")) * 2 - 1


@pytest.mark.parametrize("name", REGIONS)
def test_what_inpainting_hides_is_what_outpainting_keeps(name):
    kept, around = (keep_mask(REGIONS[name], change, 5, 16, 16) for change in ("keep_region", "hide_region"))
    assert torch.equal(kept, ~around)
    assert kept.flatten(1).any(1).all() and around.flatten(1).any(1).all()


def test_the_central_region_is_the_middle_half_of_both_axes():
    kept = keep_mask(REGIONS["central"], "keep_region", 2, 8, 8)
    assert kept[:, 2:6, 2:6].all() and kept.sum() == 2 * 16


def test_halves_and_the_edge_are_where_their_names_say():
    kept = {name: keep_mask(REGIONS[name], "keep_region", 2, 8, 8)[0] for name in REGIONS}
    assert kept["left"][:, :4].all() and kept["top"][:4].all()
    assert torch.equal(kept["left"], ~kept["right"]) and torch.equal(kept["top"], ~kept["bottom"])
    assert torch.equal(kept["half"], kept["left"])
    assert not kept["edge"][1:7, 1:7].any() and kept["edge"].sum() == 64 - 36


def test_a_sliding_region_starts_at_the_left_edge_and_ends_at_the_right():
    kept = keep_mask(REGIONS["dynamic_vertical"], "keep_region", 5, 8, 8)
    assert kept[0, :, :4].all() and not kept[0, :, 4:].any()
    assert kept[-1, :, 4:].all() and not kept[-1, :, :4].any()


@pytest.mark.parametrize("change", ["keep_region", "hide_region"])
@pytest.mark.parametrize("name", REGIONS)
def test_a_masked_clip_shows_what_is_kept_and_nothing_of_what_is_hidden(name, change, clip):
    keep = keep_mask(REGIONS[name], change, 5, 16, 16)
    masked = masked_clip(clip, keep)
    assert torch.equal(masked[..., keep], clip[..., keep])
    assert torch.equal(masked_clip(torch.where(keep, clip, 0.5), keep), masked)


def test_outpainting_repeats_the_edge_and_inpainting_is_black(clip):
    outside = masked_clip(clip, keep_mask(REGIONS["central"], "keep_region", 5, 16, 16))
    assert torch.equal(outside[..., 0, 0], clip[..., 4, 4])
    inside = masked_clip(clip, keep_mask(REGIONS["central"], "hide_region", 5, 16, 16))
    assert (inside[..., 4:12, 4:12] == -1).all()


def test_around_a_moving_region_the_clip_is_black(clip):
    keep = keep_mask(REGIONS["dynamic_central"], "keep_region", 5, 16, 16)
    assert (masked_clip(clip, keep)[..., ~keep] == -1).all()


def test_a_clip_without_kept_pixels_is_black(clip):
    assert (masked_clip(clip, torch.zeros(5, 16, 16, dtype=torch.bool)) == -1).all()


def test_random_regions_come_from_the_generator():
    draws = [[random_region(stream) for _ in range(50)] for stream in (generator(3), generator(3))]
    assert draws[0] == draws[1]
    assert set(draws[0]) == set(MAGVIT_REGIONS.values())


@pytest.mark.parametrize("change", ["keep_region", "hide_region"])
def test_drawn_masks_keep_some_and_hide_some_and_half_of_them_move(change):
    stream = generator("drawn", change)
    masks = torch.stack([random_mask(stream, change, 9, 32, 32) for _ in range(100)])
    assert masks.dtype == torch.bool
    shares = masks.float().mean((1, 2, 3))
    assert ((0 < shares) & (shares < 1)).all()
    assert shares.std() > 0.1
    moving = (masks != masks[:, :1]).any(-1).any(-1).any(-1).float().mean()
    assert 0.25 < moving < 0.9


def test_outpainting_keeps_one_box_and_inpainting_may_hide_round_parts():
    stream = generator("shapes")

    def is_box(inside):
        rows, columns = inside.any(1).nonzero(), inside.any(0).nonzero()
        return bool(inside[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].all())

    kept = [random_mask(stream, "keep_region", 1, 32, 32)[0] for _ in range(30)]
    hidden = [~random_mask(stream, "hide_region", 1, 32, 32)[0] for _ in range(30)]
    assert all(map(is_box, kept)) and not all(map(is_box, hidden)) and any(map(is_box, hidden))


def test_a_drawn_mask_comes_from_the_generator():
    first, again = (random_mask(generator("same"), "hide_region", 5, 16, 16) for _ in range(2))
    assert torch.equal(first, again)
