"""World-feature Frechet distance (wFD): whether clips show, as a set, what true ones show. It is not FVD."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from videopoet.evaluation.cases import Case, Take
from videopoet.evaluation.metrics.base import Distance, Figure
from videopoet.evaluation.statistics import Floats, scaled_frechet_distance
from videopoet.evaluation.world_network import SIDE, world_network
from videopoet.media.resample import shrink


class WorldFeatureFrechet(Distance):
    """Frechet distance on the features of a small 3-D CNN that was trained to read the toy box's labels, and frozen.

    Mean and maximum of each channel of its last layer are 192 features, each over its spread in true clips. Its labels
    are shape, colour, size, motion, scenery, camera and number of subjects. Not bounded; the truth's own distance from
    as many other true clips is the floor, and shrinks with their number, so figures compare only at equal N.
    """

    number = "M9"
    suites = ("text_to_video", "unconditional", "tokenizer")
    figures = {"wfd": Figure("world-feature Frechet distance; the floor is the truth's", "", better="lower")}
    baselines = ("freeze",)
    least = 1024
    draws = 20

    def collect(self, case: Case, take: Take) -> Floats | None:
        return None if take.video is None else world_features(take.video.pixels())

    def summarize(self, collected: Sequence[Floats], reference: Sequence[Floats]) -> dict[str, float | None]:
        return {"wfd": scaled_frechet_distance(np.stack(collected), np.stack(reference))}


@torch.no_grad()
def world_features(pixels: Tensor) -> Floats:
    """Features, (192,), of pixels in [-1, 1], (3, T, H, W).

    Raises:
        CheckpointError: The network's weights are missing, or not the committed ones.
    """
    frames = shrink(pixels, SIDE, SIDE)[None]
    return world_network().features(frames)[0].double().numpy()
