"""Files in and out: `read_video`, `read_image`, `read_audio`, `probe`, `write` and `write_parts`.

What a file is, its content says and not its name. Reading decodes in a child process with limits (`sandbox`), so that
a broken or hostile file ends in an error here and nothing worse; playlists and other files that name files are refused.
Pictures come upright, in square pixels, transparent parts white. Colours are those of standard range: HDR is not
tone-mapped. Only our own tensors are encoded in this process.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from videopoet.checkpoint import write_atomically
from videopoet.errors import MediaError
from videopoet.media import encoder
from videopoet.media.protocol import Limits
from videopoet.media.resample import resample_audio
from videopoet.media.sandbox import Decoded, decode, refusal
from videopoet.media.selection import constant_rate, num_ticks, on_screen
from videopoet.media.types import Audio, Image, Media, Video

Fit = Literal["crop", "pad"]
"""How a picture of another shape fills the size asked for: cut to its middle, or whole with black beside it."""

DEFAULT_LIMITS = Limits()
MAX_FRAME_RATE = 1000
MAX_SAMPLE_RATE = 384_000
MAX_SIDE = 8192
MAX_START = 1e6
SOUND_GAP = 0.1
"""Seconds of sound that must be missing from a file before silence is put in their place, or be there twice before the
second time is left out."""

WRITERS = {
    Video: {".mp4": encoder.write_mp4, ".gif": encoder.write_gif, ".mkv": encoder.write_mkv},
    Image: {".png": encoder.write_png},
    Audio: {".wav": encoder.write_wav},
}


@dataclass(frozen=True)
class Facts:
    """What a file holds, as far as its header and first frame say; None is not known, or does not apply."""

    kind: Literal["video", "image", "audio"]
    height: int | None = None
    """Of the upright picture in square pixels, as it is read."""
    width: int | None = None
    frame_rate: float | None = None
    num_frames: int | None = None
    seconds: float | None = None
    video_codec: str | None = None
    audio_codec: str | None = None
    sample_rate: int | None = None
    channels: int | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    """What `write` was given as metadata; empty for files of other origin."""


def read_video(
    path: str | Path,
    *,
    height: int | None = None,
    width: int | None = None,
    frame_rate: float | None = None,
    max_frames: int | None = None,
    max_seconds: float | None = None,
    start: float | None = None,
    fit: Fit = "crop",
    limits: Limits = DEFAULT_LIMITS,
) -> Video:
    """Read a clip, or an animated gif, png or webp, with its sound.

    Sound is cut where the frames end, and moved with silence or a cut where it starts before or after them; it keeps
    its rate, and more than two channels become two. What a container stores out of range is clipped to [-1, 1].

    Args:
        path: The file.
        height: Pixels; the size as stored if neither side is given, in proportion if one is.
        width: Pixels.
        frame_rate: Frames per second: each is the one on screen at its time. None keeps the file's own rate; a variable
            one becomes its most usual one.
        max_frames: Stop after so many, of those that come out.
        max_seconds: Stop there, counted from where reading begins.
        start: Seconds after the first frame to begin at: with the frame on screen there, and at the file's own rate
            when that came, so that its sound stays with it.
        fit: How another shape fills `height` and `width`.
        limits: What the file may cost.

    Raises:
        MediaError: The file is missing, broken, no clip or not of a kind that is read, ends before `start`, or exceeds
            a limit; limits count from `start` on.
    """
    path = Path(path)
    _check_size(height, width, fit)
    _check_range("frame_rate", frame_rate, 1e-3, MAX_FRAME_RATE)
    _check_range("max_frames", max_frames, 1, limits.frames)
    _check_range("max_seconds", max_seconds, 1e-3, float("inf"))
    _check_range("start", start, 0, MAX_START)
    decoded = decode(
        path,
        what="video",
        height=height,
        width=width,
        frame_rate=frame_rate,
        start=start or None,
        max_frames=max_frames,
        max_seconds=max_seconds,
        fit=fit,
        limits=limits,
    )
    times, end, origin = [time for time, _ in decoded.frames], decoded.facts["end"], decoded.facts["origin"]
    if frame_rate is None:
        frame_rate, indices = constant_rate(times, end, decoded.facts["frame_rate"])
        if indices == list(range(len(times))):
            origin += times[0]
    else:
        indices = on_screen(times, end, frame_rate)
    indices = indices[: None if max_seconds is None else num_ticks(max_seconds, frame_rate)][:max_frames]
    frame_bytes = decoded.facts["height"] * decoded.facts["width"] * 3
    if len(indices) * frame_bytes > limits.output_bytes:
        raise refusal(
            path,
            "video_too_large",
            f"it has {len(indices)} frames at {frame_rate:g} a second; {limits.output_bytes / 1e6:.3g} MB are the most "
            "that is read at once; ask for a smaller height and width, a lower frame rate or fewer seconds",
        )
    audio = _sound(path, decoded, origin, len(indices) / frame_rate) if decoded.sound else None
    return Video(_stack(decoded, indices), float(frame_rate), audio)


def read_image(
    path: str | Path,
    *,
    height: int | None = None,
    width: int | None = None,
    fit: Fit = "crop",
    limits: Limits = DEFAULT_LIMITS,
) -> Image:
    """Read a picture; a clip or an animation counts as one only if it has a single frame.

    Args:
        path: The file.
        height: Pixels; the size as stored if neither side is given, in proportion if one is.
        width: Pixels.
        fit: How another shape fills `height` and `width`.
        limits: What the file may cost.

    Raises:
        MediaError: The file is missing, broken, no picture or not of a kind that is read, or exceeds a limit.
    """
    path = Path(path)
    _check_size(height, width, fit)
    decoded = decode(path, what="image", height=height, width=width, fit=fit, max_frames=2, limits=limits)
    if len(decoded.frames) > 1:
        raise refusal(
            path, "image_animated", "it is a clip; a picture has one frame; read it as a video, or save one frame"
        )
    return Image(_stack(decoded, [0])[:, 0])


def read_audio(
    path: str | Path,
    *,
    sample_rate: int | None = None,
    max_seconds: float | None = None,
    start: float | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> Audio:
    """Read sound, also that of a clip, from its first sample on; more than two channels become two.

    Args:
        path: The file.
        sample_rate: Hz; None keeps the file's own.
        max_seconds: Stop there, counted from where reading begins.
        start: Seconds after the first sample to begin at.
        limits: What the file may cost, from `start` on.

    Raises:
        MediaError: The file is missing, broken, silent for want of a track or samples, ends before `start`, or exceeds
            a limit.
    """
    path = Path(path)
    _check_range("sample_rate", sample_rate, 1, MAX_SAMPLE_RATE)
    _check_range("max_seconds", max_seconds, 1e-3, float("inf"))
    _check_range("start", start, 0, MAX_START)
    decoded = decode(path, what="audio", start=start or None, max_seconds=max_seconds, limits=limits)
    if not decoded.sound:
        raise refusal(
            path, "audio_empty", "its track of sound holds no sample; at least one is needed; record it again"
        )
    audio = _sound(path, decoded, decoded.facts["origin"], max_seconds or limits.seconds)
    return resample_audio(audio, sample_rate or audio.sample_rate, audio.num_channels)


def probe(path: str | Path, *, limits: Limits = DEFAULT_LIMITS) -> Facts:
    """Say what a file holds, without decoding more than its first frame.

    Raises:
        MediaError: The file is missing, broken, of a kind that is not read, or exceeds a limit.
    """
    facts = dict(decode(path, what="facts", limits=limits).facts)
    facts.pop("pixel_channels", None)
    return Facts(metadata=_metadata(facts.pop("comment", None)), **facts)


def write(media: Media, path: str | Path, metadata: dict[str, Any] | None = None) -> None:
    """Write a video (.mp4, .gif or, without loss, .mkv), a picture (.png) or sound (.wav); the file is whole or absent.

    Args:
        media: What to write. A gif has no sound; an mp4 with an odd side gains one row or column.
        path: Where; its extension chooses the format, and missing folders are made.
        metadata: How it was made, to be kept as JSON in the file's comment; `probe(path).metadata` gives it back.

    Raises:
        MediaError: The extension does not fit, or the media cannot be held by such a file.
        OSError: The disk is full, or the place cannot be written.
    """
    path = Path(path)
    writers = WRITERS[type(media)]
    if path.suffix.lower() not in writers:
        kind = type(media).__name__.lower()
        raise refusal(
            path,
            "extension_unsupported",
            f"{kind} cannot be written as '{path.suffix}'; {' and '.join(writers)} fit; change the extension",
        )
    write_atomically(path, partial(writers[path.suffix.lower()], media, metadata=metadata))


def write_parts(parts: Iterable[Video], path: str | Path, metadata: dict[str, Any] | None = None) -> None:
    """Write a clip as an .mp4 while its parts are still being made; the file is whole or absent.

    Only one part is in memory at a time. What making a part raises leaves no file.

    Args:
        parts: Clips of one size, frame rate and kind of sound, in order.
        path: Where; missing folders are made.
        metadata: As in `write`; taken before the first part is.

    Raises:
        MediaError: The extension does not fit, or a part is unlike the first.
        OSError: The disk is full, or the place cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".mp4":
        raise refusal(
            path,
            "extension_unsupported",
            f"a clip that comes in parts cannot be written as '{path.suffix}'; .mp4 fits; change the extension",
        )
    write_atomically(path, lambda file: encoder.write_mp4_of_parts(parts, file, metadata))


