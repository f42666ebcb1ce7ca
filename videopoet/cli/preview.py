"""Frames of a result while it is made, on disk: an animation or a picture that grows, or a folder of pictures."""

from __future__ import annotations

import math
import time
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from videopoet.cli.base import check_folder, check_output
from videopoet.errors import ConfigError
from videopoet.generation.early_frames import Frames
from videopoet.media.resample import resize_and_crop
from videopoet.media.types import Image, Video

SUFFIXES = (".gif", ".png")
LONGEST_SIDE, LEAST_SIDE = 256, 96
"""Larger frames are shrunk in a file that grows, and in a picture smaller ones enlarged, each pixel to a square."""
MOST_SHARE = 0.2
"""Of the time that may go into writing a file again and again; the last frames are always written."""


def check_preview(path: Path) -> None:
    """Refuse a preview that could not be written, or that would be mixed with what is there.

    Raises:
        ConfigError: It is a file of another kind, or a folder with something in it.
    """
    if not _is_folder(path):
        check_output(path, SUFFIXES, "preview")
        return
    check_folder(path)
    if path.is_dir() and (found := next(path.iterdir(), None)) is not None:
        raise ConfigError(
            f"preview '{path}' is a folder with '{found.name}' in it; an empty or a new one keeps its frames apart; "
            "name another, or a .gif or .png",
            code="preview_not_empty",
        )


def numbered(path: Path, number: int) -> Path:
    """The preview of one of several results."""
    return path / str(number) if _is_folder(path) else path.with_stem(f"{path.stem}-{number}")


class Preview:
    """What there is of a result so far. A file is replaced as a whole, so that a viewer never finds half of one.

    Args:
        path: A .gif that plays the frames, a .png with a row of them for each second, or a folder that gets a .png of
            each.
    """

    def __init__(self, path: Path):
        self.path = path
        self._frames: list[Tensor] = []
        self._frame_rate = 1.0
        self._waits, self._next = False, 0.0

    def show(self, frames: Frames) -> None:
        """Add frames; those from their first on, if there were any, are replaced."""
        if _is_folder(self.path):
            for index, frame in enumerate(frames.frames.unbind(1), start=frames.first):
                Image(frame.contiguous()).save(self.path / f"frame-{index:05d}.png")
            return
        del self._frames[frames.first :]
        self._frames += _shrunk(frames.frames).unbind(1)
        self._frame_rate, self._waits = frames.frame_rate, True
        if time.monotonic() >= self._next:
            self.finish()

    def finish(self) -> None:
        """Write what has not been written yet."""
        if not self._waits:
            return
        began = time.monotonic()
        frames = torch.stack(self._frames, dim=1)
        if self.path.suffix.lower() == ".gif":
            Video(frames, self._frame_rate).save(self.path)
        else:
            Image(film_strip(frames, max(1, round(self._frame_rate)))).save(self.path)
        now = time.monotonic()
        self._waits, self._next = False, now + (now - began) * (1 / MOST_SHARE - 1)


def film_strip(frames: Tensor, per_row: int) -> Tensor:
    """Frames, (3, T, H, W), in rows of `per_row`, (3, H', W'); what is missing of the last row is black."""
    scale = math.ceil(LEAST_SIDE / min(frames.shape[2:]))
    frames = frames.repeat_interleave(scale, dim=2).repeat_interleave(scale, dim=3)
    columns = min(per_row, frames.shape[1])
    rows = [torch.cat(row.unbind(1), dim=2) for row in frames.split(columns, dim=1)]
    rows[-1] = F.pad(rows[-1], (0, columns * frames.shape[3] - rows[-1].shape[2]))
    return torch.cat(rows, dim=1)


def _is_folder(path: Path) -> bool:
    return path.is_dir() or not path.suffix


def _shrunk(frames: Tensor) -> Tensor:
    height, width = frames.shape[2:]
    scale = LONGEST_SIDE / max(height, width)
    return (
        frames if scale >= 1 else resize_and_crop(frames, max(1, round(height * scale)), max(1, round(width * scale)))
    )
