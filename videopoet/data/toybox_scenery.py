"""The scenery of the toy box: a sky, a middle distance and a ground for each kind of scene, painted once per size.

All three repeat to the sides after PERIOD units. Texture is low in frequency and small in amplitude, so that a small
tokenizer can keep it.
"""

import functools
import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from videopoet.data.toybox_world import KINDS

PERIOD = 3.0
"""Units after which sky, middle distance (as seen at rest) and ground repeat to the sides."""
SKY_DEPTH = 12.0
MIDDLE_DEPTH = 3.0
SKY_BELOW = 0.15
"""How far the painted sky reaches under the horizon."""
MIDDLE_TOP = 0.62
"""How far the painted middle distance reaches above its base."""
MIDDLE_BELOW = 0.06
GROUND_NEAREST = 2.4
"""The ground is painted by 1 / depth, from 0 at the horizon to this."""
_SUPERSAMPLING = 3

Colour = tuple[float, float, float]


class Scenery(NamedTuple):
    """Painted layers of every kind, in the order of KINDS; rows run from top to bottom."""

    sky: Tensor
    """(kinds, 3, rows, columns)"""
    middle: Tensor
    """(kinds, 4, rows, columns): colour and cover"""
    ground: Tensor
    """(kinds, 3, rows, columns)"""
    sky_top: float
    """How far the sky reaches above the horizon."""


@functools.cache
def scenery(short_side: int, half_height: float, device: torch.device) -> Scenery:
    """All layers, painted for pictures of this many pixels and this shape; colours in [-1, 1]."""
    density = short_side * 1.25
    sky_top = 2.0 * half_height
    layers = [_paint(kind, density, sky_top) for kind in KINDS]
    sky, middle, ground = (torch.stack(layer).to(device) for layer in zip(*layers, strict=True))
    return Scenery(sky * 2 - 1, torch.cat([middle[:, :3] * 2 - 1, middle[:, 3:]], dim=1), ground * 2 - 1, sky_top)


class _Canvas:
    """A supersampled layer to paint on; `y` grows upwards from the layer's base, or is 1 / depth on the ground."""

    def __init__(self, density: float, bottom: float, top: float, num_channels: int = 3):
        self.size = round((top - bottom) * density), round(PERIOD * density)
        rows, columns = (_SUPERSAMPLING * n for n in self.size)
        self.y = (top - (torch.arange(rows) + 0.5) / rows * (top - bottom)).view(-1, 1)
        self.x = ((torch.arange(columns) + 0.5) / columns * PERIOD).view(1, -1)
        self.paper = torch.zeros(num_channels, rows, columns)
        self.softness = 1.0 / density

    def gradient(self, *stops: tuple[float, Colour]) -> None:
        """Fill with colours blended between heights, the lowest stop first."""
        for channel in range(3):
            self.paper[channel] = _piecewise(self.y, [(at, colour[channel]) for at, colour in stops])

    def fill(self, colour: Colour) -> None:
        self.paper[:3] = torch.tensor(colour).view(3, 1, 1)

    def paint(self, colour: Colour, distance: Tensor, strength: float = 1.0, soft: float = 0.0) -> None:
        """Lay a colour where the signed distance is negative, with an edge `soft` units wide."""
        cover = strength * torch.clamp(0.5 - distance / (soft + self.softness / 2), 0, 1)
        self.paper[:3] += cover * (torch.tensor(colour).view(3, 1, 1) - self.paper[:3])
        if len(self.paper) == 4 and strength == 1.0:
            self.paper[3] = torch.maximum(self.paper[3], cover.expand_as(self.paper[3]))

    def tone(self, field: Tensor, amount: float) -> None:
        """Lighten where a field in [-1, 1] is positive, darken where it is negative."""
        self.paper[:3] += amount * field

    def from_x(self, x: float) -> Tensor:
        """Signed distance to a place, the short way round."""
        return torch.remainder(self.x - x + PERIOD / 2, PERIOD) - PERIOD / 2

    def ridge(self, *waves: tuple[int, float, float]) -> Tensor:
        """A line of heights: waves given as (number in a period, height, phase)."""
        line = torch.zeros_like(self.x)
        for k, height, phase in waves:
            line = line + height * torch.cos(2 * math.pi * k * self.x / PERIOD + phase)
        return line

    def ellipse(self, x: float, y: float, rx: float, ry: float) -> Tensor:
        """Roughly the signed distance to an ellipse."""
        u, v = self.from_x(x) / rx, (self.y - y) / ry
        return (torch.hypot(u, v) - 1.0) * min(rx, ry)

    def box(self, x: float, low: float, high: float, half_width: float) -> Tensor:
        return torch.maximum(self.from_x(x).abs() - half_width, (self.y - (low + high) / 2).abs() - (high - low) / 2)

    def cone(self, x: float, low: float, high: float, half_width: float) -> Tensor:
        """A triangle that stands on its side."""
        slope = (high - low) / half_width
        side = (self.y - high + self.from_x(x).abs() * slope) / math.hypot(1.0, slope)
        return torch.maximum(side, low - self.y)

    def finished(self) -> Tensor:
        """The layer at its own resolution, the first column repeated after the last."""
        layer = F.interpolate(self.paper.clamp(0, 1)[None], size=self.size, mode="area")[0]
        return torch.cat([layer, layer[:, :, :1]], dim=2)


