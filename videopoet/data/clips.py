"""Footage cut into clips of one length, each checked: what is static, black or too short is named, not kept.

What is made of a picture or a sound is a `Clip` too, with what it has; `pictures_and_sounds` makes it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from videopoet.config import BaseConfig
from videopoet.data.reel import Reel, Sound
from videopoet.data.shots import Look, Seen, shots
from videopoet.data.sources import Kind, Source
from videopoet.errors import MediaError
from videopoet.media.nursery import Nursery

WIDE = 16 / 9
SHAPES = (1.0, 4 / 3, WIDE)
"""Widths of landscape buckets in heights; portrait buckets are these turned."""
STEP = 8
"""Sides of buckets are multiples of so many pixels, as tokenizers want them."""
STATIC_CHANGE = 1.5
"""A clip is static if the mean of its thumbnail, of 255, never moves further than this from the first frame's."""
STATIC_CELL = 6.0
"""And no cell of the thumbnail further than this: something small that moves is something that moves."""
SILENT_LEVEL = 1e-3
"""Root mean square of samples below which sound is silence: -60 dB."""
SIGNATURE_FRAMES = 4
"""Frames of a clip whose thumbnails are compared to find duplicates."""
MOST_WAITING = 48
"""Clips that wait for their sound; a file whose sound comes later still is badly made, and they are silent."""
SEEN_AT_ONCE = 16
"""Frames that are looked at together: one by one each costs three times as much."""
CAPTIONED_SIDE = 224
"""Pixels of the short side of the pictures that a captioner sees."""

T = TypeVar("T")
Fault = Literal["static", "black", "duplicate"]
Heard = Literal["sound", "silence", "none"]


class Config(BaseConfig):
    """What clips are made of footage."""

    height: int = Field(default=64, ge=16, le=4096)
    """Pixels; a multiple of 8. If it equals the width, other shapes of picture get buckets of the same short side."""
    width: int = Field(default=64, ge=16, le=4096)
    """Pixels; a multiple of 8."""
    num_frames: int = Field(default=17, ge=1, le=10_000)
    frame_rate: float = Field(default=8.0, gt=0, le=240)
    """Frames per second."""
    sample_rate: int = Field(default=16_000, ge=8_000, le=192_000)
    """Samples of sound per second."""
    keep: tuple[Fault, ...] = ()
    """Faults that clips, pictures and sounds are kept with, and marked: static, black, duplicate."""
    validation: float = Field(default=0.1, gt=0, lt=1)
    """Share of the sources whose clips are held out of training."""
    captioner: str | None = None
    """Folder or hub id of a vision-language model that describes clips without a caption."""

    @field_validator("height", "width")
    @classmethod
    def _check_side(cls, side: int) -> int:
        if side % STEP:
            raise ValueError(f"sides are multiples of {STEP}, such as {max(16, round(side / STEP) * STEP)}")
        return side

    @model_validator(mode="after")
    def _check_length(self) -> Config:
        if self.height * self.width * self.num_frames > 1 << 28:
            raise ValueError(f"a clip has at most {1 << 28} pixels in all its frames; make it smaller or shorter")
        return self

    @property
    def seconds(self) -> float:
        return self.num_frames / self.frame_rate

    @property
    def num_samples(self) -> int:
        return round(self.seconds * self.sample_rate)

    @property
    def in_words(self) -> str:
        """What the clips are, for messages."""
        size = f"{self.width}x{self.height}, {self.num_frames} frames"
        return f"{size} at {self.frame_rate:g} a second, sound at {self.sample_rate} Hz"

    @property
    def buckets(self) -> tuple[tuple[int, int], ...]:
        """Heights and widths of clips: square, landscape and portrait, or the one size that is not square."""
        if self.height != self.width:
            return ((self.height, self.width),)
        side = self.height
        longer = [STEP * round(side * shape / STEP) for shape in SHAPES]
        sizes = [(side, long) for long in longer] + [(long, side) for long in longer]
        return tuple(dict.fromkeys(sizes))


@dataclass(frozen=True, eq=False)
class Clip:
    """One clip of a source, whole; or a picture, or a sound."""

    start: float
    """Seconds into the source."""
    video: Tensor | None
    """uint8 (3, T, H, W); of a picture one frame, of a sound None"""
    audio: Tensor | None
    """int16 (1, S)"""
    heard: Heard
    signature: Tensor
    """Thumbnails to find duplicates by, uint8 (4, 16, 16)"""
    motion: float | None
    """Mean change of thumbnails from frame to frame, from 0 to 1."""
    brightness: float | None
    """Mean of the pixels, from 0 to 1."""
    faults: tuple[Fault, ...]
    picture: Tensor | None
    """The frame in the middle for a captioner, uint8 (3, H', W')"""
    kind: Kind = "clip"
    reference: Tensor | None = None
    """uint8 (3, T, H, W)"""
    mask: Tensor | None = None
    """bool (T, H, W): what may be hidden"""


