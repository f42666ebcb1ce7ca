"""Video, Audio and Image: tensors that carry their rates. Reading files is in `files`, changing rates in `resample`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from videopoet.errors import MediaError


@dataclass(frozen=True, eq=False, repr=False)
class Audio:
    """Sound: float32 samples in [-1, 1], (C, S), and how many there are in a second.

    Raises:
        MediaError: The tensor has another shape or dtype, or the rate is not positive.
    """

    samples: Tensor
    sample_rate: int

    def __post_init__(self) -> None:
        _check("audio samples", self.samples, torch.float32, ("channels", "samples"), code="audio_invalid")
        if not self.sample_rate > 0:
            raise MediaError(
                f"the sample rate is {self.sample_rate}; it must be above 0; give it in Hz", code="sample_rate_invalid"
            )

    def __repr__(self) -> str:
        return f"Audio({self.seconds:.3f} s, {self.num_channels} channels at {self.sample_rate} Hz)"

    @property
    def num_channels(self) -> int:
        return self.samples.shape[0]

    @property
    def num_samples(self) -> int:
        return self.samples.shape[1]

    @property
    def seconds(self) -> float:
        return self.num_samples / self.sample_rate

    def save(self, path: str | Path, metadata: dict[str, Any] | None = None) -> None:
        """Write a .wav file; see `files.write`."""
        _write(self, path, metadata)


@dataclass(frozen=True, eq=False, repr=False)
class Image:
    """A picture: uint8 RGB, (3, H, W).

    Raises:
        MediaError: The tensor has another shape or dtype.
    """

    frame: Tensor

    def __post_init__(self) -> None:
        _check("the picture", self.frame, torch.uint8, (3, "height", "width"), code="image_invalid")

    def __repr__(self) -> str:
        return f"Image({self.width}x{self.height})"

    @property
    def height(self) -> int:
        return self.frame.shape[1]

    @property
    def width(self) -> int:
        return self.frame.shape[2]

    def pixels(self) -> Tensor:
        """The picture as float32 in [-1, 1], (3, H, W)."""
        return _to_pixels(self.frame)

    @classmethod
    def from_pixels(cls, pixels: Tensor) -> Image:
        """Take floats in [-1, 1], (3, H, W); what lies outside is clipped.

        Raises:
            MediaError: A value is not finite.
        """
        return cls(_from_pixels(pixels))

    def save(self, path: str | Path, metadata: dict[str, Any] | None = None) -> None:
        """Write a .png file; see `files.write`."""
        _write(self, path, metadata)


@dataclass(frozen=True, eq=False, repr=False)
class Video:
    """A clip: uint8 RGB frames, (3, T, H, W), at a constant rate in frames per second, and its sound if it has any.

    Sound begins with the first frame.

    Raises:
        MediaError: The tensor has another shape or dtype, or the rate is not positive.
    """

    frames: Tensor
    frame_rate: float
    audio: Audio | None = None

    def __post_init__(self) -> None:
        _check("video frames", self.frames, torch.uint8, (3, "frames", "height", "width"), code="video_invalid")
        if not 0 < self.frame_rate < float("inf"):
            raise MediaError(
                f"the frame rate is {self.frame_rate}; it must be above 0; give it in frames per second",
                code="frame_rate_invalid",
            )

    def __repr__(self) -> str:
        sound = f", with {self.audio}" if self.audio else ""
        return f"Video({self.num_frames} frames, {self.width}x{self.height} at {self.frame_rate:g} fps{sound})"

    @property
    def num_frames(self) -> int:
        return self.frames.shape[1]

    @property
    def height(self) -> int:
        return self.frames.shape[2]

    @property
    def width(self) -> int:
        return self.frames.shape[3]

    @property
    def seconds(self) -> float:
        return self.num_frames / self.frame_rate

    def pixels(self) -> Tensor:
        """The frames as float32 in [-1, 1], (3, T, H, W)."""
        return _to_pixels(self.frames)

    @classmethod
    def from_pixels(cls, pixels: Tensor, frame_rate: float, audio: Audio | None = None) -> Video:
        """Take floats in [-1, 1], (3, T, H, W); what lies outside is clipped.

        Raises:
            MediaError: A value is not finite.
        """
        return cls(_from_pixels(pixels), frame_rate, audio)

    def save(self, path: str | Path, metadata: dict[str, Any] | None = None) -> None:
        """Write an .mp4, .gif or .mkv file; see `files.write`."""
        _write(self, path, metadata)


Media = Video | Image | Audio


def _to_pixels(frames: Tensor) -> Tensor:
    return frames.float().div_(127.5).sub_(1.0)


def _from_pixels(pixels: Tensor) -> Tensor:
    pixels = pixels.detach().float()
    if not pixels.isfinite().all():
        raise MediaError(
            "the pixels hold values that are not numbers; they must be finite, from -1 to 1; check what computed them",
            code="pixels_not_finite",
        )
    return pixels.add(1.0).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)


def _check(what: str, tensor: Tensor, dtype: torch.dtype, axes: tuple[str | int, ...], *, code: str) -> None:
    shape = tuple(tensor.shape)
    fits = len(shape) == len(axes) and all(
        n == axis or (isinstance(axis, str) and (n > 0 or axis == "samples"))
        for axis, n in zip(axes, shape, strict=True)
    )
    if not fits or tensor.dtype != dtype:
        raise MediaError(
            f"{what} are {str(tensor.dtype).removeprefix('torch.')} of shape {shape}; "
            f"{str(dtype).removeprefix('torch.')} of shape ({', '.join(map(str, axes))}) fits; convert them first",
            code=code,
        )


def _write(media: Media, path: str | Path, metadata: dict[str, Any] | None) -> None:
    from videopoet.media.files import write

    write(media, path, metadata)
