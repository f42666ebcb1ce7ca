"""Answers on disk: each as an .npz that is scored, exact to the last bit, and beside it a file that any browser plays.

Each says which case it answers; what is missing, doubled or made for something else is refused.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from videopoet import checkpoint
from videopoet.errors import DataError
from videopoet.evaluation.cases import Case, Take
from videopoet.media.files import write
from videopoet.media.types import Audio, Image, Media, Video


def name_of(number: int, repeat: int, other: bool = False) -> str:
    """What the files of an answer are called, without extension."""
    return f"{number:05d}-{repeat}{'-other' if other else ''}"


def save(folder: Path, name: str, take: Take, case_hash: str = "") -> str:
    """Write an answer to a case, and return the name of its playable file; the .npz comes last, when all is there."""
    shown = show(folder, name, take)
    arrays: dict[str, Any] = {"seconds": np.array(take.seconds if take.seconds is not None else np.nan)}
    if take.video is not None:
        arrays |= {"frames": take.video.frames.numpy(), "frame_rate": np.array(take.video.frame_rate)}
    if take.audio is not None:
        arrays |= {"samples": take.audio.samples.numpy(), "sample_rate": np.array(take.audio.sample_rate)}
    if take.text is not None:
        arrays["text"] = np.frombuffer(take.text.encode(), dtype=np.uint8)

    arrays["case"] = np.frombuffer(case_hash.encode(), dtype=np.uint8)

    def fill(path: Path) -> None:
        with path.open("wb") as file:
            np.savez_compressed(file, **arrays)

    checkpoint.write_atomically(folder / f"{name}.npz", fill)
    return shown


def load(folder: Path, name: str, case_hash: str = "") -> Take:
    """Read what `save` wrote.

    Raises:
        DataError: The file is missing or broken, or answers another case.
    """
    path = folder / f"{name}.npz"
    try:
        with np.load(path) as file:
            arrays = {key: file[key] for key in file.files}
        seconds = float(arrays["seconds"])
        video = audio = None
        if "frames" in arrays:
            video = Video(torch.from_numpy(arrays["frames"]), float(arrays["frame_rate"]))
        if "samples" in arrays:
            audio = Audio(torch.from_numpy(arrays["samples"]), int(arrays["sample_rate"]))
        answers = arrays["case"].tobytes().decode()
        text = arrays["text"].tobytes().decode() if "text" in arrays else None
    except FileNotFoundError:
        raise DataError(
            f"no sample '{path.name}' in '{path.parent}'; every prompt needs its own; make the missing ones",
            code="sample_missing",
        ) from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(
            f"sample '{path}' cannot be read ({str(error).splitlines()[0] if str(error) else type(error).__name__}); "
            "it holds frames, samples or text; delete it to have it made again",
            code="sample_broken",
        ) from None
    if answers != case_hash:
        raise DataError(
            f"sample '{path}' was made for a prompt of hash {answers[:12]}, this one has {case_hash[:12]}; figures "
            "are of equal prompts only; measure into a new folder",
            code="prompts_mismatch",
        )
    return Take(video, audio, text, seconds=None if np.isnan(seconds) else seconds)


def playable(folder: Path, name: str) -> str | None:
    """The name of the file beside an answer that a browser plays, if it is there."""
    return next(
        (f"{name}{end}" for end in (".mp4", ".png", ".wav", ".txt") if (folder / f"{name}{end}").exists()), None
    )


def check_takes(cases: Sequence[Case], takes: Sequence[Take], seen: dict[str, int] | None = None) -> None:
    """Refuse answers that cannot be scored with their cases.

    Args:
        cases: What was asked.
        takes: The answers, in the same order.
        seen: Hashes of the clips of other prompts, with these prompts' numbers; those of the takes are added.

    Raises:
        DataError: There are more or fewer than cases, two show the same pixels, or one has the wrong kind, size, length
            or frame rate.
    """
    if len(cases) != len(takes):
        raise DataError(
            f"there are {len(takes)} samples for {len(cases)} prompts; each needs one; make the missing ones",
            code="samples_unequal",
        )
    for case, take in zip(cases, takes, strict=True):
        _check_kind(case, take)
    seen = {} if seen is None else seen
    for case, take in zip(cases, takes, strict=True):
        if take.video is None or case.task.gives == ("audio",):
            continue
        digest = hashlib.sha256(take.video.frames.numpy().tobytes()).hexdigest()
        if digest in seen and seen[digest] != case.number:
            raise DataError(
                f"samples {seen[digest]} and {case.number} of {case.suite} are the same clip; different prompts need "
                "samples of their own; make one of them again",
                code="samples_duplicate",
            )
        seen[digest] = case.number


def _check_kind(case: Case, take: Take) -> None:
    right = case.right
    for name in ("video", "audio", "text"):
        if getattr(right, name) is not None and getattr(take, name) is None and name in _needed(case):
            raise DataError(
                f"sample {case.number} of {case.suite} has no {name}, which the task gives; write it with the others",
                code="sample_kind",
            )
    if take.video is None or right.video is None:
        return
    found, wanted = tuple(take.video.frames.shape), tuple(right.video.frames.shape)
    if found != wanted:
        raise DataError(
            f"sample {case.number} of {case.suite} has {found[1]} frames of {found[3]}x{found[2]}, its prompt asks for "
            f"{wanted[1]} of {wanted[3]}x{wanted[2]}; make samples of that size",
            code="sample_size",
        )
    if wanted[1] > 1 and abs(take.video.frame_rate - right.video.frame_rate) > 1e-6:
        raise DataError(
            f"sample {case.number} of {case.suite} runs at {take.video.frame_rate:g} frames a second, its prompt asks "
            f"for {right.video.frame_rate:g}; make samples at that rate",
            code="sample_rate",
        )


def _needed(case: Case) -> tuple[str, ...]:
    return tuple("video" if name == "image" else name for name in case.task.gives)


def show(folder: Path, name: str, take: Take) -> str:
    """Write the file to be looked at or listened to, and return its name."""
    folder.mkdir(parents=True, exist_ok=True)
    if (text := take.text) is not None:
        checkpoint.write_atomically(folder / f"{name}.txt", lambda path: path.write_text(text + "\n", encoding="utf-8"))
        return f"{name}.txt"
    media, end = _media(take)
    write(media, folder / f"{name}{end}")
    return f"{name}{end}"


def _media(take: Take) -> tuple[Media, str]:
    if take.video is None:
        assert take.audio is not None, "an answer is a clip, a picture, a sound or a text"
        return take.audio, ".wav"
    frames: Tensor = take.video.frames
    if frames.shape[1] == 1:
        return Image(frames[:, 0].contiguous()), ".png"
    return Video(frames, take.video.frame_rate, take.audio), ".mp4"