@dataclass(frozen=True)
class Reject:
    """A stretch of a source, or all of it, that gave no clip."""

    code: str
    message: str
    start: float = 0.0
    seconds: float | None = None
    """Its length; None for the rest of the source."""


@dataclass(frozen=True, eq=False)
class Frame:
    """A frame of a source, uint8 (3, H, W), with what goes with it."""

    pixels: Tensor
    large: Tensor | None
    reference: Tensor | None
    mask: Tensor | None


@dataclass
class Shot:
    """The frames of a shot that wait to become a clip."""

    begin: int
    """Number of the first of them in the source."""
    is_black: bool
    frames: list[Seen[Frame]] = field(default_factory=list)
    num_clips: int = 0
    """How many the shot has given already."""


class Cutter:
    """Cuts a source into clips in one pass: iterating gives clips and rejects in order, a few in memory at a time.

    Shots are cut into clips of the asked length, one after the other; what is left at the end of a shot is dropped. A
    file that breaks off gives the clips until there, and a reject for its rest.

    Args:
        source: The file.
        config: What clips are made of it.
        threads: Of the decoder; None takes as many as help one file.
        nursery: Where decoders come from; None starts each anew.
    """

    def __init__(self, source: Source, config: Config, threads: int | None = None, nursery: Nursery | None = None):
        self.source, self.config = source, config
        self.decoders: dict[str, Any] = {"threads": threads, "nursery": nursery}
        self.scale = captioner_scale(source, config)
        sizes = tuple((height * self.scale, width * self.scale) for height, width in config.buckets)
        self.reel = Reel(source.video, config.frame_rate, config.sample_rate, sizes, **self.decoders)
        self.sound_reel = None
        if source.audio is not None:
            self.sound_reel = Reel(source.audio, config.frame_rate, config.sample_rate, what="audio", **self.decoders)
        self.seconds = 0.0
        """Of the source, as far as it was read."""
        self._reels = [reel for reel in (self.reel, self.sound_reel) if reel is not None]
        self._waiting: deque[Clip] = deque()

    def __iter__(self) -> Iterator[Clip | Reject]:
        try:
            yield from self._cut()
        except MediaError as error:
            with suppress(MediaError):  # of the sound, once more
                yield from self._whole(to_the_end=True)
            yield Reject(error.code, str(error), self.seconds)
        finally:
            for reel in self._reels:
                reel.close()  # pyright: ignore[reportOptionalMemberAccess]

    def _cut(self) -> Iterator[Clip | Reject]:
        rate, shot = self.config.frame_rate, None
        for number, seen in enumerate(shots(self._frames())):
            if shot is None or seen.begins:
                yield from self._end(shot)
                shot = Shot(number, seen.look.is_black)
            shot.frames.append(seen)
            if len(shot.frames) == self.config.num_frames:
                found = self._checked(shot)
                shot = Shot(number + 1, shot.is_black, num_clips=shot.num_clips + 1)
                if isinstance(found, Reject):
                    yield found
                else:
                    self._waiting.append(found)
            yield from self._whole()
            if not self._waiting:
                self._sound.forget(shot.begin / rate)
        self.seconds = self.reel.seconds
        yield from self._end(shot)
        yield from self._whole(to_the_end=True)

    def _frames(self) -> Iterator[tuple[Frame, Look]]:
        sides: list[Iterator[Tensor] | None] | None = None
        number = 0
        for group in grouped(self.reel, SEEN_AT_ONCE):
            larges = torch.stack(group).contiguous()
            frames = larges
            if self.scale > 1:
                frames = F.avg_pool2d(larges.float(), self.scale).round().to(torch.uint8)
            if sides is None:
                sides = [self._beside(path) for path in (self.source.reference_video, self.source.video_mask)]
            for frame, large, look in zip(frames, larges, Look.of_each(frames), strict=True):
                reference, mask = (None if side is None else next(side, None) for side in sides)
                number += 1
                self.seconds = number / self.config.frame_rate
                yield Frame(frame, large if self.scale > 1 else None, reference, mask), look

    def _beside(self, path: str | None) -> Iterator[Tensor] | None:
        """The frames of a file that goes with the source's, in the same size."""
        if path is None:
            return None
        size = self.reel.height // self.scale, self.reel.width // self.scale
        reel = Reel(path, self.config.frame_rate, self.config.sample_rate, (size,), **self.decoders)
        self._reels.append(reel)
        return iter(reel)

    def _checked(self, shot: Shot) -> Clip | Reject:
        """The frames of a shot as a clip, still without sound."""
        config, source = self.config, self.source
        frames = [seen.frame for seen in shot.frames]
        start, video = shot.begin / config.frame_rate, torch.stack([frame.pixels for frame in frames], dim=1)
        references = [frame.reference for frame in frames if frame.reference is not None]
        masks = [frame.mask for frame in frames if frame.mask is not None]
        for path, found in ((source.reference_video, references), (source.video_mask, masks)):
            if path is not None and len(found) < len(frames):
                message = f"'{Path(path).name}' ends before it; it must be as long as the clip; make it so"
                return Reject("side_too_short", message, start, config.seconds)

        cells = torch.from_numpy(np.stack([seen.look.grey for seen in shot.frames]))  # (T, 16, 16)
        moved = (cells - cells[0]).abs()
        is_static = len(cells) > 1 and moved.mean((1, 2)).max() < STATIC_CHANGE and moved.max() < STATIC_CELL
        faults: tuple[Fault, ...] = ("black",) if shot.is_black else ("static",) if is_static else ()
        for fault in faults:
            if fault not in config.keep:
                what = "its frames are black" if fault == "black" else "nothing moves in it"
                message = f"{what}; clips to learn from show something that moves; --keep {fault} keeps such clips"
                return Reject(fault, message, start, config.seconds)
        chosen = torch.linspace(0, len(cells) - 1, SIGNATURE_FRAMES).round().long()
        return Clip(
            start=start,
            video=video,
            audio=None,
            heard="none",
            signature=cells[chosen].round().to(torch.uint8),
            motion=float((cells[1:] - cells[:-1]).abs().mean() / 255) if len(cells) > 1 else 0.0,
            brightness=float(video.float().mean() / 255),
            faults=faults,
            # A copy: the frame is one of many in one piece of memory, which would stay as long as the clip.
            picture=None if (large := frames[len(frames) // 2].large) is None else large.clone(),
            reference=torch.stack(references, dim=1) if references else None,
            mask=torch.stack([mask.float().mean(0) > 127 for mask in masks]) if masks else None,
        )

    def _end(self, shot: Shot | None) -> Iterator[Reject]:
        """What a shot leaves that gave no clip."""
        if shot is None or shot.num_clips or not shot.frames:
            return
        seconds = len(shot.frames) / self.config.frame_rate
        code = "black" if shot.is_black else "shot_too_short"
        message = f"this {'black stretch' if shot.is_black else 'shot'} lasts {seconds:g} s"
        yield Reject(
            code,
            f"{message}; a clip lasts {self.config.seconds:g} s; ask for shorter clips with --seconds",
            shot.begin / self.config.frame_rate,
            seconds,
        )

    @property
    def _sound(self) -> Sound:
        return (self.sound_reel or self.reel).sound

    def _whole(self, to_the_end: bool = False) -> Iterator[Clip]:
        """The clips whose sound has come, or that wait no longer for it."""
        while self._waiting:
            clip, seconds = self._waiting[0], self.config.seconds
            end = clip.start + seconds
            if self.sound_reel is not None:
                self.sound_reel.read_sound(end)
            elif not (to_the_end or self._sound.reaches(end) or len(self._waiting) > MOST_WAITING):
                return
            self._waiting.popleft()
            if self._sound.exists:
                samples = self._sound.take(clip.start, self.config.num_samples)
                heard = "sound" if samples.square().mean().sqrt() > SILENT_LEVEL else "silence"
                audio = (samples * 32767).round().to(torch.int16)[None]
                clip = replace(clip, audio=audio, heard=heard)
            self._sound.forget(end)
            yield clip


def captioner_scale(source: Source, config: Config) -> int:
    """How many times as large frames are decoded, so that a captioner sees them well: averages give the clip's own."""
    asks_captioner = config.captioner is not None and source.caption is None
    return -(-CAPTIONED_SIDE // min(config.height, config.width)) if asks_captioner else 1


def grouped(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """So many items at a time, and the rest at the end; if they break off, those before come first."""
    group: list[T] = []
    try:
        for item in items:
            group.append(item)
            if len(group) == size:
                yield group
                group = []
    except MediaError:
        if group:
            yield group
        raise
    if group:
        yield group
