"""Random-feature Frechet distance (rFD): whether clips look, as a set, like true ones. It is not FVD."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from videopoet import runtime
from videopoet.evaluation.cases import Case, Take
from videopoet.evaluation.metrics.base import Distance, Figure
from videopoet.evaluation.statistics import Floats, scaled_frechet_distance
from videopoet.media.resample import shrink

SEEDS = 3
CHANNELS = 3, 32, 48, 64
SIDE = 64


class RandomFeatureFrechet(Distance):
    """Frechet distance on the features of untrained networks: three layers of 3-D convolutions, orthogonal weights.

    Mean and spread of each channel of each layer are 288 features, each over its spread in true clips; the figure is
    the mean over three networks of fixed seeds. It sees colour, texture and noise, and hardly any motion: TFD does.
    """

    number = "M9"
    suites = ("text_to_video", "unconditional", "tokenizer")
    figures = {
        "rfd": Figure("random-feature Frechet distance; the floor is the truth's", "", better="lower"),
        "rfd_spread": Figure("largest minus smallest over the three networks", "", better="neither"),
    }
    baselines = ("freeze",)
    least = 1024
    draws = 20

    def collect(self, case: Case, take: Take) -> Floats | None:
        return None if take.video is None else random_features(take.video.pixels())

    def summarize(self, collected: Sequence[Floats], reference: Sequence[Floats]) -> dict[str, float | None]:
        made, true = np.stack(collected), np.stack(reference)  # (N, SEEDS, 288)
        each = [scaled_frechet_distance(made[:, k], true[:, k]) for k in range(SEEDS)]
        return {"rfd": float(np.mean(each)), "rfd_spread": max(each) - min(each)}


@torch.no_grad()
def random_features(pixels: Tensor) -> Floats:
    """Features, (SEEDS, 288), of pixels in [-1, 1], (3, T, H, W)."""
    frames = shrink(pixels, SIDE, SIDE)[None]
    features = []
    for seed in range(SEEDS):
        layer, pooled = frames, []
        for weight in _weights(seed):
            layer = F.relu(F.conv3d(layer, weight, stride=(1, 2, 2), padding=1))
            pooled += [layer.mean(dim=(2, 3, 4))[0], layer.std(dim=(2, 3, 4))[0]]
        features.append(torch.cat(pooled))
    return torch.stack(features).double().numpy()


@cache
def _weights(seed: int) -> tuple[Tensor, ...]:
    stream = runtime.generator("random features", seed)
    weights = []
    for width, height in zip(CHANNELS[:-1], CHANNELS[1:], strict=True):
        weight = torch.empty(height, width, 3, 3, 3)
        torch.nn.init.orthogonal_(weight, gain=2**0.5, generator=stream)
        weights.append(weight)
    return tuple(weights)
