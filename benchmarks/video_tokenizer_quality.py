"""How much of a clip the video tokenizer keeps, on held-out clips of the toy box, and how many bits that takes."""

from __future__ import annotations

import math
import statistics

import torch
from held_out import add_model, arguments, clips, toy_box
from report import report

from videopoet import VideoPoet, runtime
from videopoet.media.quality import psnr, ssim
from videopoet.media.types import Video
from videopoet.tokenizers.magvit_v2 import MagvitV2


@torch.inference_mode()
def main() -> None:
    parser = arguments(__doc__, count=500)
    add_model(parser)
    parser.add_argument("--video-tokenizer", metavar="FOLDER", help="measure this tokenizer instead of the model's")
    parser.add_argument("--pictures", action="store_true", help="the middle frame of each clip, coded as a picture")
    given = parser.parse_args()
    if given.video_tokenizer:
        tokenizer = MagvitV2.load(given.video_tokenizer).to(runtime.best_device())
    else:
        tokenizer = VideoPoet.from_pretrained(given.model).parts.video_tokenizer
    world = toy_box(given.split)
    scenes = [world.scene(seed) for seed in range(given.seed, given.seed + given.count)]
    psnrs, ssims, all_codes = [], [], []
    size = world.config.num_frames, world.config.height, world.config.width
    frames = slice(0, size[0])
    if given.pictures:
        frames, size = slice(size[0] // 2, size[0] // 2 + 1), (1, *size[1:])
    for batch in clips(world, scenes, audio=False):
        video = batch.video[:, :, frames]
        with runtime.autocast(video.device):
            codes = tokenizer.encode(video)
            seen = tokenizer.decode(codes).float()
        all_codes.append(codes.flatten().cpu())
        for made, true in zip(seen, video, strict=True):
            made, true = (Video.from_pixels(pixels, batch.frame_rate).frames for pixels in (made, true))
            psnrs.append(psnr(made, true))
            ssims.append(ssim(made, true))
    grid = tokenizer.grid(*size)
    report(
        "video_tokenizer_quality",
        psnr_db=round(statistics.mean(psnrs), 3),
        psnr_db_worst=round(min(psnrs), 3),
        ssim=round(statistics.mean(ssims), 4),
        code_usage_percent=round(100 * torch.cat(all_codes).unique().numel() / tokenizer.num_codes, 2),
        bits_per_pixel=round(math.prod(grid) * math.log2(tokenizer.num_codes) / math.prod(size), 5),
        num_codes=tokenizer.num_codes,
        grid=grid,
        clips=given.count,
        seed=given.seed,
        split=given.split,
    )


if __name__ == "__main__":
    main()