def _mixed(colour: Colour, other: Colour, share: float) -> Colour:
    red, green, blue = (a + share * (b - a) for a, b in zip(colour, other, strict=True))
    return red, green, blue


def _piecewise(at: Tensor, stops: list[tuple[float, float]]) -> Tensor:
    value = torch.full_like(at, stops[0][1])
    for (low, start), (high, end) in zip(stops, stops[1:], strict=False):
        part = ((at - low) / (high - low)).clamp(0, 1)
        value = torch.where(at > low, start + (end - start) * part * part * (3 - 2 * part), value)
    return value


def _paint(kind: str, density: float, sky_top: float) -> tuple[Tensor, Tensor, Tensor]:
    sky = _Canvas(density, -SKY_BELOW, sky_top)
    middle = _Canvas(density, -MIDDLE_BELOW, MIDDLE_TOP, num_channels=4)
    # The ground needs fewer rows than units of 1 / depth: a unit of it is about a quarter of the picture.
    ground = _Canvas(density, -GROUND_NEAREST, 0.0)
    ground.size = round(GROUND_NEAREST * density * 0.5), ground.size[1]
    ground.y = -ground.y
    _PAINTERS[kind](sky, middle, ground)
    middle.paper[3] *= torch.clamp(0.5 + middle.y / middle.softness, 0, 1)
    return sky.finished(), middle.finished(), ground.finished()


def _blobs(ground: _Canvas, amount: float, phase: float = 0.0) -> None:
    """Gentle light and dark patches that fade into the distance."""
    depth = 1.0 / ground.y.clamp_min(0.25)
    turn = 2 * math.pi / PERIOD
    field = torch.sin(2 * turn * ground.x + 2.6 * depth + phase) + torch.sin(
        5 * turn * ground.x - 4.3 * depth + 1.7 * phase
    )
    ground.tone(0.5 * field * (ground.y / 1.2).clamp(0, 1), amount)


def _cloud(sky: _Canvas, x: float, y: float, size: float, colour: Colour, strength: float = 1.0) -> None:
    puffs = ((0.0, 0.0, 0.62, 0.30), (-0.55, -0.07, 0.45, 0.2), (0.55, -0.06, 0.5, 0.21), (0.1, 0.16, 0.36, 0.27))
    shape = functools.reduce(
        torch.minimum, [sky.ellipse(x + dx * size, y + dy * size, rx * size, ry * size) for dx, dy, rx, ry in puffs]
    )
    sky.paint(colour, torch.maximum(shape, y - 0.16 * size - sky.y), strength, soft=0.02)


def _hill(layer: _Canvas, colour: Colour, height: float, *waves: tuple[int, float, float]) -> None:
    layer.paint(colour, (layer.y - height - layer.ridge(*waves)) * 0.8)


