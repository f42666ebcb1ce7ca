"""One process at a time in a folder."""

from __future__ import annotations

import os
from pathlib import Path


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
