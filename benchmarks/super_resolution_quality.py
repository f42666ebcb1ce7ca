"""How near an upscaled clip comes to the truth, against scaling the low-resolution clip up by bicubic interpolation."""

from __future__ import annotations

import statistics

import numpy as np
import torch
from held_out import add_model, arguments, toy_box
from report import report
from torch import Tensor

from videopoet import VideoPoet, runtime
from videopoet.data.upscaling import halved
from videopoet.evaluation.statistics import bootstrap_ratio
from videopoet.generation import upscaling
from videopoet.generation.masked_decoding import MaskedSampling
from videopoet.media.quality import psnr, ssim
from videopoet.media.types import Video


@torch.inference_mode()
def main() -> None:
    parser = arguments(__doc__, count=50)
    add_model(parser)
    parser.add_argument("--scale", type=int, default=1, help="size of the small clips as a multiple of the model's own")
    for name, field in MaskedSampling.model_fields.items():
        kind = int if field.annotation is int else float
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, help="in place of the model's setting")
    given = parser.parse_args()
    poet = VideoPoet.from_pretrained(given.model)
    parts = poet.parts
    changed = {name: value for name in MaskedSampling.model_fields if (value := getattr(given, name)) is not None}
    sampling = MaskedSampling(**(parts.settings.upscaling.to_dict() | changed))
    world = toy_box(given.split).at_scale(2 * given.scale)
    height, width = world.config.height, world.config.width

    def through_codes(pixels: Tensor) -> Tensor:
        with runtime.autocast(parts.device):
            codes = parts.video_tokenizer.encode(pixels[None].to(parts.device))
            return parts.video_tokenizer.decode(codes)[0].float().cpu()

    ways: dict[str, list[tuple[float, float]]] = {}
    seeds = range(given.seed, given.seed + given.count)
    with runtime.progress(len(seeds), "clips") as advance:
        for seed in seeds:
            scene = world.scene(seed)
            truth = world.render([scene], audio=False).video[0].cpu()
            low = halved(truth)
            # What a language model's codes can show at best, as `generate --upscale` finds it; and a clip of one's own.
            seen, own = Video.from_pixels(through_codes(low), 1.0), Video.from_pixels(low, 1.0)
            clips = {
                "ceiling": through_codes(truth),
                "bicubic": upscaling.bicubic(seen.pixels(), height, width),
                "bicubic_of_own": upscaling.bicubic(own.pixels(), height, width),
            }
            if parts.super_resolution is not None:
                words = torch.tensor(parts.text_encoder.encode(scene.caption))
                for name, clip in (("upscaled", seen), ("upscaled_own", own)):
                    choosing = upscaling.keeping(sampling) if clip is own else sampling
                    made = upscaling.upscale(parts, clip, 2, words, seed, choosing)
                    assert isinstance(made, Video)
                    clips[name] = made.pixels()
            true = Video.from_pixels(truth, 1.0).frames
            for name, pixels in clips.items():
                frames = Video.from_pixels(pixels, 1.0).frames
                ways.setdefault(name, []).append((psnr(frames, true), ssim(frames, true)))
            advance()

    figures = {}
    for name, values in ways.items():
        figures[f"psnr_db_{name}"] = round(statistics.mean(value for value, _ in values), 3)
        figures[f"ssim_{name}"] = round(statistics.mean(value for _, value in values), 4)
    for name, base in (("ceiling", "bicubic"), ("upscaled", "bicubic"), ("upscaled_own", "bicubic_of_own")):
        if name in ways:
            gains = [one - other for (one, _), (other, _) in zip(ways[name], ways[base], strict=True)]
            figures[f"gain_db_{name}"] = round(statistics.mean(gains), 3)
            interval = bootstrap_ratio(np.array([(gain, 1.0) for gain in gains]))
            figures[f"gain_db_{name}_interval"] = interval and [round(end, 3) for end in interval]
    report(
        "super_resolution_quality",
        **figures,
        size=(height, width),
        sampling=sampling.to_dict() if parts.super_resolution is not None else None,
        clips=given.count,
        seed=given.seed,
        split=given.split,
    )


if __name__ == "__main__":
    main()
