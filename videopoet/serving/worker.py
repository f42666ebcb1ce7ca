"""A worker: takes jobs from the queue, lets a poet make them, and writes what they became.

It runs in a process of its own (`python -m videopoet.serving.worker`), so that no request waits for a computation and
no computation can take the server down.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from videopoet import runtime
from videopoet.errors import DataError, VideoPoetError
from videopoet.generation.pipeline import Frames, Result, VideoPoet
from videopoet.sequence.tasks import TASKS
from videopoet.serving import fields, movies, previews
from videopoet.serving.failures import as_ours
from videopoet.serving.jobs import Job, Jobs
from videopoet.serving.storage import DATABASE_VARIABLE, Storage

HEARTBEAT_SECONDS = 0.5
IDLE_SECONDS = 0.1
END_SECONDS = 10.0
"""How long a worker has to end once it should."""
STUCK_STATUS = 70
log = logging.getLogger("videopoet.worker")


class Stopped(BaseException):
    """What is being made is no longer wanted, or the worker ends. No error: nothing but the worker may catch it."""


class Worker:
    """One consumer of the queue.

    Args:
        poet: Makes media.
        jobs: The queue.
        storage: Where files are.
        name: Its own, unlike that of any other worker.
        most_jobs: The most jobs of one shape that it makes together.
        most_job_seconds: A job that takes longer fails, and the process ends.
        most_seconds: The longest clip.
    """

    def __init__(
        self,
        poet: VideoPoet,
        jobs: Jobs,
        storage: Storage,
        name: str,
        *,
        most_jobs: int = 4,
        most_job_seconds: float = 1800.0,
        most_seconds: float = 30.0,
    ):
        self.poet, self.jobs, self.storage, self.name = poet, jobs, storage, name
        self.most_jobs, self.most_job_seconds, self.most_seconds = most_jobs, most_job_seconds, most_seconds
        self.description = describe(poet)
        self.stopping = threading.Event()
        self._held: dict[str, Job] = {}
        self._progress: int | None = None
        self._began = 0.0
        self._heart: threading.Thread | None = None

    def run(self) -> None:
        """Work until `stopping` is set; what was being made then goes back into the queue."""
        self.jobs.see_worker(self.name, "ready", self.description)
        self._heart = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._heart.start()
        # Without a heartbeat, which ends where the queue's database stays away, its jobs would be taken from it.
        while not self.stopping.is_set() and self._heart.is_alive():
            taken = self.jobs.claim(self.name, self.most_jobs)
            if taken:
                self.work(taken)
            else:
                self.stopping.wait(IDLE_SECONDS)
        self._heart.join()
        self.jobs.release(self.name)

    def work(self, taken: Sequence[Job]) -> None:
        """Bring jobs to their ends, together where they can be; one that cannot be made fails alone."""
        with self._holding(taken):
            fitting, requests = [], []
            for job in taken:
                try:
                    requests.append(self._request(job))
                    fitting.append(job)
                except VideoPoetError as error:
                    self.jobs.fail(job, error.code, str(error))
                    self._held.pop(job.id, None)
            try:
                self._make(fitting, requests)
            except Stopped:
                for job in list(self._held.values()):
                    self.jobs.give_back(job)

    def _make(self, jobs: Sequence[Job], requests: Sequence[Any]) -> None:
        if not jobs:
            return
        try:
            if jobs[0].task == movies.TASK:  # which is never in a batch
                self._complete(jobs[0], movies.make(self.poet, self.storage, jobs[0], self._on_step))
                return
            results = self.poet.generate_batch(
                requests,
                progress=False,
                on_step=self._on_step,
                on_frames=lambda number, frames: self._on_frames(jobs[number], frames),
            )
            for job, result in zip(jobs, results, strict=True):
                self._write(job, result)
            return
        # A job must not take the queue with it: whatever it raises is its own end.
        except Exception as error:
            ours = as_ours(error)
            if ours is None and self._device_failed(error):
                # From now on every call on the device raises it. What is held is lost, and another worker has it next.
                log.critical("the device failed; this worker ends", exc_info=True)
                os._exit(STUCK_STATUS)
            if len(jobs) == 1:
                if ours is None:
                    log.exception("job %s met a fault of videopoet", jobs[0].id)
                    ours = DataError(
                        "making it met a fault of the server, whose log says more; the request may be fine; try again, "
                        "and report it if it comes back",
                        code="internal",
                    )
                self.jobs.fail(jobs[0], ours.code, str(ours))
                self._held.pop(jobs[0].id, None)
            ours = None
        # Not before the error is gone, which holds all that was there when it was raised.
        runtime.free_memory()
        if len(jobs) > 1:
            for job, request in zip(jobs, requests, strict=True):
                if job.id in self._held:
                    self._make([job], [request])

    def _device_failed(self, error: Exception) -> bool:
        """Whether no later call on the poet's device can succeed; its libraries do not all say so."""
        device = self.poet.parts.device
        if isinstance(error, torch.AcceleratorError):
            return True
        if device.type != "cuda" or not isinstance(error, RuntimeError):
            return False
        try:
            torch.cuda.synchronize(device)
        except RuntimeError:
            return True
        return False

    def _request(self, job: Job) -> Any:
        if job.task == movies.TASK:
            return job.request["fields"]["storyboard"]
        asked = fields.Asked(job.task, job.request["fields"], fps=job.request.get("fps"))
        fields.check_against(self.description, asked, self.most_seconds)
        media = {name: self.storage.input(job.id, name) for name in job.request["inputs"]}
        return fields.request_of(job.task, job.request["fields"], media)

    def _write(self, job: Job, result: Result) -> None:
        """Files first, then the row that names them; without the row nobody sees them."""
        if job.id not in self._held:
            return
        written = previews.write(
            result,
            lambda name: self.storage.result(job.id, job.attempts, name),
            metadata=job.request["fields"].get("metadata", True),
        )
        self._complete(job, {**written, "metadata": result.metadata, "warnings": result.warnings})

    def _complete(self, job: Job, facts: dict[str, Any]) -> None:
        """Give a job its result, whose files are there; without one that is still wanted they go."""
        if not self.jobs.complete(job, {**facts, "attempt": job.attempts}):
            previews.remove(self.storage.result(job.id, job.attempts, "text.txt").parent)
        self._held.pop(job.id, None)

    def _on_step(self, num_done: int, num_steps: int) -> None:
        self._progress = min(99, 100 * num_done // max(1, num_steps))
        if self.stopping.is_set() or not self._held:
            raise Stopped

    def _on_frames(self, job: Job, frames: Frames) -> None:
        """Show what there is of a clip or picture; a result that is only heard has nothing new to show."""
        upscaled = "upscale" in job.request["fields"] and not frames.draft  # and then the result itself is there
        if job.id in self._held and not upscaled and {"video", "image"} & set(TASKS[job.task].gives):
            previews.write_early(frames, self._early(job))

    def _early(self, job: Job) -> Path:
        return self.storage.result(job.id, job.attempts, previews.EARLY)

    @contextlib.contextmanager
    def _holding(self, taken: Sequence[Job]) -> Iterator[None]:
        self._began, self._progress = time.monotonic(), None
        self._held = {job.id: job for job in taken}
        try:
            yield
        finally:
            self._held = {}
            for job in taken:
                previews.remove_early(self._early(job))

    def _beat(self) -> None:
        """Renew leases, note progress, and find out what is no longer wanted."""
        seen = 0.0
        while not self.stopping.wait(HEARTBEAT_SECONDS):
            held = self._held
            if held:
                kept = self.jobs.keep(list(held.values()), self._progress)
                for lost in held.keys() - kept:
                    held.pop(lost, None)
                if time.monotonic() - self._began > self.most_job_seconds:
                    self._give_up(list(held.values()))
            if time.monotonic() - seen > 2:
                self.jobs.see_worker(self.name, "ready")
                seen = time.monotonic()

    def _give_up(self, held: Sequence[Job]) -> None:
        """End jobs that take too long, and this process, which may hang where nothing else ends it."""
        for job in held:
            self.jobs.fail(
                job,
                "timeout",
                f"it took longer than {self.most_job_seconds:g} seconds, the most that a job may take; ask for a "
                "shorter or smaller clip",
            )
        if held:
            log.error("a job took longer than %g s; this worker ends", self.most_job_seconds)
            os._exit(STUCK_STATUS)


def begin(
    jobs: Jobs, storage: Storage, name: str, *, model: str | None, device: str | None = None, **how: Any
) -> Worker:
    """A worker that has loaded its model; the queue knows of it from now on.

    Args:
        how: As `Worker`.

    Raises:
        VideoPoetError: The model cannot be loaded.
    """
    jobs.see_worker(name, "loading")
    return Worker(VideoPoet.from_pretrained(model, device=device), jobs, storage, name, **how)


def describe(poet: VideoPoet) -> dict[str, Any]:
    """What a poet is and can make, for those who only have the queue."""
    parts = poet.parts
    usual = (parts.settings.height, parts.settings.width)
    sizes = dict.fromkeys([usual, *map(tuple, parts.vocabulary.config.resolutions)])
    return {
        **poet.describe(),
        "sizes": [[width, height] for height, width in sizes],
        "time_stride": parts.video_tokenizer.time_stride,
        "sample_rate": parts.audio_tokenizer.sample_rate,
        "audio_hop": parts.audio_tokenizer.hop,
        "longest_prompt": parts.text_encoder.longest,
        "upscales": parts.super_resolution is not None,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """The process: load a model, work until told to end or until the server that began it has ended."""
    parser = argparse.ArgumentParser(description="A worker of videopoet's server.")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--model")
    parser.add_argument("--device")
    parser.add_argument("--most-jobs", type=int, default=4)
    parser.add_argument("--most-job-seconds", type=float, default=1800.0)
    parser.add_argument("--most-seconds", type=float, default=30.0)
    parser.add_argument("--parent", type=int)
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    warnings.simplefilter("ignore")  # of libraries, as on the command line
    storage = Storage(given.folder)
    jobs = Jobs(os.environ.get(DATABASE_VARIABLE) or storage.queue)
    try:
        worker = begin(
            jobs,
            storage,
            given.name,
            model=given.model,
            device=given.device,
            most_jobs=given.most_jobs,
            most_job_seconds=given.most_job_seconds,
            most_seconds=given.most_seconds,
        )
    except VideoPoetError as error:
        log.error("%s", error)
        return error.exit_code
    signal.signal(signal.SIGTERM, lambda *_: worker.stopping.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the server says when to end
    if given.parent is not None:
        threading.Thread(target=_end_with, args=(given.parent, worker), daemon=True).start()
    worker.run()
    return 0


def _end_with(parent: int, worker: Worker) -> None:
    """Stop when the server's process is gone, however it went."""
    while os.getppid() == parent:
        time.sleep(HEARTBEAT_SECONDS)
    worker.stopping.set()
    time.sleep(END_SECONDS)
    os._exit(STUCK_STATUS)


if __name__ == "__main__":
    sys.exit(main())
