"""A request: what a user asks for, checked once, here, against the task table; the same behind Python, CLI and HTTP."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

from pydantic import Field, field_validator
from torch import Tensor

from videopoet.config import BaseConfig
from videopoet.errors import TaskError, shortened
from videopoet.generation.masked_decoding import MaskedSampling
from videopoet.generation.sampling import Sampling
from videopoet.media.types import Audio, Image, Video
from videopoet.sequence.cameras import CAMERA_MOVES, camera_move, with_camera
from videopoet.sequence.conditions import REGIONS
from videopoet.sequence.tasks import TASKS, Task, find_task

LONGEST_PROMPT = 2000
"""The most characters of a prompt; how many tokens fit is the text encoder's to say."""


class Range(NamedTuple):
    """What numbers a field takes."""

    kind: type
    least: float
    most: float
    hint: str
    """What to do about one that does not fit."""

    @property
    def bounds(self) -> dict[str, Any]:
        """The same for a pydantic field."""
        return {"ge": self.least, "le": self.most}


RANGES = {
    "seed": Range(int, 0, 2**64 - 1, "any number in it gives a result of its own"),
    "start": Range(float, 0, 1e6, "count the seconds from the beginning of the given clip or sound"),
    "seconds": Range(float, 1e-3, 60, "ask for a shorter clip, or for a film"),
    "num_frames": Range(int, 1, 1441, "ask for a shorter clip, or for a film"),
    "height": Range(int, 1, 8192, "choose a size that the model makes"),
    "width": Range(int, 1, 8192, "choose a size that the model makes"),
    "temperature": Range(float, 0, 10, "0 always takes the likeliest token"),
    "top_k": Range(int, 1, 2**20, "leave it out to choose among all tokens"),
    "top_p": Range(float, 1e-6, 1, "1 chooses among all tokens"),
    "guidance_scale": Range(float, 0, 100, "1 is no guidance"),
    "upscale": Range(int, 2, 4, "leave it out for the size that the model makes"),
}
"""The limits of every number that a request has: in Python, in a model's settings, over HTTP and in storyboards."""


class TaskSampling(BaseConfig):
    """How tokens of one task are chosen, where not as in the other tasks."""

    temperature: float | None = Field(default=None, **RANGES["temperature"].bounds)
    top_k: int | None = Field(default=None, **RANGES["top_k"].bounds)
    top_p: float | None = Field(default=None, **RANGES["top_p"].bounds)
    guidance_scale: float | None = Field(default=None, **RANGES["guidance_scale"].bounds)


class Settings(BaseConfig):
    """What a poet makes of a request that does not say."""

    name: str = "videopoet"
    """Of the model, as the metadata of what it makes says it."""
    height: int = 128
    """Pixels."""
    width: int = 128
    num_frames: int = 17
    """Frames of one row; longer clips are made of several."""
    frame_rate: float = 8.0
    """Frames per second."""
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 0.95
    guidance_scale: float = 3.0
    task_sampling: dict[str, TaskSampling] = {"video_captioning": TaskSampling(temperature=0.0)}
    """Tasks that choose in another way, and what differs. A caption is to be right, not various."""
    upscaling: MaskedSampling = MaskedSampling()
    """How super-resolution chooses, where the model has one."""
    tasks: tuple[str, ...] = tuple(TASKS)
    """What the model was trained for."""

    @field_validator("task_sampling")
    @classmethod
    def _are_tasks(cls, own: dict[str, TaskSampling]) -> dict[str, TaskSampling]:
        if unknown := [name for name in own if name not in TASKS]:
            raise ValueError(f"there is no task '{unknown[0]}'; there are {', '.join(TASKS)}")
        return own

    def sampling_of(self, task: str) -> Sampling:
        """How tokens of that task are chosen where there is a prompt; without one there is no guidance."""
        usual = {name: getattr(self, name) for name in TaskSampling.model_fields}
        return Sampling(**(usual | self.task_sampling.get(task, TaskSampling()).model_dump(exclude_none=True)))


_KINDS = {
    "prompt": (str, "text"),
    "negative_prompt": (str, "text"),
    "camera": (str, "the name of a camera move"),
    "mask": ((str, Path, Image, Video), "the name of a region, a path, an Image or a Video"),
    "box": ((tuple, list), "four numbers"),
    "depth": ((str, Path, Image, Video, Tensor), "a path, an Image, a Video or a tensor"),
    "depth_model": ((str, Path), "a folder or a hub id"),
    "image": ((str, Path, Image), "a path or an Image"),
    "video": ((str, Path, Video), "a path or a Video"),
    "audio": ((str, Path, Audio), "a path or an Audio"),
    "structure": (Tensor, "a tensor"),
    "sound": (bool, "True or False"),
}
_OF_DEPTH = ("structure", "depth", "depth_model")


