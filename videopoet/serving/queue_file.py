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
        DataError: The file is damaged, or was written by a newer version, or cannot be used; it is left as it is.
    """

    now = "now_seconds()"

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        with self._explained():
            self._open()

    def read(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._explained():
            return self._connection().execute(statement, values).fetchall()

    @contextmanager
    def writing(self, *, alone: bool = True) -> Iterator[sqlite3.Connection]:
        with self._explained():
            connection = self._connection()
            # It takes the write lock at once, whoever asks: one that began by reading could not wait for it.
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # some errors, such as that of a full disk, have ended it already
                    connection.execute("ROLLBACK")
                raise

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
            raise self._damaged()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """What the machine does to the file is an error of ours; what is wrong with a statement stays as it is."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            match getattr(error, "sqlite_errorcode", 0) & 0xFF:  # the rest says more exactly which of a kind it is
                case sqlite3.SQLITE_FULL:
                    ours = DataError(
                        "the server's disk is full; the queue finds no place; free some space", code="disk_full"
                    )
                case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED | sqlite3.SQLITE_PROTOCOL:
                    ours = DataError(
                        "the queue is busy; it answers within seconds as a rule; ask again", code="queue_busy"
                    )
                case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
                    ours = self._damaged()
                case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_IOERR | sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
                    ours = DataError(
                        f"the queue file {self.path.name} cannot be used ({error}); the server must be able to read "
                        "and to write it and its folder; check them and their disk",
                        code="queue_unreachable",
                    )
                case _:
                    raise
            raise ours from None

    def _damaged(self) -> DataError:
        return DataError(
            f"the queue file {self.path.name} is damaged; a SQLite file that a server wrote is needed; move it away "
            "to begin with an empty queue, or put a copy in its place",
            code="queue_corrupt",
        )

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
