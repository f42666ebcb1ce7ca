"""What a request is given, looked at before it is made: a server says at once what would come to nothing later.

Everything is read as `Composition` will read it, by the same functions, but nothing is encoded and no model is needed.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Collection
from functools import partial

from torch import Tensor

from videopoet.errors import MediaError
from videopoet.generation import given, given_structure, lengths
from videopoet.generation.given_views import given_views
from videopoet.generation.lengths import GOING_ON
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
    elif task.any_length:
        _examine_film(request, window, tasks)
    elif task.gives != ("image",):
        views = given_views(request, window, [], {}, partial(_unmeasured_structure, request, window))
        lengths.clip_frames(request, window, views.most)


def _examine_film(request: Request, window: Shape, tasks: Collection[str]) -> None:
    if request.image is not None:
        given.picture(request.image, window)
    if request.video is not None:
        known = given.kept_clip(request.video, window, request.start)
        given.end_of(known, window.shown_frames(GOING_ON.given[-1]))
    wanted = lengths.film_frames(request, window, goes_on=request.video is not None)
    lengths.film_windows([wanted], window, request.video is not None, tasks)


def _unmeasured_structure(request: Request, window: Shape) -> tuple[Tensor, None]:
    """What is given as structure, or else the clip of which it would be measured."""
    if request.structure is not None:
        return given_structure.checked_structure(request.structure, window), None
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
    return seen.pixels(), None
