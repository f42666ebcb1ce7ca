"""How long the result of a request is, in frames or seconds, and what is refused because it cannot be so long."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from videopoet.errors import TaskError
from videopoet.generation.request import Request
from videopoet.generation.window import Shape
from videopoet.sequence.tasks import TASKS

GOING_ON = TASKS["video_continuation"]


def film_frames(request: Request, window: Shape, goes_on: bool) -> int:
    """How many new frames a clip of any length has; with `goes_on` they follow a given clip.

    Raises:
        TaskError: The number asked for is off the grid.
    """
    usual = window.num_frames - (window.shown_frames(GOING_ON.given[-1]) if goes_on else 0)
    return _wanted(request, window, usual, offset=0 if goes_on else 1)


def film_windows(scenes: Sequence[int], window: Shape, goes_on: bool, tasks: Collection[str]) -> list[tuple[int, int]]:
    """For each window of a film the index of its scene and how many frames it gives.

    Args:
        scenes: How many frames each has; it ends where it was said to end.
        window: The most that is made at a time.
        goes_on: Whether the first follows a given clip.
        tasks: What the model was trained for.

    Raises:
        TaskError: There are several, and the model was not trained to go on, or the first is too short for it.
    """
    windows: list[tuple[int, int]] = []
    overlap = window.shown_frames(GOING_ON.given[-1])
    for index, left in enumerate(scenes):
        while left > 0:
            if windows and sum(num_frames for _, num_frames in windows[:overlap]) < overlap and not goes_on:
                raise TaskError(
                    f"the film changes after {windows[0][1]} frames; {overlap} are needed to go on from; make its "
                    f"first scene at least {overlap / window.frame_rate:g} seconds long",
                    code="range",
                )
            num_frames = min(left, window.num_frames - overlap if windows or goes_on else window.num_frames)
            windows.append((index, num_frames))
            left -= num_frames
    if len(windows) > 1 and GOING_ON.name not in tasks:
        raise TaskError(
            f"{sum(scenes)} frames are asked for; this model makes {windows[0][1]} and was not trained to go on; ask "
            "for fewer",
            code="range",
        )
    return windows


def clip_frames(request: Request, window: Shape, most: int) -> int:
    """How many frames a clip has that is made of what is given, which has `most`.

    Raises:
        TaskError: The number asked for is off the grid, or larger.
    """
    wanted = _wanted(request, window, most, offset=1)
    if wanted > most:
        raise TaskError(
            f"{wanted} frames are asked for; {request.task} makes at most {most} of what is given; ask for fewer",
            code="range",
        )
    return wanted


def sound_seconds(request: Request, window: Shape) -> float:
    """How long a sound from words is.

    Raises:
        TaskError: Longer than a window.
    """
    seconds = request.seconds or window.seconds
    if seconds > window.seconds:
        raise TaskError(
            f"seconds is {seconds:g}; this model makes sounds of {window.seconds:g} at most; ask for a shorter one",
            code="range",
        )
    return seconds


def _wanted(request: Request, window: Shape, usual: int, offset: int) -> int:
    """Of a number of frames, only `offset` and a multiple of the stride fits; seconds are rounded to frames."""
    wanted, stride = request.num_frames or usual, window.time_stride
    if request.seconds is not None:
        return max(1, round(request.seconds * window.frame_rate))
    if request.num_frames is not None and (wanted - offset) % stride:
        nearest = offset + stride * max(1 - offset, round((wanted - offset) / stride))
        raise TaskError(
            f"num_frames is {wanted}, which is off the grid; {request.task} makes {offset or stride} + {stride} k "
            f"frames; use {nearest}",
            code="frames_not_on_grid",
        )
    return wanted
