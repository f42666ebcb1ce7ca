"""The addresses of jobs: make, list, look at, follow, download, cancel, delete, and go on from what there is."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

import anyio
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import FileResponse, StreamingResponse
from starlette.concurrency import run_in_threadpool

from videopoet.errors import TaskError
from videopoet.serving import bodies, previews
from videopoet.serving.fields import Fields
from videopoet.serving.jobs import Job
from videopoet.serving.storage import MEDIA_TYPES
from videopoet.serving.views import Deleted, ErrorAnswer, JobList, JobView, job_view

if TYPE_CHECKING:
    from videopoet.serving.server import Service

LOOK_SECONDS = 0.2
"""How often a job that somebody waits for is looked at."""
QUIET_SECONDS = 15.0
"""After so long without news a stream says that it lives."""
_ID = re.compile(r"video_[0-9a-f]{32}")
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorAnswer, "description": meaning}
    for status, meaning in {
        400: "A value does not fit.",
        401: "No key, or a wrong one.",
        403: "A foreign host or page.",
        404: "There is no such thing.",
        408: "The body took too long.",
        409: "The job is not in a state for this.",
        413: "The body is too large.",
        415: "A type that is not read.",
        422: "A field is unknown or of the wrong kind.",
        429: "Too many wait; see Retry-After.",
        503: "Not ready.",
        507: "The disk is full.",
    }.items()
}
router = APIRouter(prefix="/v1/videos", tags=["videos"], responses=ERRORS)
everything = APIRouter()


def service_of(request: Request) -> Service:
    """The service behind a request."""
    return request.app.state.service


def known_job(video_id: str, request: Request) -> Job:
    """The job that an address names.

    Raises:
        TaskError: Its owner has no such job.
    """
    job = service_of(request).jobs.get(video_id, request.state.owner) if _ID.fullmatch(video_id) else None
    if job is None:
        raise TaskError(
            "there is no job of that id; one of /v1/videos fits; it may have been deleted", code="job_unknown"
        )
    return job


KnownJob = Annotated[Job, Depends(known_job)]


def shown(service: Service, job: Job) -> JobView:
    """A job as clients see it now."""
    place = service.jobs.place(job) if job.status == "queued" else None
    return job_view(job, service.jobs.model(), place)


async def submitted(request: Request, **how: Any) -> JobView:
    """The job that a body asks for, in the queue."""
    async with bodies.read(request, service_of(request).storage) as body:
        return await submit(request, body, **how)


async def submit(request: Request, body: bodies.Body, **how: Any) -> JobView:
    """The same of a body that has been read."""
    service = service_of(request)
    has_media = bool(body.files) or any(isinstance(body.fields.get(name), dict) for name in bodies.MEDIA_FIELDS)
    return await _in_turn(service, partial(service.intake.submit, request.state.owner, body, **how), has_media)


async def _in_turn(service: Service, call: Callable[[], Job], has_media: bool) -> JobView:
    """Files are looked at in threads of their own, so that no other request waits for them."""
    limiter = service.examining if has_media else service.submitting
    return await anyio.to_thread.run_sync(lambda: shown(service, call()), limiter=limiter)


@router.post("", operation_id="create_video")
async def create(request: Request) -> JobView:
    """Ask for a clip, a picture, a sound or a caption. Without `task`, what is given decides."""
    return await submitted(request)


@router.post("/extensions", operation_id="extend_video")
async def extend(request: Request) -> JobView:
    """Go on from a clip: the result is the clip and its continuation."""
    return await submitted(request, default_task="video_continuation", required="video")


@router.post("/edits", operation_id="edit_video")
async def edit(request: Request) -> JobView:
    """Change a clip: fill a region (mask or box), or paint it anew as the prompt says; or do as `task` says."""
    async with bodies.read(request, service_of(request).storage) as body:
        has_region = {"mask", "box"} & {*body.fields, *body.files}
        task = "inpainting" if has_region else "stylization"
        return await submit(request, body, default_task=task, required="video")


@router.get("", operation_id="list_videos")
def list_videos(
    request: Request,
    after: Annotated[str | None, Query(max_length=80)] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Literal["asc", "desc"] = "desc",
) -> JobList:
    """One's jobs, a page of them, the newest first unless `order` says otherwise."""
    service = service_of(request)
    start = None if after is None else known_job(after, request)
    newest_first = order == "desc"
    jobs = service.jobs.list(request.state.owner, after=start, limit=limit + 1, newest_first=newest_first)
    data = [shown(service, job) for job in jobs[:limit]]
    return JobList(
        data=data,
        first_id=data[0].id if data else None,
        last_id=data[-1].id if data else None,
        has_more=len(jobs) > limit,
    )


