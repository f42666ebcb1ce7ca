"""Memory: whether what is made are clips of the training set."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from videopoet.data.toybox import Config, ToyBox
from videopoet.evaluation.cases import Case, Take
from videopoet.evaluation.metrics.base import Figure, OverAll
from videopoet.evaluation.statistics import Floats

NUM_TRAINING_CLIPS = 512
SIDE = 16
STEP = 4
"""Every fourth frame is compared."""


class Memorization(OverAll):
    """Clips nearer to a training clip (pixels of a 16x16 thumbnail) than 99 of 100 true clips of other prompts are.

    About 1% is what a model shows that copies nothing. The toy box's training set has no end; 512 clips stand for it.
    """

    number = "M15"
    suites = ("text_to_video", "unconditional")
    figures = {"copies": Figure("clips nearer to a training clip than true ones are", better="lower")}
    baselines = ("retrieval",)
    least = 100
    has_reference = True

    def collect(self, case: Case, take: Take) -> float | None:
        if take.video is None:
            return None
        video = case.truth.plain
        known = _training_thumbnails(video.height, video.width, video.num_frames, video.frame_rate)
        own = thumbnail(take.video.pixels())
        return float(np.square(known - own).mean(axis=1).min()) if own.shape == known[0].shape else None

    def summarize(self, collected: Sequence[float], reference: Sequence[float]) -> dict[str, float | None]:
        near = np.percentile(np.array(reference), 1)
        return {"copies": float((np.array(collected) < near).mean())}


def thumbnail(pixels: Tensor) -> Floats:
    """A short description, (D,), of pixels in [-1, 1], (3, T, H, W)."""
    frames = pixels[:, ::STEP].transpose(0, 1)
    return F.interpolate(frames, (SIDE, SIDE), mode="area").flatten().double().numpy()


@cache
def _training_thumbnails(height: int, width: int, num_frames: int, frame_rate: float) -> Floats:
    world = ToyBox(Config(height=height, width=width, num_frames=num_frames, frame_rate=frame_rate))
    with torch.no_grad():
        clips = (world.render([world.scene(seed)], audio=False).video[0] for seed in range(NUM_TRAINING_CLIPS))
        return np.stack([thumbnail(clip) for clip in clips])
