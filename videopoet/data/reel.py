"""A file of footage as frames at a constant rate and sound beside them, read once from its beginning to its end.

A picture is read by `read_picture`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from videopoet.errors import MediaError
from videopoet.media.nursery import Nursery
from videopoet.media.protocol import BEGIN, END, FRAME, SOUND, Limits
from videopoet.media.sandbox import refusal, stream
from videopoet.media.selection import num_ticks

LONG = Limits(frames=3_000_000, seconds=12 * 3600.0, output_bytes=1 << 40, deadline_seconds=300.0, processors=math.inf)
"""Footage may be hours long: it is never in memory as a whole. What hangs is found by its reader."""
GAP = 0.1
"""Seconds of sound that must be missing from a file before silence is put in their place, or be there twice before the
second time is left out."""


class Sound:
    """The sound of a file as far as it was read; what lies before the oldest clip still wanted is forgotten."""

    def __init__(self) -> None:
        self.origin: float | None = None
        """When the first frame is shown, in the file's own time."""
        self.rate = self.channels = 0
        self.expected = True
        """Whether the file has a track of sound, as far as is known."""
        self.ended = False
        self._blocks: deque[tuple[int, Tensor]] = deque()
        self._end: int | None = None

    @property
    def exists(self) -> bool:
        return self._end is not None

    @property
    def seconds(self) -> float:
        """How far it was read."""
        return (self._end or 0) / self.rate if self.rate else 0.0

    def reaches(self, seconds: float) -> bool:
        """Whether all sound until then has come."""
        if self.ended or not self.expected:
            return True
        return self._end is not None and self._end >= seconds * self.rate

    def add(self, time: float, data: memoryview) -> None:
        """Append a piece that begins at `time`, in the file's own time."""
        samples = torch.frombuffer(data, dtype=torch.float32).view(-1, self.channels).mean(1)
        start = round((time - (self.origin or 0.0)) * self.rate)
        # Times of pieces are rounded in many files; they follow one another unless they are far off.
        if self._end is not None and abs(start - self._end) <= GAP * self.rate:
            start = self._end
        elif self._end is not None and start < self._end:
            samples, start = samples[self._end - start :], self._end
        self._blocks.append((start, samples))
        self._end = start + len(samples)

    def take(self, start: float, num_samples: int) -> Tensor:
        """So many samples from a time on, (S,) in [-1, 1]; where there are none, silence.

        Raises:
            MediaError: A sample is not finite.
        """
        first = round(start * self.rate)
        last = first + num_samples
        piece = torch.zeros(num_samples)
        for begin, samples in self._blocks:
            low, high = max(first, begin), min(last, begin + len(samples))
            if low < high:
                piece[low - first : high - first] = samples[low - begin : high - begin]
        if not piece.isfinite().all():
            raise MediaError("its sound holds samples that are not finite", code="audio_not_finite")
        return piece.clamp(-1, 1)

    def forget(self, before: float) -> None:
        """Let go of the pieces that end before a time."""
        while self._blocks and self._blocks[0][0] + len(self._blocks[0][1]) < before * self.rate:
            self._blocks.popleft()


