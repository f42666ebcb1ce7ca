"""The rules of the toy box: what there is in it, how things move, how the camera moves.

Pure Python, no pixels: `toybox_lot` draws what is in a `Scene` by lot, `toybox_picture` paints it, `toybox_sound` plays
it, `toybox_captions` says it.

Lengths are in units of the picture's short side, x to the right and y downwards from the picture's centre, as seen by
the camera at rest. Depth 1 is where the nearest subject stands. Times are in seconds.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from videopoet.sequence.cameras import CAMERA_MOVES

SHAPES = ("ball", "square", "triangle", "star", "diamond", "plus", "raccoon", "fish", "rocket")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white")
SIZES = {"small": 0.10, "medium": 0.14, "big": 0.19}
"""Radius of a subject."""
MOTIONS = ("left", "right", "up", "down", "still", "bounce", "orbit", "fall", "grow", "shrink")
KINDS = ("grass", "sea", "sand", "night", "snow", "street", "room", "forest")
CAMERAS = ("still", *CAMERA_MOVES)
MATERIALS = {
    "ball": "ping",
    "star": "ping",
    "diamond": "ping",
    "rocket": "ping",
    "square": "knock",
    "triangle": "knock",
    "plus": "knock",
    "raccoon": "thud",
    "fish": "thud",
}
NUM_PLACES = 6
"""Places of each kind: the same scenery, seen further along."""
MAX_SUBJECTS = 3
SIZE_CHANGING_CAMERAS = ("zoom in", "zoom out", "dolly zoom", "fpv shot")
"""Cameras under which growing and shrinking would not be seen for what they are."""

HELD_OUT_SHARE = 0.2
_FOOT = {
    "ball": 0.95,
    "square": 0.82,
    "triangle": 0.76,
    "star": 0.81,
    "diamond": 0.98,
    "plus": 0.92,
    "raccoon": 0.95,
    "fish": 0.55,
    "rocket": 0.95,
}
_ROCKET_LYING_FOOT = 0.66
_REBOUND = 0.35


@dataclass(frozen=True)
class Stage:
    """What the picture's size gives to a scene."""

    half_width: float
    half_height: float
    num_frames: int
    frame_rate: float

    @property
    def horizon(self) -> float:
        """y of the horizon under a camera at rest."""
        return 0.12 * self.half_height

    @property
    def eye_height(self) -> float:
        """Height of the camera at rest over the ground."""
        return 0.54 * self.half_height

    @property
    def seconds(self) -> float:
        """Length of the clip."""
        return self.num_frames / self.frame_rate

    def ground(self, depth: float) -> float:
        """y where something at this depth touches the ground."""
        return self.horizon + self.eye_height / depth

    def progress(self, seconds: float) -> float:
        """How far into the clip's motion a time is: 0 at the first frame, 1 at the last."""
        return seconds * self.frame_rate / max(self.num_frames - 1, 1)


@dataclass(frozen=True)
class Subject:
    """One thing that moves; `pose` says where it is."""

    shape: str
    colour: str
    size: str
    motion: str
    on_ground: bool
    radius: float
    x: float
    y: float
    depth: float
    ground: float
    span: float
    """Path of a straight move, height of a bounce or a fall, radius of an orbit."""
    period: float
    """Seconds of one bounce, of one turn, or of a fall."""
    start: float
    """Time of the first landing, or of the start of a fall; for an orbit the angle at time 0."""
    facing: int
    """1 to the right, -1 to the left; an orbit turns that way."""

    @property
    def triple(self) -> tuple[str, str, str]:
        """(shape, colour, motion): what the held-out split holds out."""
        return self.shape, self.colour, self.motion

    @property
    def material(self) -> str:
        """What it sounds like when it lands: thud, knock or ping."""
        return MATERIALS[self.shape]


class Impact(NamedTuple):
    """A landing: `strength` is 1 for a full one."""

    seconds: float
    material: str
    strength: float
    subject: int


class Pose(NamedTuple):
    """Where a subject is at one time: its centre, its stretch along x and y, and its turn in radians."""

    x: float
    y: float
    width: float
    height: float
    angle: float


class Lens(NamedTuple):
    """Where the camera is, how long its lens is, and how far its turning shifts the picture."""

    x: float
    y: float
    z: float
    focal: float
    shift_x: float
    shift_y: float


@dataclass(frozen=True)
class Scene:
    """All there is to know about one clip; pictures and sound follow from it alone."""

    seed: int
    subjects: tuple[Subject, ...]
    kind: str
    place: int
    camera: str
    stage: Stage
    impacts: tuple[Impact, ...]
    ambience_start: float
    """Where in its scene's ambience the clip starts, in [0, 1)."""
    captions: tuple[str, ...]
    """Paraphrases; each names every subject, its motion, the scene and the camera."""
    caption: str
    """The caption of this clip: mostly one of `captions`, sometimes one that says less."""


def is_held_out(shape: str, colour: str, motion: str) -> bool:
    """Whether no clip of the training split shows this combination."""
    digest = hashlib.sha256(f"{shape} {colour} {motion}".encode()).digest()
    return int.from_bytes(digest[:4], "big") < HELD_OUT_SHARE * 2**32


