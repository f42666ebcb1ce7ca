"""One process at a time in a folder."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from videopoet.errors import VideoPoetError


@contextmanager
def held(folder: Path, refusal: VideoPoetError) -> Iterator[None]:
    """Keep other processes out of a folder, which is made if it is not there, while a `with` block lasts.

    Raises:
        VideoPoetError: The refusal, if another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        handle = hold(folder)
    except BlockingIOError:
        raise refusal from None
    except OSError as error:
        logging.getLogger(__name__).warning("'%s' cannot be locked (%s): let nothing else write there", folder, error)
        yield
        return
    try:
        yield
    finally:
        os.close(handle)


def hold(folder: Path) -> int:
    """A handle that holds a folder until it is closed, also by the end of the process.

    Raises:
        BlockingIOError: Another process holds it.
        OSError: The folder is gone, or its file system knows no locks.
    """
    import fcntl  # Windows has none.

    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(handle), folder.stat()):
            raise BlockingIOError(f"'{folder}' was removed by its last holder meanwhile")
    except BaseException:
        os.close(handle)
        raise
    return handle
