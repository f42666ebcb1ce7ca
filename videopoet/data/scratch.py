"""A database in a temporary folder, for what would not fit into memory; nothing of it stays."""

from __future__ import annotations

import errno
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Scratch(sqlite3.Connection):
    """The database, with the tables that statements create.

    Raises:
        OSError: The disk of temporary files is full; so does every statement.
    """

    def __init__(self, *statements: str):
        self._folder = tempfile.TemporaryDirectory(prefix="videopoet-")
        super().__init__(Path(self._folder.name) / "scratch.sqlite", isolation_level=None)
        for statement in ("PRAGMA synchronous = OFF", *statements, "BEGIN"):
            self.execute(statement)

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        with self._on_disk():
            return super().execute(*arguments)

    def executemany(self, *arguments: Any) -> sqlite3.Cursor:
        with self._on_disk():
            return super().executemany(*arguments)

    def close(self) -> None:
        super().close()
        self._folder.cleanup()

    @contextmanager
    def _on_disk(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
                raise
            said = f"{os.strerror(errno.ENOSPC)} for temporary files, which TMPDIR sends elsewhere"
            raise OSError(errno.ENOSPC, said, self._folder.name) from error
