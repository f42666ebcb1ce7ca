"""Which frames of a clip are read, and where a picture of one size goes in another. Arithmetic only."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from videopoet.media.protocol import Limits, Refusal, Request

MIN_SIDE = 8
"""Pixels; a smaller picture shows nothing."""
MAX_SCALED_PIXELS = 1 << 27
"""What a picture may grow to before it is cut; only slivers reach it."""
TIME_SLACK = 0.002
"""Seconds by which a frame may come late and still be on screen: containers round times to milliseconds."""
MIN_STEP = 0.001
"""Seconds between two frames at the highest rate there is."""


@dataclass(frozen=True)
class Placement:
    """How a picture becomes one of the asked size: scaled, then cut to its middle or framed with black."""

    scaled_width: int
    scaled_height: int
    width: int
    height: int

    @property
    def left(self) -> int:
        """Columns cut on the left; negative where they are added."""
        return (self.scaled_width - self.width) // 2

    @property
    def top(self) -> int:
        """Rows cut on the top; negative where they are added."""
        return (self.scaled_height - self.height) // 2

    @property
    def turned(self) -> Placement:
        """The same for the picture on its side."""
        return Placement(self.scaled_height, self.scaled_width, self.height, self.width)


def place(width: float, height: float, request: Request) -> Placement:
    """Fit a picture of square pixels into the request; where only one side is asked for, the other follows.

    Raises:
        Refusal: The picture is too small, or too long and thin.
    """
    if min(width, height) < MIN_SIDE:
        kind = "image" if request.what == "image" else "video"
        raise Refusal(
            f"{kind}_too_small",
            f"it is {width:.0f}x{height:.0f} pixels; at least {MIN_SIDE} a side are needed; use a larger one",
        )
    if request.sizes:
        high, wide = min(request.sizes, key=lambda size: abs(math.log(size[1] / size[0] * height / width)))
    elif request.height is None:
        wide = request.width or round(width)
        high = max(1, round(height * wide / width))
    else:
        high = request.height
        wide = request.width or max(1, round(width * high / height))
    scale = (max if request.fit == "crop" else min)(wide / width, high / height)
    scaled_width, scaled_height = max(1, round(width * scale)), max(1, round(height * scale))
    if scaled_width * scaled_height > MAX_SCALED_PIXELS:
        raise Refusal(
            "aspect_too_extreme",
            f"it is {width:.0f}x{height:.0f} pixels; that is too long and thin to fill {wide}x{high}; crop it first",
        )
    return Placement(scaled_width, scaled_height, wide, high)


def check_pixels(width: int, height: int, limit: int, kind: str) -> None:
    """Refuse, before anything is decoded, what has more pixels than `limit`."""
    if width * height > limit:
        raise Refusal(
            f"{kind}_too_large",
            f"it is {width}x{height}, {width * height / 1e6:.0f} million pixels; at most {limit / 1e6:.0f} million are "
            "read; scale it down first",
        )


def too_long(limits: Limits) -> Refusal:
    return Refusal(
        "video_too_long",
        f"it has more than {limits.seconds:g} s or {limits.frames} frames; that is the most that is read at once; cut "
        "it, or in Python read a stretch of it with start and max_seconds",
    )


def beyond_end(start: float, seconds: float) -> Refusal:
    return Refusal(
        "start_beyond_end",
        f"start is {start:g} s and it ends after {seconds:.2f} s; reading begins before the end; give an earlier start",
    )


class Sampler:
    """Keeps the frames that the request shows, and stops decoding once it has them.

    Args:
        request: What is asked for.
        begin: Where reading begins, in the file's own time; None is at the first frame.
    """

    def __init__(self, request: Request, begin: float | None = None):
        self.start = request.start or 0.0
        self.frame_rate = request.frame_rate
        self.max_frames = request.max_frames or math.inf
        self.max_seconds = request.max_seconds or math.inf
        self.limits = request.limits
        self.origin = begin
        """What times are counted from, in the file's own time: where reading begins, once that is known."""
        self.end = 0.0
        """When the last frame kept goes, counted from the origin."""

    def keep(self, frames: Iterator[tuple[float, float, Any]]) -> Iterator[tuple[float, Any]]:
        """From frames with the times they come and go, those to be shown, with the times they come from the origin on.

        That of the first is 0, or less where reading begins while it is on screen.

        Raises:
            Refusal: There are more frames or seconds than the limits allow, or none where reading begins.
        """
        pending: tuple[float, Any] | None = None
        num_kept = num_read = 0
        for start, end, frame in frames:
            if self.origin is None:
                self.origin = start
            start, end = start - self.origin, end - self.origin
            if pending is not None and self.shows(pending[0], start):
                yield pending
                num_kept += 1
            shown = num_kept if self.frame_rate is None else self._ticks(start)
            if shown >= self.max_frames or start >= self.max_seconds - TIME_SLACK:
                self.end = min(start, self.max_seconds)
                if self.frame_rate is not None:
                    self.end = min(self.max_frames / self.frame_rate, self.max_seconds)
                return
            if start > self.limits.seconds or num_read >= self.limits.frames:
                raise too_long(self.limits)
            num_read += end > 0
            pending = max(start, pending[0]) if pending else start, frame
            self.end = max(start, end)
        if pending is not None:
            if pending[0] < 0 and self.end <= TIME_SLACK:
                raise beyond_end(self.start, self.start + self.end)
            yield pending

    def shows(self, start: float, end: float) -> bool:
        """Whether a frame that is on screen from one time to another, counted from the origin, is kept."""
        if self.frame_rate is None:
            return end > (start if start >= 0 else TIME_SLACK)
        return self._ticks(end) > max(0, self._ticks(start))

    def _ticks(self, time: float) -> int:
        """How many ticks of the asked frame rate come before a time."""
        return num_ticks(time, self.frame_rate) if self.frame_rate else 0


def constant_rate(times: list[float], end: float, declared: float | None) -> tuple[float, list[int]]:
    """The rate of frames that come at these times, and for each frame at that rate which of them is on screen.

    Where the times are as regular as the declared rate or their mean, each frame is used once. A variable rate becomes
    its most usual one, frames repeating while they stay. The first may have come before 0, where the clip begins.
    """
    if len(times) == 1:
        return declared or (1.0 / end if end > 0 else 1.0), [0]
    mean = (len(times) - 1) / (times[-1] - times[0])
    for rate in (declared, mean):
        if rate and all(abs((time - times[0]) * rate - index) < 0.5 for index, time in enumerate(times)):
            return rate, list(range(len(times)))
    steps = sorted(later - earlier for earlier, later in zip(times, times[1:], strict=False))
    usual = 1.0 / max(steps[len(steps) // 2], MIN_STEP)
    return usual, on_screen(times, end, usual)


def on_screen(times: list[float], end: float, frame_rate: float) -> list[int]:
    """For each tick of a frame rate before `end`, the last frame that has come."""
    indices, current = [], 0
    for tick in range(max(1, num_ticks(end, frame_rate))):
        while current + 1 < len(times) and num_ticks(times[current + 1], frame_rate) <= tick:
            current += 1
        indices.append(current)
    return indices


def num_ticks(time: float, frame_rate: float) -> int:
    """How many ticks of a frame rate, the first at 0, come before a time."""
    return math.ceil(time * frame_rate - min(TIME_SLACK * frame_rate, 0.25))
