"""What clients see of jobs, tasks and models."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field

from videopoet.errors import TaskError
from videopoet.generation.request import Request
from videopoet.sequence.cameras import CAMERA_MOVES
from videopoet.sequence.conditions import REGIONS
from videopoet.sequence.tasks import TASKS, Task
from videopoet.serving.fields import limits
from videopoet.serving.jobs import Job


class ErrorView(BaseModel):
    """Why a job failed."""

    code: str
    message: str


class JobView(BaseModel):
    """A job, and once it has ended what it became."""

    id: str
    object: Literal["video"] = "video"
    status: Literal["queued", "in_progress", "completed", "failed", "cancelled"]
    progress: int = Field(ge=0, le=100)
    model: str
    task: str
    prompt: str | None
    seconds: str
    size: str
    created_at: int
    started_at: int | None
    completed_at: int | None
    expires_at: int | None = None
    error: ErrorView | None
    remixed_from_video_id: str | None
    parent_id: str | None = Field(description="The job whose result this one goes on from.")
    queue_position: int | None = Field(description="How many jobs begin before this one.")
    kind: Literal["video", "image", "audio", "text"] = Field(description="What it makes.")
    seed: int | None
    settings: dict[str, Any] = Field(description="The fields of its request.")
    inputs: list[str] = Field(description="The fields that were given as files.")
    variants: list[str] = Field(description="What /content can give.")
    text: str | None = Field(description="Of a result that is words.")
    warnings: list[str]
    metadata: dict[str, Any] = Field(description="How the result was made.")


class JobList(BaseModel):
    """A page of jobs."""

    object: Literal["list"] = "list"
    data: list[JobView]
    first_id: str | None
    last_id: str | None
    has_more: bool


class Deleted(BaseModel):
    """A job that is no more."""

    id: str
    object: Literal["video.deleted"] = "video.deleted"
    deleted: Literal[True] = True


class ErrorBody(BaseModel):
    """What was found, what fits, and what to do."""

    type: str
    code: str
    message: str
    param: str | None


class ErrorAnswer(BaseModel):
    """The body of every answer that is an error."""

    error: ErrorBody


def job_view(job: Job, model: dict[str, Any] | None, place: int | None = None) -> JobView:
    """A job as clients see it.

    Args:
        job: The row.
        model: What its worker says of the model, for what the job leaves to it.
        place: How many wait before it.
    """
    fields, result = job.request["fields"], job.result or {}
    usual = (model or {}).get("settings", {})
    width = result.get("width", fields.get("width", usual.get("width", 0)))
    height = result.get("height", fields.get("height", usual.get("height", 0)))
    rate = usual.get("frame_rate") or 1.0
    length = fields.get("seconds") or fields.get("num_frames", usual.get("num_frames", 0)) / rate
    variants = list(result.get("files", {}))
    return JobView(
        id=job.id,
        status=job.status,  # pyright: ignore[reportArgumentType]
        progress=job.progress,
        model=(model or {}).get("name", "videopoet"),
        task=job.task,
        prompt=fields.get("prompt"),
        seconds=f"{result.get('seconds', length):.6g}",
        size=f"{width}x{height}",
        created_at=int(job.created_at),
        started_at=None if job.started_at is None else int(job.started_at),
        completed_at=None if job.completed_at is None else int(job.completed_at),
        error=None if job.error is None else ErrorView(**job.error),
        remixed_from_video_id=job.parent if job.request.get("remix") else None,
        parent_id=job.parent,
        queue_position=place,
        kind=result.get("kind", TASKS[job.task].gives[0] if job.task in TASKS else "video"),
        seed=result.get("metadata", {}).get("seed", fields.get("seed")),
        settings=fields,
        inputs=sorted(job.request["inputs"]),
        variants=variants,
        text=result.get("text"),
        warnings=result.get("warnings", []),
        metadata=result.get("metadata", {}),
    )


_SAMPLES: dict[str, Any] = {
    "negative_prompt": "words",
    "camera": CAMERA_MOVES[0],
    "start": 1.0,
    "seconds": 1.0,
    "size": (64, 64),
    "upscale": 2,
    "seed": 1,
    "guidance_scale": 2.0,
    "temperature": 1.0,
    "top_p": 0.9,
    "top_k": 10,
    "sound": False,
    "metadata": False,
}
"""A value that fits each setting that a form can offer."""
_MEDIA = ("image", "video", "audio", "depth", "mask")
_UNSERVED = ("depth_model",)
"""Inputs that name a place on the server's own machine."""


def task_view(task: Task, model: dict[str, Any] | None) -> dict[str, Any]:
    """A task as forms need it: its inputs and its settings, each with what fits and the model's default."""
    return {
        "name": task.name,
        "object": "task",
        "title": task.name.replace("_", " "),
        "description": task.description,
        "requires": list(task.requires),
        "optional": [name for name in task.optional if name not in _UNSERVED],
        "gives": list(task.gives),
        "available": model is None or task.name in model["tasks"],
        "inputs": [_input_view(name, name in task.requires) for name in task.takes if name not in _UNSERVED],
        "settings": [_setting_view(name, task, model) for name in _SAMPLES if _fits(task, name, model)],
    }


def _input_view(name: str, required: bool) -> dict[str, Any]:
    kind = {"prompt": "text", "mask": "region", "box": "box", "depth": "image"}.get(name, name)
    view: dict[str, Any] = {"name": name, "kind": kind, "required": required, "file": name in _MEDIA}
    if name == "mask":
        view["choices"] = list(REGIONS)
    return view


def _setting_view(name: str, task: Task, model: dict[str, Any] | None) -> dict[str, Any]:
    usual = (model or {}).get("settings", {})
    if name == "size":
        sizes = [f"{width}x{height}" for width, height in (model or {}).get("sizes", [])]
        return {"name": name, "kind": "choice", "choices": sizes, "default": sizes[0] if sizes else None}
    if name == "camera":
        return {"name": name, "kind": "choice", "choices": list(CAMERA_MOVES), "default": None}
    if name == "upscale":
        return {"name": name, "kind": "choice", "choices": [2, 4], "default": None}
    if name in ("sound", "metadata"):
        return {"name": name, "kind": "switch", "default": True}
    if name == "negative_prompt":
        return {"name": name, "kind": "text", "default": None}
    least, most = limits(name)
    default = {**usual, **usual.get("task_sampling", {}).get(task.name, {})}.get(name)
    if name == "seconds" and usual:
        default = usual["num_frames"] / usual["frame_rate"]
    kind = "whole" if isinstance(_SAMPLES[name], int) else "number"
    return {"name": name, "kind": kind, "least": least, "most": most, "default": default}


def _fits(task: Task, name: str, model: dict[str, Any] | None) -> bool:
    """Whether a request of that task may have that setting: `Request` itself says so, but of what is about files."""
    if name == "upscale" and not (model or {}).get("upscales"):
        return False
    if name == "metadata":
        return task.gives != ("text",)
    given: dict[str, Any] = {need: "words" if need == "prompt" else Path(need) for need in task.requires}
    if "prompt" in task.takes:
        given["prompt"] = "words"
    value = _SAMPLES[name]
    given |= {"width": value[0], "height": value[1]} if name == "size" else {name: value}
    if name == "sound" and task.gives != ("video",):
        return False
    try:
        Request(task=task.name, **given)
    except TaskError:
        return False
    return True
