"""The silhouettes of the toy box and the marks on them, as fields of signed distance: negative inside, in radii.

A field is smooth, so that one small table per shape gives clean edges at every size and turn.
"""

import functools
import math

import torch
from torch import Tensor

from videopoet.data.toybox_world import SHAPES

EXTENT = 1.4
"""The tables reach from -EXTENT to EXTENT radii."""
_RESOLUTION = 112
_NOTHING = 9.0


@functools.cache
def fields(device: torch.device) -> Tensor:
    """Distances to each shape's body, shaded part, light part and dark part, (shapes, 4, rows, columns)."""
    axis = (torch.arange(_RESOLUTION) + 0.5) / _RESOLUTION * 2 * EXTENT - EXTENT
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    drawn = [_DRAWINGS[shape](x, y) for shape in SHAPES]
    return torch.stack([torch.stack([part.clamp(-EXTENT, EXTENT) for part in parts]) for parts in drawn]).to(device)


def _ellipse(x: Tensor, y: Tensor, cx: float, cy: float, rx: float, ry: float, turn: float = 0.0) -> Tensor:
    dx, dy = x - cx, y - cy
    u = math.cos(turn) * dx + math.sin(turn) * dy
    v = math.cos(turn) * dy - math.sin(turn) * dx
    norm = torch.sqrt((u / rx) ** 2 + (v / ry) ** 2)
    slope = torch.sqrt((u / rx**2) ** 2 + (v / ry**2) ** 2)
    return torch.where(slope > 1e-4, norm * (norm - 1.0) / slope.clamp_min(1e-4), -min(rx, ry))


def _circle(x: Tensor, y: Tensor, cx: float, cy: float, radius: float) -> Tensor:
    return torch.hypot(x - cx, y - cy) - radius


def _box(x: Tensor, y: Tensor, cx: float, cy: float, half_width: float, half_height: float, corner: float) -> Tensor:
    dx, dy = (x - cx).abs() - half_width + corner, (y - cy).abs() - half_height + corner
    outside = torch.hypot(dx.clamp_min(0), dy.clamp_min(0))
    return outside + torch.maximum(dx, dy).clamp_max(0) - corner


def _polygon(x: Tensor, y: Tensor, corners: list[tuple[float, float]], rounding: float = 0.0) -> Tensor:
    """Distance to a polygon, its corners rounded outwards."""
    distance = torch.full_like(x, math.inf)
    inside = torch.zeros_like(x, dtype=torch.bool)
    for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1], strict=True):
        ex, ey = bx - ax, by - ay
        along = (((x - ax) * ex + (y - ay) * ey) / (ex * ex + ey * ey)).clamp(0, 1)
        distance = torch.minimum(distance, torch.hypot(x - ax - along * ex, y - ay - along * ey))
        if ey != 0:
            crosses = (y < ay) != (y < by)
            inside ^= crosses & (x < ax + (y - ay) / ey * ex)
    return torch.where(inside, -distance, distance) - rounding


def _capsule(x: Tensor, y: Tensor, ax: float, ay: float, bx: float, by: float, radius: float) -> Tensor:
    ex, ey = bx - ax, by - ay
    along = (((x - ax) * ex + (y - ay) * ey) / (ex * ex + ey * ey)).clamp(0, 1)
    return torch.hypot(x - ax - along * ex, y - ay - along * ey) - radius


def _any(*parts: Tensor) -> Tensor:
    return functools.reduce(torch.minimum, parts)


def _all(*parts: Tensor) -> Tensor:
    return functools.reduce(torch.maximum, parts)


def _nothing(x: Tensor) -> Tensor:
    return torch.full_like(x, _NOTHING)


