import pytest
import torch

from videopoet.nn.tiles import Tiling
from videopoet.tokenizers.magvit_v2 import Config, MagvitV2


@pytest.fixture
def tokenizer():
    torch.manual_seed(0)
    shape = {"channels": (16, 16), "strides": ((4, 2),), "num_blocks": 1, "num_middle_blocks": 0}
    return MagvitV2(Config(num_bits=6, entropy_group_bits=6, patch_size=4, **shape)).eval()


def test_tiles_are_compared_with_whole_frames(benchmark, tokenizer):
    tiles = benchmark("tiles")
    clip = torch.rand(1, 3, 5, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    in_tiles = tiles.compare(tokenizer, clip, Tiling(16, 8))
    assert 0 < in_tiles["codes_alike"] < in_tiles["bits_alike"] < 1
    assert 0 < in_tiles["psnr_to_whole"] < 100 and in_tiles["psnr_tiles"] != in_tiles["psnr_whole"]
    assert in_tiles["processor_seconds_tiles"] > 0
    in_one = tiles.compare(tokenizer, clip, Tiling(32, 8))
    assert (in_one["codes_alike"], in_one["bits_alike"], in_one["psnr_to_whole"]) == (1, 1, float("inf"))


def test_psnr_is_that_of_pixels_from_minus_1_to_1(benchmark):
    assert benchmark("tiles").psnr(torch.full((4,), 0.2), torch.zeros(4)) == pytest.approx(20, abs=1e-4)
