"""Frechet audio distance (FAD), with the VGGish network that it is defined with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from videopoet.evaluation import plugins
from videopoet.evaluation.cases import Case, Take
from videopoet.evaluation.metrics.base import Figure, Weighty
from videopoet.evaluation.statistics import Floats, frechet_distance
from videopoet.media.resample import resample_audio

RATE, WINDOW, HOP, TRANSFORM = 16_000, 400, 160, 512
BANDS, LOWEST, HIGHEST, OFFSET = 64, 125.0, 7500.0, 0.01
FRAMES, STEP, WIDTH = 96, 50, 128


class FAD(Weighty):
    """FAD (Kilgour et al. 2019): Frechet distance between VGGish's 128 numbers of 0.96 s of sound, every 0.5 s.

    Protocol: mono at 16 kHz; magnitudes of 25 ms windows (Hann) every 10 ms; 64 mel bands from 125 to 7,500 Hz; the
    logarithm after adding 0.01; stretches of 96 frames, one every 50 (0.5 s), whole ones only; embeddings before
    quantization and whitening. All stretches of all sounds against those of as many true sounds of the toy box.
    """

    suites = ("text_to_video", "video_to_audio", "text_to_audio")
    figures = {"fad": Figure("Frechet audio distance; the floor is the truth's", "", better="lower")}
    has_reference = True
    least = 1024
    draws = 20
    what_to_get = "VGGish as TorchScript: log mel spectrograms, (N, 1, 96, 64), to embeddings, (N, 128)"

    def __init__(self, weights: Path):
        super().__init__(weights)
        self.network = plugins.torchscript(weights)

    def collect(self, case: Case, take: Take) -> Floats | None:
        if take.audio is None:
            return None
        samples = resample_audio(take.audio, RATE).samples.mean(dim=0)
        examples = vggish_examples(samples)
        return plugins.run(self.network, examples, WIDTH).double().numpy() if len(examples) else None

    def summarize(self, collected: Sequence[Floats], reference: Sequence[Floats]) -> dict[str, float | None]:
        return {"fad": frechet_distance(np.concatenate(collected), np.concatenate(reference))}


def vggish_examples(samples: Tensor) -> Tensor:
    """VGGish's view of samples at 16 kHz, (S,): log mel spectrograms of 0.96 s, every 0.5 s, (N, 1, 96, 64)."""
    if len(samples) < WINDOW + (FRAMES - 1) * HOP:
        return torch.zeros(0, 1, FRAMES, BANDS)
    # The periodic Hann window, each frame padded at its end to the length of the transform.
    frames = samples.unfold(0, WINDOW, HOP) * torch.hann_window(WINDOW, periodic=True)
    magnitudes = torch.fft.rfft(F.pad(frames, (0, TRANSFORM - WINDOW))).abs()
    log_mels = (magnitudes @ _mel_bands() + OFFSET).log()
    return log_mels.unfold(0, FRAMES, STEP).mT[:, None].contiguous()  # (N, 1, 96, 64)


@cache
def _mel_bands() -> Tensor:
    """Triangular filters, (257, 64), straight on the mel scale 1127 ln(1 + f / 700); the lowest bin has no weight."""

    def mel(hertz: Tensor) -> Tensor:
        return 1127.0 * torch.log1p(hertz / 700.0)

    bins = mel(torch.linspace(0, RATE / 2, TRANSFORM // 2 + 1, dtype=torch.float64))[:, None]
    low, high = (1127.0 * math.log1p(hertz / 700.0) for hertz in (LOWEST, HIGHEST))
    edges = torch.linspace(low, high, BANDS + 2, dtype=torch.float64)
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    weights = torch.minimum(rising, falling).clamp_min(0)
    weights[0] = 0
    return weights.float()
