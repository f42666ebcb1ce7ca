"""Reads toy-box clips back: scenery, camera, and every subject's shape, colour, size and motion, from pixels alone.

Nothing is learned, and nothing here knows what a clip was made from: captions, scenes and tracks never reach it. What
it knows is how the toy box looks, as pictures in `looks/`. It was settled on ground truth before any language model was
scored, and is never a loss or a filter. `reading` holds the records that the metrics use.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from videopoet.evaluation.oracle_motion import MOTIONS, landings, name_motion
from videopoet.evaluation.oracle_scenery import SceneryReading, at_rest, horizon, read_scenery
from videopoet.evaluation.oracle_shapes import ShapeReading, read_shape
from videopoet.evaluation.oracle_sound import hear_impacts, name_material
from videopoet.evaluation.oracle_subjects import PALETTE, Findings, Found, find_subjects

__all__ = ["DIRECTIONS", "MOTIONS", "PALETTE", "Reading", "hear_impacts", "name_material", "read_subject", "see"]

DIRECTIONS = MOTIONS[:4]
_SIDE = 64
"""Pixels of the short side at which clips are read; larger ones are made smaller first."""
_SIZES = ("small", 0.10), ("medium", 0.14), ("big", 0.19)
"""Radii in shares of the picture's short side."""
_LEAST_RADIUS, _MOST_RADIUS = 0.078, 0.235
_DEPTH_OF_ONE, _DEPTH_OF_SEVERAL = 1.0, 1.08
"""How far from the camera subjects stand: one alone stands nearest, several stand one behind the other."""
_LEAST_OVERLAP, _LEAST_NOISY_OVERLAP = 0.84, 0.60
"""A subject whose silhouette is less like any of ours is no whole thing: in clean pictures, and in the noisiest."""
_WHITE_OVERLAP = 0.04
"""How much less it may be for a white subject, whose edge is often hard to see."""
_CLEAN, _NOISY = 0.003, 0.012
"""How far pixels mostly are from the scenery there."""
_LEAST_SEEN, _LEAST_SEEN_OF_SEVERAL = 0.8, 0.5
"""Part of the frames in which a subject is seen at least: one alone, and one that others may hide."""
_LEAST_CLEAR = 0.25
"""Part of the frames in which a subject must be clear of others for its outline to be held against it."""
_LEAST_SAME = 0.7
"""Part of the frames in which a subject's colour is the same at least."""
_MOST_STRANGE = 0.012
"""Part of the picture that may be neither scenery nor subject."""


class Reading(NamedTuple):
    """What is seen of the largest subject; None for a colour says that there is none, for a motion, none of ours."""

    colour: str | None
    motion: str | None
    track: Tensor
    """The subject's centre in pixels (column, row), (T, 2); NaN where it is not seen."""


class Seen(NamedTuple):
    """One subject; lengths are in the pixels that were given."""

    colour: str
    shape: str | None
    size: str | None
    motion: str | None
    track: Tensor
    path: Tensor
    radii: Tensor
    masks: Tensor
    frame_colours: tuple[str | None, ...]
    frame_shapes: tuple[str | None, ...]
    landings: tuple[float, ...]


class Sight(NamedTuple):
    """All that is seen in a clip."""

    scenery: SceneryReading
    subjects: tuple[Seen, ...]
    problem: str | None
    """Why this is no clip of the toy box; None if it is one."""


def see(video: Tensor, frame_rate: float) -> Sight:
    """See what there is in pixels in [-1, 1], (3, T, H, W)."""
    height, width = video.shape[2:]
    pixels = _shrunk((video.detach().float().cpu() + 1) / 2).movedim(0, -1).contiguous()
    scenery = read_scenery(pixels)
    if scenery.behind is None:
        return Sight(scenery, (), "the scenery is none of the toy box's")
    found = find_subjects(pixels, scenery.behind)
    shapes = [read_shape(one.cover, ~(one.hidden | one.cut)) for one in found.subjects]
    problem = _problem(found, shapes)
    depth = _DEPTH_OF_ONE if len(shapes) < 2 else _DEPTH_OF_SEVERAL
    subjects = [
        _seen(*pair, scenery, depth, frame_rate, height, width) for pair in zip(found.subjects, shapes, strict=True)
    ]
    subjects.sort(key=lambda one: -one.masks.sum().item())
    return Sight(scenery, tuple(subjects), problem)


