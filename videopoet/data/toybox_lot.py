"""What the toy box leaves to chance: choices that a seed decides, and where subjects start so that all are seen."""

import hashlib
import math
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from videopoet.data.toybox_world import SIZES, Stage, Subject, lens, pose, project

Item = TypeVar("Item")


class Lot:
    """Random choices that depend on a key alone, on every machine and Python."""

    def __init__(self, *key: str | int):
        digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
        self._random = random.Random(int.from_bytes(digest[:8], "big"))

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """A number between `low` and `high`."""
        return low + (high - low) * self._random.random()

    def choose(self, items: Sequence[Item]) -> Item:
        """One of the items."""
        return items[int(len(items) * self._random.random())]


def draw_subjects(
    lot: Lot, stage: Stage, triples: Sequence[tuple[str, str, str]], sizes: Sequence[str], camera: str
) -> tuple[Subject, ...]:
    """Place subjects of the given (shape, colour, motion) so that all stay in view and, if it can be, apart."""
    best: tuple[Subject, ...] = ()
    best_gap = -math.inf
    for _ in range(1 if len(triples) == 1 else 10):
        subjects = tuple(
            _keep_in_view(_draw_subject(lot, stage, triple, size, depth=1.0 + 0.1 * index), stage, camera)
            for index, (triple, size) in enumerate(zip(triples, sizes, strict=True))
        )
        gap = _smallest_gap(subjects, stage)
        if gap > best_gap:
            best, best_gap = subjects, gap
        if gap > 0.0:
            break
    return best


def _draw_subject(lot: Lot, stage: Stage, triple: tuple[str, str, str], size: str, depth: float) -> Subject:
    shape, colour, motion = triple
    radius = SIZES[size] * lot.uniform(0.96, 1.04)
    on_ground = motion in ("bounce", "fall", "still") or (
        motion in ("left", "right", "grow", "shrink") and lot.uniform() < 0.5
    )
    facing = {"left": -1, "right": 1}.get(motion) or lot.choose((-1, 1))
    width, height = stage.half_width, stage.half_height
    span, period, start = lot.uniform(0.40, 0.56), 1.0, 0.0
    x = lot.uniform(radius - width, width - radius)
    y = lot.uniform(-0.56, 0.16) * height
    match motion:
        case "up" | "down":
            y = lot.uniform(-0.1, 0.1) * height
        case "orbit":
            span, period, start = lot.uniform(0.18, 0.24), lot.uniform(1.6, 2.1), lot.uniform(0, 2 * math.pi)
            x, y = 0.6 * x, lot.uniform(-0.2, 0.1) * height
        case "bounce":
            span, period = lot.uniform(0.27, 0.38), lot.uniform(0.6, 0.85)
            start = lot.uniform(0.05, 0.95) * period
        case "fall":
            span, period, start = 0.5, lot.uniform(0.7, 1.0), lot.uniform(0.0, 0.35)
    ground = stage.ground(depth)
    if motion == "fall":
        span = ground + 0.84 * height - 2 * radius
    return Subject(
        shape=shape,
        colour=colour,
        size=size,
        motion=motion,
        on_ground=on_ground,
        radius=radius,
        x=x,
        y=y,
        depth=depth,
        ground=ground,
        span=span,
        period=period,
        start=start,
        facing=facing,
    )


def _keep_in_view(subject: Subject, stage: Stage, camera: str) -> Subject:
    left = top = math.inf
    right = bottom = -math.inf
    for step in range(9):
        seconds = step / 8 * (stage.num_frames - 1) / stage.frame_rate
        place = pose(subject, stage, seconds)
        view = lens(camera, stage.progress(seconds))
        x, y, scale = project(stage, view, place.x, place.y, subject.depth)
        radius = 1.14 * subject.radius * scale * max(place.width, place.height)
        left, right = min(left, x - radius), max(right, x + radius)
        top, bottom = min(top, y - radius), max(bottom, y + radius)
    x = subject.x + _shift_inside(left, right, stage.half_width)
    y = subject.y if subject.on_ground else subject.y + _shift_inside(top, bottom, stage.half_height)
    return replace(subject, x=x, y=y)


def _shift_inside(low: float, high: float, half: float) -> float:
    if high - low > 2 * half:
        return -0.5 * (low + high)
    return max(-half - low, 0.0) + min(half - high, 0.0)


def _smallest_gap(subjects: Sequence[Subject], stage: Stage) -> float:
    if len(subjects) == 1:
        return math.inf
    gap = math.inf
    for step in range(7):
        seconds = step / 6 * (stage.num_frames - 1) / stage.frame_rate
        places = [pose(subject, stage, seconds) for subject in subjects]
        for i, first in enumerate(places):
            for j in range(i):
                distance = math.hypot(first.x - places[j].x, first.y - places[j].y)
                gap = min(gap, distance - 0.9 * (subjects[i].radius + subjects[j].radius))
    return gap
