"""What a request is given, read and brought to the window's size and rate.

A warning says what a task leaves out of it.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from videopoet.errors import MediaError, TaskError
from videopoet.generation.window import Window
from videopoet.media.files import Limits, read_audio, read_image, read_video
from videopoet.media.resample import resample_audio, resample_frames, resize_and_crop
from videopoet.media.types import Audio, Image, Video

LIMITS = Limits(seconds=60.0)
"""What a given file may cost; its length also bounds the work."""
SILENT = 1e-4
"""Samples that are all nearer to 0 than this are no sound."""


def picture(given: str | Path | Image, window: Window) -> Tensor:
    """Pixels of a picture, (3, 1, H, W)."""
    if not isinstance(given, Image):
        given = read_image(given, height=window.height, width=window.width)
    return Image(resize_and_crop(given.frame, window.height, window.width)).pixels()[:, None]


def clip(given: str | Path | Video, window: Window) -> Video:
    """A clip of the window's size and frame rate, as long as it is."""
    if isinstance(given, Video):
        given = resample_frames(given, window.frame_rate)
        # One by one: all of them as floats would need four times the memory of the clip.
        frames = [resize_and_crop(frame, window.height, window.width) for frame in given.frames.unbind(1)]
        return Video(torch.stack(frames, dim=1), given.frame_rate, given.audio)
    return read_video(given, height=window.height, width=window.width, frame_rate=window.frame_rate, limits=LIMITS)


def untouched_clip(given: str | Path | Video) -> Video:
    """A clip as it is."""
    return given if isinstance(given, Video) else read_video(given, limits=LIMITS)


def first_window(given: Video, window: Window, warnings: list[str]) -> Video:
    """What of a clip fits into one window."""
    if given.num_frames > window.num_frames:
        warnings.append(
            f"the clip has {given.num_frames} frames at {given.frame_rate:g} a second; this task takes the first "
            f"{window.num_frames}"
        )
    return Video(given.frames[:, : window.num_frames], given.frame_rate, given.audio)


def end_of(given: Video, num_frames: int) -> Tensor:
    """The last pixels of a clip, (3, T, H, W), to go on from.

    Raises:
        MediaError: The clip is shorter.
    """
    if given.num_frames < num_frames:
        raise MediaError(
            f"the clip has {given.num_frames} frames at {given.frame_rate:g} a second; {num_frames} are needed to go "
            "on from; give a longer one",
            code="video_too_short",
        )
    return Video(given.frames[:, -num_frames:], given.frame_rate).pixels()


def sound(given: str | Path | Audio, warnings: list[str]) -> Audio:
    """A sound as it is."""
    heard = given if isinstance(given, Audio) else read_audio(given, limits=LIMITS)
    if not heard.num_samples or heard.samples.abs().max() < SILENT:
        warnings.append("the given sound is silent")
    return heard


def whole_sound(given: Audio, window: Window, warnings: list[str]) -> Tensor:
    """A window's samples, (1, S), of a sound; it goes on in silence where it is shorter."""
    if given.seconds > window.seconds:
        warnings.append(f"the sound is {given.seconds:.3g} seconds long; this task takes the first {window.seconds:g}")
    samples = resample_audio(given, window.sample_rate).samples[:, : window.num_samples]
    return F.pad(samples, (0, window.num_samples - samples.shape[1]))


def beginning_of(given: Audio, window: Window, num_samples: int) -> Tensor:
    """The first samples of a sound, (1, S), to go on from.

    Raises:
        MediaError: The sound is shorter.
    """
    samples = resample_audio(given, window.sample_rate).samples
    if samples.shape[1] < num_samples:
        raise MediaError(
            f"the sound is {given.seconds:.3g} seconds long; {num_samples / window.sample_rate:g} are needed to go on "
            "from; give a longer one",
            code="audio_too_short",
        )
    return samples[:, :num_samples]


def structure(given: Tensor | None, window: Window) -> Tensor:
    """Depth and motion of at most one window, (3, T, H, W) in [-1, 1].

    Raises:
        TaskError: It is missing, or of another shape, range or dtype.
    """
    if given is None:
        raise TaskError(
            "stylization needs the depth and motion of the clip, which its file does not hold; measure them, join them "
            "by `videopoet.media.signals.structure_clip` and give them as structure=",
            code="structure_missing",
        )
    height, width, most = window.height, window.width, window.num_frames
    if given.ndim != 4 or given.shape[::2] != (3, height) or given.shape[3] != width or not 1 <= given.shape[1] <= most:
        raise TaskError(
            f"structure has shape {tuple(given.shape)}; (3, T, {height}, {width}) with 1 to {most} frames fits; "
            "resize or cut it",
            code="control_invalid",
        )
    if not given.is_floating_point() or not (given.abs() <= 1).all():
        raise TaskError(
            f"structure is {str(given.dtype).removeprefix('torch.')} with values outside [-1, 1] or not finite; floats "
            "in [-1, 1] fit; make it by `structure_clip`",
            code="control_invalid",
        )
    return given.float().cpu()
