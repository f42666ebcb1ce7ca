"""Hears impacts: when sound grows loud at once, and the material that rings.

A material rings at its own few frequencies, a little higher for a small thing and lower for a big one. What is heard is
the change in the spectrum from before the onset to after it, so that what rings on from earlier does not count.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

MATERIALS = {"thud": (118.0, 187.0), "knock": (520.0, 905.0), "ping": (1568.0, 2940.0)}
"""The strongest partials in Hz of a thing of middle size."""
_PITCHES = 0.84, 1.18
"""How much lower and higher things of other sizes ring."""
_HOP = 64
"""Samples over which loudness is measured."""
_QUIET = 1e-3
"""Mean square of samples that is as good as silence; the toy box's ambience stays under it."""
_LEAST_RISE = 1.5
"""Rise of the logarithm of loudness that is an onset at least."""
_ONSET_SECONDS = 0.05
"""Onsets nearer than this to a stronger one belong to it."""
_RING_SECONDS = 0.05
"""How long an impact is listened to."""
_LEAST_SHARE = 0.3
"""Part of what an onset brings that must lie at a material's partials."""


def hear_impacts(audio: Tensor, sample_rate: int) -> Tensor:
    """The times in seconds, (N,), at which samples, (S,), grow loud at once, in order."""
    if len(audio) < 4 * _HOP:
        return torch.zeros(0)
    loudness = (audio.float().unfold(0, _HOP, _HOP).square().mean(dim=1) + _QUIET).log()
    rise = F.pad(loudness[2:] - loudness[:-2], (2, 0))
    threshold = max(_LEAST_RISE, 0.35 * rise.max().item())
    reach = math.ceil(_ONSET_SECONDS * sample_rate / _HOP)
    peaks = F.max_pool1d(rise[None], 2 * reach + 1, stride=1, padding=reach)[0]
    found = ((rise == peaks) & (rise > threshold)).nonzero().flatten()
    # The rise over two hops that ends in hop i began about a hop before it.
    return (found - 0.5) * _HOP / sample_rate


def name_material(audio: Tensor, sample_rate: int, seconds: float) -> str | None:
    """What rings in samples, (S,), from a time on; None where it is none of MATERIALS."""
    length = round(_RING_SECONDS * sample_rate)
    start = round(seconds * sample_rate)
    after, before = audio[start : start + length].float(), audio[max(start - length, 0) : start].float()
    if len(after) < length // 4:
        return None
    power = (_power(after, length) - _power(before, length)).clamp_min(0)
    frequencies = torch.fft.rfftfreq(4 * length, 1 / sample_rate)
    shares = {}
    for material, partials in MATERIALS.items():
        near = torch.zeros_like(power, dtype=torch.bool)
        for partial in partials:
            near |= (frequencies > _PITCHES[0] * partial) & (frequencies < _PITCHES[1] * partial)
        shares[material] = (power * near).sum().item()
    total = power.sum().item()
    best = max(shares, key=shares.__getitem__)
    return best if shares[best] > _LEAST_SHARE * total else None


def _power(samples: Tensor, length: int) -> Tensor:
    """The power spectrum of samples, padded to four times `length`."""
    if not len(samples):
        return torch.zeros(2 * length + 1)
    window = torch.hann_window(2 * len(samples), periodic=False)[len(samples) :]
    return torch.fft.rfft(samples * window, n=4 * length).abs().square()
