"""The addresses that wait for their result and answer with it: a clip, pictures, a sound."""

from __future__ import annotations

import base64
import time
from collections.abc import Sequence
from typing import Any

import anyio
from fastapi import APIRouter, Request
from fastapi.responses import FileResponse
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.concurrency import run_in_threadpool

from videopoet.errors import TaskError
from videopoet.serving import bodies
from videopoet.serving.bodies import Body
from videopoet.serving.fields import Whole, with_param
from videopoet.serving.jobs import Job
from videopoet.serving.videos import ERRORS, LOOK_SECONDS, content, service_of, submit, submitted
from videopoet.serving.views import JobView

WAIT_SECONDS = 900.0
MOST_PICTURES = 4
_SEED = TypeAdapter(Whole)
router = APIRouter(prefix="/v1", tags=["generations"], responses={**ERRORS, 504: ERRORS[503]})


class Picture(BaseModel):
    """One picture."""

    b64_json: str
    id: str


class Pictures(BaseModel):
    """The answer of /v1/images/generations."""

    created: int
    output_format: str = "png"
    data: list[Picture]


@router.post("/videos/sync", operation_id="create_video_and_wait", response_class=FileResponse)
async def video(request: Request) -> FileResponse:
    """As POST /v1/videos, but the answer is the finished file; who hangs up cancels the job."""
    job = await submitted(request)
    (ended,) = await _ended(request, [job])
    return _file(request, ended, "video")


@router.post("/images/generations", operation_id="create_image")
async def images(request: Request) -> Pictures:
    """Make 1 to 4 pictures; each as base64 of a PNG."""
    service, owner = service_of(request), request.state.owner
    async with bodies.read(request, service.storage) as body:
        count = _whole(body.fields.pop("n", 1), "n", MOST_PICTURES)
        _only(body, "response_format", "b64_json")
        jobs = []
        try:
            for number in range(count):
                values = dict(body.fields)
                if number:
                    values["seed"] = _later(values.get("seed"), number)
                one = Body(values, body.files if number == count - 1 else {})
                jobs.append(await submit(request, one, default_task="text_to_image"))
        except BaseException:
            for job in jobs:
                service.jobs.cancel(job.id, owner)
            raise
    ended = await _ended(request, jobs)
    data = []
    for job in ended:
        file = await anyio.Path(_file(request, job, "image").path).read_bytes()
        data.append(Picture(b64_json=base64.b64encode(file).decode(), id=job.id))
    return Pictures(created=int(time.time()), data=data)


@router.post("/audio/generations", operation_id="create_audio", response_class=FileResponse)
async def audio(request: Request) -> FileResponse:
    """Make a sound, from words, or of a clip that is given; the answer is a WAV."""
    service = service_of(request)
    async with bodies.read(request, service.storage) as body:
        _only(body, "response_format", "wav")
        has_clip = {"video", "input_reference"} & {*body.fields, *body.files}
        task = "video_to_audio" if has_clip else "text_to_audio"
        job = await submit(request, body, default_task=task)
    (ended,) = await _ended(request, [job])
    return _file(request, ended, "audio")


async def _ended(request: Request, jobs: Sequence[JobView]) -> list[Job]:
    """Jobs once they have ended well.

    Raises:
        TaskError: One failed or was cancelled, or it takes too long.
    """
    service, began = service_of(request), time.monotonic()
    waiting, ended = list(jobs), {}
    try:
        while waiting:
            now = await run_in_threadpool(service.jobs.get, waiting[0].id, request.state.owner)
            if now is None or now.status == "cancelled":
                raise TaskError("the job was cancelled; it has no result; ask for it again", code="already_ended")
            if now.error is not None:
                raise TaskError(now.error["message"], code=now.error["code"])
            if now.ended:
                ended[now.id] = now
                waiting.pop(0)
                continue
            if await request.is_disconnected():
                raise TaskError("the client hung up; the job is cancelled; ask again", code="already_ended")
            if time.monotonic() - began > WAIT_SECONDS:
                raise TaskError(
                    f"the result was not there after {WAIT_SECONDS:g} seconds, and the job is cancelled; an answer may "
                    "take no longer; use POST /v1/videos, which does not wait",
                    code="timeout",
                )
            await anyio.sleep(LOOK_SECONDS)
    finally:
        for job in waiting:  # where all went well there is none
            service.jobs.cancel(job.id, request.state.owner)
    return [ended[job.id] for job in jobs]


def _file(request: Request, job: Job, variant: Any) -> FileResponse:
    answer = content(request, job, variant)
    answer.headers["X-Video-Id"] = job.id
    return answer


def _whole(value: Any, name: str, most: int) -> int:
    number = int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value
    if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= most:
        raise with_param(
            TaskError(f"{name} is {str(value)[:60]!r}; it must be from 1 to {most}; ask again for more", code="range"),
            name,
        )
    return number


def _later(seed: Any, number: int) -> Any:
    """The seed of a further picture, whether a form or JSON gave the first; what is none stays, to be refused."""
    try:
        return _SEED.validate_python(seed) + number
    except ValidationError:
        return seed


def _only(body: Body, name: str, fitting: str) -> None:
    found = body.fields.pop(name, fitting)
    if found != fitting:
        raise with_param(
            TaskError(f"{name} is {str(found)[:60]!r}; {fitting} is what there is; leave it out", code="range"),
            name,
        )
