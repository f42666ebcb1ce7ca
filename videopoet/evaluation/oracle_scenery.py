"""Tells the scenery and the camera's move of a clip, and paints the scenery without its subjects.

The looks of every kind of scene are pictures in `looks/`. Each kind, place and move is a hypothesis; the one whose
scenery lies nearest to what is seen, whatever stands in front of it, is the reading. Lengths without a unit are shares
of the picture's short side, x to the right and y down from its middle.
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

KINDS = ("grass", "sea", "sand", "night", "snow", "street", "room", "forest")
CAMERAS = (
    "still",
    "pan left",
    "pan right",
    "tilt up",
    "tilt down",
    "zoom in",
    "zoom out",
    "dolly zoom",
    "arc shot",
    "crane shot",
    "fpv shot",
)
_LOOKS = Path(__file__).parent / "looks"
_PERIOD, _NUM_PLACES = 3.0, 6
"""Scenery repeats to the sides after so many units; a place is a shift by a sixth of it."""
_SKY_DEPTH, _SKY_BELOW = 12.0, 0.15
_MIDDLE_DEPTH, _MIDDLE_TOP, _MIDDLE_BELOW = 3.0, 0.62, 0.06
_GROUND_NEAREST = 2.4
_HORIZON, _EYE_HEIGHT = 0.12, 0.54
"""Where the horizon is, and how high the camera at rest, in half heights of the picture."""
_COARSE = 16
"""Pixels of the short side on which all hypotheses are compared; the best few are compared on every pixel."""
_NUM_FINALISTS = 14
_TRUNCATED = 0.12
"""A pixel that is farther than this from the scenery is something else, however far."""
_WORST_FIT = 0.085
"""Mean truncated distance from which on a picture shows none of the sceneries."""


class Lens(NamedTuple):
    """Where the camera is, how long its lens is, how far turning shifts the picture: each (T,)."""

    x: Tensor
    y: Tensor
    z: Tensor
    focal: Tensor
    shift_x: Tensor
    shift_y: Tensor


class SceneryReading(NamedTuple):
    """What is behind the subjects."""

    kind: str | None
    camera: str | None
    behind: Tensor | None
    """The scenery alone in [0, 1], (T, H, W, 3); None where it is none of ours."""
    lens: Lens
    misfit: float
    """Mean truncated distance between what is seen and the scenery."""


def lens(camera: str, progress: Tensor) -> Lens:
    """A move at times from 0, its start, to 1, its end."""
    zero, swing = torch.zeros_like(progress), 2 * progress - 1
    x, y, z, focal, shift_x, shift_y = zero, zero, zero, zero + 1, zero, zero
    turn = 2 * math.pi * progress
    match camera:
        case "pan left":
            x, shift_x = -0.025 * swing, 0.10 * swing
        case "pan right":
            x, shift_x = 0.025 * swing, -0.10 * swing
        case "tilt up":
            shift_y = 0.09 * swing
        case "tilt down":
            shift_y = -0.09 * swing
        case "zoom in":
            focal = 0.85 + 0.4 * progress
        case "zoom out":
            focal = 1.25 - 0.4 * progress
        case "dolly zoom":
            z, focal = 0.32 * swing, 1 - 0.32 * swing
        case "arc shot":
            x, shift_x = 0.24 * swing, 0.24 * swing
        case "crane shot":
            y = 0.09 - 0.26 * progress
            shift_y = 0.6 * y
        case "fpv shot":
            x, y, z = 0.05 * turn.sin(), 0.02 * (2 * turn).sin(), 0.42 * progress - 0.15
            shift_x = 0.03 * (turn + 1).sin()
    return Lens(x, y, z, focal, shift_x, shift_y)


def horizon(height: int, width: int) -> float:
    """y of the horizon under a camera at rest."""
    return _HORIZON * 0.5 * height / min(height, width)


def at_rest(points: Tensor, view: Lens, depth: float, horizon: float) -> tuple[Tensor, Tensor]:
    """Where points seen at (x, y), (T, 2), would be seen by a camera at rest, and how much larger they seem, (T,)."""
    away = view.focal / (depth - view.z)
    scale = away * depth
    x = (points[:, 0] - view.shift_x + away * view.x) / scale
    y = (points[:, 1] - view.shift_y + away * view.y - horizon) / scale + horizon
    return torch.stack([x, y], dim=1), scale


def read_scenery(pixels: Tensor) -> SceneryReading:
    """Tell scenery and camera of pixels in [0, 1], (T, H, W, 3)."""
    num_frames, height, width, _ = pixels.shape
    few = sorted({0, (num_frames - 1) // 2, num_frames - 1})
    hypotheses = _candidates(pixels[few], few, num_frames)
    some = sorted({round(k * (num_frames - 1) / 4) for k in range(5)})
    times = _progress(num_frames)
    misfits = []
    for kind, place, camera in hypotheses:
        behind = _paint(kind, place, lens(camera, times[some]), height, width)
        misfits.append(_misfit(pixels[some], behind))
    best = min(range(len(hypotheses)), key=misfits.__getitem__)
    kind, place, camera = hypotheses[best]
    view = lens(camera, times)
    if misfits[best] > _WORST_FIT:
        return SceneryReading(None, None, None, view, misfits[best])
    if camera == "still":
        behind = _paint(kind, place, lens(camera, times[:1]), height, width).expand(num_frames, -1, -1, -1)
    else:
        behind = _paint(kind, place, view, height, width)
    return SceneryReading(KINDS[kind], camera if num_frames > 1 else None, behind, view, misfits[best])


def _misfit(pixels: Tensor, behind: Tensor) -> float:
    return (pixels - behind).abs().amax(dim=-1).clamp_max(_TRUNCATED).mean().item()


def _progress(num_frames: int) -> Tensor:
    return torch.arange(num_frames) / max(num_frames - 1, 1)


def _candidates(pixels: Tensor, frames: list[int], num_frames: int) -> list[tuple[int, int, str]]:
    """The likeliest (kind, place, camera) of some frames, (F, H, W, 3), the likeliest first."""
    bank = _bank(pixels.shape[1], pixels.shape[2], tuple(frames), num_frames)
    seen = _coarsen(pixels)
    distances = (bank - seen).abs().amax(dim=2).clamp_max(_TRUNCATED).flatten(1).mean(dim=1)
    chosen = distances.topk(_NUM_FINALISTS, largest=False).indices.tolist()
    return [
        (index // (_NUM_PLACES * len(CAMERAS)), index // len(CAMERAS) % _NUM_PLACES, CAMERAS[index % len(CAMERAS)])
        for index in chosen
    ]


def _coarsen(pixels: Tensor) -> Tensor:
    """(F, H, W, 3) to (F, 3, h, w)."""
    height, width = pixels.shape[1:3]
    factor = _COARSE / min(height, width)
    return F.adaptive_avg_pool2d(pixels.movedim(-1, 1), (round(height * factor), round(width * factor)))


@functools.lru_cache(maxsize=8)
def _bank(height: int, width: int, frames: tuple[int, ...], num_frames: int) -> Tensor:
    """Every kind, place and camera at some frames, made coarse: (N, F, 3, h, w)."""
    times = _progress(num_frames)[list(frames)]
    views = [lens(camera, times) for camera in CAMERAS]
    return torch.stack(
        [
            _coarsen(_paint(kind, place, view, height, width))
            for kind in range(len(KINDS))
            for place in range(_NUM_PLACES)
            for view in views
        ]
    )


@functools.cache
def _layers() -> tuple[Tensor, Tensor, Tensor]:
    """Sky, middle distance with its cover, and ground in [0, 1], each (kinds, channels, rows, columns + 1)."""
    layers = []
    for name in ("sky", "middle", "ground"):
        with Image.open(_LOOKS / f"{name}.png") as picture:
            sheet = torch.from_numpy(np.array(picture)).float() / 255
        layer = sheet.unflatten(0, (len(KINDS), -1)).movedim(-1, 1)
        layers.append(torch.cat([layer, layer[..., :1]], dim=-1))
    sky, middle, ground = layers
    return sky, middle, ground


def _paint(kind: int, place: int, view: Lens, height: int, width: int) -> Tensor:
    """The scenery as a camera sees it, (T, H, W, 3) in [0, 1]."""
    short_side = min(height, width)
    half_height = 0.5 * height / short_side
    columns = ((torch.arange(width) + 0.5 - width / 2) / short_side).view(1, 1, -1)
    rows = ((torch.arange(height) + 0.5 - height / 2) / short_side).view(1, -1, 1)
    x, y, z, focal, shift_x, shift_y = (part.view(-1, 1, 1) for part in view)
    across, down = (columns - shift_x) / focal, (rows - shift_y - _HORIZON * half_height) / focal
    along, eye_height = place * _PERIOD / _NUM_PLACES, _EYE_HEIGHT * half_height - y
    sky, middle, ground = (layer[kind] for layer in _layers())

    sky_top = 2 * half_height
    nearing = 1 - z / _SKY_DEPTH
    sky_down = (y / _SKY_DEPTH + down * nearing + sky_top) / (sky_top + _SKY_BELOW)
    above = _look_up(sky, x / _SKY_DEPTH + across * nearing + along, sky_down)
    to_ground = eye_height / down.clamp_min(1e-3)
    below = _look_up(ground, x + across * to_ground + along, 1 / ((z + to_ground) * _GROUND_NEAREST))
    to_middle = _MIDDLE_DEPTH - z
    height_there = (eye_height - down * to_middle) / _MIDDLE_DEPTH
    between = _look_up(
        middle,
        (x + across * to_middle) / _MIDDLE_DEPTH + along,
        (_MIDDLE_TOP - height_there) / (_MIDDLE_TOP + _MIDDLE_BELOW),
    )
    is_ground = (down * focal * short_side + 0.5).clamp(0, 1)
    return torch.lerp(torch.lerp(above, below, is_ground), between[:3], between[3:]).movedim(0, -1)


def _look_up(layer: Tensor, x: Tensor, down: Tensor) -> Tensor:
    """Read (C, rows, columns + 1) at x, which wraps, and at a height in [0, 1], which does not: (C, T, H, W)."""
    _, num_rows, num_columns = layer.shape
    x = torch.remainder(x / _PERIOD - 0.5 / (num_columns - 1), 1.0) * 2 - 1
    y = (down * num_rows - 0.5) / (num_rows - 1) * 2 - 1
    x, y = torch.broadcast_tensors(x, y)
    grid = torch.stack([x, y], dim=-1)
    seen = F.grid_sample(layer[None], grid.reshape(1, -1, x.shape[-1], 2), padding_mode="border", align_corners=True)
    return seen[0].unflatten(1, x.shape[:2])
