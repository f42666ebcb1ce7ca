"""The queue: jobs with leases, in tables that servers and workers open side by side.

What is promised: a job that was accepted is on disk before its id is given out. It is run at least once and at most
`MOST_ATTEMPTS` times, and has exactly one visible result: a worker that lost its lease cannot write one. A worker keeps
its jobs by heartbeats; those of a dead one are queued again, and fail when they were its second death.
"""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from videopoet.errors import TaskError
from videopoet.serving.queue_store import open_store

STATUSES = ("queued", "in_progress", "completed", "failed", "cancelled")
ENDED = ("completed", "failed", "cancelled")
MOST_ATTEMPTS = 2
LEASE_SECONDS = 20.0
WORKER_SEEN_SECONDS = 15.0
"""A worker that has not been seen for so long does not count as ready."""


@dataclass(frozen=True)
class Job:
    """One row of the queue; times are seconds since 1970."""

    number: int
    """Grows with the order of arrival."""
    id: str
    owner: str
    """Whose key asked for it; empty where there are no keys."""
    status: str
    progress: int
    """Percent."""
    task: str
    request: dict[str, Any]
    """`fields` of the request, and `inputs`: the names of files in the job's folder by the fields they are for."""
    shape: str | None
    """Jobs of one shape may share a batch; None is always alone."""
    parent: str | None
    """The job whose result this one goes on from."""
    created_at: float
    started_at: float | None
    completed_at: float | None
    attempts: int
    worker: str | None
    lease_until: float | None
    error: dict[str, str] | None
    result: dict[str, Any] | None

    @property
    def ended(self) -> bool:
        return self.status in ENDED


@dataclass
class _Arrival:
    """A job on its way into the queue."""

    values: tuple[Any, ...]
    most_queued: int
    job: Job | None = None
    error: Exception | None = None


_COLUMNS = [field.name for field in fields(Job)]
_JSON = ("request", "error", "result")


def new_id() -> str:
    """An id that nobody can guess: 128 random bits."""
    return f"video_{secrets.token_hex(16)}"


