"""The sound of the toy box: impacts by material at their exact times, over a quiet ambience by kind of scene.

Ambience is a fixed recording per kind that a clip enters at its own place, so equal scenes sound equal everywhere.
"""

import functools
import math
import zlib
from collections.abc import Sequence

import torch
from torch import Tensor

from videopoet.data.toybox_world import Scene

_AMBIENCE_SECONDS = 12.0
_AMBIENCE_LEVEL = 0.008
"""Root mean square of every ambience."""
_IMPACT_SECONDS = 0.5
_IMPACT_PEAK = 0.6
_PARTIALS = {
    "thud": ((118.0, 1.0, 0.070), (187.0, 0.6, 0.045), (290.0, 0.35, 0.025)),
    "knock": ((520.0, 1.0, 0.028), (905.0, 0.6, 0.018), (1480.0, 0.35, 0.010)),
    "ping": ((1568.0, 1.0, 0.120), (2940.0, 0.4, 0.070), (4650.0, 0.2, 0.035)),
}
"""(frequency in Hz, weight, decay in seconds) of what rings in each material."""
_PITCH = {"small": 1.12, "medium": 1.0, "big": 0.89}


def play(scenes: Sequence[Scene], sample_rate: int, device: torch.device | str = "cpu") -> Tensor:
    """Sound of the scenes in [-1, 1], (B, 1, S), as long as the clips."""
    num_samples = round(scenes[0].stage.seconds * sample_rate)
    audio = torch.empty(len(scenes), 1, num_samples)
    for i, scene in enumerate(scenes):
        recording = ambience(scene.kind, sample_rate)
        first = int(scene.ambience_start * len(recording))
        audio[i, 0] = _go_round(recording, first, num_samples)
        for impact in scene.impacts:
            start = round(impact.seconds * sample_rate)
            sound = impact_sound(impact.material, scene.subjects[impact.subject].size, sample_rate)
            sound = sound[: num_samples - start]
            audio[i, 0, start : start + len(sound)] += impact.strength * sound
    return audio.clamp_(-1, 1).to(device)


def _go_round(recording: Tensor, first: int, num_samples: int) -> Tensor:
    rounds = [recording[first:]]
    while sum(map(len, rounds)) < num_samples:
        rounds.append(recording)
    return torch.cat(rounds)[:num_samples] if len(rounds) > 1 else rounds[0][:num_samples]


@functools.cache
def impact_sound(material: str, size: str, sample_rate: int) -> Tensor:
    """One landing at full strength, from its first sample on."""
    seconds = torch.arange(round(_IMPACT_SECONDS * sample_rate)) / sample_rate
    pitch = _PITCH[size]
    sound = sum(
        weight * torch.sin(2 * math.pi * pitch * frequency * seconds) * torch.exp(-seconds / decay)
        for frequency, weight, decay in _PARTIALS[material]
    )
    # A millisecond to rise: an onset that is clean, and no click.
    sound = sound * (seconds / 0.001).clamp(0, 1) * ((_IMPACT_SECONDS - seconds) / 0.02).clamp(0, 1)
    return _IMPACT_PEAK * sound / sound.abs().max()


@functools.cache
def ambience(kind: str, sample_rate: int) -> Tensor:
    """The quiet voice of a kind of scene: a recording that can go round in a circle."""
    num_samples = round(_AMBIENCE_SECONDS * sample_rate)
    generator = torch.Generator().manual_seed(zlib.crc32(kind.encode()))
    seconds = torch.arange(num_samples) / sample_rate
    turn = 2 * math.pi / _AMBIENCE_SECONDS

    def noise(low: float, high: float) -> Tensor:
        spectrum = torch.fft.rfft(torch.randn(num_samples, generator=generator))
        frequencies = torch.fft.rfftfreq(num_samples, 1 / sample_rate)
        band = torch.exp(-((frequencies / high) ** 2)) * (1 - torch.exp(-((frequencies / low) ** 2)))
        filtered = torch.fft.irfft(spectrum * band, n=num_samples)
        return filtered / filtered.square().mean().sqrt()

    match kind:
        case "sea":
            sound = noise(150, 900) * (0.35 + 0.65 * torch.sin(turn * 2 * seconds) ** 2)
        case "grass":
            sound = 0.6 * noise(200, 700) + _chirps(seconds, 1.7, 2600, 900, 0.09)
        case "sand":
            sound = noise(80, 350) * (0.6 + 0.4 * torch.sin(turn * 3 * seconds))
        case "night":
            trill = (torch.sin(turn * 12 * 16 * seconds) > 0) * (torch.remainder(seconds, 0.75) < 0.4)
            sound = torch.sin(2 * math.pi * 3900 * seconds) * _smooth(trill.float(), 40) + 0.15 * noise(80, 300)
        case "snow":
            sound = noise(250, 520) * (0.6 + 0.4 * torch.cos(turn * 4 * seconds))
        case "street":
            sound = noise(40, 160) + 0.15 * noise(300, 900)
        case "room":
            tick = torch.remainder(seconds, 0.5) < 0.004
            sound = 0.5 * noise(60, 200) + 1.2 * torch.sin(2 * math.pi * 2000 * seconds) * _smooth(tick.float(), 20)
        case _:
            sound = 0.4 * noise(300, 1200) + _chirps(seconds, 1.1, 3200, -700, 0.07)
    sound = sound.clamp(-4, 4)
    return _AMBIENCE_LEVEL * sound / sound.square().mean().sqrt()


def _chirps(seconds: Tensor, every: float, frequency: float, sweep: float, length: float) -> Tensor:
    """Bird calls of three notes, `sweep` Hz up or down each, that fit the recording a whole number of times."""
    period = _AMBIENCE_SECONDS / round(_AMBIENCE_SECONDS / every)
    within = torch.remainder(seconds, period)
    call = torch.zeros_like(seconds)
    for note in range(3):
        into = (within - 0.13 * note) / length
        envelope = torch.where((into > 0) & (into < 1), torch.sin(math.pi * into) ** 2, 0.0)
        phase = 2 * math.pi * length * (frequency * into + 0.5 * sweep * into**2)
        call += 1.6 * envelope * torch.sin(phase)
    return call


def _smooth(envelope: Tensor, num_samples: int) -> Tensor:
    kernel = torch.hann_window(num_samples + 1, periodic=False)
    kernel = (kernel / kernel.sum()).view(1, 1, -1)
    return torch.nn.functional.conv1d(envelope.view(1, 1, -1), kernel, padding=num_samples // 2).view(-1)
