"""Where one shot of a film ends and the next begins, found in one pass over frames that are decoded anyway."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

THUMBNAIL = 16
"""Cells on each side of the thumbnail that frames are compared by: fine detail and small motion average out."""
LEAST_CHANGE = 7.0
"""Mean difference of two thumbnails, of 255, below which nothing is a cut."""
STANDS_OUT = 2.2
"""How many times the change at a cut exceeds every other change within `REACH` frames: a pan, a shaking camera or a
flash changes several frames in a row."""
LARGE_CHANGE, RECOLOURED = 20.0, 0.28
"""Where as much has changed and this share of the pixels has other colours, it is enough that no change near it is
larger: in fast scenes cuts hardly stand out, and a shot too many costs less than a cut inside a clip."""
REACH = 2
BLACK_MEAN, BLACK_CELL = 10.0, 28.0
"""A frame is black whose mean, of 255, and whose brightest cell are below these."""

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Look:
    """What a frame is compared by."""

    pixels: Tensor
    """uint8 (3, H, W)"""
    cells: NDArray[np.float32]
    """(3, 16, 16), from 0 to 255"""
    grey: NDArray[np.float32]
    """The same without colour, (16, 16)"""

    @classmethod
    def of_each(cls, frames: Tensor) -> list[Look]:
        """The looks of frames, uint8 (N, 3, H, W): of many at a time, each costs less."""
        cells = F.adaptive_avg_pool2d(frames.float(), THUMBNAIL)
        return [cls(*each) for each in zip(frames, cells.numpy(), cells.mean(1).numpy(), strict=True)]

    @cached_property
    def colours(self) -> Tensor:
        """Shares of 64 colours, (64,)."""
        # Four steps of each channel, from a quarter of the pixels each way: a histogram needs no more.
        steps = (self.pixels[:, ::2, ::2] >> 6).long()
        colours = torch.bincount((steps[0] * 16 + steps[1] * 4 + steps[2]).flatten(), minlength=64).float()
        return colours / colours.sum()

    def change(self, before: Look) -> float:
        """Mean difference of the two thumbnails, of 255."""
        return float(abs(self.cells - before.cells).sum()) / self.cells.size

    def recoloured(self, before: Look) -> float:
        """Share of the pixels that have other colours."""
        return float((self.colours - before.colours).abs().sum() / 2)

    @property
    def is_black(self) -> bool:
        return bool(self.grey.max() < BLACK_CELL and self.grey.mean() < BLACK_MEAN)


@dataclass(frozen=True)
class Seen(Generic[T]):
    """A frame with what is known of it once the frames after it have come."""

    frame: T
    look: Look
    begins: bool
    """Whether a new shot begins here; a black stretch counts as one."""


def shots(frames: Iterable[tuple[T, Look]]) -> Iterator[Seen[T]]:
    """Say of each frame whether a shot begins with it. `REACH` frames are held back to see what comes after a change.

    Dissolves are not found: within one, no frame differs much from the one before.
    """
    held: deque[tuple[T, Look, float, float]] = deque()
    before: Look | None = None
    changes: deque[float] = deque([0.0] * REACH, maxlen=REACH)  # of the frames that were let go last
    was_black: bool | None = None

    def let_go() -> Seen[T]:
        nonlocal was_black
        frame, look, change, recoloured = held.popleft()
        others = max([*changes, *(later[2] for later in held)])
        is_black = look.is_black
        begins = was_black is None or is_black != was_black or _is_cut(change, others, recoloured)
        was_black = is_black
        changes.append(change)
        return Seen(frame, look, begins)

    for frame, look in frames:
        change = recoloured = 0.0
        if before is not None:
            change = look.change(before)
            if change > LARGE_CHANGE:  # else it decides nothing
                recoloured = look.recoloured(before)
        before = look
        held.append((frame, look, change, recoloured))
        if len(held) > REACH:
            yield let_go()
    while held:
        yield let_go()


def _is_cut(change: float, others: float, recoloured: float) -> bool:
    if change > LARGE_CHANGE and recoloured > RECOLOURED:
        return change >= others
    return change > LEAST_CHANGE and change > STANDS_OUT * others