class Jobs:
    """The queue.

    Args:
        place: A SQLite file, or the `postgresql://` address of a database; tables are made where there are none.

    Raises:
        DataError: It is damaged, or was written by a newer version, or cannot be reached; it is left as it is.
    """

    def __init__(self, place: str | Path):
        self._store = open_store(place)
        self._arrivals: list[_Arrival] = []
        self._lock, self._adding = threading.Lock(), threading.Lock()
        self._model: tuple[str, dict[str, Any]] | None = None

    def close(self) -> None:
        """Give up the tables' connections."""
        self._store.close()

    # -- what a client asks for ------------------------------------------------------------------------------------

    def add(
        self,
        job_id: str,
        owner: str,
        task: str,
        request: Mapping[str, Any],
        *,
        shape: str | None = None,
        parent: str | None = None,
        most_queued: int,
    ) -> Job:
        """Put a job at the end of the queue; it is on disk when this returns.

        Raises:
            TaskError: So many are waiting already.
        """
        values = job_id, owner, task, json.dumps(request), shape, parent
        arrival = _Arrival(values, most_queued)
        with self._lock:
            self._arrivals.append(arrival)
        # Whoever comes first writes all that have arrived meanwhile, so that many share one wait for the disk.
        with self._adding:
            if arrival.job is None and arrival.error is None:
                self._write_arrivals()
        if arrival.error is not None:
            raise arrival.error
        assert arrival.job is not None
        return arrival.job

    def _write_arrivals(self) -> None:
        with self._lock:
            arrivals, self._arrivals = self._arrivals, []
        added: list[tuple[_Arrival, Job]] = []
        try:
            with self._store.writing() as writing:
                waiting = writing.execute("SELECT count(*) FROM jobs WHERE status = 'queued'").fetchone()[0]
                for arrival in arrivals:
                    if waiting >= arrival.most_queued:
                        arrival.error = TaskError(
                            f"{waiting} jobs are waiting; the most is {arrival.most_queued}; ask again later",
                            code="queue_full",
                        )
                        continue
                    row = writing.execute(
                        "INSERT INTO jobs (id, owner, task, request, shape, parent, created_at) "
                        f"VALUES (?, ?, ?, ?, ?, ?, {self._store.now}) RETURNING {', '.join(_COLUMNS)}",
                        arrival.values,
                    ).fetchone()
                    added.append((arrival, _job(row)))
                    waiting += 1
        # Whatever it is, it is the end of each of these requests, and of no other.
        except Exception as error:
            for arrival in arrivals:
                arrival.error = error
            return
        for arrival, job in added:  # which are on disk now
            arrival.job = job

    def get(self, job_id: str, owner: str) -> Job | None:
        """The job, if that owner has one of that id."""
        return self._one("WHERE id = ? AND owner = ?", (job_id, owner))

    def list(self, owner: str, *, after: Job | None = None, limit: int = 20, newest_first: bool = True) -> list[Job]:
        """Jobs in the order of their arrival, from the one after `after` on."""
        compare, order = ("<", "DESC") if newest_first else (">", "ASC")
        where, values = "WHERE owner = ?", [owner]
        if after is not None:
            where, values = f"{where} AND number {compare} ?", [owner, after.number]
        return self._many(f"{where} ORDER BY number {order} LIMIT ?", (*values, limit))

    def place(self, job: Job) -> int:
        """How many jobs will begin before this one, if it waits."""
        waiting = "SELECT count(*) FROM jobs WHERE status = 'queued' AND number < ?"
        return self._store.read(waiting, (job.number,))[0][0]

    def cancel(self, job_id: str, owner: str) -> Job | None:
        """End a job that has not ended; its worker finds out at its next heartbeat. None where there is no such job."""
        with self._store.writing(alone=False) as writing:
            writing.execute(
                f"UPDATE jobs SET status = 'cancelled', completed_at = {self._store.now}, lease_until = NULL "
                "WHERE id = ? AND owner = ? AND status IN ('queued', 'in_progress')",
                (job_id, owner),
            )
        return self.get(job_id, owner)

    def remove(self, job_id: str, owner: str) -> Job | None:
        """Forget a job, which ends it; what it was, or None where there is no such job."""
        with self._store.writing(alone=False) as writing:
            rows = writing.execute(
                f"DELETE FROM jobs WHERE id = ? AND owner = ? RETURNING {', '.join(_COLUMNS)}", (job_id, owner)
            ).fetchall()
        return _job(rows[0]) if rows else None

    def known_ids(self) -> set[str]:
        """The ids of all jobs."""
        return {row[0] for row in self._store.read("SELECT id FROM jobs")}

    def oldest_ended(self, limit: int) -> list[Job]:
        """Those that may be removed to make room, the oldest first."""
        marks = ", ".join("?" * len(ENDED))
        return self._many(f"WHERE status IN ({marks}) ORDER BY number LIMIT ?", (*ENDED, limit))

    # -- what a worker does ----------------------------------------------------------------------------------------

    def claim(self, worker: str, most: int = 1, lease_seconds: float = LEASE_SECONDS) -> list[Job]:
        """Take the job that has waited longest, and others of its shape that wait; an empty list where none does.

        A job that a worker died with before is taken alone, so that one that kills workers takes no other with it.
        """
        self.recover()
        if not self._store.read("SELECT 1 FROM jobs WHERE status = 'queued' LIMIT 1"):
            return []
        now = self._store.now  # read after the lock: a lease must not lose what waiting for it took
        with self._store.writing() as writing:
            found = writing.execute(
                "SELECT number, shape, attempts FROM jobs WHERE status = 'queued' ORDER BY number LIMIT 1"
            ).fetchone()
            if found is None:
                return []
            number, shape, attempts = found
            numbers = [number]
            if shape is not None and attempts == 0 and most > 1:
                alike = writing.execute(
                    "SELECT number FROM jobs WHERE status = 'queued' AND shape = ? AND attempts = 0 AND number > ? "
                    "ORDER BY number LIMIT ?",
                    (shape, number, most - 1),
                )
                numbers += [row[0] for row in alike.fetchall()]
            rows = writing.execute(
                f"UPDATE jobs SET status = 'in_progress', progress = 0, worker = ?, lease_until = {now} + ?, "
                f"started_at = {now}, attempts = attempts + 1 WHERE status = 'queued' "
                f"AND number IN ({', '.join('?' * len(numbers))}) RETURNING {', '.join(_COLUMNS)}",
                (worker, lease_seconds, *numbers),
            ).fetchall()
        return sorted(map(_job, rows), key=lambda job: job.number)

    def keep(self, jobs: Sequence[Job], progress: int | None = None, lease_seconds: float = LEASE_SECONDS) -> set[str]:
        """Renew the leases of a worker's jobs and note their progress; the ids of those that are still its own."""
        held = set()
        with self._store.writing() as writing:
            for job in jobs:
                changed = writing.execute(
                    f"UPDATE jobs SET lease_until = {self._store.now} + ?, progress = greatest(progress, ?) "
                    "WHERE id = ? AND worker = ? AND attempts = ? AND status = 'in_progress'",
                    (lease_seconds, progress or 0, job.id, job.worker, job.attempts),
                )
                held |= {job.id} if changed.rowcount else set()
        return held

    def complete(self, job: Job, result: Mapping[str, Any]) -> bool:
        """Give a job its result; False where it is no longer this worker's, and the result must not be seen."""
        return self._end(job, "completed", 100, result=json.dumps(result))

    def fail(self, job: Job, code: str, message: str) -> bool:
        """End a job with the reason; False where it is no longer this worker's."""
        return self._end(job, "failed", job.progress, error=json.dumps({"code": code, "message": message}))

    def give_back(self, job: Job) -> None:
        """Put a job back in its place in the queue, as if it had not been taken."""
        with self._store.writing(alone=False) as writing:
            writing.execute(
                "UPDATE jobs SET status = 'queued', progress = 0, worker = NULL, lease_until = NULL, started_at = NULL,"
                " attempts = attempts - 1 WHERE id = ? AND worker = ? AND attempts = ? AND status = 'in_progress'",
                (job.id, job.worker, job.attempts),
            )

    def _end(self, job: Job, status: str, progress: int, **values: str) -> bool:
        (name, value), *_ = values.items()
        with self._store.writing(alone=False) as writing:
            changed = writing.execute(
                f"UPDATE jobs SET status = ?, progress = greatest(progress, ?), completed_at = {self._store.now}, "
                f"lease_until = NULL, {name} = ? "
                "WHERE id = ? AND worker = ? AND attempts = ? AND status = 'in_progress'",
                (status, progress, value, job.id, job.worker, job.attempts),
            )
        return changed.rowcount == 1

    def recover(self) -> int:
        """Queue again what is in progress with a lease that has run out, or fail it; returns how many there were."""
        return self._take_back(f"lease_until < {self._store.now}", ())

    def release(self, worker: str) -> bool:
        """The same for all jobs of a worker that is known to be dead; returns whether it ever was ready."""
        with self._store.writing() as writing:
            found = writing.execute("DELETE FROM workers WHERE id = ? RETURNING state", (worker,)).fetchall()
        self._take_back("worker = ?", (worker,))
        return found == [("ready",)]

    def _take_back(self, which: str, values: tuple[Any, ...]) -> int:
        if not self._store.read(f"SELECT 1 FROM jobs WHERE status = 'in_progress' AND {which} LIMIT 1", values):
            return 0
        error = {
            "code": "worker_lost",
            "message": f"the process that made it ended {MOST_ATTEMPTS} times; a job is begun no more often; ask for "
            "less at once, such as a shorter or smaller clip",
        }
        with self._store.writing() as writing:
            failed = writing.execute(
                f"UPDATE jobs SET status = 'failed', completed_at = {self._store.now}, lease_until = NULL, error = ? "
                f"WHERE status = 'in_progress' AND attempts >= ? AND {which}",
                (json.dumps(error), MOST_ATTEMPTS, *values),
            )
            queued = writing.execute(
                "UPDATE jobs SET status = 'queued', progress = 0, worker = NULL, lease_until = NULL, started_at = NULL "
                f"WHERE status = 'in_progress' AND {which}",
                values,
            )
        return failed.rowcount + queued.rowcount

    # -- workers and figures ---------------------------------------------------------------------------------------

    def see_worker(self, worker: str, state: str, description: Mapping[str, Any] | None = None) -> None:
        """Note that a worker lives, in `state` loading or ready, and once which model it has."""
        now = self._store.now
        with self._store.writing(alone=False) as writing:
            writing.execute(
                f"INSERT INTO workers (id, state, description, seen_at) VALUES (?, ?, ?, {now}) ON CONFLICT (id) "
                "DO UPDATE SET state = excluded.state, seen_at = excluded.seen_at, "
                "description = coalesce(excluded.description, workers.description)",
                (worker, state, json.dumps(description) if description else None),
            )
            if description:
                writing.execute(
                    f"INSERT INTO models (name, description, seen_at) VALUES (?, ?, {now}) ON CONFLICT (name) "
                    "DO UPDATE SET description = excluded.description, seen_at = excluded.seen_at",
                    (description["name"], json.dumps(description)),
                )

    def workers(self) -> dict[str, int]:
        """How many workers have been seen lately, by state."""
        seen = f"SELECT state, count(*) FROM workers WHERE seen_at > {self._store.now} - ? GROUP BY state"
        return dict(self._store.read(seen, (WORKER_SEEN_SECONDS,)))

    def model(self) -> dict[str, Any] | None:
        """What the worker that came last says of its model; None where there was none yet."""
        rows = self._store.read("SELECT description FROM models ORDER BY seen_at DESC LIMIT 1")
        if not rows:
            return None
        if self._model is None or self._model[0] != rows[0][0]:  # parsing it would take longer than reading it
            self._model = rows[0][0], json.loads(rows[0][0])
        return self._model[1]

    def counts(self) -> dict[str, int]:
        """How many jobs there are of each status."""
        rows = self._store.read("SELECT status, count(*) FROM jobs GROUP BY status")
        return dict.fromkeys(STATUSES, 0) | dict(rows)

    def seconds_spent(self) -> tuple[float, float, int]:
        """How long the jobs that ran to an end waited and took, in all, and how many they are."""
        ((waited, worked, count),) = self._store.read(
            "SELECT sum(started_at - created_at), sum(completed_at - started_at), count(*) FROM jobs "
            "WHERE status IN ('completed', 'failed') AND started_at IS NOT NULL"
        )
        return waited or 0.0, worked or 0.0, count

    # -- rows ------------------------------------------------------------------------------------------------------

    def _one(self, where: str, values: Sequence[Any]) -> Job | None:
        return next(iter(self._many(where, values)), None)

    def _many(self, where: str, values: Sequence[Any]) -> list[Job]:
        return [_job(row) for row in self._store.read(f"SELECT {', '.join(_COLUMNS)} FROM jobs {where}", values)]


def _job(row: tuple[Any, ...]) -> Job:
    values = dict(zip(_COLUMNS, row, strict=True))
    return Job(**{name: json.loads(value) if name in _JSON and value else value for name, value in values.items()})