@dataclass(frozen=True, eq=False, kw_only=True)
class Request:
    """One task and all that it is given; what is None is left to the model's settings.

    Raises:
        TaskError: The task is unknown, something it needs is missing, something it has no place for is given, or a
            value is of the wrong kind or out of range.
    """

    task: str
    prompt: str | None = None
    negative_prompt: str | None = None
    """What to stay away from: it takes the place of the empty prompt that guidance compares with."""
    camera: str | None = None
    """One of `CAMERA_MOVES`: how the camera moves, beside what the prompt says."""
    image: str | Path | Image | None = None
    video: str | Path | Video | None = None
    audio: str | Path | Audio | None = None
    mask: str | Path | Image | Video | None = None
    """What is replaced: one of `REGIONS` (which outpainting keeps), or a picture or clip that is white there. It has
    the shape of the clip or of the result, at any size; transparent counts as white, grey from the middle on. Without
    a mask and box it is `central`; but outpainting keeps a clip of another shape than the result whole."""
    box: tuple[float, float, float, float] | None = None
    """Left, top, right and bottom, as shares of the picture (all up to 1) or in its pixels: inpainting replaces it, of
    the given clip; outpainting puts the whole clip there, in the result."""
    depth: str | Path | Image | Video | Tensor | None = None
    """How near things are in `video`, brighter or larger being nearer: a picture or clip, or numbers, (H, W) or
    (T, H, W), also as a .npy file."""
    depth_model: str | Path | None = None
    """Folder or hub id of a Hugging Face depth model that says so instead."""
    structure: Tensor | None = None
    """Depth and motion as `signals.structure_clip` makes them, (3, T, H, W) in [-1, 1]; in place of `video`."""
    start: float | None = None
    """Seconds into `video`, or without one into `audio`, at which it begins to be used. A mask or depth that is a clip
    belongs to the part that is used."""
    seed: int | None = None
    seconds: float | None = None
    """How much is made: of a continuation, the new part. Cut to this length where it falls between latent frames."""
    num_frames: int | None = None
    """The same in frames, which must fit the grid of the video tokenizer."""
    height: int | None = None
    width: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    guidance_scale: float | None = None
    upscale: int | None = None
    """2 or 4: so many times the height and width, by super-resolution."""
    sound: bool = True
    """Make the sound of a clip too, where the task's result is a clip."""

    def __post_init__(self) -> None:
        task = find_task(self.task)
        for name in (field.name for field in fields(self) if field.name != "task"):
            if (value := getattr(self, name)) is not None:
                if name in RANGES:
                    check_number(name, value)
                else:
                    _check_kind(name, value, *_KINDS[name])
        _check_given(task, self)
        for name in ("prompt", "negative_prompt"):
            if len(getattr(self, name) or "") > LONGEST_PROMPT:
                raise TaskError(
                    f"the {name.replace('_', ' ')} has {len(getattr(self, name))} characters; the most is "
                    f"{LONGEST_PROMPT}; shorten it",
                    code="prompt_too_long",
                )
        if self.box is not None:
            _check_box(self.box)
        if isinstance(self.mask, str) and self.mask not in REGIONS and not Path(self.mask).suffix:
            raise TaskError(
                f"unknown mask '{self.mask}'; there are {', '.join(REGIONS)}; name one of them, or a file",
                code="mask_unknown",
            )
        if self.camera is not None:
            if (move := camera_move(self.camera)) is None:
                raise TaskError(
                    f"unknown camera move '{self.camera}'; there are {', '.join(CAMERA_MOVES)}; name one of them",
                    code="camera_unknown",
                )
            object.__setattr__(self, "camera", move)
        if self.seconds is not None and self.num_frames is not None:
            raise TaskError(
                f"the length is given twice (seconds {self.seconds:g}, num_frames {self.num_frames}); one says it; "
                "leave the other out",
                code="input_unexpected",
            )

    @property
    def row(self) -> Task:
        """The task's entry in the table."""
        return TASKS[self.task]

    @property
    def words(self) -> str | None:
        """What the model reads: the prompt, and the camera's move."""
        return with_camera(self.prompt, self.camera)

    def completed(self, settings: Settings) -> Self:
        """This request with the model's settings where it says nothing; the seed and the length stay as they are."""
        defaults: dict[str, Any] = asdict(settings.sampling_of(self.task))
        defaults |= {name: getattr(settings, name) for name in ("height", "width") if name in _sizes(self.row)}
        if self.words is None:
            defaults["guidance_scale"] = 1.0
        return replace(self, **{name: value for name, value in defaults.items() if getattr(self, name) is None})

    @property
    def sampling(self) -> Sampling:
        """How to choose tokens; only a completed request knows."""
        assert self.temperature is not None and self.top_p is not None and self.guidance_scale is not None
        return Sampling(self.temperature, self.top_k, self.top_p, self.guidance_scale)