def read_subject(video: Tensor, frame_rate: float = 8.0) -> Reading:
    """Say the colour and the motion of the largest subject in pixels in [-1, 1], (3, T, H, W)."""
    subjects = see(video, frame_rate).subjects
    if not subjects:
        return Reading(None, None, torch.full((video.shape[1], 2), math.nan))
    return Reading(subjects[0].colour, subjects[0].motion, subjects[0].track)


def _shrunk(video: Tensor) -> Tensor:
    """(3, T, H, W) with a short side of `_SIDE`, if it was longer."""
    height, width = video.shape[2:]
    if min(height, width) <= _SIDE:
        return video
    factor = _SIDE / min(height, width)
    size = round(height * factor), round(width * factor)
    return F.interpolate(video.transpose(0, 1), size=size, mode="area").transpose(0, 1)


def _problem(found: Findings, shapes: list[ShapeReading]) -> str | None:
    if not found.subjects:
        return "no subject is seen"
    share = min(max((found.noise - _CLEAN) / (_NOISY - _CLEAN), 0.0), 1.0)
    least_overlap = _LEAST_OVERLAP + share * (_LEAST_NOISY_OVERLAP - _LEAST_OVERLAP)
    for one, shape in zip(found.subjects, shapes, strict=True):
        there = (~shape.radii.isnan()).float().mean().item()
        if there < (_LEAST_SEEN if len(shapes) == 1 else _LEAST_SEEN_OF_SEVERAL):
            return f"something {one.colour} is there in {100 * there:.0f}% of the frames only"
        least = least_overlap - (_WHITE_OVERLAP if one.colour == "white" else 0.0)
        is_hidden = len(shapes) > 1 and (~one.hidden).float().mean() < _LEAST_CLEAR
        if shape.shape is None or shape.overlap < (_LEAST_NOISY_OVERLAP if is_hidden else least):
            return f"something {one.colour} has none of the toy box's shapes"
        same = sum(colour == one.colour for colour in one.frame_colours) / len(one.frame_colours)
        if same < _LEAST_SAME * there:
            return f"the {one.colour} {shape.shape} changes its colour"
    strange = found.strange.mean().item()
    if strange > _MOST_STRANGE:
        return f"{100 * strange:.1f}% of the picture is neither scenery nor subject"
    return None


def _seen(
    one: Found, shape: ShapeReading, scenery: SceneryReading, depth: float, frame_rate: float, height: int, width: int
) -> Seen:
    num_frames, rows, columns = one.cover.shape
    short_side = min(rows, columns)
    middle = torch.tensor([columns / 2 - 0.5, rows / 2 - 0.5])
    path, scale = at_rest((shape.centres - middle) / short_side, scenery.lens, depth, horizon(rows, columns))
    radii = shape.radii / short_side / scale
    # A subject that is partly hidden seems smaller and elsewhere.
    clear = ~(one.hidden | radii.isnan())
    reliable = clear if clear.sum() >= 0.6 * num_frames else ~radii.isnan()
    hidden = ~reliable
    motion = name_motion(path.masked_fill(hidden[:, None], math.nan), radii.masked_fill(hidden, math.nan))
    larger = min(height, width) / short_side
    masks = one.cover > 0.5
    if larger != 1:
        masks = F.interpolate(masks[:, None].float(), size=(height, width), mode="nearest")[:, 0] > 0
    return Seen(
        colour=one.colour,
        shape=shape.shape,
        size=_size(_half_way(radii, reliable)) if reliable.any() else None,
        motion=motion,
        track=(shape.centres + 0.5) * larger - 0.5,
        path=(path * short_side + middle + 0.5) * larger - 0.5,
        radii=radii * short_side * larger,
        masks=masks,
        frame_colours=one.frame_colours,
        frame_shapes=shape.frame_shapes,
        landings=landings(motion, path.masked_fill(hidden[:, None], math.nan), frame_rate),
    )


def _half_way(radii: Tensor, reliable: Tensor) -> float:
    """The radius half-way through the clip, from frames that can be relied on: a thing that grows is itself there."""
    time = torch.linspace(-1, 1, len(radii))[reliable]
    known = radii[reliable]
    if len(known) < 3:
        return known.median().item()
    slope = ((time - time.mean()) @ (known - known.mean())) / (time - time.mean()).square().sum().clamp_min(1e-6)
    return (known - slope * time).median().item()


def _size(radius: float) -> str | None:
    """Name the size of a radius; None if it is far from all."""
    if not _LEAST_RADIUS < radius < _MOST_RADIUS:
        return None
    return min(_SIZES, key=lambda size: abs(math.log(radius / size[1])))[0]