def _check_size(height: int | None, width: int | None, fit: str) -> None:
    _check_range("height", height, 1, MAX_SIDE)
    _check_range("width", width, 1, MAX_SIDE)
    if fit not in get_args(Fit):
        raise MediaError(f"fit is '{fit}'; it is {' or '.join(get_args(Fit))}; give one of these", code="fit_invalid")


def _check_range(name: str, value: float | None, least: float, most: float) -> None:
    if value is not None and not least <= value <= most:
        raise MediaError(
            f"{name} is {value}; it must be from {least:g} to {most:g}; give another value", code=f"{name}_invalid"
        )


def _stack(decoded: Decoded, indices: list[int]) -> Tensor:
    """The frames chosen, as uint8, (3, T, H, W), on white where they are transparent."""
    height, width, channels = (decoded.facts[name] for name in ("height", "width", "pixel_channels"))
    video = torch.empty(3, len(indices), height, width, dtype=torch.uint8)
    for index, chosen in enumerate(indices):
        frame = torch.frombuffer(decoded.frames[chosen][1], dtype=torch.uint8).view(height, width, channels)
        if channels == 4:
            opacity = frame[..., 3:].float() / 255
            frame = (frame[..., :3] * opacity + 255 * (1 - opacity)).round().to(torch.uint8)
        video[:, index] = frame.permute(2, 0, 1)
    return video


