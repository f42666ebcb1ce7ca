"""The fields of a request for a job, as HTTP has them, and what they become for `Request`, which checks them.

Names are those of the open videos API and of the servers that extend it.
"""

from __future__ import annotations

import difflib
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from videopoet.errors import TaskError
from videopoet.generation.request import LONGEST_PROMPT, RANGES, Request
from videopoet.generation.window import Shape
from videopoet.sequence.cameras import CAMERA_MOVES
from videopoet.sequence.conditions import REGIONS
from videopoet.sequence.tasks import find_task
from videopoet.text_encoders.own_tokens import check_words


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("it is a truth value, not a number")
    return value


def _four(value: Any) -> Any:
    return [side.strip() for side in value.split(",")] if isinstance(value, str) else value


Whole = Annotated[int, BeforeValidator(_no_bool)]
Number = Annotated[float, BeforeValidator(_no_bool)]
Words = Annotated[str, Field(max_length=LONGEST_PROMPT)]


class Reference(BaseModel):
    """Media by reference: the id of a finished result, or the bytes themselves as a `data:` URL."""

    model_config = ConfigDict(extra="forbid")

    id: str | None = Field(default=None, max_length=80)
    url: str | None = None
    image_url: str | None = None
    video_url: str | None = None
    audio_url: str | None = None


