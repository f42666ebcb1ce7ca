"""Clips that the oracle is tested on before it judges a model: ones it must refuse, and pairs it must tell apart.

This module makes them from scenes of the toy box; the oracle itself never sees a scene.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from videopoet import runtime
from videopoet.data.toybox import Scene, ToyBox
from videopoet.data.toybox_world import COLOURS, SHAPES, Impact
from videopoet.evaluation.reading import ClipReading, read_clip

HEARD_AS_ONE = 0.05
"""Landings nearer than this, in seconds, are heard as one."""
_DIRECTED = ("left", "right", "up", "down")


@dataclass(frozen=True)
class Shown:
    """What is put before the oracle."""

    video: Tensor
    """(3, T, H, W) in [-1, 1]"""
    audio: Tensor | None = None
    """(S,) in [-1, 1]"""

    def read(self, world: ToyBox) -> ClipReading:
        """What the oracle says about it."""
        return read_clip(self.video, world.config.frame_rate, self.audio, world.config.sample_rate)


def noise(world: ToyBox, seed: int) -> Shown:
    """Every pixel drawn alone."""
    return Shown(torch.rand(_like(world), generator=runtime.generator("noise", seed)) * 2 - 1)


def blank(world: ToyBox, seed: int) -> Shown:
    """One colour."""
    colour = torch.rand(3, 1, 1, 1, generator=runtime.generator("blank", seed)) * 2 - 1
    return Shown(colour.expand(_like(world)).clone())


def checkerboard(world: ToyBox, seed: int) -> Shown:
    """Squares of two colours."""
    _, _, height, width = _like(world)
    side = 2 + seed % 11
    rows, columns = torch.arange(height).view(-1, 1) // side, torch.arange(width).view(1, -1) // side
    one, other = torch.rand(2, 3, 1, 1, 1, generator=runtime.generator("checkerboard", seed)) * 2 - 1
    return Shown(torch.where((rows + columns) % 2 == 0, one, other).expand(_like(world)).clone())


def half_erased(world: ToyBox, seed: int) -> Shown:
    """A subject of which a half is not there."""
    scene = _one(world, seed)
    clips = world.render([scene], audio=False, truth=True)
    behind = world.render([replace(scene, subjects=())], audio=False).video[0]
    assert clips.masks is not None and clips.tracks is not None
    mask = F.max_pool2d(clips.masks[0, 0][:, None].float(), 3, 1, 1)[:, 0] > 0
    _, _, height, width = _like(world)
    places = (torch.arange(width).view(1, 1, -1), torch.arange(height).view(1, -1, 1))
    # The upper half of a triangle is a whole, smaller triangle.
    axis, sign = 0 if scene.subjects[0].shape == "triangle" else seed % 2, 1 if seed % 4 < 2 else -1
    half = sign * (places[axis] - clips.tracks[0, 0, :, axis].view(-1, 1, 1)) > 0
    return Shown(torch.where(mask & half, behind, clips.video[0]))


def merged(world: ToyBox, seed: int) -> Shown:
    """Two subjects of one colour that are grown together."""
    scene = _one(world, seed, motion=_DIRECTED[seed % 4])
    (first,) = scene.subjects
    shape = SHAPES[(SHAPES.index(first.shape) + 1 + seed % (len(SHAPES) - 1)) % len(SHAPES)]
    aside = 1.25 * first.radius * (-1 if first.x > 0 else 1)
    both = first, replace(first, shape=shape, x=first.x + aside, depth=1.1)
    return Shown(world.render([replace(scene, subjects=both)], audio=False).video[0])


def morphing(world: ToyBox, seed: int) -> Shown:
    """A subject that goes from one colour to another."""
    scene = _one(world, seed)
    (subject,) = scene.subjects
    other = replace(scene, subjects=(replace(subject, colour=_other_colour(subject.colour, seed)),))
    first, last = world.render([scene, other], audio=False).video
    return Shown(torch.lerp(first, last, torch.linspace(0, 1, first.shape[1]).view(1, -1, 1, 1)))


INVALID: dict[str, Callable[[ToyBox, int], Shown]] = {
    "noise": noise,
    "blank": blank,
    "checkerboard": checkerboard,
    "half_erased": half_erased,
    "merged": merged,
    "morphing": morphing,
}
"""What the oracle must call invalid."""


def mirrored(world: ToyBox, seed: int) -> tuple[Shown, Shown]:
    """A subject that goes left or right, and its mirror image before the same scenery.

    The scenery stays: no place of the toy box is another's mirror image, and a mirrored one is refused as a whole.
    """
    scene = _one(world, seed, motion=_DIRECTED[seed % 2])
    (subject,) = scene.subjects
    other = "right" if subject.motion == "left" else "left"
    image = replace(subject, x=-subject.x, facing=-subject.facing, motion=other)
    return Shown(_video(world, scene)), Shown(_video(world, replace(scene, subjects=(image,))))


def backwards(world: ToyBox, seed: int) -> tuple[Shown, Shown]:
    """A motion, and the same from its end to its start."""
    video = _video(world, _one(world, seed, motion=(*_DIRECTED, "grow", "shrink")[seed % 6]))
    return Shown(video), Shown(video.flip(1))


def recoloured(world: ToyBox, seed: int) -> tuple[Shown, Shown]:
    """A subject, and the same in another colour."""
    scene = _one(world, seed)
    (subject,) = scene.subjects
    other = replace(scene, subjects=(replace(subject, colour=_other_colour(subject.colour, seed)),))
    return Shown(_video(world, scene)), Shown(_video(world, other))


def swapped(world: ToyBox, seed: int) -> tuple[Shown, Shown]:
    """Two subjects, and the same with their colours exchanged: no word of the caption changes, only what it is of."""
    scene = world.scene(seed, num_subjects=2, camera="still")
    first, second = scene.subjects
    other = replace(scene, subjects=(replace(first, colour=second.colour), replace(second, colour=first.colour)))
    return Shown(_video(world, scene)), Shown(_video(world, other))


def late(world: ToyBox, seed: int) -> tuple[Shown, Shown]:
    """A subject that is heard when it lands, and 200 ms later."""
    scene = _one(world, seed, motion=("bounce", "fall")[seed % 2])
    clips = world.render([scene])
    assert clips.audio is not None
    audio = clips.audio[0, 0]
    by = round(0.2 * world.config.sample_rate)
    return Shown(clips.video[0], audio), Shown(clips.video[0], F.pad(audio, (by, 0))[: len(audio)])


CHANGED: dict[str, Callable[[ToyBox, int], tuple[Shown, Shown]]] = {
    "mirrored": mirrored,
    "backwards": backwards,
    "recoloured": recoloured,
    "swapped": swapped,
    "late": late,
}
"""Pairs of which the oracle must say different things."""


# What each change must change of a verdict, and what may follow from it: a colour goes with a shape and a motion.
_MUST_AND_MAY = {
    "mirrored": ("motions", {"deeds"}),
    "backwards": ("motions", {"deeds"}),
    "recoloured": ("colours", {"pairs", "deeds"}),
    "swapped": ("pairs", {"deeds"}),
    "late": ("in_time", set[str]()),
}


def is_told_apart(name: str, one: ClipReading, other: ClipReading) -> bool:
    """Whether two readings of a pair of CHANGED are valid and differ in what was changed and in nothing else.

    A clip that is refused differs from any other, and says nothing about whether the change was seen.
    """
    first, second = verdict(one), verdict(other)
    must, may = _MUST_AND_MAY[name]
    changed = {part for part in first if first[part] != second[part]}
    return one.valid and other.valid and must in changed and changed <= {must} | may


def verdict(reading: ClipReading) -> dict[str, object]:
    """What a reading says, part by part: all that a caption could, and whether each heard impact is seen in time.

    `pairs` are colours with their shapes, `deeds` colours with their motions.
    """
    subjects = reading.subjects
    seen = [time for one in subjects for time in one.impacts]
    return {
        "colours": sorted(str(one.colour) for one in subjects),
        "shapes": sorted(str(one.shape) for one in subjects),
        "motions": sorted(str(one.motion) for one in subjects),
        "sizes": sorted(str(one.size) for one in subjects),
        "pairs": sorted((str(one.colour), str(one.shape)) for one in subjects),
        "deeds": sorted((str(one.colour), str(one.motion)) for one in subjects),
        "scenery": reading.scenery,
        "camera": reading.camera,
        "in_time": [any(abs(heard.seconds - time) < 0.05 for time in seen) for heard in reading.impacts],
    }


def slots(reading: ClipReading, scene: Scene) -> dict[str, bool]:
    """Of every slot of a scene, whether the reading has it; subjects are known by their colour."""
    found = {one.colour: one for one in reading.subjects}
    pairs = [(found.get(subject.colour), subject) for subject in scene.subjects]
    heard = reading.impacts
    due = [impact for k, impact in enumerate(scene.impacts) if not k or _apart(scene.impacts[k - 1], impact)]
    right = {
        "valid": reading.valid,
        "count": len(reading.subjects) == len(scene.subjects),
        "colour": set(found) == {subject.colour for subject in scene.subjects},
        "scenery": reading.scenery == scene.kind,
        "camera": reading.camera == scene.camera,
        "shape": all(one is not None and one.shape == subject.shape for one, subject in pairs),
        "motion": all(one is not None and one.motion == subject.motion for one, subject in pairs),
        "size": all(one is not None and one.size == subject.size for one, subject in pairs),
        "sound": len(heard) == len(due)
        and all(
            abs(one.seconds - true.seconds) < HEARD_AS_ONE and one.material == true.material
            for one, true in zip(heard, due, strict=True)
        ),
    }
    return right


def _apart(before: Impact, after: Impact) -> bool:
    return after.seconds - before.seconds >= HEARD_AS_ONE


def _like(world: ToyBox) -> tuple[int, int, int, int]:
    return 3, world.config.num_frames, world.config.height, world.config.width


def _one(world: ToyBox, seed: int, motion: str | None = None) -> Scene:
    return world.scene(seed, num_subjects=1, camera="still", motion=motion)


def _video(world: ToyBox, scene: Scene) -> Tensor:
    return world.render([scene], audio=False).video[0]


def _other_colour(colour: str, seed: int) -> str:
    return COLOURS[(COLOURS.index(colour) + 1 + seed % (len(COLOURS) - 1)) % len(COLOURS)]
