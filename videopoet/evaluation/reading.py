"""What the oracle says about a clip: its one entry point, `read_clip`, and the records that it answers with.

The metrics are computed on these records alone. None always means "seen, and none of the toy box's"; a slot that
cannot be told from the pixels at all is named in `unscored` instead, and no metric may score it.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from videopoet.errors import MediaError
from videopoet.evaluation import oracle, oracle_sound
from videopoet.evaluation.oracle_scenery import CAMERAS, KINDS
from videopoet.evaluation.oracle_shapes import SHAPES

__all__ = [
    "CAMERAS",
    "COLOURS",
    "KINDS",
    "MATERIALS",
    "MOTIONS",
    "SHAPES",
    "SIZES",
    "SLOTS",
    "ClipReading",
    "HeardImpact",
    "SubjectReading",
    "oracle_hash",
    "read_clip",
]

SLOTS = ("shape", "colour", "motion", "size")
"""What is read of every subject."""
COLOURS = tuple(oracle.PALETTE)
MOTIONS = oracle.MOTIONS
SIZES = ("small", "medium", "big")
MATERIALS = tuple(oracle_sound.MATERIALS)


@dataclass(frozen=True)
class SubjectReading:
    """One subject, followed through the clip."""

    shape: str | None
    colour: str | None
    motion: str | None
    size: str | None
    track: Tensor
    """Its centre on the screen in pixels (column, row), (T, 2); NaN where it is not seen."""
    path: Tensor
    """The same with the camera's move taken out: where it would be on the screen of a camera at rest, (T, 2)."""
    radii: Tensor
    """How large it is with the camera's move taken out, in pixels, (T,); NaN where it is not seen."""
    masks: Tensor
    """Where it is seen, bool (T, H, W)."""
    frame_colours: tuple[str | None, ...]
    """What each frame alone says, T times; None where it is not seen or no colour of ours."""
    frame_shapes: tuple[str | None, ...]
    """The same for the shape."""
    impacts: tuple[float, ...] = ()
    """When it is seen to land, in seconds, between frames where the motion says so."""
    unscored: frozenset[str] = frozenset()
    """Those of SLOTS that cannot be told from these pixels; they read None, and are neither right nor wrong."""


@dataclass(frozen=True)
class HeardImpact:
    """One onset in the sound."""

    seconds: float
    material: str | None


@dataclass(frozen=True)
class ClipReading:
    """Everything that is read of one clip."""

    valid: bool
    """Whether the clip is a scene of the toy box: each thing in it whole, of one shape and of one colour throughout."""
    reason: str | None
    """Why it is not valid; an invalid clip counts as wrong in every slot."""
    subjects: tuple[SubjectReading, ...]
    """The largest first."""
    scenery: str | None
    camera: str | None
    """None for one frame, and for a move that is none of CAMERAS."""
    impacts: tuple[HeardImpact, ...]
    """What is heard, in order; empty without sound."""
    frame_rate: float
    height: int
    width: int
    num_frames: int
    unscored: frozenset[str] = frozenset()
    """Of "scenery", "camera" and "count", those that cannot be told from these pixels."""


def read_clip(
    video: Tensor, frame_rate: float, audio: Tensor | None = None, sample_rate: int | None = None
) -> ClipReading:
    """Read one clip from its pixels in [-1, 1], (3, T, H, W), and its samples in [-1, 1], (S,) or (1, S), if any.

    Raises:
        MediaError: The tensors are no clip, or there are samples and no rate.
    """
    _check(video, frame_rate, audio, sample_rate)
    _, num_frames, height, width = video.shape
    sight = oracle.see(video, frame_rate)
    # Neither a motion nor a camera's move shows in one frame, and a thing that grows has its size in the middle of it.
    unscored = frozenset() if num_frames > 1 else frozenset({"motion", "size"})
    subjects = tuple(
        SubjectReading(
            shape=one.shape,
            colour=one.colour,
            motion=one.motion if num_frames > 1 else None,
            size=one.size if num_frames > 1 else None,
            track=one.track,
            path=one.path,
            radii=one.radii,
            masks=one.masks,
            frame_colours=one.frame_colours,
            frame_shapes=one.frame_shapes,
            impacts=one.landings,
            unscored=unscored,
        )
        for one in sight.subjects
    )
    return ClipReading(
        valid=sight.problem is None,
        reason=sight.problem,
        subjects=subjects,
        scenery=sight.scenery.kind,
        camera=sight.scenery.camera,
        impacts=_heard(audio, sample_rate),
        frame_rate=frame_rate,
        height=height,
        width=width,
        num_frames=num_frames,
        unscored=frozenset() if num_frames > 1 else frozenset({"camera"}),
    )


def _heard(audio: Tensor | None, sample_rate: int | None) -> tuple[HeardImpact, ...]:
    if audio is None or sample_rate is None:
        return ()
    samples = audio.detach().float().cpu().flatten()
    times = oracle.hear_impacts(samples, sample_rate).tolist()
    return tuple(HeardImpact(time, oracle.name_material(samples, sample_rate, time)) for time in times)


def oracle_hash() -> str:
    """sha256 over the oracle's sources and looks: equal hashes give equal readings."""
    folder = Path(__file__).parent
    files = sorted([*folder.glob("oracle*.py"), *folder.glob("looks/*"), Path(__file__)])
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(folder).as_posix()} {file.stat().st_size}\n".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _check(video: Tensor, frame_rate: float, audio: Tensor | None, sample_rate: int | None) -> None:
    if video.ndim != 4 or len(video) != 3 or 0 in video.shape:
        raise MediaError(
            f"the oracle was given pixels of shape {tuple(video.shape)}; it reads one clip, (3, T, H, W); "
            "pass the clips of a batch one by one",
            code="oracle_video",
        )
    if min(video.shape[2:]) < 32:
        raise MediaError(
            f"the clip is {video.shape[3]}x{video.shape[2]} pixels, and the oracle can tell shapes from 32 on; "
            "generate at 32 pixels or more",
            code="oracle_video",
        )
    if not torch.isfinite(video).all():
        raise MediaError(
            "the clip holds pixels that are not finite; the oracle reads pixels in [-1, 1]; look for NaN in the model",
            code="oracle_video",
        )
    if not (math.isfinite(frame_rate) and frame_rate > 0):
        raise MediaError(
            f"the frame rate is {frame_rate}; it must be above 0 frames per second; pass the clip's own",
            code="oracle_video",
        )
    if audio is not None and (audio.ndim > 2 or (audio.ndim == 2 and len(audio) != 1) or not audio.numel()):
        raise MediaError(
            f"the oracle was given samples of shape {tuple(audio.shape)}; it hears one channel, (S,) or (1, S); "
            "mix the channels first",
            code="oracle_audio",
        )
    if audio is not None and not sample_rate:
        raise MediaError(
            "the oracle was given samples without a sample rate; pass sample_rate in Hz with the audio",
            code="oracle_audio",
        )
