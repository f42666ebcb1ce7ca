"""Twice the size, or four times: a clip's codes become those of a larger one (VideoPoet, section 3.4).

A clip is taken a window at a time, and each window knows the upscaled end of the one before it. Its pixels are encoded
again even where its codes were just made: windows of a long or edited clip have been joined, cut and blended by then.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from videopoet import runtime
from videopoet.errors import MediaError, TaskError
from videopoet.generation.masked_decoding import MaskedSampling, decode
from videopoet.generation.poet_folder import Parts
from videopoet.media.types import Image, Media, Video
from videopoet.models.super_resolution import UNKNOWN, SuperResolution

FACTORS = (2, 4)
"""What a side can be multiplied by; 4 is twice 2."""
MOST_CODES = 2**16
"""Codes of a window at its new size: what bounds memory."""


def check(parts: Parts, factor: int) -> SuperResolution:
    """The poet's super-resolution.

    Raises:
        TaskError: It has none, or cannot multiply a side by that.
    """
    if parts.super_resolution is None:
        raise TaskError(
            f"the model '{parts.settings.name}' has no super-resolution; upscaling needs one; train it with the stage "
            "super_resolution, or leave upscaling out",
            code="upscale_unsupported",
        )
    if factor not in FACTORS:
        raise TaskError(
            f"upscale is {factor}; {' and '.join(map(str, FACTORS))} fit; choose one of these", code="range"
        )
    return parts.super_resolution


def num_steps(parts: Parts, num_frames: int, factor: int, sampling: MaskedSampling | None = None) -> int:
    """How many steps a clip of so many frames takes, at the most."""
    most, overlap = _window(parts)
    num_windows = 1 + math.ceil(max(0, num_frames - most) / (most - overlap))
    return num_windows * (sampling or parts.settings.upscaling).num_steps * round(math.log2(factor))


def upscale(
    parts: Parts,
    media: Media,
    factor: int = 2,
    prompt: Tensor | None = None,
    seed: int = 0,
    sampling: MaskedSampling | None = None,
    on_step: Callable[[], None] = lambda: None,
) -> Media:
    """A clip or picture with `factor` times as many pixels a side; sound and rate stay.

    Args:
        parts: A poet with super-resolution.
        media: A Video or an Image, of any size.
        factor: One of `FACTORS`.
        prompt: Ids of what it shows, (L,).
        seed: Of all that is drawn.
        sampling: How to choose; None is as the poet's settings say.
        on_step: Called after each step of the decoding; what it raises ends the work.

    Raises:
        TaskError: The poet has no super-resolution, or another factor.
        MediaError: It is too large.
    """
    model = check(parts, factor)
    if not isinstance(media, Video | Image):
        raise TaskError(
            f"{media} cannot be upscaled; clips and pictures can; give one of these", code="input_unexpected"
        )
    frames = media.frames if isinstance(media, Video) else media.frame[:, None]
    _check_size(parts, frames, factor)
    text = torch.empty(1, 0, dtype=torch.int64) if prompt is None else prompt[None, : model.config.longest_text]
    for stage in range(round(math.log2(factor))):
        generator = runtime.generator(seed, "upscaling", stage)
        frames = _doubled(parts, model, frames, text, sampling or parts.settings.upscaling, generator, on_step)
    if isinstance(media, Image):
        return Image(frames[:, 0])
    return Video(frames, media.frame_rate, media.audio)


def keeping(sampling: MaskedSampling) -> MaskedSampling:
    """The same, for pixels that are to be kept: those that were given, of which the tokenizer loses some."""
    return sampling.model_copy(update={"faithfulness": 1.0})


def bicubic(pixels: Tensor, height: int, width: int) -> Tensor:
    """Pixels, (3, T, H, W), at another size; where it shrinks, the mean of what falls together."""
    frames = pixels.movedim(1, 0)
    shrinks = height < pixels.shape[2] or width < pixels.shape[3]
    scaled = F.interpolate(frames, (height, width), mode="bicubic", antialias=shrinks, align_corners=False)
    return scaled.movedim(0, 1)


def _doubled(
    parts: Parts,
    model: SuperResolution,
    frames: Tensor,
    text: Tensor,
    sampling: MaskedSampling,
    generator: torch.Generator,
    on_step: Callable[[], None],
) -> Tensor:
    """uint8 frames, (3, T, H, W), at twice the height and width."""
    tokenizer = parts.video_tokenizer
    most, overlap = _window(parts)
    num_frames, height, width = frames.shape[1:]
    made = torch.empty(3, num_frames, 2 * height, 2 * width, dtype=torch.uint8)
    done = 0
    while done < num_frames:
        start = max(0, done - overlap) if done else 0
        low = _on_grid(parts, Video(frames[:, start : start + most], 1.0).pixels())
        with torch.no_grad(), runtime.autocast(parts.device):
            low_codes = tokenizer.encode(low[None].to(parts.device))
            t, h, w = low_codes.shape[1:]
            codes = torch.full((1, t, 2 * h, 2 * w), UNKNOWN, device=parts.device)
            if done > start:
                known = _on_grid(parts, Video(made[:, start:done], 1.0).pixels(), low.shape[2] * 2, low.shape[3] * 2)
                known_codes = tokenizer.encode(known[None].to(parts.device))
                codes[:, : known_codes.shape[1]] = known_codes
            codes = decode(model, codes, low_codes, text.to(parts.device), sampling, [generator], on_step)
            high = tokenizer.decode(codes)[0].float().cpu()
        if sampling.faithfulness:
            high = high + sampling.faithfulness * bicubic(low - bicubic(high, *low.shape[2:]), *high.shape[2:])
        new = min(start + most, num_frames) - done
        pixels = high[:, done - start : done - start + new, : 2 * height, : 2 * width]
        made[:, done : done + new] = Video.from_pixels(pixels, 1.0).frames
        done += new
    return made


def _window(parts: Parts) -> tuple[int, int]:
    """How many frames are upscaled at once, and how many of them the next window knows from the one before."""
    most, stride = parts.settings.num_frames, parts.video_tokenizer.time_stride
    return most, max(0, min(1 + stride, most - stride))


def _on_grid(parts: Parts, pixels: Tensor, height: int = 0, width: int = 0) -> Tensor:
    """Pixels, (3, T, H, W), of which edges and the last frame are repeated until they fit the tokenizer's grid."""
    space, time = parts.video_tokenizer.space_stride, parts.video_tokenizer.time_stride
    missing_height = (height - pixels.shape[2]) if height else -pixels.shape[2] % space
    missing_width = (width - pixels.shape[3]) if width else -pixels.shape[3] % space
    return F.pad(pixels, (0, missing_width, 0, missing_height, 0, (1 - pixels.shape[1]) % time), mode="replicate")


def _check_size(parts: Parts, frames: Tensor, factor: int) -> None:
    tokenizer, (most, _) = parts.video_tokenizer, _window(parts)
    t = 1 + math.ceil((min(most, frames.shape[1]) - 1) / tokenizer.time_stride)
    rows, columns = (math.ceil(side / tokenizer.space_stride) * factor for side in frames.shape[2:])
    if t * rows * columns > MOST_CODES:
        side = int(math.sqrt(MOST_CODES / t)) // factor * tokenizer.space_stride
        raise MediaError(
            f"{frames.shape[3]}x{frames.shape[2]} pixels (width x height) times {factor} make {t * rows * columns} "
            f"codes; {MOST_CODES} fit, as of {side}x{side} pixels; scale it down first, or upscale it less",
            code="video_too_large",
        )
