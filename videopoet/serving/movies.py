"""Movies over HTTP: their addresses, and what a worker makes of a job of that kind."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any, get_args
from weakref import WeakKeyDictionary

import torch
from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from videopoet.errors import TaskError
from videopoet.generation import storyboard as boards
from videopoet.generation.movie import Movie
from videopoet.generation.pipeline import VideoPoet
from videopoet.generation.storyboard import MOST_SCENES, Storyboard
from videopoet.generation.take_store import TakeStore, fingerprint
from videopoet.media.files import write_parts
from videopoet.media.resample import resize_and_crop
from videopoet.media.types import Audio, Image, Video
from videopoet.sequence.cameras import CAMERA_MOVES
from videopoet.serving import previews
from videopoet.serving.fields import with_param
from videopoet.serving.jobs import MOST_ATTEMPTS, Job, new_id
from videopoet.serving.storage import Storage
from videopoet.serving.videos import ERRORS, service_of, shown
from videopoet.serving.views import JobView
from videopoet.writers.base import LONGEST_IDEA, write_storyboard
from videopoet.writers.toybox import Toybox

if TYPE_CHECKING:
    from videopoet.serving.server import Service

TASK = "movie"
TAKES = "scenes"
"""The folder of a job's takes, beside its result."""
LONGER = 4
"""How many times the length of one clip a movie may have."""
SHEET_SIDE = 160
"""Pixels of the long side of a frame in the spritesheet."""
router = APIRouter(prefix="/v1", tags=["movies"], responses=ERRORS)
_ID = re.compile(r"video_[0-9a-f]{32}")
_FINGERPRINTS: WeakKeyDictionary[VideoPoet, str] = WeakKeyDictionary()
"""Of this process's poets, whose weights stay as they are: all of a large one's take seconds to read."""


