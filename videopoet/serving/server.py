"""The HTTP server: its addresses, and the application that joins queue, storage, workers and studio.

`videos` has the addresses of jobs and `generations` those that wait for a result; here are the rest.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import anyio
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException

from videopoet import __version__
from videopoet.errors import DataError, TaskError, VideoPoetError
from videopoet.sequence.tasks import TASKS
from videopoet.serving import failures, generations, movies, videos
from videopoet.serving.guard import Guard
from videopoet.serving.intake import Ceilings, Intake
from videopoet.serving.jobs import Jobs
from videopoet.serving.keys import Keys
from videopoet.serving.metrics import registry
from videopoet.serving.storage import Storage
from videopoet.serving.supervisor import Supervisor
from videopoet.serving.views import task_view

STUDIO = Path(__file__).parent / "studio"
ROOM_SECONDS = 60.0
MOST_SUBMITTED = 8
"""Submissions without files that are written at once, and share one wait for the disk. More threads would take turns at
the interpreter, each with a connection of its own to the queue."""
log = logging.getLogger("videopoet.serving")
MOST_EXAMINED = 2
"""Requests whose files are looked at at once: each takes a process that decodes."""


class Service:
    """What the addresses share.

    Args:
        folder: Of files, and of the queue where there is no database.
        database: The `postgresql://` address of the queue, for servers and workers on several machines that share the
            folder.
        ceilings: What clients can never raise.
        keys: Who may ask.
        hosts: Further names of this server.
        num_workers: Processes that make media; 0 leaves that to others on the same folder.
        worker_arguments: What they are called with, such as `--model`.
        devices: Where they work, in turn; the best there are where it is left out.

    Raises:
        DataError: The queue cannot be read.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        database: str | None = None,
        ceilings: Ceilings | None = None,
        keys: Keys | None = None,
        hosts: Sequence[str] = (),
        num_workers: int = 1,
        worker_arguments: Sequence[str] = (),
        devices: Sequence[str] | None = None,
    ):
        self.ceilings, self.keys, self.hosts = ceilings or Ceilings(), keys or Keys(), hosts
        self.storage = Storage(folder)
        self.queue = database or self.storage.queue
        self.jobs = Jobs(self.queue)
        self.intake = Intake(self.jobs, self.storage, self.ceilings)
        self.examining = anyio.CapacityLimiter(MOST_EXAMINED)
        self.submitting = anyio.CapacityLimiter(MOST_SUBMITTED)
        own = ["--folder", str(self.storage.folder), "--most-seconds", str(self.ceilings.most_seconds)]
        self.supervisor = Supervisor(self.jobs, num_workers, [*own, *worker_arguments], database, devices)

    def why_not_ready(self) -> str | None:
        """Why a job would not begin now, or None."""
        states = self.jobs.workers()
        if states.get("ready"):
            return None
        if self.supervisor.given_up:
            return "the model cannot be loaded; the server's log says why"
        return "the model is still being loaded" if states.get("loading") else "no worker is running"


def create_app(service: Service) -> FastAPI:
    """The ASGI application of a service; starting it begins the workers."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await anyio.to_thread.run_sync(service.storage.sweep, service.jobs.known_ids())
        service.supervisor.start()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_keep_room, service)
            yield
            tasks.cancel_scope.cancel()
        await anyio.to_thread.run_sync(service.supervisor.end)
        service.jobs.close()

    app = FastAPI(
        title="videopoet",
        version=__version__,
        summary="Makes and edits video with sound: the open videos API.",
        lifespan=lifespan,
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
    )
    app.state.service = service
    for error in (VideoPoetError, HTTPException, RequestValidationError, Exception):
        app.add_exception_handler(error, failures.on_error)
    _add_addresses(app, service)
    app.include_router(generations.router)  # before /v1/videos/{id}, which would take /v1/videos/sync
    app.include_router(videos.router)
    app.include_router(videos.everything)
    app.include_router(movies.router)
    if STUDIO.is_dir():
        app.mount("/studio", StaticFiles(directory=STUDIO, html=True), name="studio")
    app.add_middleware(Guard, hosts=service.hosts, keys=service.keys, most_bytes=service.ceilings.most_bytes)
    app.openapi = _openapi(app)
    return app


def _add_addresses(app: FastAPI, service: Service) -> None:
    @app.get("/", include_in_schema=False)
    def studio() -> FileResponse:
        return FileResponse(STUDIO / "index.html", headers={"Cache-Control": "no-cache"})

    @app.get("/health", tags=["server"])
    def health() -> dict[str, str]:
        """Whether the server lives."""
        return {"status": "ok", "version": __version__}

    @app.get("/ready", tags=["server"], responses={503: {"description": "Not yet, or no longer, and why."}})
    def ready() -> JSONResponse:
        """Whether a job would begin at once."""
        reason = service.why_not_ready()
        if reason is None:
            return JSONResponse({"ready": True})
        return JSONResponse({"ready": False, "reason": reason}, 503, {"Retry-After": "2"})

    @app.get("/metrics", tags=["server"], response_class=PlainTextResponse)
    def metrics() -> PlainTextResponse:
        """Figures for Prometheus."""
        return PlainTextResponse(generate_latest(registry(service)), media_type=CONTENT_TYPE_LATEST)

    @app.get("/v1/tasks", tags=["tasks"])
    def tasks() -> dict[str, Any]:
        """Every task: what it takes, what can be set, what it gives."""
        model = service.jobs.model()
        return {"object": "list", "data": [task_view(task, model) for task in TASKS.values()]}

    @app.get("/v1/models", tags=["models"])
    def models() -> dict[str, Any]:
        """The model that this server has, once a worker has loaded it."""
        model = service.jobs.model()
        return {"object": "list", "data": [] if model is None else [_model_view(model)]}

    @app.get("/v1/models/{model_id}", tags=["models"], responses=videos.ERRORS)
    def one_model(model_id: str) -> dict[str, Any]:
        """What is known of a model."""
        model = service.jobs.model()
        if model is None or model_id not in (model["name"], "videopoet"):
            raise TaskError(
                "there is no model of that name here; /v1/models lists those there are; name one of them",
                code="model_unknown",
            )
        return _model_view(model)


def _model_view(model: dict[str, Any]) -> dict[str, Any]:
    return {"id": model["name"], "object": "model", "created": 0, "owned_by": "videopoet", **model}


def _openapi(app: FastAPI) -> Callable[[], dict[str, Any]]:
    """The document, with the bodies that addresses read by themselves."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = get_openapi(
                title=app.title, version=app.version, summary=app.summary, routes=app.routes
            )
            videos.describe_bodies(app.openapi_schema)
        return app.openapi_schema

    return document


async def _keep_room(service: Service) -> None:
    """Keep what is stored within its cap, and take back jobs whose worker is gone, as long as the server runs."""
    while True:
        try:
            await anyio.to_thread.run_sync(service.jobs.recover)
            await anyio.to_thread.run_sync(service.intake.make_room)
        except DataError as error:  # a database that is away; the next time it may be back
            log.warning("%s", error)
        # Whatever it is: without the next round, the folder would grow and jobs of dead workers would stay lost.
        except Exception:
            log.exception("keeping room met a fault; it is tried again in %g s", ROOM_SECONDS)
        await anyio.sleep(ROOM_SECONDS)
