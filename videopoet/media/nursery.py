"""Decoding children that start in milliseconds: forks of a process that has loaded the decoders and has seen no file.

To start Python and load FFmpeg takes a tenth of a second of a processor, longer than many a clip takes to decode. A
`Nursery` pays that once for many files. Each file still has a child of its own, with limits of its own, and what a file
does to its child it does to no other: the process that forks reads requests, and never a file.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import Any, BinaryIO

from videopoet.media import sandbox
from videopoet.media.protocol import STATUS, Request

FORKER = ("-P", "-s", "-m", "videopoet.media.forker")
PIPE_BYTES = 1 << 20
"""What a child may send ahead of its reader, so that they do not take turns at every frame."""


class Nursery:
    """Gives `sandbox.stream` its children. Any number of threads may ask at a time; close it when all are done.

    Where the system cannot fork safely (Linux from 5.3 on can), each child is started anew.
    """

    def __init__(self) -> None:
        self._idle: list[Forker] = []
        self._can_fork = can_fork()

    @contextmanager
    def child(self, file: BinaryIO, request: Request) -> Iterator[sandbox.Child]:
        """A child that decodes what is requested of a file; it is gone at the end."""
        fork = self._fork(file, request) if self._can_fork else None
        if fork is None:
            with sandbox.started(file, request) as child:
                yield child
            return
        try:
            yield fork
        finally:
            fork.end()
            self._idle.append(fork.forker)

    def close(self) -> None:
        """End the processes that wait for files."""
        while self._idle:
            self._idle.pop().close()

    def __enter__(self) -> Nursery:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _fork(self, file: BinaryIO, request: Request) -> Fork | None:
        """A fork of a process that waits, or of a new one; None if even that one is gone, as where memory is short."""
        is_new = False
        while not is_new:
            try:
                forker = self._idle.pop()
            except IndexError:
                forker, is_new = Forker(), True
            try:
                return forker.fork(file, request)
            except OSError:  # Someone ended it while it waited.
                forker.close()
        return None


class Forker:
    """A process that waits for files, one at a time, and forks a child for each."""

    def __init__(self) -> None:
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, tempfile.TemporaryDirectory() as folder:
            self.process = sandbox.start(FORKER, folder, stdin=theirs, stdout=subprocess.DEVNULL)

    def fork(self, file: BinaryIO, request: Request) -> Fork:
        """
        Raises:
            OSError: The process is gone.
        """
        import fcntl  # Windows has none.

        reading, writing = os.pipe()
        pipe = os.fdopen(reading, "rb", PIPE_BYTES)
        with suppress(OSError):  # Systems may allow less.
            fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        try:
            socket.send_fds(self.socket, [json.dumps(asdict(request)).encode()], [file.fileno(), writing])
            _, handles, *_ = socket.recv_fds(self.socket, 1, 1)
            if not handles:
                raise ConnectionResetError("the process that forks is gone")
        except OSError:
            pipe.close()
            raise
        finally:
            os.close(writing)
        return Fork(self, handles[0], pipe)

    def close(self) -> None:
        self.socket.close()
        self.process.wait()


class Fork:
    """A child that was forked: of `subprocess.Popen`, what a reader needs."""

    def __init__(self, forker: Forker, handle: int, pipe: BinaryIO):
        self.forker = forker
        self.stdout: Any = pipe
        self.returncode: int | None = None
        self._handle = handle  # of the process: unlike its number, it never comes to mean another one

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._handle, signal.SIGKILL)

    def wait(self) -> None:
        if self.returncode is None:
            status = self.forker.socket.recv(STATUS.size)
            self.returncode = STATUS.unpack(status)[0] if status else -signal.SIGKILL

    def end(self) -> None:
        """Kill the child if it still runs, and let go of it."""
        self.stdout.close()
        self.kill()
        self.wait()
        os.close(self._handle)


def can_fork() -> bool:
    """Whether this system has what a nursery needs."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):
        return False
    return True