def _round_tree(middle: _Canvas, x: float, size: float, leaves: Colour, trunk: Colour) -> None:
    middle.paint(trunk, middle.box(x, 0.0, 0.6 * size, 0.07 * size))
    middle.paint(leaves, middle.ellipse(x, 0.85 * size, 0.4 * size, 0.44 * size))
    lighter = _mixed(leaves, (1.0, 1.0, 1.0), 0.14)
    middle.paint(lighter, middle.ellipse(x - 0.1 * size, 0.95 * size, 0.24 * size, 0.26 * size), 0.999, soft=0.03)


def _fir(middle: _Canvas, x: float, size: float, colour: Colour) -> None:
    middle.paint(colour, middle.cone(x, 0.05 * size, 0.7 * size, 0.34 * size))
    middle.paint(colour, middle.cone(x, 0.4 * size, 1.0 * size, 0.25 * size))


def _grass(sky: _Canvas, middle: _Canvas, ground: _Canvas) -> None:
    sky.gradient((0.0, (0.88, 0.95, 0.98)), (sky.y.max().item() * 0.55, (0.53, 0.77, 0.95)))
    for x, y, size in ((0.4, 0.36, 0.3), (1.45, 0.27, 0.22), (2.35, 0.4, 0.34)):
        _cloud(sky, x, y, size, (0.98, 0.99, 1.0))
    middle.fill((0.60, 0.78, 0.55))
    _hill(middle, (0.66, 0.82, 0.66), 0.15, (2, 0.04, 0.5), (3, 0.03, 2.0))
    _hill(middle, (0.60, 0.78, 0.54), 0.08, (1, 0.03, 1.5), (4, 0.02, 0.3))
    for x, size in ((0.55, 0.2), (1.7, 0.26), (1.98, 0.18), (2.8, 0.22)):
        _round_tree(middle, x, size, (0.44, 0.64, 0.45), (0.52, 0.44, 0.38))
    ground.gradient((0.0, (0.66, 0.82, 0.56)), (1.0, (0.64, 0.82, 0.50)), (2.0, (0.52, 0.74, 0.40)))
    _blobs(ground, 0.022)


def _sea(sky: _Canvas, middle: _Canvas, ground: _Canvas) -> None:
    sky.gradient((0.0, (0.99, 0.92, 0.82)), (sky.y.max().item() * 0.5, (0.60, 0.82, 0.93)))
    sky.paint((1.0, 0.97, 0.85), sky.ellipse(1.5, 0.30, 0.095, 0.095))
    for x, y, size in ((0.35, 0.3, 0.26), (2.4, 0.38, 0.3)):
        _cloud(sky, x, y, size, (1.0, 0.97, 0.95))
    middle.fill((0.60, 0.72, 0.66))
    for x, rx, ry in ((0.9, 0.34, 0.13), (1.12, 0.24, 0.08), (2.6, 0.2, 0.09)):
        middle.paint((0.58, 0.71, 0.68), middle.ellipse(x, 0.0, rx, ry))
    ground.gradient((0.0, (0.66, 0.85, 0.88)), (0.5, (0.48, 0.74, 0.84)), (2.0, (0.30, 0.58, 0.76)))
    turn = 2 * math.pi / PERIOD
    swell = torch.sin(
        9.0 * ground.y + 0.9 * torch.sin(2 * turn * ground.x) + 0.5 * torch.sin(5 * turn * ground.x + 1.0)
    )
    ground.tone(swell * ((ground.y - 0.3) / 0.8).clamp(0, 1), 0.03)


def _sand(sky: _Canvas, middle: _Canvas, ground: _Canvas) -> None:
    sky.gradient((0.0, (1.0, 0.95, 0.84)), (sky.y.max().item() * 0.6, (0.66, 0.84, 0.90)))
    sky.paint((1.0, 0.99, 0.92), sky.ellipse(0.8, 0.36, 0.085, 0.085))
    middle.fill((0.88, 0.74, 0.56))
    _hill(middle, (0.90, 0.77, 0.60), 0.12, (2, 0.06, 2.4), (3, 0.03, 0.7))
    _hill(middle, (0.86, 0.71, 0.53), 0.05, (1, 0.04, 0.2), (3, 0.02, 2.9))
    for x, size in ((0.5, 0.22), (2.15, 0.28)):
        for dx, low, high in ((0.0, 0.0, 1.0), (-0.24, 0.42, 0.8), (0.24, 0.3, 0.66)):
            middle.paint((0.50, 0.62, 0.48), middle.box(x + dx * size, low * size, high * size, 0.075 * size) - 0.012)
        middle.paint((0.50, 0.62, 0.48), middle.box(x, 0.34 * size, 0.46 * size, 0.26 * size))
    ground.gradient((0.0, (0.90, 0.79, 0.62)), (1.0, (0.94, 0.83, 0.63)), (2.0, (0.88, 0.73, 0.50)))
    _blobs(ground, 0.02, phase=1.0)


