"""A process that forks decoding children: python -m videopoet.media.forker < SOCKET

It loads the decoders once and never reads a file. `protocol` says what goes through the socket, `nursery` is its
parent, and `decoder` is what its forks run.
"""

from __future__ import annotations

import gc
import os
import socket
from contextlib import suppress
from typing import NoReturn

from videopoet.media.decoder import answer
from videopoet.media.protocol import MAX_REQUEST_BYTES, SENT_AT_ONCE, STATUS, Request


def main() -> None:
    with suppress(ImportError):  # The child names what is missing.
        import videopoet.media.containers  # noqa: F401
    gc.collect()
    gc.freeze()  # so that no child copies what it does not change
    with socket.socket(fileno=os.dup(0)) as parent:
        fork_for_each(parent)


def fork_for_each(parent: socket.socket) -> None:
    """Answer each request in a fork of this process, until the parent closes its end."""
    while True:
        text, descriptors, *_ = socket.recv_fds(parent, MAX_REQUEST_BYTES, 2)
        if not text:
            return
        child = os.fork()
        if child == 0:
            answer_as_child(text, descriptors, parent)
        for descriptor in descriptors:
            os.close(descriptor)
        handle = os.pidfd_open(child)
        socket.send_fds(parent, [b"c"], [handle])
        os.close(handle)
        parent.send(STATUS.pack(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])))


def answer_as_child(text: bytes, descriptors: list[int], parent: socket.socket) -> NoReturn:
    """Be the child of one file: it has that, its pipe, and nothing of the process that it was forked from."""
    status = 1
    try:
        os.setsid()
        parent.close()
        for standard, descriptor in enumerate(descriptors):
            os.dup2(descriptor, standard)
            os.close(descriptor)
        # Other objects than sys.stdin: that one remembers that a socket cannot be sought in.
        with open(0, "rb", closefd=False) as file, open(1, "wb", SENT_AT_ONCE, closefd=False) as pipe:
            answer(Request.from_json(text.decode()), file, pipe)
        status = 0
    finally:
        os._exit(status)


if __name__ == "__main__":
    main()
