import pytest
import torch

from videopoet.errors import ConfigError
from videopoet.nn.tiles import Tiling

SHAPES = [(9, 4), (8, 8), (5, 23), (4, 4), (31, 6)]


@pytest.fixture(params=[(16, 8), (16, 0), (10, 3), (16, 15)], ids=str)
def tiling(request):
    return Tiling(*request.param)


@pytest.mark.parametrize("shape", SHAPES)
def test_each_code_comes_from_one_tile(tiling, shape):
    codes, times = torch.arange(shape[0] * shape[1]).view(shape), torch.zeros(shape, dtype=torch.int64)
    joined = torch.full(shape, -1)
    for tile in tiling.tiles(*shape, stride=4):
        tile.cut_into(joined, tile.of(codes))
        once = torch.zeros(shape, dtype=torch.int64)
        tile.cut_into(once, torch.ones_like(tile.of(codes)))
        times += once
    assert torch.equal(joined, codes)
    assert torch.equal(times, torch.ones_like(times))


@pytest.mark.parametrize("shape", SHAPES)
def test_tiles_that_agree_are_blended_into_what_they_show(tiling, shape):
    frames = torch.rand(1, 3, 2, *(4 * side for side in shape))
    blended = torch.zeros_like(frames)
    for tile in tiling.tiles(*shape, stride=4):
        tile.blend_into(blended, tile.of(frames, 4))
    torch.testing.assert_close(blended, frames)


@pytest.mark.parametrize("shape", SHAPES)
def test_no_tile_is_larger_than_was_asked_for_and_neighbours_share_enough(tiling, shape):
    most, least = -(-tiling.tile_size // 4), min(-(-tiling.tile_overlap // 4), -(-tiling.tile_size // 4) - 1)
    tiles = list(tiling.tiles(*shape, stride=4))
    for side, length in enumerate(shape):
        spans = sorted({(tile[side].start, tile[side].stop) for tile in tiles})
        assert all(stop - start == min(most, length) for start, stop in spans)
        assert all(before[1] - after[0] >= least for before, after in zip(spans, spans[1:], strict=False))


@pytest.mark.parametrize(
    ("shape", "within"), [((4, 2), (4, 2)), ((40, 40), (4, 4)), ((8, 40), (1, 4)), ((1, 90), (1, 4))]
)
def test_a_small_copy_is_no_larger_than_a_tile_and_keeps_its_shape(shape, within):
    assert Tiling(16, 8).within(*shape, stride=4) == within


def test_a_tile_that_differs_from_its_neighbour_fades_into_it():
    left, right = Tiling(16, 8).tiles(4, 6, stride=4)
    blended = torch.zeros(16, 24)
    right.blend_into(blended, torch.ones(16, 16))
    assert left.place == (0, 4, 0, 4) and right.place == (0, 4, 2, 6)
    assert (blended[:, :8] == 0).all() and (blended[:, 16:] == 1).all()
    steps = blended[0, 7:17].diff()
    assert (steps > 0).all() and steps.max() < 0.2


@pytest.mark.parametrize(
    ("size", "overlap", "said"), [(0, 0, "tile_size is 0"), (64, 64, "0 to 63"), (64, -1, "use 16")]
)
def test_tiles_that_cannot_be_are_refused(size, overlap, said):
    with pytest.raises(ConfigError, match=said) as error:
        Tiling(size, overlap)
    assert error.value.code == "tiles_invalid"