def _night(sky: _Canvas, middle: _Canvas, ground: _Canvas) -> None:
    sky.gradient((0.0, (0.32, 0.30, 0.50)), (sky.y.max().item() * 0.7, (0.08, 0.10, 0.24)))
    crescent = torch.maximum(sky.ellipse(2.3, 0.33, 0.085, 0.085), -sky.ellipse(2.345, 0.35, 0.075, 0.075))
    sky.paint((0.96, 0.94, 0.84), crescent)
    for k in range(26):
        x, y = (
            (0.37 + k * 1.1459 + 0.5 * math.sin(3.7 * k)) % PERIOD,
            0.1 + ((k * k * 0.2137 + 0.11) % 1.0) * (sky.y.max().item() * 0.75 - 0.1),
        )
        sky.paint(
            (0.85, 0.87, 0.98), sky.ellipse(x, y, 0.011 + 0.004 * (k % 3), 0.011 + 0.004 * (k % 3)), 0.85, soft=0.01
        )
    middle.fill((0.14, 0.17, 0.30))
    _hill(middle, (0.19, 0.20, 0.36), 0.14, (2, 0.05, 1.0), (5, 0.02, 0.0))
    _hill(middle, (0.14, 0.17, 0.30), 0.07, (1, 0.04, 2.0), (3, 0.02, 0.9))
    ground.gradient((0.0, (0.17, 0.22, 0.34)), (2.0, (0.11, 0.17, 0.24)))
    _blobs(ground, 0.014, phase=2.0)


def _snow(sky: _Canvas, middle: _Canvas, ground: _Canvas) -> None:
    sky.gradient((0.0, (0.92, 0.94, 0.97)), (sky.y.max().item() * 0.6, (0.64, 0.76, 0.88)))
    middle.fill((0.70, 0.79, 0.87))
    for x, high, half in ((0.5, 0.36, 0.5), (1.5, 0.46, 0.6), (2.45, 0.32, 0.45)):
        middle.paint((0.69, 0.78, 0.87), middle.cone(x, 0.0, high, half))
        middle.paint((0.94, 0.96, 0.98), middle.cone(x, high * 0.62, high, half * 0.38))
    for x, size in ((0.15, 0.24), (0.98, 0.2), (1.18, 0.27), (2.0, 0.22), (2.85, 0.26)):
        _fir(middle, x, size, (0.46, 0.60, 0.62))
    ground.gradient((0.0, (0.86, 0.91, 0.95)), (1.0, (0.94, 0.96, 0.98)), (2.0, (0.83, 0.89, 0.94)))
    _blobs(ground, 0.018, phase=3.0)


def _street(sky: _Canvas, middle: _Canvas, ground: _Canvas) -> None:
    sky.gradient((0.0, (0.99, 0.88, 0.80)), (sky.y.max().item() * 0.6, (0.72, 0.78, 0.90)))
    houses = (
        (0.22, 0.36, 0.20, (0.74, 0.68, 0.72)),
        (0.68, 0.52, 0.22, (0.64, 0.66, 0.75)),
        (1.14, 0.30, 0.20, (0.82, 0.72, 0.68)),
        (1.62, 0.46, 0.24, (0.70, 0.70, 0.78)),
        (2.1, 0.34, 0.20, (0.78, 0.70, 0.70)),
        (2.58, 0.56, 0.24, (0.62, 0.65, 0.73)),
    )
    middle.fill((0.70, 0.68, 0.73))
    for x, high, half, colour in houses:
        middle.paint(colour, middle.box(x, -0.1, high, half))
        window = _mixed(colour, (1.0, 0.95, 0.80), 0.45)
        for row in range(int((high - 0.06) / 0.13)):
            for column in (-0.5, 0.0, 0.5):
                low = high - 0.11 - 0.13 * row
                middle.paint(window, middle.box(x + column * half, low, low + 0.065, 0.03), 0.999)
    ground.gradient(
        (0.0, (0.78, 0.75, 0.74)), (0.42, (0.78, 0.75, 0.74)), (0.44, (0.56, 0.57, 0.62)), (2.0, (0.48, 0.49, 0.55))
    )
    dash = torch.maximum((torch.remainder(ground.x, 1.0) - 0.5).abs() - 0.28, ((ground.y - 1.45).abs() - 0.06) * 0.5)
    ground.paint((0.86, 0.84, 0.78), dash, 0.9)
    _blobs(ground, 0.008)


