"""What a result becomes on disk: the media itself, its sound alone, and the pictures that stand for a clip."""

from __future__ import annotations

import contextlib
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from videopoet.generation.pipeline import Result
from videopoet.media.types import Audio, Image, Video

SHEET_FRAMES, SHEET_COLUMNS = 25, 5
MAIN = {"video": "video.mp4", "image": "image.png", "audio": "audio.wav", "text": "text.txt"}
"""The file that a result of each kind is."""


def write(result: Result, place: Callable[[str], Path]) -> dict[str, Any]:
    """Write a result's files, where `place` says; what there is, as plain values for the queue.

    Raises:
        OSError: The disk is full.
    """
    media = result.media
    facts: dict[str, Any] = {"kind": "text" if isinstance(media, str) else type(media).__name__.lower()}
    name = MAIN[facts["kind"]]
    place(name).parent.mkdir(parents=True, exist_ok=True)
    result.save(place(name))
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
