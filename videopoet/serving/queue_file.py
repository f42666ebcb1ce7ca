"""The queue in a SQLite file: its schema, and its connections, one for each thread."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from videopoet.errors import DataError
from videopoet.serving.queue_store import SCHEMA_VERSION, QueueStore

_SCHEMA = """
CREATE TABLE jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL,
    status TEXT NOT NULL DEFAULT 'queued' CHECK (status IN ('queued','in_progress','completed','failed','cancelled')),
    progress INTEGER NOT NULL DEFAULT 0,
    task TEXT NOT NULL,
    request TEXT NOT NULL,
    shape TEXT,
    parent TEXT,
    created_at REAL NOT NULL,
    started_at REAL,
    completed_at REAL,
    attempts INTEGER NOT NULL DEFAULT 0,
    worker TEXT,
    lease_until REAL,
    error TEXT,
    result TEXT
);
CREATE INDEX jobs_waiting ON jobs (status, number);
CREATE INDEX jobs_of_owner ON jobs (owner, number);
CREATE TABLE workers (
    id TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    description TEXT,
    seen_at REAL NOT NULL
);
CREATE TABLE models (name TEXT PRIMARY KEY, description TEXT NOT NULL, seen_at REAL NOT NULL);
"""


class QueueFile(QueueStore):
    """A SQLite file with a write-ahead log, for processes on one machine.

    Args:
        path: The file; it is made where there is none.

    Raises:
        DataError: The file is damaged, or was written by a newer version; it is left as it is.
    """

    now = "now_seconds()"

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        try:
            self._open()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            raise DataError(
                f"the queue file {self.path.name} is damaged; a SQLite file that a server wrote is needed; move it "
                "away to begin with an empty queue, or put a copy in its place",
                code="queue_corrupt",
            ) from None

    def read(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self._connection().execute(statement, values).fetchall()

    @contextmanager
    def writing(self, *, alone: bool = True) -> Iterator[sqlite3.Connection]:
        # It takes the write lock at once, whoever asks: one that began by reading could not wait for it.
        connection = self._connection()
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")

    def close(self) -> None:
        with self._lock:
            while self._connections:
                self._connections.pop().close()

    def _open(self) -> None:
        connection = self._connection()
        connection.execute("PRAGMA journal_mode = WAL")
        with self.writing() as writing:
            version = writing.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                for statement in filter(str.strip, _SCHEMA.split(";")):
                    writing.execute(statement)
                writing.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            elif version != SCHEMA_VERSION:
                raise DataError(
                    f"the queue file {self.path.name} has schema {version}; this version of videopoet reads "
                    f"{SCHEMA_VERSION}; install the version that wrote it, or choose another folder",
                    code="queue_version",
                )
        found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise sqlite3.DatabaseError(found)

    def _connection(self) -> sqlite3.Connection:
        """This thread's own."""
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(self.path, timeout=30.0, isolation_level=None, check_same_thread=False)
            connection.execute("PRAGMA synchronous = FULL")  # an accepted job survives a loss of power too
            connection.create_function("now_seconds", 0, time.time)
            connection.create_function("greatest", 2, max, deterministic=True)
            self._local.connection = connection
            with self._lock:
                self._connections.append(connection)
        return connection
