"""A clip seen through its tokens, and how much of it they keep."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch

from videopoet import runtime
from videopoet.generation import given
from videopoet.generation.poet_folder import Parts
from videopoet.generation.request import check_number
from videopoet.generation.window import Window
from videopoet.media.quality import psnr, ssim
from videopoet.media.resample import resample_audio
from videopoet.media.types import Audio, Video


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """A clip seen through its tokens, and what they kept of it."""

    video: Video
    psnr: float
    """dB, over the whole clip."""
    ssim: float
    bits_per_pixel: float
    """Of the picture: bits of its codes over height x width x frames."""
    warnings: tuple[str, ...] = ()
    """What of the clip was left out."""


def reconstruct(parts: Parts, video: str | Path | Video, start: float | None = None) -> Reconstruction:
    """See a clip through the tokens of a poet; `VideoPoet.reconstruct` says more.

    Raises:
        TaskError: `start` is no number of seconds that fits.
        MediaError: The file is missing, broken, too long, or ends before `start`.
    """
    if start is not None:
        check_number("start", start)
    window, tokenizer, warnings = Window(parts), parts.video_tokenizer, []
    clip = given.kept_clip(video, window, start, "this takes")
    given.say_cut(video, window, warnings, "crop it yourself to see another part")
    stride = tokenizer.time_stride
    num_frames = 1 + (clip.num_frames - 1) // stride * stride
    if num_frames < clip.num_frames:
        warnings.append(
            f"the clip has {clip.num_frames} frames at {clip.frame_rate:g} a second; the tokens hold the first "
            f"{num_frames}, one and then {stride} at a time"
        )
    original = Video(clip.frames[:, :num_frames], clip.frame_rate)
    codes = window.encode(original.pixels())
    seen = Video.from_pixels(window.decode(codes), clip.frame_rate, _heard(parts, clip.audio, original.seconds))
    return Reconstruction(
        seen,
        psnr(seen.frames, original.frames),
        ssim(seen.frames, original.frames),
        codes.numel() * math.log2(tokenizer.num_codes) / (num_frames * window.height * window.width),
        tuple(warnings),
    )


def _heard(parts: Parts, audio: Audio | None, seconds: float) -> Audio | None:
    """Sound through its tokens; None where there is less of it than one code needs."""
    tokenizer = parts.audio_tokenizer
    if audio is None:
        return None
    samples = resample_audio(audio, tokenizer.sample_rate).samples[:, : round(seconds * tokenizer.sample_rate)]
    if not tokenizer.num_frames(samples.shape[1]):
        return None
    with torch.no_grad(), runtime.autocast(parts.device):
        codes = tokenizer.encode(samples[None].to(parts.device))
        return Audio(tokenizer.decode(codes)[0].float().cpu(), tokenizer.sample_rate)