@router.get("/{video_id}", operation_id="get_video")
def look(request: Request, job: KnownJob) -> JobView:
    """How far a job is, and once it has ended what it became."""
    return shown(service_of(request), job)


@router.delete("/{video_id}", operation_id="delete_video")
def delete(request: Request, job: KnownJob) -> Deleted:
    """End a job, if it has not ended, and forget it and its files."""
    service = service_of(request)
    if service.jobs.remove(job.id, request.state.owner) is not None:
        service.storage.remove(job.id)
    return Deleted(id=job.id)


@router.post("/{video_id}/cancel", operation_id="cancel_video")
def cancel(request: Request, job: KnownJob) -> JobView:
    """End a job that has not ended; it stays in the list."""
    service = service_of(request)
    after = service.jobs.cancel(job.id, request.state.owner)
    if job.ended or after is None or after.status != "cancelled":
        raise TaskError(
            f"the job is {(after or job).status} already; one that waits or runs can be cancelled; delete it instead",
            code="already_ended",
        )
    return shown(service, after)


@router.post("/{video_id}/remix", operation_id="remix_video")
async def remix(request: Request, job: KnownJob) -> JobView:
    """Ask again for what a job was asked for, with what the body changes in it, such as the prompt."""
    service = service_of(request)
    async with bodies.read(request, service.storage) as body:
        again = partial(service.intake.again, request.state.owner, job, body)
        return await _in_turn(service, again, has_media=bool(body.files or job.request["inputs"]))


@router.get("/{video_id}/content", operation_id="download_video", response_class=FileResponse)
def content(
    request: Request,
    job: KnownJob,
    variant: Literal["video", "thumbnail", "spritesheet", "audio", "image", "text"] = "video",
) -> FileResponse:
    """A file of a result. `video` is the result itself, whatever kind it is; ranges are answered."""
    if job.status != "completed" or job.result is None:
        raise TaskError(
            f"the job is {job.status.replace('_', ' ')}; only a completed one has files; "
            f"{'ask for it again' if job.ended else 'wait for its end'}",
            code="not_finished",
        )
    files = job.result["files"]
    name = files.get(variant, files[job.result["kind"]] if variant == "video" else None)
    path = None if name is None else service_of(request).storage.result(job.id, job.result["attempt"], name)
    if name is None or path is None or not path.is_file():
        raise TaskError(
            f"the result has no {variant}; it has {', '.join(files)}; choose one of these", code="variant_missing"
        )
    kind = name.rpartition(".")[2]
    return FileResponse(
        path,
        media_type=MEDIA_TYPES[f".{kind}"],
        filename=f"{job.id}{'' if variant in ('video', job.result['kind']) else '-' + variant}.{kind}",
        headers={"Cache-Control": "private, max-age=31536000, immutable"},
    )


@router.get(
    "/{video_id}/events",
    operation_id="follow_video",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
)
async def events(request: Request, job: KnownJob) -> StreamingResponse:
    """Server-sent events: `progress` with the job at each change, `frames` as they are made, and its last status."""
    return StreamingResponse(
        _events(service_of(request), job), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
    )


