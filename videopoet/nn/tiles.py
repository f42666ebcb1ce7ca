"""Frames too large for a network to take at once: overlapping tiles, each taken alone, cut or blended where they meet.

Places are in steps of the tokenizer's grid, so that a tile of pixels and its codes have the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from videopoet.errors import ConfigError


@dataclass(frozen=True)
class Tiling:
    """Which frames are taken in tiles, and in which.

    Raises:
        ConfigError: A tile has no pixels, or nothing but overlap.
    """

    tile_size: int = 256
    """Pixels a side, rounded up to the grid; frames with a longer side are taken in tiles."""
    tile_overlap: int = 64
    """Pixels that neighbours share at least, rounded up to the grid."""

    def __post_init__(self) -> None:
        if self.tile_size < 1:
            raise ConfigError(
                f"tile_size is {self.tile_size} pixels; 1 is the least; use 256, or half of the frame's side",
                code="tiles_invalid",
            )
        if not 0 <= self.tile_overlap < self.tile_size:
            raise ConfigError(
                f"tile_overlap is {self.tile_overlap} pixels; 0 to {self.tile_size - 1} fit, less than a tile_size of "
                f"{self.tile_size}; use {self.tile_size // 4}",
                code="tiles_invalid",
            )

    def fits(self, height: int, width: int) -> bool:
        """Whether a frame of that many pixels is no larger than a tile."""
        return max(height, width) <= self.tile_size

    def within(self, rows: int, columns: int, stride: int) -> tuple[int, int]:
        """Rows and columns of a frame made as small as a tile, its shape kept as far as whole steps allow."""
        most = -(-self.tile_size // stride)
        factor = min(1.0, most / max(rows, columns))
        return max(1, round(rows * factor)), max(1, round(columns * factor))

    def tiles(self, rows: int, columns: int, stride: int) -> Iterator[Tile]:
        """The tiles of a frame of that many steps of `stride` pixels."""
        down, across = (self._spans(length, stride) for length in (rows, columns))
        for row in down:
            yield from (Tile(row, column, stride) for column in across)

    def _spans(self, length: int, stride: int) -> list[Span]:
        """The tiles along one side: as few as overlap enough, spread evenly."""
        size = min(length, -(-self.tile_size // stride))
        overlap = min(size - 1, -(-self.tile_overlap // stride))
        number = max(1, -(-(length - overlap) // (size - overlap)))
        starts = [index * (length - size) // max(1, number - 1) for index in range(number)]
        cuts = [0, *((start + after + size) // 2 for start, after in pairwise(starts)), length]
        weights = _weights(starts, size, stride)
        return [
            Span(start, start + size, *kept, weight)
            for start, kept, weight in zip(starts, pairwise(cuts), weights, strict=True)
        ]


class Span(NamedTuple):
    """A tile along one side."""

    start: int
    stop: int
    kept_from: int
    """Where its own part begins, half way through what it shares with the tile before."""
    kept_to: int
    weights: Tensor
    """Of each pixel, in the sum over tiles."""


class Tile(NamedTuple):
    """A part of a frame."""

    rows: Span
    columns: Span
    stride: int
    """Pixels a step."""

    @property
    def place(self) -> tuple[int, int, int, int]:
        """Top, bottom, left and right."""
        return self.rows.start, self.rows.stop, self.columns.start, self.columns.stop

    def of(self, frames: Tensor, stride: int = 1) -> Tensor:
        """Its view of frames, (..., H, W), with `stride` values a step."""
        top, bottom, left, right = (stride * side for side in self.place)
        return frames[..., top:bottom, left:right]

    def cut_into(self, whole: Tensor, codes: Tensor) -> None:
        """Write its own part of the codes, (..., h, w), that it has into those of the frame."""
        rows, columns = self.rows, self.columns
        own = codes[
            ...,
            rows.kept_from - rows.start : rows.kept_to - rows.start,
            columns.kept_from - columns.start : columns.kept_to - columns.start,
        ]
        whole[..., rows.kept_from : rows.kept_to, columns.kept_from : columns.kept_to] = own

    def blend_into(self, whole: Tensor, pixels: Tensor) -> None:
        """Add its pixels, (..., H, W), to those of the frame, each with its weight."""
        down, across = (span.weights.to(pixels.device) for span in (self.rows, self.columns))
        self.of(whole, self.stride).addcmul_(pixels.to(whole.dtype), down[:, None] * across)


def _weights(starts: Sequence[int], size: int, stride: int) -> list[Tensor]:
    """Of the pixels of tiles that begin at those steps: 1 where a tile is alone, over shared ones from 0 to 1."""
    pixels, tiles = size * stride, []
    for index, start in enumerate(starts):
        weights = torch.ones(pixels)
        if index:
            shared = (starts[index - 1] + size - start) * stride
            weights[:shared] *= (torch.arange(shared) + 0.5) / shared
        if index + 1 < len(starts):
            shared = (start + size - starts[index + 1]) * stride
            weights[pixels - shared :] *= 1 - (torch.arange(shared) + 0.5) / shared
        tiles.append(weights)
    total = torch.zeros((starts[-1] + size) * stride)
    for start, weights in zip(starts, tiles, strict=True):
        total[start * stride : start * stride + pixels] += weights
    return [
        weights / total[start * stride : start * stride + pixels] for start, weights in zip(starts, tiles, strict=True)
    ]
