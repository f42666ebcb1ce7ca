"""Where the server keeps files: what jobs were given and what they became, under names that the server makes.

    queue.sqlite            the queue
    jobs/ID/inputs/FIELD    what a request was given, by the field it is for
    jobs/ID/ATTEMPT/        what it became: video.mp4, image.png, audio.wav, text.txt, thumbnail.png, spritesheet.png
    jobs/ID/ATTEMPT/early/  while it is made, frames that there are already
    incoming/               uploads that are still arriving

No part of a path comes from a user: an id has one fixed form, and the rest are names of ours.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from videopoet.errors import DataError

QUEUE = "queue.sqlite"
DATABASE_VARIABLE = "VIDEOPOET_DATABASE"
"""Where workers are told the address of a queue in PostgreSQL; a command line would show its password to all."""
MEDIA_TYPES = {".mp4": "video/mp4", ".png": "image/png", ".wav": "audio/wav", ".txt": "text/plain; charset=utf-8"}
LEAST_FREE_BYTES = 200_000_000
LEFT_SECONDS = 3600.0
"""What belongs to no job for so long was left by a kill; younger files may be of a request that is being read."""
_ID = re.compile(r"video_[0-9a-f]{32}")
_NAME = re.compile(r"[a-z_]+(\.(mp4|png|wav|txt))?")


class Storage:
    """The folder of a server."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder).absolute()
        for name in ("jobs", "incoming"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)

    @property
    def queue(self) -> Path:
        return self.folder / QUEUE

    @property
    def incoming(self) -> Path:
        return self.folder / "incoming"

    def of_job(self, job_id: str) -> Path:
        """A job's folder, which need not exist."""
        assert _ID.fullmatch(job_id), "an id of ours"
        return self.folder / "jobs" / job_id

    def input(self, job_id: str, name: str) -> Path:
        """What a job was given for a field."""
        assert _NAME.fullmatch(name), "a field of ours"
        return self.of_job(job_id) / "inputs" / name

    def result(self, job_id: str, attempt: int, name: str) -> Path:
        """One of a job's files, as its attempt of that number wrote it."""
        assert _NAME.fullmatch(name), "a file of ours"
        return self.of_job(job_id) / str(int(attempt)) / name

    def take_in(self, job_id: str, name: str, file: Path, *, keep: bool) -> None:
        """Make a file an input of a job: moved there, or shared with the job that it belongs to."""
        target = self.input(job_id, name)
        target.parent.mkdir(parents=True, exist_ok=True)
        if not keep:
            os.replace(file, target)
            return
        try:
            os.link(file, target)  # what is written once and never changed can be shared
        except FileNotFoundError:
            raise
        except OSError:
            shutil.copyfile(file, target)

    def new_upload(self) -> Path:
        """An empty file for bytes that arrive."""
        handle, name = tempfile.mkstemp(dir=self.incoming)
        os.close(handle)
        return Path(name)

    def remove(self, job_id: str) -> None:
        """Delete all that belongs to a job."""
        shutil.rmtree(self.of_job(job_id), ignore_errors=True)

    def sweep(self, known: Iterable[str]) -> None:
        """Delete what belongs to no job: what a kill left half-done."""
        known, long_ago = set(known), time.time() - LEFT_SECONDS
        for folder in (self.folder / "jobs").iterdir():
            with contextlib.suppress(FileNotFoundError):  # another server has just deleted it
                if folder.name not in known and folder.stat().st_mtime < long_ago:
                    shutil.rmtree(folder, ignore_errors=True)
        for file in self.incoming.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if file.stat().st_mtime < long_ago:
                    file.unlink()

    def used_bytes(self, job_id: str) -> int:
        """What a job's files take; those that vanish meanwhile take nothing."""
        used = 0
        for folder, _, names in os.walk(self.of_job(job_id)):
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    used += os.stat(os.path.join(folder, name)).st_size
        return used

    def check_room(self) -> None:
        """Refuse work whose result might find no place.

        Raises:
            DataError: The disk is nearly full.
        """
        free = shutil.disk_usage(self.folder).free
        if free < LEAST_FREE_BYTES:
            raise DataError(
                f"the server's disk has {free / 1e6:.0f} MB free; {LEAST_FREE_BYTES / 1e6:.0f} MB are needed to begin "
                "a job; free some space",
                code="disk_full",
            )
