"""Names the motion of a path, and says when something that bounces or falls lands, between frames.

Paths are those that a camera at rest would see. Lengths are shares of the picture's short side, y grows downwards.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

MOTIONS = ("left", "right", "up", "down", "still", "bounce", "orbit", "fall", "grow", "shrink")

_LEAST_PATH = 0.1
"""A subject that goes less far than this stands still."""
_BENT = 0.03
"""Root mean square distance of a track from a straight, even motion, from which on it is another motion."""
_LEAST_GROWTH = math.log(1.5)
"""Change of the logarithm of the radius from which on a subject grows or shrinks."""
_REBOUND = 0.35
"""Speed after a landing over speed before it, of what falls."""
_BOUNCES = 0.5, 1.0
"""Seconds that a bounce may take."""
_FALLS = 0.5, 1.2
"""Seconds that a fall may take."""


def name_motion(path: Tensor, radii: Tensor) -> str | None:
    """Name the motion of a path, (T, 2), with radii, (T,), in one unit; NaN where nothing is seen."""
    seen = ~(path.isnan().any(dim=1) | radii.isnan())
    if seen.sum() < 3:
        return None
    time = torch.linspace(0, 1, len(path))[seen]
    places = path[seen].clone()
    # One frame in which something else was followed must not bend the path.
    places[1:-1] = torch.stack([places[:-2], places[1:-1], places[2:]]).median(dim=0).values
    (path_x, path_y), (bent_x, bent_y) = _line(time, places)
    length = math.hypot(path_x, path_y)
    (growth,), _ = _line(time, radii[seen].log()[:, None])
    if abs(growth) > _LEAST_GROWTH and length < 2 * _LEAST_PATH and max(bent_x, bent_y) < 2 * _BENT:
        return "grow" if growth > 0 else "shrink"
    if min(bent_x, bent_y) > _BENT:
        return "orbit" if _is_round(places) else None
    if bent_y > _BENT and abs(path_x) < _LEAST_PATH:
        steps = places[:, 1].diff()
        rises, falls = steps.clamp_max(0).abs().sum(), steps.clamp_min(0).sum()
        return "fall" if rises < 0.35 * falls else "bounce"
    if length < _LEAST_PATH:
        return "still"
    if abs(path_x) > abs(path_y):
        return "right" if path_x > 0 else "left"
    return "down" if path_y > 0 else "up"


def landings(motion: str | None, path: Tensor, frame_rate: float) -> tuple[float, ...]:
    """Seconds at which a path, (T, 2), that bounces or falls comes to the ground; none for any other motion."""
    y = path[:, 1]
    seen = ~y.isnan()
    if motion not in ("bounce", "fall") or seen.sum() < 4:
        return ()
    seconds, end = torch.arange(len(y)) / frame_rate, len(y) / frame_rate
    if motion == "bounce":
        period, phase = _pairs(_BOUNCES, (0.0, 1.0))
        turn = torch.remainder(seconds[seen] / period - phase, 1.0)
        best = _best_fit(4 * turn * (1 - turn), y[seen])
        period, start = period[best].item(), (phase[best] * period[best]).item()
        return tuple(start + k * period for k in range(math.ceil((end - start) / period)) if start + k * period < end)
    period, start = _pairs(_FALLS, (-0.1, 0.6))
    into = (seconds[seen] - start) / period
    after = (into - 1) / (2 * _REBOUND)
    rebound = torch.where(after < 1, _REBOUND**2 * 4 * after * (1 - after), 0.0)
    height = torch.where(into < 1, 1 - into.clamp_min(0).square(), rebound)
    best = _best_fit(height, y[seen])
    first, period = (start + period)[best].item(), period[best].item()
    return tuple(time for time in (first, first + 2 * _REBOUND * period) if 0 <= time < end)


def _pairs(first: tuple[float, float], second: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """All pairs of values from two ranges, each (N, 1)."""
    grid = torch.meshgrid(torch.linspace(*first, 81), torch.linspace(*second, 81), indexing="ij")
    one, other = (part.reshape(-1, 1) for part in grid)
    return one, other


def _best_fit(heights: Tensor, y: Tensor) -> int:
    """Which of the heights over the ground, (N, T), a path's y, (T,), follows best, whatever their unit and ground."""
    heights = heights - heights.mean(dim=1, keepdim=True)
    y = y - y.mean()
    squares = heights.square().sum(dim=1).clamp_min(1e-6)
    along = -(heights @ y)
    return int((along.clamp_min(0).square() / squares).argmax())


def _is_round(places: Tensor) -> bool:
    """Whether places, (N, 2), lie on a circle that fits the picture."""
    # |p|^2 = 2 p.c + (r^2 - |c|^2) is linear in the centre c and in the rest.
    places = places - places.mean(dim=0)
    ones = torch.ones_like(places[:, :1])
    x, y, rest = torch.linalg.lstsq(torch.cat([2 * places, ones], dim=1), places.square().sum(dim=1)).solution.tolist()
    radius = math.sqrt(max(rest + x * x + y * y, 0.0))
    off = (places - places.new_tensor([x, y])).norm(dim=1) - radius
    return radius < 0.5 and off.square().mean().sqrt().item() < 2 * _BENT


def _line(time: Tensor, values: Tensor) -> tuple[list[float], list[float]]:
    """Fit each column of values, (N, K), by a line: its rise over the whole clip, and the RMS distance from it."""
    time, values = time - time.mean(), values - values.mean(dim=0)
    slope = time @ values / time.square().sum()
    return slope.tolist(), (values - time[:, None] * slope).square().mean(dim=0).sqrt().tolist()