class Idea(BaseModel):
    """What a storyboard is to be written from."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    idea: Annotated[str, Field(min_length=1, max_length=LONGEST_IDEA)]
    scenes: Annotated[int, Field(ge=1, le=MOST_SCENES, strict=True)] = 5
    seconds: Annotated[float, Field(gt=0, le=boards.LONGEST_MOVIE, description="Of all scenes.")] | None = None
    seed: Annotated[int, Field(ge=0, le=2**53, strict=True)] = 0


class Written(BaseModel):
    """A storyboard, and what of the idea is not in it."""

    storyboard: dict[str, Any]
    warnings: list[str]


class MovieRequest(BaseModel):
    """A movie to be made."""

    model_config = ConfigDict(extra="forbid")

    storyboard: Storyboard
    takes_of: str | None = Field(
        default=None, max_length=80, description="An earlier movie, whose unchanged scenes are not made again."
    )
    metadata: bool = Field(default=True, description="Keep storyboard, model and settings in the file.")


@router.get("/storyboards", operation_id="describe_storyboards")
def describe(request: Request) -> dict[str, Any]:
    """What a storyboard may say: choices, limits and defaults."""
    usual = {name: field.default for name, field in Storyboard.model_fields.items() if not field.is_required()}
    return {
        "cameras": list(CAMERA_MOVES),
        "transitions": list(get_args(boards.Transition)),
        "shapes": list(get_args(boards.Shape)),
        "fits": list(get_args(boards.Fit)),
        "most_scenes": MOST_SCENES,
        "most_seconds": most_seconds(service_of(request)),
        "longest_title": boards.LONGEST_TITLE,
        "defaults": {name: value for name, value in usual.items() if value is not None},
    }


@router.post("/storyboards", operation_id="write_storyboard")
def write(idea: Idea) -> Written:
    """Turn an idea into a storyboard, by the built-in story grammar; it answers at once."""
    writer = Toybox()
    board = write_storyboard(idea.idea, writer, scenes=idea.scenes, seconds=idea.seconds, seed=idea.seed)
    return Written(storyboard=board.to_dict(), warnings=list(writer.warnings))


@router.post("/movies", operation_id="create_movie")
def create(request: Request, asked: MovieRequest) -> JobView:
    """Ask for the movie of a storyboard; it is a job like any other, and its result a clip."""
    service, owner, board = service_of(request), request.state.owner, asked.storyboard
    service.storage.check_room()
    seconds = sum(scene.seconds for scene in board.scenes)
    if seconds > most_seconds(service):
        raise with_param(
            TaskError(
                f"the scenes last {seconds:g} seconds together; this server makes {most_seconds(service):g} at once; "
                "ask for less",
                code="range",
            ),
            "storyboard",
        )
    model = service.jobs.model()
    if model is not None and "text_to_video" not in model["tasks"]:
        raise TaskError(
            "this model was not trained for text_to_video, of which movies are made; another one is; ask for "
            "something else",
            code="task_unsupported",
        )
    parent = None
    if asked.takes_of is not None:
        parent = service.jobs.get(asked.takes_of, owner) if _ID.fullmatch(asked.takes_of) else None
        if parent is None or parent.task != TASK:
            raise with_param(
                TaskError(
                    "takes_of names no movie that is known here; the id of one fits; leave it out", code="job_unknown"
                ),
                "takes_of",
            )
    fields = {"prompt": board.title or board.scenes[0].prompt, "seconds": seconds, "seed": board.seed}
    fields |= {} if asked.metadata else {"metadata": False}
    job = service.jobs.add(
        new_id(),
        owner,
        TASK,
        {"fields": {**fields, "storyboard": board.completed().to_dict()}, "inputs": []},
        parent=parent.id if parent else None,
        most_queued=service.ceilings.most_queued,
    )
    return shown(service, job)


def most_seconds(service: Service) -> float:
    """The longest movie that a server makes."""
    return min(boards.LONGEST_MOVIE, LONGER * service.ceilings.most_seconds)


def make(poet: VideoPoet, storage: Storage, job: Job, on_step: Callable[[int, int], None]) -> dict[str, Any]:
    """Make a job's movie and write its files; what there is, as plain values for the queue.

    Scenes that an earlier attempt made, or the movie that it goes on from, are taken from there.

    Raises:
        TaskError: The storyboard does not fit the model.
        OSError: The disk is full.
    """
    also = [storage.result(job.id, attempt, TAKES) for attempt in range(1, job.attempts)]
    if job.parent is not None:
        also += [storage.result(job.parent, attempt, TAKES) for attempt in range(1, MOST_ATTEMPTS + 1)]
    if poet not in _FINGERPRINTS:
        _FINGERPRINTS[poet] = fingerprint(poet.parts)
    store = TakeStore(poet.parts, storage.result(job.id, job.attempts, TAKES), also, _FINGERPRINTS[poet])
    movie = poet.movie(job.request["fields"]["storyboard"], takes=store, progress=False, on_step=on_step)

    def place(name: str):
        return storage.result(job.id, job.attempts, name)

    seen = _Seen(movie)
    write_parts(seen, place("video.mp4"), movie.metadata if job.request["fields"].get("metadata", True) else None)
    files = {"video": "video.mp4", "thumbnail": "thumbnail.png", "spritesheet": "spritesheet.png"}
    Image(seen.thumbnail).save(place("thumbnail.png"))
    Image(previews.spritesheet(torch.stack(seen.small, dim=1))).save(place("spritesheet.png"))
    if seen.sounds:
        samples = torch.cat([sound.samples for sound in seen.sounds], dim=1)
        Audio(samples, seen.sounds[0].sample_rate).save(place("audio.wav"))
        files["audio"] = "audio.wav"
    return {
        "kind": "video",
        "seconds": movie.seconds,
        "num_frames": movie.num_frames,
        "fps": movie.frame_rate,
        "width": movie.width,
        "height": movie.height,
        "files": files,
        "metadata": movie.metadata,
        "warnings": movie.warnings,
    }


class _Seen:
    """The parts of a movie on their way to a file; keeps its sound, and the pictures that stand for it."""

    def __init__(self, movie: Movie):
        self.movie = movie
        self.small: list[Tensor] = []
        self.sounds: list[Audio] = []

    def __iter__(self) -> Iterator[Video]:
        movie, number = self.movie, 0
        count = min(previews.SHEET_FRAMES, movie.num_frames)
        wanted = set(torch.linspace(0, movie.num_frames - 1, count).round().long().tolist())
        scale = SHEET_SIDE / max(movie.height, movie.width)
        small = max(2, round(movie.height * scale)), max(2, round(movie.width * scale))
        middle = movie.num_frames // 2
        for part in movie:
            for frame in part.frames.unbind(1):
                if number in wanted:
                    self.small.append(resize_and_crop(frame, *small))
                if number == middle:
                    self.thumbnail = frame.contiguous()
                number += 1
            if part.audio is not None:
                self.sounds.append(part.audio)
            yield part