async def _events(service: Service, job: Job) -> AsyncIterator[str]:
    last, quiet, news = None, 0.0, previews.News(service.storage)
    while True:
        now = await run_in_threadpool(service.jobs.get, job.id, job.owner)
        if now is None:
            yield f"event: deleted\ndata: {json.dumps({'id': job.id})}\n\n"
            return
        state = now.status, now.progress
        if state != last:
            view = await run_in_threadpool(shown, service, now)
            yield f"event: {now.status if now.ended else 'progress'}\ndata: {view.model_dump_json()}\n\n"
            last, quiet = state, 0.0
            if now.ended:
                return
        elif quiet > QUIET_SECONDS:
            yield ": still here\n\n"
            quiet = 0.0
        for event in await run_in_threadpool(news.of, now):
            yield event
            quiet = 0.0
        await anyio.sleep(LOOK_SECONDS)
        quiet += LOOK_SECONDS


@everything.get(
    "/v1/events",
    tags=["videos"],
    operation_id="follow_all",
    response_class=StreamingResponse,
    responses={**ERRORS, 200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
)
async def all_events(request: Request) -> StreamingResponse:
    """Server-sent events of one's newest 100 jobs: each as it is, then at every change, `frames`, and `deleted`."""
    return StreamingResponse(
        _all_events(service_of(request), request.state.owner),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store"},
    )


async def _all_events(service: Service, owner: str) -> AsyncIterator[str]:
    last: dict[str, tuple[Any, ...]] = {}
    quiet, news = 0.0, previews.News(service.storage)
    while True:
        jobs = await run_in_threadpool(service.jobs.list, owner, limit=100)
        now = {job.id: (job.status, job.progress) for job in jobs}
        oldest = min((job.number for job in jobs), default=0)
        for job in reversed(jobs):
            if last.get(job.id, ())[:2] != now[job.id]:
                view = await run_in_threadpool(shown, service, job)
                yield f"event: {job.status if job.ended else 'progress'}\ndata: {view.model_dump_json()}\n\n"
                quiet = 0.0
            for event in await run_in_threadpool(news.of, job):
                yield event
                quiet = 0.0
        for job_id in last.keys() - now.keys():
            if last[job_id][2] >= oldest:  # else it only moved beyond the newest
                yield f"event: deleted\ndata: {json.dumps({'id': job_id})}\n\n"
        last = {job.id: (*now[job.id], job.number) for job in jobs}
        if quiet > QUIET_SECONDS:
            yield ": still here\n\n"
            quiet = 0.0
        await anyio.sleep(LOOK_SECONDS)
        quiet += LOOK_SECONDS


def describe_bodies(document: dict[str, Any]) -> None:
    """Say in an OpenAPI document what the addresses that read their bodies themselves take."""
    schema = Fields.model_json_schema(ref_template="#/components/schemas/{model}")
    document["components"]["schemas"] |= schema.pop("$defs")
    form = {**schema, "properties": dict(schema["properties"])}
    for name in bodies.MEDIA_FIELDS:
        form["properties"][name] = {"type": "string", "format": "binary"}
    more = {
        "create_image": {
            "n": {"type": "integer", "minimum": 1, "maximum": 4},
            "response_format": {"const": "b64_json"},
        },
        "create_audio": {"response_format": {"const": "wav"}},
    }
    for operations in document["paths"].values():
        for operation in operations.values():
            name = operation.get("operationId", "")
            if name in _WITH_BODY:
                extra = more.get(name, {})
                operation["requestBody"] = {
                    "required": True,
                    "content": {
                        kind: {"schema": {**one, "properties": {**one["properties"], **extra}}}
                        for kind, one in (("application/json", schema), ("multipart/form-data", form))
                    },
                }


_WITH_BODY = (
    "create_video",
    "extend_video",
    "edit_video",
    "remix_video",
    "create_video_and_wait",
    "create_image",
    "create_audio",
)