def _check_given(task: Task, request: Request) -> None:
    """Refuse what is missing and what the task has no place for."""
    takes = list(task.takes)
    takes += ["negative_prompt"] if "prompt" in takes else []
    takes += ["camera"] if "prompt" in takes and "video" in task.gives else []
    takes += ["structure"] if any(view.change == "structure" for view in task.given) else []
    for name in ("prompt", "negative_prompt", "camera", "image", "video", "audio", "mask", "box", *_OF_DEPTH):
        if getattr(request, name) is not None and name not in takes:
            raise TaskError(
                f"{task.name} was given {name} ({_shown(getattr(request, name))}) and has no place for it; it takes "
                f"{', '.join(takes) or 'nothing'}; leave it out or choose another task",
                code="input_unexpected",
            )
    for name in task.requires:
        if getattr(request, name) is None and not (name == "video" and request.structure is not None):
            raise TaskError(
                f"{task.name} needs {name}, which is missing; it takes {', '.join(takes)}; give it",
                code="prompt_required" if name == "prompt" else "input_missing",
            )
    for group in (("mask", "box"), ("structure", "video"), _OF_DEPTH):
        found = [name for name in group if getattr(request, name) is not None]
        if len(found) > 1:
            raise TaskError(
                f"{' and '.join(found)} are given, and say the same thing; one is taken; leave the other out",
                code="input_unexpected",
            )
    if request.start is not None and request.video is None and request.audio is None:
        raise TaskError(
            f"{task.name} was given start ({request.start:g}) and no clip or sound to begin in; it goes with video or "
            "audio; give one, or leave start out",
            code="input_unexpected",
        )
    if request.upscale is not None and not {"video", "image"} & set(task.gives):
        raise TaskError(
            f"{task.name} was given upscale ({request.upscale}) and makes {' and '.join(task.gives)}; only clips and "
            "pictures can be upscaled; leave it out",
            code="input_unexpected",
        )
    if request.words is None:
        for name in ("negative_prompt", "guidance_scale"):
            if getattr(request, name) not in (None, 1):
                raise TaskError(
                    f"{name} ({_shown(getattr(request, name))}) is given without a prompt; guidance compares with one; "
                    "give a prompt or leave it out",
                    code="input_unexpected",
                )
    if request.negative_prompt is not None and request.guidance_scale == 1:
        raise TaskError(
            f"negative_prompt ({_shown(request.negative_prompt)}) is given and guidance_scale is 1, which is no "
            "guidance; a negative prompt needs some; raise guidance_scale or leave it out",
            code="input_unexpected",
        )
    for name in ("seconds", "num_frames", "height", "width"):
        if getattr(request, name) is not None and name not in _sizes(task):
            raise TaskError(
                f"{task.name} was given {name} ({getattr(request, name)}); its result's {name} cannot be chosen; "
                "leave it out",
                code="input_unexpected",
            )


def _check_box(box: tuple[float, ...]) -> None:
    """Refuse what no picture has room for; whether it fits the given one shows when that is read."""
    numbers = [side for side in box if isinstance(side, (int, float)) and not isinstance(side, bool)]
    if len(box) != 4 or len(numbers) != 4 or not all(math.isfinite(side) and side >= 0 for side in numbers):
        found = "is not four numbers from 0 on"
    elif box[2] <= box[0] or box[3] <= box[1]:
        found = "is empty: its right is not beyond its left, or its bottom not beyond its top"
    elif max(box) > 1 and any(side != int(side) for side in box):
        found = "has pixels that are not whole numbers"
    else:
        return
    raise TaskError(
        f"the box {_shown(tuple(box))} {found}; left, top, right and bottom fit, as shares up to 1 such as "
        "0.25,0.25,0.75,0.75 or in pixels; correct it",
        code="box_invalid",
    )


def _sizes(task: Task) -> tuple[str, ...]:
    """Which lengths and sides of a task's result a user may choose; a sound or a clip to be heard brings its own."""
    if not {"video", "image"} & set(task.gives):
        return ("seconds",) if all(view.modality == "text" for view in task.given) and "audio" in task.gives else ()
    if "image" in task.gives or any(view.modality == "audio" for view in task.given):
        return ("height", "width")
    return ("seconds", "num_frames", "height", "width")


def check_number(name: str, value: Any) -> None:
    """Refuse a number that the field of this name does not take.

    Raises:
        TaskError: It is of another kind or out of range.
    """
    kind, least, most, hint = RANGES[name]
    _check_kind(name, value, (int, float) if kind is float else int, "a whole number" if kind is int else "a number")
    if not least <= value <= most:  # which a NaN is not either
        raise TaskError(f"{name} is {value}; it must be from {_number(least)} to {_number(most)}; {hint}", code="range")


def _check_kind(name: str, value: Any, kinds: Any, wanted: str) -> None:
    if not isinstance(value, kinds) or (isinstance(value, bool) and name in RANGES):
        raise TaskError(
            f"{name} is {_shown(value)} ({type(value).__name__}); it must be {wanted}; correct it", code="type"
        )


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"  # 2**64 - 1 is no float


def _shown(value: Any) -> str:
    value = str(value) if isinstance(value, Path) else value
    text = repr(value) if not isinstance(value, Tensor) else f"a tensor of shape {tuple(value.shape)}"
    return shortened(text)
