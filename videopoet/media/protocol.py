"""What the decoding child and its parent agree on: limits, requests and messages. Standard library only.

The child's standard output carries messages: a letter and a length (`HEADER`), then a payload.

    b   the beginning of frames or of sound: JSON facts that what follows is read with
    f   a frame: its time in seconds (`TIME`), then RGB or RGBA bytes, (H, W, C)
    s   sound: the time of its first sample (`TIME`), then float32 samples, (S, C)
    e   the end: JSON facts, among them the frames' size and the sound's rate
    x   refused: JSON with `code` and `message`, the message going on from the file's name

A child that ends with neither `e` nor `x` crashed.

A process that forks children (`nursery`) has a socket as its standard input. A message to it is a request, with two
descriptors: the file, and the pipe for the answer. Back come a descriptor of the child's process, and when that has
ended, its exit status (`STATUS`), negative for a signal.
"""

from __future__ import annotations

import json
import struct
import time
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, Literal

HEADER = struct.Struct("<cQ")
TIME = struct.Struct("<d")
STATUS = struct.Struct("<i")
MAX_REQUEST_BYTES = 1 << 16
SENT_AT_ONCE = 1 << 17
"""Bytes of messages that a forked child sends together, so that its parent wakes for several frames."""
MOST_HELD_BACK = 1.0
"""Seconds after which they go out with the next message in any case. What a child that crashes has not sent is lost."""
BEGIN, FRAME, SOUND, END, REFUSED = b"b", b"f", b"s", b"e", b"x"


@dataclass(frozen=True)
class Limits:
    """What one file may cost. What exceeds a limit is an error, never cut silently."""

    frame_pixels: int = 1 << 25
    """Width times height of a video frame; 8K is just below."""
    image_pixels: int = 1 << 26
    """Width times height of a picture: 67 megapixels."""
    frames: int = 36_000
    """Frames decoded, from where reading begins: ten minutes at 60 a second."""
    seconds: float = 600.0
    """Length of what is decoded, from where reading begins."""
    output_bytes: int = 1 << 31
    """Raw frames and samples sent to the parent."""
    memory_bytes: int = 1 << 31
    """Address space of the child."""
    deadline_seconds: float = 120.0
    """Wall time of the child, or where it is read as it decodes, of each wait for it."""
    processors: float = 4.0
    """How many times as long as the deadline its processor time may be; infinite where each wait has its deadline."""

    @property
    def processor_seconds(self) -> float:
        """Processor time of the child."""
        return self.processors * self.deadline_seconds


@dataclass(frozen=True)
class Request:
    """What to read of a file, and how its frames shall come out; None leaves them as they are."""

    what: Literal["video", "image", "audio", "facts"]
    limits: Limits
    demuxer: str | None = None
    """FFmpeg's name of the container's format, or None for a picture."""
    picture: str | None = None
    """Pillow's name of the picture's format, or None for a container."""
    height: int | None = None
    width: int | None = None
    sizes: tuple[tuple[int, int], ...] | None = None
    """Heights and widths of which the one nearest in shape is taken, instead of `height` and `width`."""
    fit: Literal["crop", "pad"] = "crop"
    frame_rate: float | None = None
    sample_rate: int | None = None
    """Hz that FFmpeg resamples sound to, good enough to learn from; None leaves it to `resample`."""
    start: float | None = None
    """Seconds after the first frame, of sound alone after the first sample, that reading begins at."""
    max_frames: int | None = None
    max_seconds: float | None = None
    threads: int | None = None
    """Of the decoder; None takes as many as help."""

    def at(self, height: int, width: int) -> Request:
        """The same request for another size."""
        return replace(self, height=height, width=width, sizes=None)

    @classmethod
    def from_json(cls, text: str) -> Request:
        values = json.loads(text)
        return cls(**{**values, "limits": Limits(**values["limits"])})


class Refusal(Exception):
    """A file that is not decoded, with the code and the words for the user."""

    def __init__(self, code: str, message: str):
        super().__init__(message)
        self.code = code


class Channel:
    """Messages into a pipe, with a cap on the bytes of frames and sound."""

    def __init__(self, pipe: BinaryIO, output_bytes: int):
        self.pipe = pipe
        self.limit = self.left = output_bytes
        self._sent = time.monotonic()

    def send(self, kind: bytes, *parts: Any) -> None:
        """Write one message.

        Raises:
            Refusal: All frames and sound together exceed the cap.
        """
        length = sum(len(part) for part in parts)
        if kind in (FRAME, SOUND):
            self.left -= length
            if self.left < 0:
                raise too_much_output(self.limit)
        for part in (HEADER.pack(kind, length), *parts):
            self.pipe.write(part)
        now = time.monotonic()
        if now - self._sent > MOST_HELD_BACK:
            self.pipe.flush()
            self._sent = now

    def begin(self, **facts: Any) -> None:
        self.send(BEGIN, json.dumps(facts).encode())

    def refuse(self, refusal: Refusal) -> None:
        self.send(REFUSED, json.dumps({"code": refusal.code, "message": str(refusal)}).encode())


def too_much_output(limit: int) -> Refusal:
    return Refusal(
        "video_too_large",
        f"its frames and sound take more than {limit / 1e6:.3g} MB; that is the most that is read at once; ask for a "
        "smaller height and width, a lower frame rate or fewer seconds",
    )