class Fields(BaseModel):
    """What a client may say. Media fields are uploaded files or references, and are not checked here."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    model: str | None = Field(default=None, max_length=200, description="The model that /v1/models names.")
    task: str | None = Field(default=None, max_length=60, description="One of /v1/tasks.")
    prompt: Words | None = None
    negative_prompt: Words | None = Field(default=None, description="What to stay away from.")
    camera: str | None = Field(default=None, max_length=40, description=f"One of {', '.join(CAMERA_MOVES)}.")
    start: Number | None = Field(
        default=None,
        **RANGES["start"].bounds,
        description="Seconds into the given clip or sound at which it begins to be used.",
    )
    seconds: Number | None = Field(default=None, **RANGES["seconds"].bounds, description="Length of what is made.")
    size: str | None = Field(default=None, max_length=20, description='"WxH" in pixels.')
    width: Whole | None = Field(default=None, **RANGES["width"].bounds)
    height: Whole | None = Field(default=None, **RANGES["height"].bounds)
    num_frames: Whole | None = Field(
        default=None, **RANGES["num_frames"].bounds, description="Length in frames, instead of seconds."
    )
    fps: Number | None = Field(default=None, ge=0.1, le=1000, description="Must be the model's frame rate.")
    seed: Whole | None = Field(default=None, **RANGES["seed"].bounds, description="The same seed gives the same file.")
    temperature: Number | None = Field(default=None, **RANGES["temperature"].bounds)
    top_k: Whole | None = Field(default=None, **RANGES["top_k"].bounds)
    top_p: Number | None = Field(default=None, **RANGES["top_p"].bounds)
    guidance_scale: Number | None = Field(
        default=None, **RANGES["guidance_scale"].bounds, description="How closely to follow the words."
    )
    upscale: Whole | None = Field(default=None, **RANGES["upscale"].bounds)
    sound: bool | None = Field(default=None, description="Make the sound of a clip too.")
    metadata: bool = Field(default=True, description="Keep prompt, seed, model and settings in the file.")
    box: Annotated[list[Number], BeforeValidator(_four)] | None = Field(
        default=None, min_length=4, max_length=4, description="Left, top, right, bottom, as shares or in pixels."
    )
    mask: Reference | str | None = Field(default=None, description=f"One of {', '.join(REGIONS)}, or a picture.")
    image: Reference | None = None
    video: Reference | None = None
    audio: Reference | None = None
    depth: Reference | None = None
    input_reference: Reference | None = Field(default=None, description="The picture, clip or sound to begin with.")


def limits(name: str) -> tuple[float, float]:
    """The least and the most of a numeric field."""
    metadata = Fields.model_fields[name].metadata
    least = next(one.ge for one in metadata if hasattr(one, "ge"))
    return least, next(one.le for one in metadata if hasattr(one, "le"))


_TAKEN_OVER = (
    "prompt",
    "negative_prompt",
    "camera",
    "start",
    "seconds",
    "width",
    "height",
    "num_frames",
    "seed",
    "temperature",
    "top_k",
    "top_p",
    "guidance_scale",
    "upscale",
    "sound",
    "box",
    "mask",
)
_RANGE = ("greater_than_equal", "less_than_equal", "too_long", "too_short", "string_too_long", "int_parsing_size")


@dataclass(frozen=True)
class Asked:
    """A request for a job, read.

    `fields` are those of `Request` but for media, and `metadata` where it is off; the rest the server looks at.
    """

    task: str
    fields: dict[str, Any]
    model: str | None = None
    fps: float | None = None


def parse(values: dict[str, Any], media: dict[str, str], default_task: str | None = None) -> Asked:
    """Read fields.

    Args:
        values: What the client sent, media left out.
        media: What is given as media: the kind of each, by field.
        default_task: Where the client names none; without it, what the media suggest.

    Raises:
        TaskError: A field is unknown, or of the wrong kind, or out of range.
    """
    try:
        found = Fields.model_validate(values)
    except ValidationError as error:
        raise explained(error, Fields) from None
    for name in ("prompt", "negative_prompt"):
        _check_words(name, getattr(found, name))
    task = find_task((found.task or default_task or _suggested(media)).replace("-", "_"))
    fields = {name: getattr(found, name) for name in _TAKEN_OVER if getattr(found, name) is not None}
    if found.mask is not None and not isinstance(found.mask, str):
        fields.pop("mask")
    if isinstance(found.mask, str) and found.mask not in REGIONS:
        close = difflib.get_close_matches(found.mask, REGIONS, n=3) or REGIONS
        raise with_param(
            TaskError(
                f"unknown mask '{found.mask[:60]}'; there are {', '.join(close)}; name one of them, or send a picture",
                code="mask_unknown",
            ),
            "mask",
        )
    if found.size is not None:
        fields |= _sides(found.size, fields)
    if not found.metadata:
        fields["metadata"] = False
    return Asked(task.name, fields, found.model, found.fps)


def request_of(task: str, fields: dict[str, Any], media: dict[str, Path]) -> Request:
    """The request itself, which checks everything else.

    Raises:
        TaskError: It does not fit the task.
    """
    if "box" in fields:
        fields = {**fields, "box": tuple(int(side) if side == int(side) else side for side in fields["box"])}
    values: dict[str, Any] = {**fields, **media}
    values.pop("metadata", None)  # which is about the file alone
    return Request(task=task, **values)


def check_against(model: dict[str, Any], asked: Asked, most_seconds: float) -> None:
    """Refuse what a model, as its worker describes it, cannot make.

    Raises:
        TaskError: Says what it can.
    """
    fields = asked.fields
    if asked.task not in model["tasks"]:
        raise TaskError(
            f"this model was not trained for {asked.task}; it was for {', '.join(model['tasks'])}; choose one of these",
            code="task_unsupported",
        )
    rate = model["settings"]["frame_rate"]
    if asked.fps is not None and asked.fps != rate:
        raise with_param(
            TaskError(
                f"fps is {asked.fps:g}; this model makes {rate:g} frames a second; leave it out", code="fps_unsupported"
            ),
            "fps",
        )
    if "width" in fields or "height" in fields:
        usual = model["settings"]
        size = fields.get("width", usual["width"]), fields.get("height", usual["height"])
        if list(size) not in model["sizes"]:
            fitting = ", ".join(f"{width}x{height}" for width, height in model["sizes"])
            raise with_param(
                TaskError(
                    f"the size {size[0]}x{size[1]} (width x height) is not one that this model was trained on; those "
                    f"are {fitting}; use one of them",
                    code="size_invalid",
                ),
                "size",
            )
    seconds = fields.get("seconds", fields.get("num_frames", 0) / rate)
    if seconds > most_seconds:
        raise with_param(
            TaskError(
                f"{seconds:g} seconds are asked for; this server makes {most_seconds:g} at once; ask for less and go "
                "on from it",
                code="range",
            ),
            "seconds",
        )
    for name in ("prompt", "negative_prompt"):
        # A token is at most a word, so that so many words are surely too many tokens.
        if (words := len(fields.get(name, "").split())) > model["longest_prompt"]:
            raise with_param(
                TaskError(
                    f"{name} has {words} words; this model reads {model['longest_prompt']} tokens; shorten it",
                    code="prompt_too_long",
                ),
                name,
            )
    if fields.get("upscale") and not model["upscales"]:
        raise with_param(
            TaskError(
                f"upscale is {fields['upscale']}; this model has no super-resolution; leave it out",
                code="upscale_unsupported",
            ),
            "upscale",
        )


def window_of(model: dict[str, Any], asked: Asked) -> Shape:
    """The window that a model, as its worker describes it, makes a request in."""
    usual = model["settings"]
    return Shape(
        asked.fields.get("height", usual["height"]),
        asked.fields.get("width", usual["width"]),
        usual["num_frames"],
        usual["frame_rate"],
        model["time_stride"],
        model["sample_rate"],
        model["audio_hop"],
    )


def shape_of(asked: Asked) -> str | None:
    """What jobs must share to be made in one batch.

    None for a job with a seed of its own, which runs alone: sums round differently in batches of other sizes, and the
    same seed is to give the same bytes.
    """
    if "seed" in asked.fields:
        return None
    sizes = (asked.fields.get(name) for name in ("width", "height", "num_frames", "seconds", "upscale", "sound"))
    return "/".join(map(str, (asked.task, *sizes)))


def with_param(error: TaskError, param: str) -> TaskError:
    """The error, knowing which field it is about."""
    error.param = param  # pyright: ignore[reportAttributeAccessIssue]
    return error


def explained(error: ValidationError, model: type[BaseModel]) -> TaskError:
    """What pydantic found first, in our words."""
    first = error.errors(include_url=False)[0]
    name = str(first["loc"][0])[:60] if first["loc"] else "the body"
    shown = repr(first["input"])[:60]
    if first["type"] == "extra_forbidden":
        close = difflib.get_close_matches(name, model.model_fields, n=3)
        known = ", ".join(close or model.model_fields)
        return with_param(
            TaskError(
                f"unknown field '{name}'; {'close are' if close else 'there are'} {known}; correct the name or "
                "leave it out",
                code="unknown_field",
            ),
            name,
        )
    reason = first["msg"].removeprefix("Value error, ")
    reason = f"{reason[:1].lower()}{reason[1:]}"
    if name in ("prompt", "negative_prompt") and first["type"] == "string_too_long":
        text = f"{name} has {len(first['input'])} characters; the most is {LONGEST_PROMPT}; shorten it"
        return with_param(TaskError(text, code="prompt_too_long"), name)
    if first["type"] == "string_unicode":
        reason, code = "it holds half of a surrogate pair, which is no text; encode it as UTF-8", "encoding"
    elif first["type"] in ("greater_than_equal", "less_than_equal"):
        least, most = limits(name)
        shown, reason, code = str(first["input"])[:60], f"it must be from {least} to {most}", "range"
    else:
        code = "range" if first["type"] in _RANGE else "type"
    return with_param(TaskError(f"{name} is {shown}; {reason}; correct it", code=code), name)


def _check_words(name: str, text: str | None) -> None:
    if text is None:
        return
    try:
        if not any(not character.isspace() and unicodedata.category(character) != "Cf" for character in text):
            raise TaskError(
                f"{name} holds nothing that can be seen; words fit; write what to make, or leave it out",
                code="prompt_empty",
            )
        check_words(text)
    except TaskError as error:
        raise with_param(error, name) from None


def _sides(size: str, fields: dict[str, Any]) -> dict[str, int]:
    width, separator, height = size.lower().replace("*", "x").partition("x")
    if not (separator and width.isascii() and height.isascii() and width.isdigit() and height.isdigit()):
        raise with_param(
            TaskError(f"size is '{size}'; WIDTHxHEIGHT in pixels fits, such as 64x64; correct it", code="size_invalid"),
            "size",
        )
    if "width" in fields or "height" in fields:
        raise with_param(
            TaskError(
                f"the size is given twice (size {size}, and width or height); one says it; leave the other out",
                code="input_unexpected",
            ),
            "size",
        )
    return {"width": int(width[:6]), "height": int(height[:6])}


def _suggested(media: dict[str, str]) -> str:
    """The task that a client means who names none."""
    kind = media.get("input_reference")
    given = {kind} if kind else set(media)
    for name, task in (
        ("mask", "inpainting"),
        ("video", "video_continuation"),
        ("image", "image_to_video"),
        ("audio", "audio_to_video"),
    ):
        if name in given:
            return task
    return "text_to_video"