class Reel:
    """Frames of a file, uint8 (3, H, W), at a constant rate; each is the one on screen at its time.

    Args:
        path: The file.
        frame_rate: Frames per second.
        sample_rate: Samples of sound per second.
        sizes: Heights and widths of which the one nearest in shape is taken; the picture fills it, its middle kept.
        what: `video`, or `audio` for a file that is read for its sound alone.
        threads: Of the decoder; None takes as many as help one file.
        nursery: Where decoders come from; None starts each anew.
    """

    def __init__(
        self,
        path: str | Path,
        frame_rate: float,
        sample_rate: int,
        sizes: tuple[tuple[int, int], ...] = (),
        what: str = "video",
        threads: int | None = None,
        nursery: Nursery | None = None,
    ):
        self.frame_rate = frame_rate
        self.sound = Sound()
        self.height = self.width = 0
        self.seconds = 0.0
        """Length; known at the end."""
        settings: dict[str, Any] = {} if what == "audio" else {"frame_rate": frame_rate, "sizes": sizes}
        self._what, self._channels = what, 0
        settings |= {"sample_rate": sample_rate, "threads": threads}
        self._messages = stream(path, nursery, what=what, limits=LONG, **settings)
        self._early: list[tuple[float, memoryview]] = []

    def __iter__(self) -> Iterator[Tensor]:
        """
        Raises:
            MediaError: The file is broken, or becomes so; frames until there have come.
        """
        tick, current = 0, None
        for kind, content in self._messages:
            if kind == BEGIN:
                self._begin(content)
            elif kind == SOUND:
                self._hear(*content)
            elif kind == FRAME:
                time, data = content
                while current is not None and tick < num_ticks(time, self.frame_rate):
                    yield current
                    tick += 1
                current = _pixels(data, self.height, self.width, self._channels)
            elif kind == END:
                self.sound.ended = True
                self.seconds = content.get("end", 0.0)
                total = max(1, num_ticks(self.seconds, self.frame_rate))
                while current is not None and tick < total:
                    yield current
                    tick += 1

    def read_sound(self, until: float) -> None:
        """Read on, of a file that is read for its sound alone, until that time or the end."""
        while not self.sound.reaches(until):
            kind, content = next(self._messages, (END, {}))
            if kind == BEGIN:
                self._begin(content)
            elif kind == SOUND:
                self._hear(*content)
            elif kind == END:
                self.sound.ended = True

    def close(self) -> None:
        """End the decoder."""
        self._messages.close()  # pyright: ignore[reportAttributeAccessIssue]

    def _begin(self, facts: dict) -> None:
        if "height" in facts:
            self.height, self.width, self._channels = facts["height"], facts["width"], facts["pixel_channels"]
            self.sound.origin, self.sound.expected = facts["origin"], facts["has_sound"]
            for time, data in self._early:
                self.sound.add(time, data)
            self._early.clear()
        else:
            self.sound.rate, self.sound.channels = facts["sample_rate"], facts["channels"]

    def _hear(self, time: float, data: memoryview) -> None:
        if self._what == "audio" and self.sound.origin is None:
            self.sound.origin = time
        if self.sound.origin is None:
            self._early.append((time, data))
        else:
            self.sound.add(time, data)


def read_picture(path: str | Path, sizes: tuple[tuple[int, int], ...], nursery: Nursery | None = None) -> Tensor:
    """A picture, uint8 (3, H, W), that fills the size nearest to it in shape, its middle kept.

    Args:
        path: The file.
        sizes: Heights and widths.
        nursery: Where the decoder comes from; None starts one anew.

    Raises:
        MediaError: The file is broken, or no picture.
    """
    facts, frames = {}, []
    with closing(stream(path, nursery, what="image", sizes=sizes, max_frames=2, limits=Limits())) as messages:
        for kind, content in messages:
            if kind == BEGIN:
                facts = content
            elif kind == FRAME:
                frames.append(content[1])
    if len(frames) > 1:
        raise refusal(
            Path(path), "image_animated", "it is a clip; a picture has one frame; name it .mp4, or save one frame"
        )
    return _pixels(frames[0], facts["height"], facts["width"], facts["pixel_channels"])


def _pixels(data: memoryview, height: int, width: int, channels: int) -> Tensor:
    """A frame, uint8 (3, H, W), on white where it is transparent."""
    frame = torch.frombuffer(data, dtype=torch.uint8).view(height, width, channels)
    if channels == 4:
        opacity = frame[..., 3:].float() / 255
        frame = (frame[..., :3] * opacity + 255 * (1 - opacity)).round().to(torch.uint8)
    return frame.permute(2, 0, 1)
