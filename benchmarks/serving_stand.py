"""A server to injure: the real application and real workers, each in a process that can be killed, on one folder.

The model behind them is a stand-in, whose prompt says what it does, so that hundreds of faults take minutes. Processes
are forked from one that has imported everything; all else is what `videopoet serve` runs.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from types import SimpleNamespace
from typing import Any, cast

import httpx
import torch

from videopoet.generation.pipeline import Result, Settings, VideoPoet
from videopoet.generation.request import Request
from videopoet.media.types import Audio, Image, Video
from videopoet.serving.intake import Ceilings
from videopoet.serving.jobs import Jobs
from videopoet.serving.server import Service, create_app
from videopoet.serving.storage import Storage
from videopoet.serving.supervisor import Supervisor
from videopoet.serving.worker import Worker

STEP_SECONDS = 0.02
WAIT_SECONDS = 120.0
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["videopoet.serving.server", "videopoet.serving.worker", "uvicorn", "httpx"])


class StandIn:
    """In place of a poet: what it makes follows from the seed alone.

    A prompt of `steps N` takes N steps, `memory` needs too much of it, `poison` kills the process; others take a step.
    """

    def __init__(self) -> None:
        settings = Settings(name="stand-in", height=16, width=16, num_frames=17, frame_rate=8.0)
        self.parts = SimpleNamespace(
            settings=settings,
            vocabulary=SimpleNamespace(config=SimpleNamespace(resolutions=())),
            video_tokenizer=SimpleNamespace(time_stride=4),
            audio_tokenizer=SimpleNamespace(sample_rate=16_000, hop=40),
            text_encoder=SimpleNamespace(longest=64),
            super_resolution=None,
        )

    def describe(self) -> dict[str, Any]:
        settings = self.parts.settings
        return {
            "name": settings.name,
            "settings": settings.model_dump(mode="json", exclude={"tasks", "name"}),
            "tasks": list(settings.tasks),
        }

    def generate_batch(
        self, requests: Sequence[Request], *, on_step: Callable[[int, int], None], **_: Any
    ) -> list[Result]:
        return [self._made(request, on_step) for request in requests]

    def _made(self, request: Request, on_step: Callable[[int, int], None]) -> Result:
        first, *more = (request.prompt or "").split() or [""]
        if first == "poison":
            os.kill(os.getpid(), signal.SIGKILL)
        if first == "memory":
            raise MemoryError
        total = int(more[0]) if first == "steps" else 1
        for step in range(1, total + 1):
            time.sleep(STEP_SECONDS if first == "steps" else 0)
            on_step(step, total)
        seed = request.seed or 0
        stream = torch.Generator().manual_seed(seed % 2**63)
        frames = torch.randint(256, (3, 17, 16, 16), generator=stream, dtype=torch.uint8)
        sound = Audio(torch.rand(1, 34_000, generator=stream) - 0.5, 16_000)
        gives = request.row.gives
        media: Any = "a ball"
        if "video" in gives:
            media = Video(frames, 8.0, sound)
        elif "image" in gives:
            media = Image(frames[:, 0])
        elif "audio" in gives:
            media = sound
        return Result(media, {"seed": seed, "prompt": request.prompt})


def run_server(folder: str, ceilings: Ceilings, told: Connection) -> None:
    """The server's process, without workers; it says its port."""
    import uvicorn

    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    told.send(listener.getsockname()[1])
    config = uvicorn.Config(
        create_app(Service(folder, ceilings=ceilings, num_workers=0)),
        log_level="error",
        http="h11",
        ws="none",
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=3,
    )
    signal.signal(signal.SIGTERM, lambda *_: None)
    uvicorn.Server(config).run([listener])


def run_worker(folder: str, name: str) -> None:
    """A worker's process."""
    storage = Storage(folder)
    jobs = Jobs(storage.queue)
    jobs.see_worker(name, "loading")
    worker = Worker(cast(VideoPoet, StandIn()), jobs, storage, name)
    signal.signal(signal.SIGTERM, lambda *_: worker.stopping.set())
    worker.run()


