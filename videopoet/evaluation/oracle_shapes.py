"""Tells a subject's shape from its silhouette, and from both its centre and its radius.

A silhouette is moved to its centre of mass, scaled to one area and compared with those in `looks/silhouettes.png`,
turned and mirrored as subjects are, by the intersection of what is covered over the union.
"""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

SHAPES = ("ball", "square", "triangle", "star", "diamond", "plus", "raccoon", "fish", "rocket")
_SHEET = Path(__file__).parent / "looks" / "silhouettes.png"
_EXTENT = 1.25
"""Radii that the silhouettes of the sheet reach from a subject's centre."""
_REACH, _GRID = 1.05, 32
"""How far compared silhouettes reach, in square roots of their area, and in how many steps."""
_SHARPNESS = (5.0, 7.0, 10.0, 14.0, 20.0, 28.0)
"""Square roots of areas in pixels for which silhouettes are kept, as blurred as pixels show them."""
_LEAST_OVERLAP = 0.6
"""A frame's silhouette that is less like any of ours has no shape."""


class Silhouettes(NamedTuple):
    """What shapes look like, N views of them; lengths are in radii or in square roots of the area."""

    shapes: tuple[int, ...]
    """Of which shape each view is."""
    area: Tensor
    """In squared radii, (N,)."""
    centre: Tensor
    """Centre of mass from the subject's centre in radii, (N, 2)."""
    pictures: Tensor
    """(sharpness, N, grid * grid)"""


class ShapeReading(NamedTuple):
    """What the silhouettes of a subject say."""

    shape: str | None
    overlap: float
    """Overlap with the best view of the shape in the better frames of those that count."""
    margin: float
    """How much more that is than with the next shape."""
    frame_shapes: tuple[str | None, ...]
    centres: Tensor
    """In pixels (column, row), (T, 2); NaN where there is none."""
    radii: Tensor
    """In pixels, (T,); NaN where there is none."""


def read_shape(cover: Tensor, clear: Tensor) -> ShapeReading:
    """Tell the shape of what covers pixels, (T, H, W), mostly from frames where nothing hides it, bool (T,)."""
    num_frames, height, width = cover.shape
    area = cover.flatten(1).sum(dim=1)
    there = area > 1
    if not there.any():
        nothing = torch.full((num_frames,), math.nan)
        return ShapeReading(None, 0.0, 0.0, (None,) * num_frames, torch.stack([nothing, nothing], dim=1), nothing)
    columns, rows = torch.arange(float(width)), torch.arange(float(height))
    mass = torch.stack([cover.sum(dim=1) @ columns, cover.sum(dim=2) @ rows], dim=1) / area.clamp_min(1)[:, None]
    side = area.clamp_min(1).sqrt()
    known = silhouettes()
    steps = _steps()
    square = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), dim=-1)
    grid = mass.view(-1, 1, 1, 2) + side.view(-1, 1, 1, 1) * square
    grid = (2 * grid + 1) / grid.new_tensor([width, height]) - 1
    seen = F.grid_sample(cover[:, None], grid, align_corners=False).flatten(1)
    sharpness = (side[:, None].log() - side.new_tensor(_SHARPNESS).log()).abs().argmin(dim=1)
    views = known.pictures[sharpness]  # (T, N, grid * grid)
    both = torch.minimum(views, seen[:, None]).sum(dim=-1)
    overlaps = both / (views.sum(dim=-1) + seen.sum(dim=-1, keepdim=True) - both).clamp_min(1e-6)  # (T, N)
    by_shape = torch.stack(
        [overlaps[:, [i for i, s in enumerate(known.shapes) if s == k]].amax(dim=1) for k in range(len(SHAPES))], dim=1
    )
    counting = there & clear
    if counting.sum() < max(2, 0.25 * num_frames):
        counting = there
    means = by_shape[counting].mean(dim=0)
    (best, second), (shape, _) = (part.tolist() for part in means.topk(2))
    frame_best, frame_shape = by_shape.max(dim=1)
    # The view, a rocket's turn say, is the one that fits best over all frames.
    view = max((i for i, s in enumerate(known.shapes) if s == shape), key=lambda i: overlaps[counting, i].mean().item())
    radii = side / known.area[view].sqrt()
    centres = mass - radii[:, None] * known.centre[view]
    return ShapeReading(
        shape=SHAPES[shape] if best >= _LEAST_OVERLAP else None,
        overlap=overlaps[counting, view].quantile(0.7).item(),
        margin=best - second,
        frame_shapes=tuple(
            SHAPES[k] if seen and overlap >= _LEAST_OVERLAP else None
            for seen, overlap, k in zip(there.tolist(), frame_best.tolist(), frame_shape.tolist(), strict=True)
        ),
        centres=torch.where(there[:, None], centres, math.nan),
        radii=torch.where(there, radii, math.nan),
    )


def _steps() -> Tensor:
    return ((torch.arange(_GRID) + 0.5) / _GRID * 2 - 1) * _REACH


@functools.cache
def silhouettes() -> Silhouettes:
    """Every view of every shape."""
    with Image.open(_SHEET) as picture:
        sheet = torch.from_numpy(np.array(picture)).float() / 255
    views, shapes = [], []
    for index, plain in enumerate(sheet.unflatten(0, (len(SHAPES), -1))):
        turned = [plain]
        if SHAPES[index] in ("raccoon", "fish"):
            turned.append(plain.flip(1))
        if SHAPES[index] == "rocket":
            turned += [plain.rot90(quarter) for quarter in (1, 2, 3)]
        views += turned
        shapes += [index] * len(turned)
    covers = torch.stack(views)
    side = covers.shape[-1]
    places = ((torch.arange(side) + 0.5) / side * 2 - 1) * _EXTENT
    weight = covers.flatten(1).sum(dim=1)
    area = weight * (2 * _EXTENT / side) ** 2
    centre = torch.stack([covers.sum(dim=1) @ places, covers.sum(dim=2) @ places], dim=1) / weight[:, None]
    steps = _steps()
    square = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), dim=-1)
    pictures = []
    for pixels in _SHARPNESS:
        # A pixel is a box, and reading between pixels is a tent: together a blur of half a pixel.
        spread = 0.5 / pixels * area.sqrt() * side / (2 * _EXTENT)
        blurred = torch.cat([_blur(cover[None, None], s.item()) for cover, s in zip(covers, spread, strict=True)])
        grid = (centre.view(-1, 1, 1, 2) + area.sqrt().view(-1, 1, 1, 1) * square) / _EXTENT
        pictures.append(F.grid_sample(blurred, grid, align_corners=False).flatten(1))
    return Silhouettes(tuple(shapes), area, centre, torch.stack(pictures))


def _blur(picture: Tensor, sigma: float) -> Tensor:
    reach = max(math.ceil(3 * sigma), 1)
    bell = torch.exp(-torch.arange(-reach, reach + 1.0).square() / (2 * sigma**2))
    bell = bell / bell.sum()
    return F.conv2d(
        F.conv2d(picture, bell.view(1, 1, 1, -1), padding=(0, reach)), bell.view(1, 1, -1, 1), padding=(reach, 0)
    )
