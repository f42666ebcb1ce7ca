"""What a result becomes on disk: the media itself, its sound alone, and the pictures that stand for a clip.

While it is made, its frames are there as strips of JPEG, each in a file of its own with what an event tells of it. They
are for looking at once, and go when the job ends.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from videopoet.generation.pipeline import Frames, Result
from videopoet.media.resample import resize_and_crop
from videopoet.media.types import Audio, Image, Video
from videopoet.serving.jobs import Job
from videopoet.serving.storage import Storage

SHEET_FRAMES, SHEET_COLUMNS = 25, 5
MAIN = {"video": "video.mp4", "image": "image.png", "audio": "audio.wav", "text": "text.txt"}
"""The file that a result of each kind is."""
EARLY = "early"
"""The folder of frames that there are before the result."""
EARLY_SIDE, STRIP_FRAMES = 256, 16
"""Pixels of the longer side that larger frames are shrunk to, and the most frames in one strip."""
MOST_GIVEN = 32
"""Of frames that come all at once, since they were given, so many at the end are shown."""


def write(result: Result, place: Callable[[str], Path], metadata: bool = True) -> dict[str, Any]:
    """Write a result's files, where `place` says; what there is, as plain values for the queue.

    Args:
        result: What a job became.
        place: The path of a file by its name.
        metadata: Keep in the file how it was made.

    Raises:
        OSError: The disk is full.
    """
    media = result.media
    facts: dict[str, Any] = {"kind": "text" if isinstance(media, str) else type(media).__name__.lower()}
    name = MAIN[facts["kind"]]
    place(name).parent.mkdir(parents=True, exist_ok=True)
    result.save(place(name), metadata=metadata)
    files = {facts["kind"]: name}
    if isinstance(media, str):
        facts["text"] = media
    if isinstance(media, Video):
        facts |= {"seconds": media.seconds, "num_frames": media.num_frames, "fps": media.frame_rate}
        Image(media.frames[:, media.num_frames // 2]).save(place("thumbnail.png"))
        Image(spritesheet(media.frames)).save(place("spritesheet.png"))
        files |= {"thumbnail": "thumbnail.png", "spritesheet": "spritesheet.png"}
        if media.audio is not None:
            media.audio.save(place("audio.wav"))
            files["audio"] = "audio.wav"
    if isinstance(media, Image):
        files["thumbnail"] = name
    if isinstance(media, Video | Image):
        facts |= {"width": media.width, "height": media.height}
    if isinstance(media, Audio):
        facts["seconds"] = media.seconds
    return {**facts, "files": files}


def remove(folder: Path) -> None:
    """Delete what `write` wrote."""
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):
        folder.parent.rmdir()  # which is empty where the job is gone


def write_early(frames: Frames, folder: Path) -> None:
    """Write frames that there are before the result.

    Raises:
        OSError: The disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    skipped = max(0, frames.frames.shape[1] - MOST_GIVEN)
    first = frames.first + skipped
    for strip in _shrunk(frames.frames[:, skipped:]).split(STRIP_FRAMES, dim=1):
        event = {
            "first": first,
            "num_frames": strip.shape[1],
            "frame_rate": frames.frame_rate,
            "height": strip.shape[2],
            "width": strip.shape[3],
            "image": f"data:image/jpeg;base64,{base64.b64encode(_jpeg(strip)).decode()}",
        }
        partial = folder / f"{first:06d}.partial"
        partial.write_text(json.dumps(event))
        os.replace(partial, partial.with_suffix(".json"))
        first += strip.shape[1]


def remove_early(folder: Path) -> None:
    """Delete what `write_early` wrote, and folders that were there for nothing else."""
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):
        folder.parent.rmdir()
        folder.parent.parent.rmdir()


class News:
    """Frames of jobs in the making that one listener has not been told of."""

    def __init__(self, storage: Storage):
        self.storage = storage
        self._told: dict[str, dict[tuple[int, str], int]] = {}

    def of(self, job: Job) -> list[str]:
        """The server-sent events, `frames`, that tell of those there are now."""
        if job.status != "in_progress":
            self._told.pop(job.id, None)
            return []
        told, events = self._told.setdefault(job.id, {}), []
        for file in sorted(self.storage.result(job.id, job.attempts, EARLY).glob("*.json")):
            with contextlib.suppress(FileNotFoundError):  # the job has just ended
                written = file.stat().st_mtime_ns
                if told.get((job.attempts, file.name)) != written:
                    event = {"id": job.id, **json.loads(file.read_text())}
                    events.append(f"event: frames\ndata: {json.dumps(event)}\n\n")
                    told[job.attempts, file.name] = written
        return events


def spritesheet(frames: Tensor) -> Tensor:
    """Frames of a clip, (3, T, H, W), side by side, row after row, (3, H', W'): up to 25 of them, evenly chosen."""
    count = min(SHEET_FRAMES, frames.shape[1])
    chosen = frames[:, torch.linspace(0, frames.shape[1] - 1, count).round().long()]
    columns = min(SHEET_COLUMNS, count)
    rows = math.ceil(count / columns)
    _, _, height, width = chosen.shape
    sheet = torch.zeros(3, rows * height, columns * width, dtype=torch.uint8)
    for number, frame in enumerate(chosen.unbind(1)):
        row, column = divmod(number, columns)
        sheet[:, row * height : (row + 1) * height, column * width : (column + 1) * width] = frame
    return sheet


def _shrunk(frames: Tensor) -> Tensor:
    height, width = frames.shape[2:]
    scale = EARLY_SIDE / max(height, width)
    if scale >= 1:
        return frames
    return resize_and_crop(frames, max(1, round(height * scale)), max(1, round(width * scale)))


def _jpeg(strip: Tensor) -> bytes:
    """Frames, (3, T, H, W), side by side."""
    from PIL import Image as Pillow

    pixels = torch.cat(strip.unbind(1), dim=2).permute(1, 2, 0).contiguous().numpy()
    file = io.BytesIO()
    Pillow.fromarray(pixels).save(file, "JPEG", quality=85)
    return file.getvalue()
