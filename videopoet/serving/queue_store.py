"""Where the queue's tables are: the contract that `queue_file` (SQLite) and `queue_postgres` fulfil.

Statements are written once, in `jobs`, with `?` for values and in what both databases understand.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

SCHEMA_VERSION = 1
ADDRESSES = ("postgresql://", "postgres://")


class Found(Protocol):
    """What a statement came to."""

    @property
    def rowcount(self) -> int: ...

    def fetchone(self) -> Any: ...

    def fetchall(self) -> list[Any]: ...


class Writing(Protocol):
    """A transaction under way."""

    def execute(self, statement: str, values: Sequence[Any] = ()) -> Found: ...


class QueueStore(abc.ABC):
    """Tables that any number of threads and processes use at once.

    Whatever is done with them raises a DataError where their database or disk is full, busy or away.
    """

    now: str
    """An expression for the time in seconds since 1970; one clock for all that share the tables."""

    @abc.abstractmethod
    def read(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows that a statement finds."""

    @abc.abstractmethod
    def writing(self, *, alone: bool = True) -> AbstractContextManager[Writing]:
        """A transaction, which is undone by what is raised in it.

        Args:
            alone: No other one that is alone runs meanwhile. What is a single statement, whose conditions hold when it
                changes a row, can do without.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Give up all connections."""


def open_store(place: str | Path) -> QueueStore:
    """The store at a path, or at an address that begins with `postgresql://`.

    Raises:
        DataError: It is damaged, or of a newer version, or cannot be reached.
        ConfigError: The package for it is not installed.
    """
    if isinstance(place, str) and place.startswith(ADDRESSES):
        from videopoet.serving.queue_postgres import PostgresQueue

        return PostgresQueue(place)
    from videopoet.serving.queue_file import QueueFile

    return QueueFile(place)