def _room(sky: _Canvas, middle: _Canvas, ground: _Canvas) -> None:
    sky.fill((0.90, 0.85, 0.77))
    middle.fill((0.91, 0.86, 0.78))
    ground.gradient((0.0, (0.72, 0.55, 0.42)), (0.6, (0.78, 0.61, 0.46)), (2.0, (0.70, 0.52, 0.37)))
    for wall, base in ((sky, 0.09), (middle, 0.0)):
        wall.tone(torch.cos(2 * math.pi * 9 * wall.x / PERIOD), 0.012)
        if wall is middle:
            middle.paper[3] = 1.0
        for x in (0.7, 2.2):
            wall.paint((0.98, 0.97, 0.94), wall.box(x, base + 0.20, base + 0.56, 0.25))
            wall.paint((0.68, 0.84, 0.93), wall.box(x, base + 0.23, base + 0.53, 0.22))
            wall.paint((0.98, 0.97, 0.94), wall.box(x, base + 0.20, base + 0.56, 0.016))
        wall.paint((0.72, 0.62, 0.56), wall.box(1.45, base + 0.28, base + 0.50, 0.15))
        wall.paint((0.83, 0.84, 0.78), wall.box(1.45, base + 0.305, base + 0.475, 0.125))
        wall.paint((0.97, 0.95, 0.91), wall.y - base - 0.055)
    boards = torch.remainder(ground.x, 0.5) - 0.25
    edge = (1.0 - (boards.abs() - 0.25).abs() / 0.03).clamp(0, 1)
    ground.tone(-edge * (ground.y / 1.5).clamp(0, 1), 0.06)


def _forest(sky: _Canvas, middle: _Canvas, ground: _Canvas) -> None:
    sky.gradient((0.0, (0.90, 0.94, 0.82)), (sky.y.max().item() * 0.7, (0.66, 0.80, 0.72)))
    for k in range(10):
        x = k * 0.3 + 0.06 * math.sin(2.4 * k)
        sky.paint((0.74, 0.83, 0.72), sky.box(x, -0.1, 1.0, 0.022 + 0.008 * (k % 3)), 0.8, soft=0.02)
    _hill(sky, (0.74, 0.84, 0.72), 0.07, (3, 0.015, 0.0), (7, 0.012, 1.0))
    middle.fill((0.42, 0.60, 0.46))
    for x, size in ((0.12, 0.42), (0.7, 0.34), (1.2, 0.46), (1.75, 0.36), (2.2, 0.44), (2.68, 0.33)):
        _round_tree(middle, x, size, (0.42, 0.60, 0.46), (0.47, 0.39, 0.34))
    for x, rx in ((0.4, 0.13), (1.48, 0.15), (2.45, 0.12)):
        middle.paint((0.47, 0.64, 0.47), middle.ellipse(x, 0.0, rx, 0.09))
    ground.gradient((0.0, (0.64, 0.72, 0.52)), (1.0, (0.60, 0.66, 0.45)), (2.0, (0.50, 0.55, 0.36)))
    _blobs(ground, 0.024, phase=4.0)


_PAINTERS = {
    "grass": _grass,
    "sea": _sea,
    "sand": _sand,
    "night": _night,
    "snow": _snow,
    "street": _street,
    "room": _room,
    "forest": _forest,
}
