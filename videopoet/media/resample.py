"""Other sizes and rates: frames to a height and width, videos to a frame rate, sound to a sample rate."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from videopoet.errors import MediaError
from videopoet.media.types import Audio, Video

NUM_LOBES = 16
"""Zero crossings of the sinc on each side: more is a steeper edge at the highest frequency kept."""
ROLLOFF = 0.95
"""Where the low-pass filter cuts, as a share of the lower of the two half rates."""
CHUNK = 1 << 22
"""Samples times taps that resampling holds in memory at once."""


def resize_and_crop(frames: Tensor, height: int, width: int) -> Tensor:
    """Scale the short side and cut the middle out, so that frames (..., H, W) fill (..., height, width).

    Bicubic, averaging where it shrinks; uint8 stays uint8, floats stay floats and may overshoot a little.
    """
    if tuple(frames.shape[-2:]) == (height, width):
        return frames
    scale = max(height / frames.shape[-2], width / frames.shape[-1])
    scaled_height = max(height, round(frames.shape[-2] * scale))
    scaled_width = max(width, round(frames.shape[-1] * scale))
    flat = frames.reshape(-1, 1, *frames.shape[-2:]).float()
    flat = F.interpolate(flat, (scaled_height, scaled_width), mode="bicubic", antialias=True, align_corners=False)
    top, left = (scaled_height - height) // 2, (scaled_width - width) // 2
    flat = flat[..., top : top + height, left : left + width].reshape(*frames.shape[:-2], height, width)
    return flat.round().clamp(0, 255).to(torch.uint8) if frames.dtype == torch.uint8 else flat.to(frames.dtype)


def shrink(frames: Tensor, height: int, width: int) -> Tensor:
    """Frames (C, T, H, W) as (C, T, height, width), whatever their shape: each pixel is the mean of what it covers."""
    return F.interpolate(frames.transpose(0, 1), (height, width), mode="area").transpose(0, 1)


def resample_frames(video: Video, frame_rate: float) -> Video:
    """Show the same clip at another frame rate: each new frame is the one on screen at its time. Sound stays."""
    if frame_rate == video.frame_rate:
        return video
    num_frames = max(1, math.ceil(video.seconds * frame_rate - 1e-6))
    times = torch.arange(num_frames, dtype=torch.float64) / frame_rate
    indices = (times * video.frame_rate + 1e-6).long().clamp_max(video.num_frames - 1)
    return Video(video.frames[:, indices.to(video.frames.device)], frame_rate, video.audio)


def resample_audio(audio: Audio, sample_rate: int, channels: int = 1) -> Audio:
    """Change the sample rate by a windowed sinc, and the number of channels: one is the mean, two repeat one.

    Raises:
        MediaError: The channels cannot be made from those there are.
    """
    samples = audio.samples
    if channels != audio.num_channels:
        if channels != 1 and audio.num_channels != 1:
            raise MediaError(
                f"the sound has {audio.num_channels} channels and {channels} are wanted; it can become 1, and 1 can "
                "become any number; ask for one of these",
                code="channels_unsupported",
            )
        samples = samples.mean(dim=0, keepdim=True).repeat(channels, 1)
    if sample_rate != audio.sample_rate:
        samples = _resample(samples, audio.sample_rate, sample_rate)
    return Audio(samples, sample_rate)


def _resample(samples: Tensor, old_rate: int, new_rate: int) -> Tensor:
    """Polyphase windowed-sinc interpolation, (C, S) -> (C, ceil(S * new / old)).

    The time of new sample k falls between old samples at one of new / gcd phases, each with its own row of weights.
    """
    common = math.gcd(old_rate, new_rate)
    old, new = old_rate // common, new_rate // common
    cutoff = ROLLOFF * min(1.0, new / old)
    reach = math.ceil(NUM_LOBES / cutoff)
    num_samples = math.ceil(samples.shape[1] * new / old)
    device = samples.device

    phases = torch.arange(min(new, max(num_samples, 1)), dtype=torch.float64, device=device)
    taps = torch.arange(-reach + 1, reach + 1, device=device)
    distance = taps - (phases * old / new).frac()[:, None]
    window = torch.cos(distance.clamp(-reach, reach) * (math.pi / 2 / reach)) ** 2
    weights = (cutoff * torch.sinc(distance * cutoff) * window).float()  # (phases, taps)

    padded = F.pad(samples, (reach, reach + 1))
    rows = []
    for start in range(0, num_samples, max(1, CHUNK // len(taps))):
        k = torch.arange(start, min(num_samples, start + max(1, CHUNK // len(taps))), device=device)
        nearest = k * old // new + reach
        rows.append((padded[:, nearest[:, None] + taps] * weights[k % new]).sum(dim=2))  # (C, chunk)
    return torch.cat(rows, dim=1) if rows else samples
