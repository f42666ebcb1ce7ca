"""How often the oracle reads colour and motion right on held-out clips whose truth is known, clean and degraded.

Directions are those of the clips that move left, right, up or down.
"""

from __future__ import annotations

import statistics
import time

import torch
from held_out import arguments, clips, percent, toy_box
from report import report
from torch import Tensor
from torch.nn import functional as F

from videopoet import runtime
from videopoet.evaluation.oracle import DIRECTIONS, read_subject


def degrade(video: Tensor, generator: torch.Generator) -> Tensor:
    """Pixels, (B, 3, T, H, W), blurred by a pixel and with noise: 26 dB from what they were, as a tokenizer's are."""
    offsets = torch.arange(-3.0, 4.0, device=video.device)
    bell = torch.exp(-offsets.square() / 2)
    bell = bell / bell.sum()
    frames = F.pad(video.transpose(1, 2).flatten(0, 1), (3, 3, 3, 3), mode="replicate").flatten(0, 1)[:, None]
    frames = F.conv2d(F.conv2d(frames, bell.view(1, 1, 1, -1)), bell.view(1, 1, -1, 1))
    blurred = frames.view(len(video), -1, 3, *video.shape[3:]).transpose(1, 2)
    return (blurred + 0.08 * torch.randn(video.shape, generator=generator).to(video.device)).clamp(-1, 1)


def main() -> None:
    given = arguments(__doc__, count=300).parse_args()
    world = toy_box(given.split)
    seeds = range(given.seed, given.seed + given.count)
    scenes = [world.scene(seed, num_subjects=1, camera="still") for seed in seeds]
    noise = runtime.generator("degrade", given.seed)
    colours, motions, directions = ({"clean": [], "degraded": []} for _ in range(3))
    seconds = []
    for batch in clips(world, scenes, audio=False):
        for looks, videos in (("clean", batch.video), ("degraded", degrade(batch.video, noise))):
            for scene, video in zip(batch.scenes, videos, strict=True):
                began = time.perf_counter()
                reading = read_subject(video)
                seconds.append(time.perf_counter() - began)
                (subject,) = scene.subjects
                colours[looks].append(reading.colour == subject.colour)
                motions[looks].append(reading.motion == subject.motion)
                if subject.motion in DIRECTIONS:
                    directions[looks].append(reading.motion == subject.motion)
    report(
        "oracle_accuracy",
        **{
            f"{name}_percent": {looks: percent(hits) for looks, hits in each.items()}
            for name, each in (("colour", colours), ("motion", motions), ("direction", directions))
        },
        milliseconds_per_clip=round(1000 * statistics.median(seconds), 1),
        clips=given.count,
        seed=given.seed,
        split=given.split,
    )


if __name__ == "__main__":
    main()
