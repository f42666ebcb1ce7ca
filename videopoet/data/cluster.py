"""The stages of making data on the machines of a Ray cluster: what `--engine ray` means.

A stage is a class whose instances are called with one piece of work after another, write what they make to storage
that all machines share, and return a number. Ray Data makes an instance in each worker, hands it the work, and gives
the work of a worker that dies to another. Nothing that is made travels: pixels and codes go from a worker to the disk.
"""

from __future__ import annotations

import logging
import os
import socket
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeVar

from videopoet import __version__
from videopoet.errors import ConfigError, DataError, VideoPoetError

Item = TypeVar("Item")
Engine = Literal["local", "ray"]

WINDOW = 2048
"""Pieces of work that Ray holds at a time; machines that came or went count from the next window on."""
MOST_DEATHS = 10
"""Workers that may die of one piece of work before the run ends."""


def run_on_ray(
    make: Callable[[], Callable[[Item], int]],
    items: Iterable[Item],
    *,
    output: Path,
    source: Path,
    workers: int | None = None,
    on_gpus: bool = False,
) -> Iterator[int]:
    """Do each piece of work on the cluster, and give what the stage returns for it, in the order of being done.

    The cluster is the one that this process or `RAY_ADDRESS` names, else one that runs on this machine, else one that
    is started here for as long as this takes.

    Args:
        make: Makes a stage in a worker.
        items: The work, taken a window at a time.
        output: A folder that the stage writes into; every machine must see it.
        source: A file that the stage reads; every machine must see it.
        workers: How many there are; None is one for each processor, or GPU.
        on_gpus: Give each worker a GPU of its own, where the cluster has any.

    Raises:
        ConfigError: Ray is not installed, or there is no cluster where it should be.
        DataError: The machines do not share their storage, differ in version, or die again and again.
        VideoPoetError: What the stage raises.
        OSError: Likewise.
    """
    with _connected() as ray, _marker(output) as marker:
        remaining = enumerate(items)
        while window := list(islice(remaining, WINDOW)):
            resources = ray.cluster_resources()
            gpus = int(resources.get("GPU", 0)) if on_gpus else 0
            size = workers or gpus or int(resources.get("CPU", 1))
            # One row to a block, so that a worker takes one piece of work at a time.
            rows = [{"number": number, "item": item} for number, item in window]
            done = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
                _Worker,
                fn_constructor_args=(make, marker, source, __version__),
                compute=ray.data.ActorPoolStrategy(size=min(size, len(rows)), max_tasks_in_flight_per_actor=1),
                **({"num_gpus": 1} if gpus else {"num_cpus": 1}),
            )
            for row in done.iter_rows():
                if row["error"] is not None:
                    raise row["error"]
                yield row["result"]


class _Worker:
    """A stage where Ray runs it. It is made for the first piece of work, so that its errors come back as those do."""

    def __init__(self, make: Callable[[], Callable[[Any], int]], marker: Path, source: Path, version: str):
        self.make, self.marker, self.source, self.version = make, marker, source, version
        self.stage: Callable[[Any], int] | None = None

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        try:
            if self.stage is None:
                self._check_machine()
                self.stage = self.make()
            with self._counted(row["number"]):
                return {"result": self.stage(row["item"]), "error": None}
        except (VideoPoetError, OSError) as error:
            return {"result": 0, "error": error}

    @contextmanager
    def _counted(self, number: int) -> Iterator[None]:
        """Count the workers that begin a piece of work; Ray itself would let one after the other die of it."""
        path = self.marker / str(number)
        with path.open("ab") as file:
            file.write(b".")
        if path.stat().st_size > MOST_DEATHS:
            raise DataError(
                f"{MOST_DEATHS} workers died, one after the other, of the same piece of work; what was finished is "
                "kept; give each worker more memory with fewer --workers, and run the same command again",
                code="cluster_failed",
            )
        yield
        path.unlink(missing_ok=True)

    def _check_machine(self) -> None:
        """Refuse a machine that would read or make something else."""
        machine = socket.gethostname()
        for path in (self.marker, self.source):
            if not path.exists():
                raise DataError(
                    f"'{path}' is not on machine '{machine}' of the cluster; footage and output lie on storage that "
                    "all machines see at one path; mount it there, or leave that machine out",
                    code="cluster_storage",
                )
        if __version__ != self.version:
            raise DataError(
                f"machine '{machine}' of the cluster has videopoet {__version__}, and this one "
                f"{self.version}; all need the same; install it there",
                code="cluster_version",
            )


@contextmanager
def _connected() -> Iterator[Any]:
    """The `ray` module, connected to a cluster; one that was started here ends with it."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray  # pyright: ignore[reportMissingImports]
        import ray.data  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ConfigError(
            "the engine 'ray' needs Ray Data, which is not installed; pip install 'videopoet[cluster]', or leave "
            "--engine out to work on this machine alone",
            code="ray_missing",
        ) from None
    was_connected = ray.is_initialized()
    if not was_connected:
        try:
            _check_address(os.environ.get("RAY_ADDRESS", ""))
            ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:  # Ray raises that itself where a part of it does not start
            reason, *_ = str(error).split("\n")
            raise ConfigError(
                f"no Ray cluster could be joined or started ({reason}); `ray start --head` starts one; correct "
                "or unset RAY_ADDRESS, or leave --engine out to work on this machine alone",
                code="ray_unreachable",
            ) from error
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    try:
        yield ray
    finally:
        if not was_connected:
            ray.shutdown()


def _check_address(address: str) -> None:
    """Raise an `OSError` if nothing listens there; Ray itself would ask for many minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


@contextmanager
def _marker(output: Path) -> Iterator[Path]:
    """Something in a folder by which a machine knows that it sees the same one."""
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".shared-", dir=output.absolute()) as folder:
        yield Path(folder)
