"""Inception score (IS) of clips, with the C3D network that it is reported with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch.nn import functional as F

from videopoet.errors import CheckpointError
from videopoet.evaluation import plugins
from videopoet.evaluation.cases import Case, Take
from videopoet.evaluation.metrics.base import Figure, Weighty
from videopoet.evaluation.statistics import Floats

NUM_FRAMES, HEIGHT, WIDTH, CROP, CLASSES = 16, 128, 171, 112, 101
SPLITS = 10


class InceptionScore(Weighty):
    """IS (Salimans et al. 2016) as TGAN has it for clips: exp of the mean KL from the marginal, by C3D on UCF-101.

    Protocol: 10,000 clips, 16 frames resized to 128x171, the central 112x112, values from 0 to 255; the mean over ten
    splits. The network returns probabilities of the 101 classes; the mean that C3D subtracts is part of it. The classes
    are human actions: of toy-box clips the value says little, and it compares with no published table.
    """

    suites = ("unconditional",)
    figures = {"is": Figure("inception score, mean of ten splits", "")}
    least = 10_000
    draws = 20
    what_to_get = "a TorchScript C3D trained on UCF-101, such as StyleGAN-V's c3d_ucf101.pt"

    def __init__(self, weights: Path):
        super().__init__(weights)
        self.network = plugins.torchscript(weights)

    def collect(self, case: Case, take: Take) -> Floats | None:
        if take.video is None or take.video.num_frames < NUM_FRAMES:
            return None
        frames = take.video.frames[:, :NUM_FRAMES].float().transpose(0, 1)
        frames = F.interpolate(frames, (HEIGHT, WIDTH), mode="bilinear", align_corners=False)
        top, left = (HEIGHT - CROP) // 2, (WIDTH - CROP) // 2
        clip = frames[:, :, top : top + CROP, left : left + CROP].transpose(0, 1)[None]
        shares = plugins.run(self.network, clip, CLASSES)[0].double().numpy()
        if (shares < -1e-4).any() or abs(shares.sum() - 1) > 1e-3:
            raise CheckpointError(
                f"the network's answers sum to {shares.sum():.3g}; probabilities sum to 1; export it with its softmax",
                code="weights_unfit",
            )
        return shares.clip(0)

    def summarize(self, collected: Sequence[Floats], reference: Sequence[object]) -> dict[str, float | None]:
        splits = np.array_split(np.stack(collected), min(SPLITS, len(collected)))
        return {"is": float(np.mean([inception_score(split) for split in splits]))}


def inception_score(shares: Floats) -> float:
    """exp of the mean KL divergence of probabilities, (N, classes), from their mean: 1 to the number of classes."""
    safe = shares + 1e-12
    return float(np.exp((shares * (np.log(safe) - np.log(safe.mean(axis=0)))).sum(axis=1).mean()))