def _ball(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    band = _all((torch.hypot(x + 1.5, y - 2.2) - 2.55).abs() - 0.15, _circle(x, y, 0, 0, 0.87))
    return _circle(x, y, 0, 0, 0.95), _nothing(x), band, _nothing(x)


def _square(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    frame = _box(x, y, 0, 0, 0.5, 0.5, 0.08)
    return _box(x, y, 0, 0, 0.82, 0.82, 0.12), frame, _nothing(x), _nothing(x)


def _triangle(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    body = _polygon(x, y, [(0.0, -0.86), (0.88, 0.68), (-0.88, 0.68)], 0.08)
    right_side = _polygon(x, y, [(0.0, -0.95), (1.2, 0.9), (0.15, 0.9)])
    return body, right_side, _nothing(x), _nothing(x)


def _star(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    corners = []
    for k in range(10):
        reach, turn = (0.98 if k % 2 == 0 else 0.44), math.pi * k / 5
        corners.append((reach * math.sin(turn), -reach * math.cos(turn)))
    return _polygon(x, y, corners, 0.03), _nothing(x), _circle(x, y, 0, 0, 0.2), _nothing(x)


def _diamond(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    body = _polygon(x, y, [(0.0, -0.94), (0.7, 0.0), (0.0, 0.94), (-0.7, 0.0)], 0.04)
    return body, -y, _nothing(x), _nothing(x)


def _plus(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    upright, across = _box(x, y, 0, 0, 0.34, 0.92, 0.08), _box(x, y, 0, 0, 0.92, 0.34, 0.08)
    return _any(upright, across), _nothing(x), _nothing(x), _nothing(x)


def _raccoon(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    trunk = _ellipse(x, y, 0.0, 0.5, 0.5, 0.46)
    head = _ellipse(x, y, 0.0, -0.24, 0.74, 0.54)
    ears = _any(_circle(x, y, -0.5, -0.68, 0.25), _circle(x, y, 0.5, -0.68, 0.25))
    tail = _capsule(x, y, -0.45, 0.68, -0.92, 0.16, 0.21)
    along = -(x + 0.45) * 0.67 - (y - 0.68) * 0.74
    rings = _all((torch.remainder(along, 0.4) - 0.2).abs() - 0.1, 0.16 - along, -trunk)
    face = _ellipse(x, y, 0.0, -0.02, 0.4, 0.26)
    belly = _ellipse(x, y, 0.0, 0.56, 0.26, 0.28)
    eyes = _any(_circle(x, y, -0.3, -0.27, 0.11), _circle(x, y, 0.3, -0.27, 0.11))
    mask = _any(_ellipse(x, y, -0.33, -0.25, 0.3, 0.2, -0.35), _ellipse(x, y, 0.33, -0.25, 0.3, 0.2, 0.35))
    dark = _any(_all(mask, -eyes), _ellipse(x, y, 0.0, -0.02, 0.13, 0.1))
    return _any(trunk, head, ears, tail), rings, _any(face, belly, eyes), dark


def _fish(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    trunk = _ellipse(x, y, 0.18, 0.0, 0.78, 0.56)
    tail = _polygon(x, y, [(-0.4, 0.0), (-0.95, -0.5), (-0.82, 0.0), (-0.95, 0.5)], 0.06)
    fin = _polygon(x, y, [(0.3, -0.45), (-0.2, -0.78), (-0.28, -0.3)], 0.06)
    stripes = _any(_circle(x, y, -0.3, 0.0, 0.22), _all((x - 0.08).abs() - 0.1, trunk + 0.06))
    eye = _circle(x, y, 0.56, -0.14, 0.2)
    pupil = _circle(x, y, 0.6, -0.14, 0.11)
    return _any(trunk, tail, fin), _any(fin, tail + 0.02, _nothing(x)), _any(eye, stripes), pupil


def _rocket(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    trunk = _all(_ellipse(x, y, 0.0, 0.2, 0.44, 1.2), y - 0.74)
    fins = _polygon(
        x, y, [(0.0, 0.1), (0.58, 0.62), (0.58, 0.87), (0.3, 0.72), (-0.3, 0.72), (-0.58, 0.87), (-0.58, 0.62)]
    )
    fins = fins - 0.06
    nose = _all(trunk, y + 0.5)
    window = _circle(x, y, 0.0, -0.1, 0.24)
    rim = _all(_circle(x, y, 0.0, -0.1, 0.3), -window)
    return _any(trunk, fins), _any(_all(fins, -trunk), nose), window, rim


_DRAWINGS = {
    "ball": _ball,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "diamond": _diamond,
    "plus": _plus,
    "raccoon": _raccoon,
    "fish": _fish,
    "rocket": _rocket,
}
