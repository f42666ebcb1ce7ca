"""World-feature distances (wFD, MMD): whether clips show, as a set, what true ones show. They are not FVD."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from videopoet.evaluation.cases import Case, Take
from videopoet.evaluation.metrics.base import Distance, Figure
from videopoet.evaluation.statistics import Floats, frechet_distance, maximum_mean_discrepancy, over_spread
from videopoet.evaluation.world_network import SIDE, world_network
from videopoet.media.resample import shrink


class WorldFeatureFrechet(Distance):
    """Frechet distance and MMD on features of a small 3-D CNN, trained to read the toy box's labels, and frozen.

    Mean and maximum of each channel of its last layer are 192 features, each over its spread in true clips. Its labels
    are shape, colour, size, motion, scenery, camera and number of subjects. Not bounded; the truth's own distance from
    as many other true clips is the floor, and shrinks with their number, so figures compare only at equal N. The
    unbiased squared MMD has no such floor. Its Gaussian kernel is as wide as the median squared distance; with a
    quarter and four times of that it should put sets in the same order.
    """

    number = "M9"
    suites = ("text_to_video", "unconditional", "tokenizer")
    figures = {
        "wfd": Figure("world-feature Frechet distance; the floor is the truth's", "", better="lower"),
        "mmd": Figure("world-feature MMD; about 0 for the truth", "", better="lower"),
        "mmd_narrow": Figure("the same with a kernel a quarter as wide", "", better="lower"),
        "mmd_wide": Figure("the same with a kernel four times as wide", "", better="lower"),
    }
    baselines = ("freeze",)
    least = 1024
    draws = 20

    def collect(self, case: Case, take: Take) -> Floats | None:
        return None if take.video is None else world_features(take.video.pixels())

    def summarize(self, collected: Sequence[Floats], reference: Sequence[Floats]) -> dict[str, float | None]:
        return dict(distances(np.stack(collected), np.stack(reference)))


def distances(features: Floats, reference: Floats) -> dict[str, float]:
    """wFD and MMD of features, (N, 192), from those of true clips, (M, 192), each over its spread in the latter."""
    features, reference = over_spread(features, reference)
    widths = {"mmd": 1.0, "mmd_narrow": 0.25, "mmd_wide": 4.0}
    return {"wfd": frechet_distance(features, reference)} | {
        name: maximum_mean_discrepancy(features, reference, width) for name, width in widths.items()
    }


@torch.no_grad()
def world_features(pixels: Tensor) -> Floats:
    """Features, (192,), of pixels in [-1, 1], (3, T, H, W).

    Raises:
        CheckpointError: The network's weights are missing, or not the committed ones.
    """
    frames = shrink(pixels, SIDE, SIDE)[None]
    return world_network().features(frames)[0].double().numpy()
