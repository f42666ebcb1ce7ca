"""What a request is given, looked at before it is made: a server says at once what would come to nothing later.

Everything is read as `Composition` will read it, by the same functions, but nothing is encoded and no model is needed.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Collection

from videopoet.errors import MediaError, TaskError
from videopoet.generation import given, given_structure, lengths
from videopoet.generation.lengths import GOING_ON
from videopoet.generation.painting import canvas
from videopoet.generation.request import Request
from videopoet.generation.window import Shape
from videopoet.media.signals import INSTALL_FLOW


def examine(request: Request, window: Shape, tasks: Collection[str]) -> None:
    """Refuse what a model of that window, trained for those tasks, could not make of what is given.

    Raises:
        TaskError: A length, a region or a control does not fit what is given.
        MediaError: A file is broken, or holds too little or something else.
    """
    task = request.row
    if task.gives == ("audio",) and request.video is None:
        lengths.sound_seconds(request, window)
    elif task.gives == ("audio",):
        assert request.video is not None
        most = round(given.LIMITS.seconds * window.frame_rate)
        given.clip(request.video, window, start=request.start, max_frames=most)
    elif task.gives == ("text",):
        assert request.video is not None
        given.first_window(given.picture_or_clip(request.video, window), window, [], start=request.start)
    elif all(view.modality == "text" or view.starts_output for view in task.given):
        _examine_film(request, window, tasks)
    else:
        _examine_edited(request, window)


def _examine_film(request: Request, window: Shape, tasks: Collection[str]) -> None:
    if request.image is not None:
        given.picture(request.image, window)
    if request.video is not None:
        known = given.kept_clip(request.video, window, request.start)
        given.end_of(known, window.shown_frames(GOING_ON.given[-1]))
    if request.row.gives == ("image",):
        return
    wanted = lengths.film_frames(request, window, goes_on=request.video is not None)
    if request.video is None and wanted > window.num_frames and GOING_ON.name not in tasks:
        raise TaskError(
            f"{wanted} frames are asked for; this model makes {window.num_frames} and was not trained to go on; ask "
            "for fewer",
            code="range",
        )


def _examine_edited(request: Request, window: Shape) -> None:
    most = window.num_frames
    for view in request.row.given:
        if view.modality == "audio":
            assert request.audio is not None
            heard = given.sound(request.audio, window, request.start, [])
            if view.part == "whole":
                most = min(most, max(1, math.ceil(heard.seconds * window.frame_rate - 1e-6)))
            else:
                given.beginning_of(heard, window, window.shown_samples(view))
        elif view.name == "image":
            assert request.image is not None
            given.picture(request.image, window)
        elif view.change == "structure":
            most = _examine_structure(request, window)
        elif view.change is not None:
            most = canvas(request, window, []).frames.shape[1]
    lengths.clip_frames(request, window, most)


def _examine_structure(request: Request, window: Shape) -> int:
    """How many frames the structure has; it is not measured here."""
    if request.structure is not None:
        return given_structure.checked_structure(request.structure, window).shape[1]
    assert request.video is not None
    seen = given.first_window(request.video, window, [], start=request.start)
    if request.depth is not None:
        given_structure.depth_maps(request.depth, request.video, seen.num_frames, window)
    if importlib.util.find_spec("cv2") is None:
        raise MediaError(
            "measuring how a clip moves takes OpenCV, which is not installed; it is an extra of this package; "
            f"{INSTALL_FLOW}",
            code="library_missing",
        )
    return seen.num_frames
