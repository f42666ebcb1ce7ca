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
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from videopoet.errors import MediaError
from videopoet.media import formats
from videopoet.media.protocol import BEGIN, END, FRAME, HEADER, REFUSED, SOUND, TIME, Limits, Request

if TYPE_CHECKING:
    from videopoet.media.nursery import Nursery

CHILD = ("-P", "-s", "-m", "videopoet.media.decoder")
MAX_FACTS_BYTES = 1 << 22
PACKAGE_ROOT = str(Path(__file__).resolve().parents[2])
KEPT_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT")


class Child(Protocol):
    """A process that decodes one file."""

    stdout: Any
    returncode: Any
    """None while it runs; a signal that ended it is negative."""

    def kill(self) -> None: ...
    def wait(self) -> Any: ...


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
    limits = request.limits
    start = time.monotonic()
    decoded = Decoded()
    with started(file, request) as child:
        timer = threading.Timer(limits.deadline_seconds, child.kill)
        timer.start()
        try:
            for kind, content in _messages(child.stdout, limits):
                if kind == FRAME:
                    decoded.frames.append(content)
                elif kind == SOUND:
                    decoded.sound.append(content)
                elif kind != BEGIN:
                    decoded.facts = content
                    if kind == END:
                        return decoded
                    raise refusal(path, content["code"], content["message"])
            child.wait()
        finally:
            timer.cancel()
            child.kill()
            timer.join()
    raise _failure(path, child, limits, timed_out=time.monotonic() - start >= limits.deadline_seconds)


def stream(path: str | Path, nursery: Nursery | None = None, **wanted: Any) -> Generator[tuple[bytes, Any], None, None]:
    """Let a child decode what is wanted, and hand over what it sends as it comes: little is in memory at a time.

    The deadline is how long it may take between two messages. Whoever stops reading ends the child. Who reads many
    files one after the other takes the children from a nursery: they start sooner.

    Yields:
        The kind of a message of `protocol`, and what it holds: the facts of BEGIN and END, or for FRAME and SOUND the
        time and the raw bytes.

    Raises:
        MediaError: As `decode` does; after the first frames have come, too.
    """
    path = Path(path)
    with _open(path) as file:
        found = _identify(path, file)
        os.lseek(file.fileno(), 0, os.SEEK_SET)
        request = Request(demuxer=found.demuxer, picture=found.picture, **wanted)
        with (nursery.child if nursery is not None else started)(file, request) as child:
            watch = _Watch(child, request.limits.deadline_seconds)
            try:
                messages = _messages(child.stdout, request.limits)
                while (message := watch.next(messages)) is not None:
                    kind, content = message
                    if kind == REFUSED:
                        raise refusal(path, content["code"], content["message"])
                    yield message
                    if kind == END:
                        return
                child.wait()
            finally:
                watch.stop()
                child.kill()
    raise _failure(path, child, request.limits, timed_out=watch.expired)


class _Watch:
    """Kills a child that is waited for longer than the deadline."""

    def __init__(self, child: Child, deadline: float):
        self.child, self.deadline = child, deadline
        self.expired = False
        self._waiting_since: float | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def next(self, messages: Iterator[tuple[bytes, Any]]) -> tuple[bytes, Any] | None:
        self._waiting_since = time.monotonic()
        try:
            return next(messages, None)
        finally:
            self._waiting_since = None

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(min(0.5, self.deadline)):
            since = self._waiting_since
            if since is not None and time.monotonic() - since > self.deadline:
                self.expired = True
                self.child.kill()
                return


@contextmanager
def started(file: BinaryIO, request: Request) -> Iterator[subprocess.Popen[bytes]]:
    """A child that is started for a file, and gone at the end."""
    arguments = [*CHILD, json.dumps(asdict(request))]
    with (
        tempfile.TemporaryDirectory() as folder,
        start(arguments, folder, stdin=file, stdout=subprocess.PIPE) as child,
    ):
        yield child


def start(arguments: Iterable[str], folder: str, stdin: Any, stdout: int) -> subprocess.Popen[bytes]:
    """Start Python in a folder. It knows of this process no more than where programs are."""
    environment = {name: os.environ[name] for name in KEPT_ENVIRONMENT if name in os.environ}
    environment["PYTHONPATH"] = os.pathsep.join([PACKAGE_ROOT, *filter(os.path.isabs, sys.path)])
    return subprocess.Popen(
        [sys.executable, *arguments],
        stdin=stdin,
        stdout=stdout,
        stderr=subprocess.DEVNULL,
        cwd=folder,
        env=environment,
        start_new_session=True,
    )


def _messages(pipe: Any, limits: Limits) -> Iterator[tuple[bytes, Any]]:
    """What the child sends, until its answer, END or REFUSED, or until it closes its output or sends too much."""
    left = limits.output_bytes
    while len(header := pipe.read(HEADER.size)) == HEADER.size:
        kind, length = HEADER.unpack(header)
        if length > (left if kind in (FRAME, SOUND) else MAX_FACTS_BYTES):
            break
        payload = bytearray(length)
        if pipe.readinto(payload) < length:
            break
        if kind in (FRAME, SOUND):
            left -= length
            yield kind, (TIME.unpack_from(payload)[0], memoryview(payload)[TIME.size :])
        else:
            yield kind, json.loads(payload)
            if kind != BEGIN:
                return
    pipe.close()


def _failure(path: Path, child: Child, limits: Limits, timed_out: bool) -> MediaError:
    if not timed_out and -child.returncode == getattr(signal, "SIGXCPU", None):
        return refusal(
            path,
            "media_timeout",
            f"decoding it took {limits.processor_seconds:g} s of a processor; that is the most it may take; ask for "
            "less of it with max_seconds, or convert it",
        )
    if timed_out:
        return refusal(
            path,
            "media_timeout",
            f"decoding it did not end within {limits.deadline_seconds:g} s; that is the most it may take; ask for less "
            "of it with max_seconds, or convert it",
        )
    return refusal(
        path,
        "decoder_crashed",
        f"it crashed the decoder ({_reason(child.returncode)}); a whole file is needed; copy or export it again",
    )


def _reason(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"
