"""The worker processes of a server: started with it, begun again when they die, ended with it."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

from videopoet import runtime
from videopoet.errors import DataError
from videopoet.serving.jobs import Jobs
from videopoet.serving.storage import DATABASE_VARIABLE
from videopoet.serving.worker import END_SECONDS

LOOK_SECONDS = 0.2
PAUSE_SECONDS = 2.0
"""Before what the queue or the machine refused is tried again."""
WORKER_NICENESS = 5
MOST_EARLY_DEATHS = 3
"""So many deaths in a row before a worker was ready, and it is not begun again: its model cannot be loaded."""
log = logging.getLogger("videopoet.serving")


class Supervisor:
    """Keeps worker processes alive.

    Args:
        jobs: The queue that they work on.
        count: How many.
        arguments: What `videopoet.serving.worker` is called with, but for its name, device and parent.
        database: The address of the queue, where it is not a file in the folder.
        devices: Where they work, in turn; the best there are where it is left out. A worker that is begun again is
            given one by name, so that it does not go on elsewhere when that is gone.
    """

    def __init__(
        self,
        jobs: Jobs,
        count: int,
        arguments: Sequence[str],
        database: str | None = None,
        devices: Sequence[str] | None = None,
    ):
        self.jobs, self.count, self.arguments = jobs, count, list(arguments)
        self.devices = list(devices or runtime.best_devices())
        # Without an address the queue is the file, whatever address a user keeps in the environment.
        self._environment = {**os.environ, DATABASE_VARIABLE: database or ""}
        self.restarts = 0
        self.given_up = False
        """No worker could load its model."""
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._device_of: dict[str, str] = {}
        self._early_deaths = 0
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._look_after, name="supervisor", daemon=True)

    def start(self) -> None:
        """Begin the workers, and look after them from now on."""
        for number in range(self.count):
            self._begin(self.devices[number % len(self.devices)])
        self._thread.start()

    def end(self) -> None:
        """End the workers; what they were making goes back into the queue."""
        self._ending.set()
        if self._thread.ident is not None:
            self._thread.join()
        for process in self._processes.values():
            process.terminate()
        deadline = time.monotonic() + END_SECONDS
        for name, process in self._processes.items():
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            with contextlib.suppress(DataError):  # the lease runs out where the database cannot be told
                self.jobs.release(name)
        self._processes.clear()
        self._device_of.clear()

    @property
    def pids(self) -> list[int]:
        """Of the processes that run."""
        return [process.pid for process in list(self._processes.values()) if process.poll() is None]

    def _begin(self, device: str) -> None:
        name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._processes[name], self._device_of[name] = self._started(name, device), device

    def _started(self, name: str, device: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "videopoet.serving.worker", *self.arguments, "--device", device]
        process = subprocess.Popen(
            [*command, "--name", name, "--parent", str(os.getpid())],
            stdin=subprocess.DEVNULL,
            env=self._environment,
        )
        if hasattr(os, "setpriority"):  # a request takes milliseconds, and should not wait for a job that takes seconds
            os.setpriority(os.PRIO_PROCESS, process.pid, os.getpriority(os.PRIO_PROCESS, 0) + WORKER_NICENESS)
        return process

    def _look_after(self) -> None:
        while not self._ending.wait(LOOK_SECONDS):
            for name, process in list(self._processes.items()):
                if process.poll() is None:
                    continue
                try:
                    was_ready = self.jobs.release(name)
                # A database that is away, or whatever it is: the same again until it is back.
                except Exception as error:
                    log.warning("the queue cannot be told that a worker ended: %s", error)
                    self._ending.wait(PAUSE_SECONDS)
                    continue
                del self._processes[name]
                device = self._device_of.pop(name)
                log.warning("a worker ended with status %s", process.returncode)
                self._early_deaths = 0 if was_ready else self._early_deaths + 1
                if self._early_deaths >= MOST_EARLY_DEATHS:
                    log.error("%s workers in a row ended before they were ready; no more are begun", MOST_EARLY_DEATHS)
                    self.given_up = True
                elif not self._ending.wait(0.2 * self._early_deaths):
                    self._begin_again(device)

    def _begin_again(self, device: str) -> None:
        """Begin a worker in the place of one that ended, as soon as the machine has room for its process."""
        while True:
            try:
                self._begin(device)
            except OSError as error:
                log.warning("a worker cannot be begun: %s", error)
                if self._ending.wait(PAUSE_SECONDS):
                    return
            else:
                self.restarts += 1
                return
