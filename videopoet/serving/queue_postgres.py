"""The queue in PostgreSQL, for servers and workers on several machines: one schema, `videopoet`, in a database."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from videopoet.errors import ConfigError, DataError
from videopoet.serving.queue_store import SCHEMA_VERSION, QueueStore, Writing

try:
    import psycopg
    from psycopg import errors
    from psycopg.conninfo import conninfo_to_dict
    from psycopg_pool import ConnectionPool, PoolTimeout
except ImportError:
    raise ConfigError(
        "a queue in PostgreSQL needs psycopg, which is not installed; the extra `postgres` has it; install it with "
        '`pip install "videopoet[postgres]"`',
        code="package_missing",
    ) from None

MOST_CONNECTIONS = 8
"""Of one process; a PostgreSQL takes 100 in all unless it is told otherwise."""
PATIENCE_SECONDS = 30.0
"""So long a database that does not answer is waited for; one that is begun again is back by then."""
_LOCK = 0x76706F6574
"""The advisory lock of transactions that are alone: any number that is always the same."""
_SCHEMA = """
CREATE SCHEMA IF NOT EXISTS videopoet;
CREATE TABLE videopoet.version (number integer NOT NULL);
CREATE TABLE videopoet.jobs (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id text NOT NULL UNIQUE,
    owner text NOT NULL,
    status text NOT NULL DEFAULT 'queued' CHECK (status IN ('queued','in_progress','completed','failed','cancelled')),
    progress integer NOT NULL DEFAULT 0,
    task text NOT NULL,
    request text NOT NULL,
    shape text,
    parent text,
    created_at double precision NOT NULL,
    started_at double precision,
    completed_at double precision,
    attempts integer NOT NULL DEFAULT 0,
    worker text,
    lease_until double precision,
    error text,
    result text
);
CREATE INDEX jobs_waiting ON videopoet.jobs (status, number);
CREATE INDEX jobs_of_owner ON videopoet.jobs (owner, number);
CREATE TABLE videopoet.workers (
    id text PRIMARY KEY,
    state text NOT NULL,
    description text,
    seen_at double precision NOT NULL
);
CREATE TABLE videopoet.models (name text PRIMARY KEY, description text NOT NULL, seen_at double precision NOT NULL);
"""


class PostgresQueue(QueueStore):
    """A PostgreSQL database.

    Args:
        address: `postgresql://user@host:port/database`, as libpq reads it, which also finds passwords in ~/.pgpass.

    Raises:
        DataError: It cannot be reached, or its tables are of a newer version; they are left as they are.
        ConfigError: The address cannot be read.
    """

    # The database's own clock: those of several machines differ, and a lease must not depend on who looks at it.
    now = "extract(epoch FROM clock_timestamp())::double precision"

    def __init__(self, address: str):
        try:
            place = conninfo_to_dict(address)
        except psycopg.ProgrammingError:
            raise ConfigError(
                "the address of the database cannot be read; postgresql://user@host:port/database fits; correct it",
                code="database_invalid",
            ) from None
        self.name = f"{place.get('dbname', 'postgres')} at {place.get('host', 'this machine')}"
        self._pool = ConnectionPool(
            address,
            min_size=1,
            max_size=MOST_CONNECTIONS,
            open=False,
            timeout=PATIENCE_SECONDS,
            kwargs={"autocommit": True},
            configure=_prepare,
            check=ConnectionPool.check_connection,
            num_workers=1,
        )
        self._pool.open()
        try:
            self._make_tables()
        except BaseException:
            self._pool.close()
            raise

    def read(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._connection() as connection:
            return connection.execute(_translated(statement), values).fetchall()

    @contextlib.contextmanager
    def writing(self, *, alone: bool = True) -> Iterator[Writing]:
        with self._connection() as connection, connection.transaction():
            if alone:
                connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            yield _Transaction(connection)

    def close(self) -> None:
        self._pool.close()

    @contextlib.contextmanager
    def _connection(self) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
        """One that works now; a database that is gone is an error of ours, which does not say where it was."""
        try:
            with self._pool.connection() as connection:
                yield connection
        except errors.DiskFull:
            raise DataError(
                "the database's disk is full; the queue finds no place; free some space", code="disk_full"
            ) from None
        except errors.InsufficientPrivilege:
            raise DataError(
                f"the user of the database {self.name} may not make or change the queue's tables; the right to create "
                "a schema in it is needed; grant it",
                code="queue_forbidden",
            ) from None
        except (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout):
            raise DataError(
                "the queue's database does not answer; it was waited for; ask again when it is back",
                code="queue_unreachable",
            ) from None

    def _make_tables(self) -> None:
        with self.writing() as writing:
            there = writing.execute("SELECT to_regclass('videopoet.version') IS NOT NULL").fetchone()[0]
            if not there:
                for statement in filter(str.strip, _SCHEMA.split(";")):
                    writing.execute(statement)
                writing.execute("INSERT INTO videopoet.version VALUES (?)", (SCHEMA_VERSION,))
            version = writing.execute("SELECT number FROM videopoet.version").fetchone()[0]
        if version != SCHEMA_VERSION:
            raise DataError(
                f"the queue in the database {self.name} has schema {version}; this version of videopoet reads "
                f"{SCHEMA_VERSION}; install the version that wrote it, or choose another database",
                code="queue_version",
            )


class _Transaction:
    def __init__(self, connection: psycopg.Connection[tuple[Any, ...]]):
        self._connection = connection

    def execute(self, statement: str, values: Sequence[Any] = ()) -> psycopg.Cursor[tuple[Any, ...]]:
        return self._connection.execute(_translated(statement), values)


def _prepare(connection: psycopg.Connection[Any]) -> None:
    connection.execute("SET search_path TO videopoet")


def _translated(statement: str) -> bytes:
    return statement.replace("?", "%s").encode()