class _Forked:
    """A process of ours as `Supervisor` knows processes."""

    def __init__(self, process: Any):
        self._process = process
        self.pid: int = process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int | None:
        self._process.join(timeout)
        return self._process.exitcode

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()


class _ForkingSupervisor(Supervisor):
    def __init__(self, jobs: Jobs, count: int, folder: str):
        super().__init__(jobs, count, [])
        self.folder = folder

    def _started(self, name: str, device: str) -> Any:
        process = _processes.Process(target=run_worker, args=(self.folder, name), daemon=True)
        process.start()
        return _Forked(process)

    def kill(self) -> None:
        """End the workers, and begin none again."""
        self._ending.set()
        self._thread.join()
        for process in self._processes.values():
            process.kill()
            process.wait()


class Stand:
    """A server and its workers.

    Args:
        num_workers: How many are begun, and begun again when they die.
        ceilings: Of the server.
    """

    def __init__(self, num_workers: int = 1, ceilings: Ceilings | None = None):
        self.folder = tempfile.mkdtemp(prefix="videopoet-")
        self.ceilings = ceilings or Ceilings(most_queued=10_000)
        self.storage = Storage(self.folder)
        self.jobs = Jobs(self.storage.queue)
        self.start()
        self.start_workers(num_workers)

    def start(self) -> None:
        """Begin the server on what the folder holds."""
        ours, theirs = _processes.Pipe()
        self.server = _processes.Process(target=run_server, args=(self.folder, self.ceilings, theirs), daemon=True)
        self.server.start()
        assert ours.poll(WAIT_SECONDS), "the server did not start"
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{ours.recv()}", timeout=60)
        self.wait(self._answers)

    def start_workers(self, count: int = 1) -> None:
        """Begin workers, which are begun again when they die."""
        self.supervisor = _ForkingSupervisor(self.jobs, count, self.folder)
        self.supervisor.start()
        self.wait(lambda: count == 0 or self.jobs.workers().get("ready"))

    def kill(self) -> None:
        """End all processes at once, as a loss of power does."""
        self.server.kill()
        self.supervisor.kill()
        self.server.join()
        self.client.close()

    def close(self) -> None:
        self.supervisor.end()
        if self.server.is_alive():
            self.server.kill()
        self.server.join()
        self.client.close()
        self.jobs.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def ask(self, prompt: str = "a ball", **fields: Any) -> str:
        """The id of a job."""
        answer = self.client.post("/v1/videos", json={"prompt": prompt, **fields})
        answer.raise_for_status()
        return answer.json()["id"]

    def look(self, job_id: str) -> dict[str, Any]:
        return self.client.get(f"/v1/videos/{job_id}").json()

    def reach(self, job_id: str, *statuses: str) -> dict[str, Any]:
        """The job once it is in one of these statuses."""
        return self.wait(lambda: (job := self.look(job_id))["status"] in statuses and job)

    def ended(self, job_id: str) -> dict[str, Any]:
        return self.reach(job_id, "completed", "failed", "cancelled")

    def content(self, job_id: str) -> bytes:
        return self.client.get(f"/v1/videos/{job_id}/content").content

    def clear(self) -> None:
        """Forget all jobs."""
        for job in self.jobs.list("", limit=10_000):
            self.client.delete(f"/v1/videos/{job.id}")

    def wait(self, condition: Callable[[], Any]) -> Any:
        """What a condition says, once it says something."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not (found := condition()):
            if time.monotonic() > deadline:
                raise TimeoutError("what should have happened did not")
            time.sleep(0.01)
        return found

    def _answers(self) -> bool:
        try:
            return self.client.get("/health").status_code == 200
        except httpx.TransportError:
            return False


@contextlib.contextmanager
def stand(num_workers: int = 1, ceilings: Ceilings | None = None) -> Iterator[Stand]:
    """A stand that is cleared away afterwards."""
    made = Stand(num_workers, ceilings)
    try:
        yield made
    finally:
        made.close()


def together(count: int, call: Callable[[int], Any]) -> list[Any]:
    """What calls with 0, 1, ... return that all begin at once, each in a thread."""
    barrier, results, errors = threading.Barrier(count), [None] * count, []

    def run(number: int) -> None:
        barrier.wait()
        try:
            results[number] = call(number)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results
