"""How far wFD and MMD put damaged clips from true ones, beside as many other true clips: what they see and do not.

One JSON line: the distance of test clips as they are (the floor), blurred, noisy, frozen at the first frame, with
neighbouring frames exchanged, with frames in any order, and backwards; and the floor of fewer clips.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from held_out import clips, toy_box
from report import report
from torch import Tensor
from torch.nn import functional as F

from videopoet.evaluation.metrics.world_feature_frechet import distances
from videopoet.evaluation.statistics import Floats
from videopoet.evaluation.world_network import SHA256, world_network

FIRST_REFERENCE = 100_000
"""Seed of the first of the other true clips."""


def damaged(video: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
    """Clips in [-1, 1], (B, 3, T, H, W), as they are and harmed in several ways."""
    num_frames = video.shape[2]
    neighbours = torch.arange(num_frames)
    neighbours[: num_frames // 2 * 2] = neighbours[: num_frames // 2 * 2].view(-1, 2).flip(1).flatten()
    noise = torch.randn(video.shape, generator=generator) * 8 / 127.5
    return {
        "truth": video,
        "blur, sigma 1": _blurred(video),
        "noise, 8 of 255": (video + noise).clamp(-1, 1),
        "frozen": video[:, :, :1].expand_as(video),
        "neighbouring frames exchanged": video[:, :, neighbours],
        "frames shuffled": video[:, :, torch.randperm(num_frames, generator=torch.Generator().manual_seed(0))],
        "backwards": video.flip(2),
    }


def measured(count: int, seed: int) -> tuple[dict[str, dict[str, float]], dict[int, dict[str, float]]]:
    """The distances of each harm at this number of clips, and those of the truth of half as many and a quarter."""
    world, generator = toy_box("test"), torch.Generator().manual_seed(0)
    reference, features = [], {}
    for batch in clips(world, [world.scene(FIRST_REFERENCE + number) for number in range(count)], audio=False):
        reference.append(_features(batch.video.cpu()))
    for batch in clips(world, [world.scene(seed + number) for number in range(count)], audio=False):
        for name, video in damaged(batch.video.cpu(), generator).items():
            features.setdefault(name, []).append(_features(video))
    true, found = np.concatenate(reference), {name: np.concatenate(each) for name, each in features.items()}
    far = {name: distances(each, true) for name, each in found.items()}
    return far, {few: distances(found["truth"][:few], true[:few]) for few in (count // 4, count // 2)}


@torch.no_grad()
def _features(video: Tensor) -> Floats:
    return world_network().features(video).double().numpy()


def _blurred(video: Tensor) -> Tensor:
    reach = torch.arange(-3.0, 4.0)
    weights = torch.exp(-(reach**2) / 2)
    weights = (weights / weights.sum()).expand(3, 1, 1, 1, -1)
    video = F.conv3d(video, weights, padding=(0, 0, 3), groups=3)
    return F.conv3d(video, weights.transpose(3, 4), padding=(0, 3, 0), groups=3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--count", type=int, default=1024, help="how many clips of each kind")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first scene; the next follow")
    given = parser.parse_args()
    far, floors = measured(given.count, given.seed)
    tables = {
        name: {kind: round(found[name], 2 if name == "wfd" else 4) for kind, found in (far | floors).items()}
        for name in far["truth"]
    }
    report("world_feature_distances", **tables, clips=given.count, seed=given.seed, network=SHA256[:16])


if __name__ == "__main__":
    main()
