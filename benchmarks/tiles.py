"""How near do tiles come to frames taken whole, and what memory do they take? Test clips of the toy box, drawn large.

*codes_alike*, *bits_alike*: of what the tokenizer encodes in tiles, beside whole frames. *psnr_to_whole*: of the same
codes decoded in both ways. *psnr_whole*, *psnr_tiles*: of a clip seen through its codes, beside the clip. Memory is the
highest resident memory above what was there before, encoding and decoding, in the precision in which clips are made.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch
from held_out import add_model, arguments
from report import report
from streaming import PeakMemory
from torch import Tensor

from videopoet import VideoPoet, runtime
from videopoet.data.toybox import Config, ToyBox
from videopoet.nn.tiles import Tiling
from videopoet.tokenizers.base import VideoTokenizer


def psnr(one: Tensor, other: Tensor) -> float:
    """Of pixels in [-1, 1], in dB."""
    return float(10 * torch.log10(4 / (one - other).square().mean()))


def through(tokenizer: VideoTokenizer, clip: Tensor) -> tuple[Tensor, Tensor, dict[str, float]]:
    """A clip's codes, what they decode to, and what both cost."""
    memory, began = PeakMemory(), time.process_time()
    codes = tokenizer.encode(clip)
    pixels = tokenizer.decode(codes).float()
    return codes, pixels, {"peak_mb": memory.grown() / 1e6, "processor_seconds": time.process_time() - began}


@torch.no_grad()
def compare(tokenizer: VideoTokenizer, clip: Tensor, tiling: Tiling) -> dict[str, float]:
    """Figures of one clip, (1, 3, T, H, W)."""
    with runtime.autocast(clip.device):
        tokenizer.disable_tiling()
        codes, whole, cost = through(tokenizer, clip)
        tokenizer.enable_tiling(tiling.tile_size, tiling.tile_overlap)
        tiled_codes, tiled, tiled_cost = through(tokenizer, clip)
        same_codes = tokenizer.decode(codes).float()
    differing = codes ^ tiled_codes
    num_bits = (tokenizer.num_codes - 1).bit_length()
    ones = sum(int((differing >> bit & 1).sum()) for bit in range(num_bits))
    return {
        "codes_alike": float((differing == 0).float().mean()),
        "bits_alike": 1 - ones / (num_bits * differing.numel()),
        "psnr_to_whole": psnr(same_codes, whole),
        "psnr_whole": psnr(whole, clip),
        "psnr_tiles": psnr(tiled, clip),
        **{f"{name}_whole": figure for name, figure in cost.items()},
        **{f"{name}_tiles": figure for name, figure in tiled_cost.items()},
    }


def main() -> None:
    parser = arguments(__doc__, count=4)
    add_model(parser)
    parser.add_argument("--sides", type=int, nargs="+", default=[256, 512], help="height and width in pixels")
    parser.add_argument("--frames", type=int, default=17, help="of each clip")
    parser.add_argument("--tile-size", type=int, help="pixels; without it, half of the side")
    parser.add_argument("--tile-overlap", type=int, help="pixels; without it, a quarter of a tile")
    parser.add_argument("--alone", action="store_true", help="normalize each tile by itself, to see what is gained")
    given = parser.parse_args()
    tokenizer = VideoPoet.from_pretrained(given.model).parts.video_tokenizer
    if given.alone:
        tokenizer.normalizes_frames = False  # pyright: ignore[reportAttributeAccessIssue]
    device = runtime.best_device()
    for side in given.sides:
        size = given.tile_size or side // 2
        tiling = Tiling(size, size // 4 if given.tile_overlap is None else given.tile_overlap)
        world = ToyBox(Config(split=given.split, height=side, width=side, num_frames=given.frames))
        found: list[dict[str, Any]] = []
        for number in range(given.seed, given.seed + given.count):
            clip = world.render([world.scene(number)], device, audio=False).video
            found.append(compare(tokenizer, clip, tiling))
        report(
            "tiles",
            side=side,
            num_frames=given.frames,
            **vars(tiling),
            alone=given.alone,
            **{name: round(statistics.mean(each[name] for each in found), 4) for name in found[0]},
            count=given.count,
            seed=given.seed,
            split=given.split,
            model=given.model or "bundled",
        )


if __name__ == "__main__":
    main()
