"""Servers and workers as replicas on a Ray cluster: `serve run videopoet.serving.ray_serve:app folder=...`.

Ray Serve starts the processes, begins them again where they die, spreads requests over the servers, and has as many
workers as the queue needs. All else is as without it: servers put jobs into the queue, workers take them by leases, and
what they share is the folder and the database. No job goes through Ray, so none is lost with it.
"""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, Any

from videopoet.errors import ConfigError
from videopoet.serving.settings import Settings

try:
    import ray  # pyright: ignore[reportMissingImports]
    from ray import serve  # pyright: ignore[reportMissingImports]
except ImportError:
    raise ConfigError(
        "servers on a Ray cluster need Ray Serve, which is not installed; the extra `cluster` has it; install it with "
        '`pip install "videopoet[serve,cluster]"`',
        code="package_missing",
    ) from None

if TYPE_CHECKING:
    from fastapi import FastAPI

MOST_REQUESTS = 1000
"""At once, of one server; a page that watches its jobs holds one."""
END_SECONDS = 15.0
"""A replica that should end has so long to give its jobs back; longer than a worker needs for a token."""
UPSCALE_SECONDS, DOWNSCALE_SECONDS = 10.0, 300.0
"""More jobs than the workers should have must last so long before there are more of them, and fewer before there are
fewer: loading a model takes its time."""
JOBS = "jobs"


def app(arguments: dict[str, Any]) -> Any:
    """The application; its arguments are those of `Settings`.

    Raises:
        ConfigError: One is unknown or does not fit.
    """
    settings = Settings.from_dict(arguments)

    def build() -> FastAPI:  # in the server's own process
        from videopoet.serving.server import create_app

        check_queue(settings)
        return create_app(settings.service())

    servers = serve.deployment(
        serve.ingress(build)(),
        name="Servers",
        num_replicas=settings.servers,
        max_ongoing_requests=MOST_REQUESTS,
        graceful_shutdown_timeout_s=END_SECONDS,
        ray_actor_options={"num_cpus": 0.1},
    )
    workers = serve.deployment(
        Workers,
        name="Workers",
        graceful_shutdown_timeout_s=END_SECONDS,
        ray_actor_options={"num_cpus": 1, "num_gpus": settings.gpus},
        **number_of_workers(settings),
    )
    return servers.bind(workers.bind(settings))  # which nothing calls: Serve deploys what is bound to the first


def number_of_workers(settings: Settings) -> dict[str, Any]:
    """As Serve's options of a deployment."""
    if settings.most_workers is None:
        return {"num_replicas": settings.workers}
    scaling = {
        "min_replicas": settings.workers,
        "max_replicas": settings.most_workers,
        "target_ongoing_requests": settings.batch,
        "upscale_delay_s": UPSCALE_SECONDS,
        "downscale_delay_s": DOWNSCALE_SECONDS,
        "policy": {"policy_function": workers_for_queue},
    }
    return {"autoscaling_config": scaling}


class Workers:
    """A worker in a thread of this replica. It asks the queue for jobs; Serve sends it none.

    Args:
        settings: Of the application.
    """

    def __init__(self, settings: Settings):
        check_queue(settings)
        self._worker = settings.worker()
        self._thread = threading.Thread(target=self._worker.run, name="worker", daemon=True)
        self._thread.start()

    def check_health(self) -> None:
        """Serve begins the replica again where this raises."""
        if not self._thread.is_alive():
            raise RuntimeError("the worker has ended; its replica's log says why")

    def record_autoscaling_stats(self) -> dict[str, int]:
        """What `workers_for_queue` is told."""
        counts = self._worker.jobs.counts()
        return {JOBS: counts["queued"] + counts["in_progress"]}

    def __del__(self) -> None:
        """Called by Serve when the replica should end: what is being made goes back into the queue."""
        if hasattr(self, "_thread"):
            self._worker.stopping.set()
            self._thread.join(END_SECONDS)


def workers_for_queue(context: Any) -> tuple[int, dict[str, Any]]:
    """How many workers Serve should have: one for each `target_ongoing_requests` jobs that wait or are being made."""
    said = (context.aggregated_metrics or {}).get(JOBS)
    if not said:  # no worker has counted yet
        return context.target_num_replicas, {}
    return math.ceil(max(said.values()) / context.config.target_ongoing_requests), {}


def check_queue(settings: Settings) -> None:
    """Refuse a queue in a file where processes of several machines would write it.

    Raises:
        ConfigError: The cluster has several machines, and there is no database.
    """
    machines = sum(node["Alive"] for node in ray.nodes())
    if machines > 1 and settings.queue_address() is None:
        raise ConfigError(
            f"the cluster has {machines} machines and the queue is a file, which fits one machine; a PostgreSQL that "
            "all of them reach is needed; give database, or set VIDEOPOET_DATABASE on all of them",
            code="database_needed",
        )