def lens(camera: str, progress: float) -> Lens:
    """The camera at `progress` of its move; a camera at rest is Lens(0, 0, 0, 1, 0, 0)."""
    swing = 2.0 * progress - 1.0
    match camera:
        case "pan left":
            return Lens(-0.025 * swing, 0.0, 0.0, 1.0, 0.10 * swing, 0.0)
        case "pan right":
            return Lens(0.025 * swing, 0.0, 0.0, 1.0, -0.10 * swing, 0.0)
        case "tilt up":
            return Lens(0.0, 0.0, 0.0, 1.0, 0.0, 0.09 * swing)
        case "tilt down":
            return Lens(0.0, 0.0, 0.0, 1.0, 0.0, -0.09 * swing)
        case "zoom in":
            return Lens(0.0, 0.0, 0.0, 0.85 + 0.4 * progress, 0.0, 0.0)
        case "zoom out":
            return Lens(0.0, 0.0, 0.0, 1.25 - 0.4 * progress, 0.0, 0.0)
        case "dolly zoom":
            # The lens shortens as the camera comes nearer, so that depth 1 keeps its size.
            z = 0.32 * swing
            return Lens(0.0, 0.0, z, 1.0 - z, 0.0, 0.0)
        case "arc shot":
            # The camera turns as it goes sideways, so that depth 1 keeps its place.
            x = 0.24 * swing
            return Lens(x, 0.0, 0.0, 1.0, x, 0.0)
        case "crane shot":
            y = 0.09 - 0.26 * progress
            return Lens(0.0, y, 0.0, 1.0, 0.0, 0.6 * y)
        case "fpv shot":
            return Lens(
                0.05 * math.sin(2 * math.pi * progress),
                0.02 * math.sin(4 * math.pi * progress),
                -0.15 + 0.42 * progress,
                1.0,
                0.03 * math.sin(2 * math.pi * progress + 1.0),
                0.0,
            )
    return Lens(0.0, 0.0, 0.0, 1.0, 0.0, 0.0)


def project(stage: Stage, view: Lens, x: float, y: float, depth: float) -> tuple[float, float, float]:
    """Where a point, as the camera at rest sees it, is seen through `view`, and how much larger: (x, y, scale)."""
    scale = view.focal * depth / (depth - view.z)
    horizon = stage.horizon
    away = view.focal / (depth - view.z)
    seen_x = scale * x - away * view.x + view.shift_x
    seen_y = horizon + scale * (y - horizon) - away * view.y + view.shift_y
    return seen_x, seen_y, scale


def pose(subject: Subject, stage: Stage, seconds: float) -> Pose:
    """Where a subject is at a time."""
    progress = stage.progress(seconds)
    x, y, stretch, angle = subject.x, subject.y, 1.0, 0.0
    squash = 0.0
    standing = subject.on_ground
    match subject.motion:
        case "left" | "right":
            offset = subject.span * (progress - 0.5) * subject.facing
            x += offset
            if subject.shape == "ball" and standing:
                angle = offset / subject.radius
        case "up":
            y -= subject.span * (progress - 0.5)
        case "down":
            y += subject.span * (progress - 0.5)
        case "orbit":
            turn = subject.start + subject.facing * 2 * math.pi * seconds / subject.period
            x += subject.span * math.cos(turn)
            y += subject.span * math.sin(turn)
        case "bounce":
            phase = ((seconds - subject.start) / subject.period) % 1.0
            y = -subject.span * 4.0 * phase * (1.0 - phase)
            squash = _squash(min(phase, 1.0 - phase) * subject.period)
        case "fall":
            landing = subject.start + subject.period
            y = -_height_of_fall(subject, seconds)
            squash = _squash(abs(seconds - landing))
        case "grow":
            stretch = 0.6 + 0.8 * progress
        case "shrink":
            stretch = 1.4 - 0.8 * progress
    if subject.shape == "rocket":
        angle = {"left": -0.5 * math.pi, "right": 0.5 * math.pi, "down": math.pi}.get(subject.motion, 0.0)
    height = stretch * (1.0 - squash)
    if standing:
        lift = y if subject.motion in ("bounce", "fall") else 0.0
        y = subject.ground + lift - foot(subject) * subject.radius * height
    return Pose(x, y, stretch * (1.0 + 0.6 * squash), height, angle)


def foot(subject: Subject) -> float:
    """How far under a standing subject's centre the ground is, in radii."""
    if subject.shape == "rocket" and subject.motion in ("left", "right"):
        return _ROCKET_LYING_FOOT
    return _FOOT[subject.shape]


def impacts(subjects: Sequence[Subject], stage: Stage) -> tuple[Impact, ...]:
    """Every landing that the clip has time for, in order."""
    landings = []
    for index, subject in enumerate(subjects):
        if subject.motion == "bounce":
            count = math.ceil((stage.seconds - subject.start) / subject.period)
            landings += [(subject.start + k * subject.period, 1.0, subject, index) for k in range(count)]
        elif subject.motion == "fall":
            first = subject.start + subject.period
            landings.append((first, 1.0, subject, index))
            landings.append((first + 2 * _REBOUND * subject.period, _REBOUND, subject, index))
    return tuple(
        Impact(seconds, subject.material, strength, index)
        for seconds, strength, subject, index in sorted(landings, key=lambda landing: landing[0])
        if seconds < stage.seconds - 0.02
    )


def _height_of_fall(subject: Subject, seconds: float) -> float:
    falling = seconds - subject.start
    if falling < subject.period:
        return subject.span * (1.0 - max(falling / subject.period, 0.0) ** 2)
    rebound = (falling - subject.period) / (2 * _REBOUND * subject.period)
    if rebound < 1.0:
        return subject.span * _REBOUND**2 * 4.0 * rebound * (1.0 - rebound)
    return 0.0


def _squash(seconds_from_impact: float) -> float:
    return 0.18 * max(0.0, 1.0 - seconds_from_impact / 0.07)
