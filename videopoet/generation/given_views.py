"""What a clip of one window is made of: the views of its task as pixels and samples, before anything is encoded."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from videopoet.generation import given
from videopoet.generation.painting import Canvas, canvas
from videopoet.generation.request import Request
from videopoet.generation.window import Shape
from videopoet.media.types import Audio


@dataclass(eq=False)
class GivenViews:
    """What a task other than going on is given."""

    most: int
    """How many frames the result can have."""
    shown: dict[str, Tensor] = field(default_factory=dict)
    """By piece, pixels (3, T, H, W) in [-1, 1], and samples (1, S)."""
    sound: Audio | None = None
    """What is heard in the result, where that is known."""
    canvas: Canvas | None = None
    """Where a part of a clip is painted."""


def given_views(
    request: Request,
    window: Shape,
    warnings: list[str],
    facts: dict[str, Any],
    structure: Callable[[], tuple[Tensor, Audio | None]],
) -> GivenViews:
    """All views of a request's task but its words, checked and brought to the window.

    Args:
        request: Of a task that makes a clip.
        window: Whose size, rate and length they get.
        warnings: Gets what is left out of what is given.
        facts: Gets what was kept, for the metadata.
        structure: Gives depth and motion, (3, T, H, W), and the sound of the clip that they are of; called where a view
            shows them.

    Raises:
        TaskError: A mask, a box or a control does not fit what is given.
        MediaError: A file is broken, or holds too little or something else.
    """
    views = GivenViews(window.num_frames)
    for view in request.row.given:
        if view.modality == "text":
            continue
        if view.modality == "audio":
            assert request.audio is not None
            heard = given.sound(request.audio, window, request.start, warnings)
            if view.part == "whole":
                views.sound = heard
                views.most = min(views.most, max(1, math.ceil(heard.seconds * window.frame_rate - 1e-6)))
                views.shown[view.piece] = given.whole_sound(heard, window, request.start, warnings)
            else:
                views.shown[view.piece] = given.beginning_of(heard, window, window.shown_samples(view))
        elif view.name == "image":
            assert request.image is not None
            views.shown[view.piece] = given.picture(request.image, window)
            given.say_cut(request.image, window, warnings)
        else:
            if view.change == "structure":
                pixels, views.sound = structure()
            else:
                views.canvas = canvas(request, window, warnings)
                facts |= views.canvas.facts
                pixels, views.sound = views.canvas.shown(), views.canvas.sound
            views.most = pixels.shape[1]
            views.shown[view.piece] = window.filled_up(pixels)
    return views
