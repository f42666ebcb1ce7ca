"""The parent of the decoding child: starts it on a file, collects its frames and sound, and names what went wrong."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from videopoet.errors import MediaError
from videopoet.media import formats
from videopoet.media.protocol import END, FRAME, HEADER, REFUSED, SOUND, TIME, Limits, Request

CHILD = ("-P", "-s", "-m", "videopoet.media.decoder")
MAX_FACTS_BYTES = 1 << 22
PACKAGE_ROOT = str(Path(__file__).resolve().parents[2])
KEPT_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT")


@dataclass
class Decoded:
    """What the child sent: facts, and the times and raw bytes of frames and of pieces of sound."""

    facts: dict[str, Any] = field(default_factory=dict)
    frames: list[tuple[float, memoryview]] = field(default_factory=list)
    sound: list[tuple[float, memoryview]] = field(default_factory=list)


def decode(path: str | Path, **wanted: Any) -> Decoded:
    """Let a child decode what is wanted, the fields of `Request`, from a file.

    Raises:
        MediaError: The file is missing, of a kind that is not read, broken, or exceeds a limit.
    """
    path = Path(path)
    with _open(path) as file:
        found = _identify(path, file)
        os.lseek(file.fileno(), 0, os.SEEK_SET)
        return _run(path, file, Request(demuxer=found.demuxer, picture=found.picture, **wanted))


def refusal(path: Path, code: str, message: str) -> MediaError:
    """An error about a file, which it calls by its name alone, without what a terminal would obey."""
    name = "".join(character if character.isprintable() else "?" for character in path.name)
    name = name if len(name) <= 80 else f"{name[:60]}...{name[-17:]}"
    return MediaError(f"{name}: {message}", code=code)


def _open(path: Path) -> BinaryIO:
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except (FileNotFoundError, NotADirectoryError):
        raise refusal(path, "media_missing", "there is no such file; a media file is needed; check the path") from None
    except IsADirectoryError:
        raise refusal(path, "media_is_folder", "this is a folder; a media file is needed; name a file in it") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "the path cannot be used"
        raise refusal(
            path, "media_unreadable", f"it cannot be opened ({reason}); a readable file is needed; check its rights"
        ) from None
    kind = os.fstat(handle).st_mode
    if not stat.S_ISREG(kind):
        os.close(handle)
        name, code = ("a folder", "media_is_folder") if stat.S_ISDIR(kind) else ("a device or pipe", "media_unreadable")
        raise refusal(path, code, f"this is {name}; a media file is needed; name a file")
    return os.fdopen(handle, "rb")


def _identify(path: Path, file: BinaryIO) -> formats.Format:
    head = file.read(formats.HEAD_BYTES)
    if not head:
        raise refusal(path, "media_empty", "it has no bytes; a whole file is needed; copy or export it again")
    found = formats.sniff(head)
    if found is None:
        raise refusal(
            path,
            "media_unrecognised",
            f"its content is no kind of media known here; {formats.ACCEPTED} are read; convert it to one of them",
        )
    if not found.accepted:
        raise refusal(
            path,
            "media_type_unsupported",
            f"it is {found.name}; {formats.ACCEPTED} are read; convert it to one of them",
        )
    missing = formats.missing_wav_bytes(file) if found.demuxer == "wav" else 0
    if missing:
        raise refusal(
            path,
            "media_corrupt",
            f"it ends {missing} bytes before the end that its header names; a whole file is needed; copy it again",
        )
    return found


def _run(path: Path, file: BinaryIO, request: Request) -> Decoded:
    environment = {name: os.environ[name] for name in KEPT_ENVIRONMENT if name in os.environ}
    environment["PYTHONPATH"] = os.pathsep.join([PACKAGE_ROOT, *filter(os.path.isabs, sys.path)])
    deadline = request.limits.deadline_seconds
    start = time.monotonic()
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(
            [sys.executable, *CHILD, json.dumps(asdict(request))],
            stdin=file,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env=environment,
            start_new_session=True,
        ) as child,
    ):
        timer = threading.Timer(deadline, child.kill)
        timer.start()
        try:
            answer, decoded = _collect(child.stdout, request.limits)
            if answer is None:
                child.wait()
        finally:
            timer.cancel()
            child.kill()
    if answer == END:
        return decoded
    if answer == REFUSED:
        raise refusal(path, decoded.facts["code"], decoded.facts["message"])
    if time.monotonic() - start >= deadline or -child.returncode == getattr(signal, "SIGXCPU", None):
        raise refusal(
            path,
            "media_timeout",
            f"decoding it did not end within {deadline:g} s; that is the most it may take; ask for less of it with "
            "max_seconds, or convert it",
        )
    raise refusal(
        path,
        "decoder_crashed",
        f"it crashed the decoder ({_reason(child.returncode)}); a whole file is needed; copy or export it again",
    )


def _collect(pipe: Any, limits: Limits) -> tuple[bytes | None, Decoded]:
    """The child's answer, END or REFUSED, and what it sent; None if it closes its output or sends more than it may."""
    decoded, left = Decoded(), limits.output_bytes
    while len(header := pipe.read(HEADER.size)) == HEADER.size:
        kind, length = HEADER.unpack(header)
        if length > (left if kind in (FRAME, SOUND) else MAX_FACTS_BYTES):
            break
        payload = bytearray(length)
        if pipe.readinto(payload) < length:
            break
        if kind in (FRAME, SOUND):
            left -= length
            pieces = decoded.frames if kind == FRAME else decoded.sound
            pieces.append((TIME.unpack_from(payload)[0], memoryview(payload)[TIME.size :]))
        else:
            decoded.facts = json.loads(payload)
            return kind, decoded
    pipe.close()
    return None, decoded


def _reason(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"
