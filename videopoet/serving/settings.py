"""What a deployment of many servers and workers is told, and the service and the worker that it comes to.

Importing this loads no model's code: Ray's own processes read settings too.
"""

from __future__ import annotations

import os
import secrets
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field

from videopoet.config import BaseConfig
from videopoet.errors import ConfigError
from videopoet.serving.keys import Keys, read_keys
from videopoet.serving.storage import DATABASE_VARIABLE, Storage

if TYPE_CHECKING:
    from videopoet.serving.server import Service
    from videopoet.serving.worker import Worker


def _split(value: Any) -> Any:
    return [name.strip() for name in value.split(",")] if isinstance(value, str) else value


class Settings(BaseConfig):
    """The options of `videopoet serve` by their names there, and how many servers and workers there are."""

    folder: Path
    """Of the queue and all files; every machine sees the same one under the same absolute path."""
    database: str | None = Field(None, pattern=r"^postgres(ql)?://")
    """The address of the queue; without it that of the environment, and else a file in the folder, for one machine."""
    model: str | None = None
    """A poet's folder, which every machine has, or its id on the Hugging Face hub."""
    servers: int = Field(2, ge=1, le=1000)
    """Processes that answer requests."""
    workers: int = Field(1, ge=1, le=1000)
    """Processes that make media."""
    most_workers: int | None = Field(None, ge=1, le=1000)
    """So many there may be while jobs wait; without it, always `workers`."""
    gpus: float = Field(0.0, ge=0.0)
    """Of each worker; half of one lets two workers share it."""
    batch: int = Field(4, ge=1, le=32)
    """The most alike jobs that are made together."""
    api_keys: Path | None = None
    """A file with one key a line."""
    allow_host: Annotated[tuple[str, ...], BeforeValidator(_split)] = ()
    """Names that the servers may be called by, besides those of the loopback."""
    most_queued: int = Field(100, ge=1, le=100_000)
    most_seconds: float = Field(30.0, ge=0.1, le=60)
    """Of one clip."""
    most_upload_mib: int = Field(64, ge=1, le=4096)
    most_kept_gb: float = Field(20.0, ge=0.1)
    most_job_seconds: float = Field(1800.0, ge=1)
    insecure: bool = False
    """Let everyone in who reaches a server."""

    def model_post_init(self, context: Any) -> None:
        for name in ("folder", "api_keys"):
            path = getattr(self, name)
            if path is not None and not path.is_absolute():
                raise ConfigError(
                    f"{name} is '{path}'; the processes begin in folders of their own, so an absolute path is needed; "
                    f"give {Path.cwd() / path}",
                    code="path_relative",
                )
        if self.most_workers is not None and self.most_workers < self.workers:
            raise ConfigError(
                f"most_workers is {self.most_workers}, below workers, {self.workers}; as many or more fit; raise it, "
                "or leave it out",
                code="workers_invalid",
            )

    def queue_address(self) -> str | None:
        """Of the database, from here or from the environment of this process."""
        return self.database or os.environ.get(DATABASE_VARIABLE) or None

    def service(self) -> Service:
        """A server's, without workers of its own.

        Raises:
            ConfigError: There is no key, and it was not said that none is needed.
        """
        from videopoet.serving.intake import Ceilings
        from videopoet.serving.server import Service

        keys = Keys(read_keys(self.api_keys))
        if not keys and not self.insecure:
            raise ConfigError(
                "there is no key, and other machines may reach these servers; give api_keys, or set insecure to true "
                "to let everyone in",
                code="key_needed",
            )
        ceilings = Ceilings(
            most_bytes=self.most_upload_mib * 2**20,
            most_seconds=self.most_seconds,
            most_queued=self.most_queued,
            most_kept_bytes=round(self.most_kept_gb * 1e9),
        )
        return Service(
            self.folder,
            database=self.queue_address(),
            ceilings=ceilings,
            keys=keys,
            hosts=self.allow_host,
            num_workers=0,
        )

    def worker(self) -> Worker:
        """A worker that has loaded its model, under a name of its own."""
        from videopoet.serving.jobs import Jobs
        from videopoet.serving.worker import begin

        storage = Storage(self.folder)
        return begin(
            Jobs(self.queue_address() or storage.queue),
            storage,
            f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}",
            model=self.model,
            device="cuda" if self.gpus else None,
            most_jobs=self.batch,
            most_job_seconds=self.most_job_seconds,
            most_seconds=self.most_seconds,
        )