def _sound(path: Path, decoded: Decoded, origin: float, max_seconds: float) -> Audio:
    """The sound from `origin`, a time of the file, on."""
    rate, channels = decoded.facts["sample_rate"], decoded.facts["channels"]
    most = round(max_seconds * rate)
    first = position = min(round((decoded.sound[0][0] - origin) * rate), most)
    parts = []
    for time, piece in decoded.sound:
        if position >= most:
            break
        gap = min(round((time - origin) * rate), most) - position
        gap = gap if abs(gap) > SOUND_GAP * rate else 0
        part = torch.frombuffer(piece, dtype=torch.float32).view(-1, channels)
        part = F.pad(part, (0, 0, max(gap, -len(part)), 0))
        parts.append(part)
        position += len(part)
    samples = torch.cat(parts) if parts else torch.zeros(0, channels)  # (S, C)
    samples = F.pad(samples, (0, 0, max(first, -len(samples)), 0))[:most].t()  # (C, S)
    if not samples.isfinite().all():
        raise refusal(
            path,
            "audio_not_finite",
            "its sound holds samples that are not numbers or infinite; finite ones are needed; export it again",
        )
    return Audio(samples.clamp(-1.0, 1.0).contiguous(), rate)


def _metadata(comment: str | None) -> dict[str, Any]:
    try:
        metadata = json.loads(comment or "")
    except (ValueError, RecursionError):
        return {}
    return metadata if isinstance(metadata, dict) else {}
