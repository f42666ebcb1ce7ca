"""Frechet video distance (FVD), with the I3D network that it is defined with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from videopoet.evaluation import plugins
from videopoet.evaluation.cases import Case, Take
from videopoet.evaluation.metrics.base import Figure, Weighty
from videopoet.evaluation.statistics import Floats, frechet_distance

NUM_FRAMES, SIDE, WIDTH = 16, 224, 400


class FVD(Weighty):
    """FVD (Unterthiner et al. 2018): Frechet distance between the 400 logits of I3D, trained on Kinetics-400.

    Protocol: the central 16 frames, resized bilinearly to 224x224, pixels in [-1, 1]; 2,048 clips against as many true
    ones; mean and full covariance. Here the true ones are toy-box clips of other prompts, so that the value compares
    with other models on this world and with no published table. Resizing twice (first to 64x64, as for Kinetics-600)
    gives other numbers and is not done.
    """

    suites = ("text_to_video", "unconditional")
    figures = {"fvd": Figure("Frechet video distance; the floor is the truth's", "", better="lower")}
    has_reference = True
    least = 2048
    draws = 20
    what_to_get = "i3d_torchscript.pt, the I3D of StyleGAN-V's FVD (github.com/universome/fvd-comparison links to it)"

    def __init__(self, weights: Path):
        super().__init__(weights)
        self.network = plugins.torchscript(weights)

    def collect(self, case: Case, take: Take) -> Floats | None:
        if take.video is None or take.video.num_frames < NUM_FRAMES:
            return None
        first = (take.video.num_frames - NUM_FRAMES) // 2
        frames = take.video.pixels()[:, first : first + NUM_FRAMES].transpose(0, 1)
        clip = F.interpolate(frames, (SIDE, SIDE), mode="bilinear", align_corners=False).transpose(0, 1)[None]
        options = {"rescale": False, "resize": False, "return_features": True}
        features: torch.Tensor = plugins.run(self.network, clip, WIDTH, **options)
        return features[0].double().numpy()

    def summarize(self, collected: Sequence[Floats], reference: Sequence[Floats]) -> dict[str, float | None]:
        return {"fvd": frechet_distance(np.stack(collected), np.stack(reference))}
