"""Storyboards: what a movie shows, scene by scene, as a JSON file that a person can edit."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from videopoet.checkpoint import write_atomically
from videopoet.errors import TaskError, shown
from videopoet.generation.request import LONGEST_PROMPT, RANGES
from videopoet.sequence.cameras import CAMERA_MOVES

Transition = Literal["cut", "fade", "continue"]
Shape = Literal["portrait", "square", "landscape"]
Fit = Literal["pad", "crop"]
LONGEST_MOVIE = 600.0
"""Seconds. A take is held in memory whole; what is longer is a film."""
MOST_SCENES = 100
LONGEST_TITLE = 80
LONGEST_WORD = 40
"""Characters. No language that is written with spaces needs more, and a title's line holds no longer one."""
LARGEST_FILE = 1 << 20
"""Bytes."""


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("it is a truth value, not a number")
    return value


def _short_words(text: Any) -> Any:
    if isinstance(text, str) and (longest := max(map(len, text.split()), default=0)) > LONGEST_WORD:
        word = next(word for word in text.split() if len(word) == longest)
        raise ValueError(f"the word '{word[:20]}...' has {longest} characters, {LONGEST_WORD} are the most")
    return text


def _some_words(text: Any) -> Any:
    if isinstance(text, str) and not text.strip():
        raise ValueError("it says nothing; write what is to be seen")
    return text


Number = Annotated[float, BeforeValidator(_no_bool)]
Whole = Annotated[int, BeforeValidator(_no_bool)]
Seed = Annotated[Whole, Field(**RANGES["seed"].bounds)]


class Scene(BaseModel):
    """One scene of a movie."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    prompt: Annotated[str, BeforeValidator(_some_words), BeforeValidator(_short_words)] = Field(
        max_length=LONGEST_PROMPT, description="All that is to be seen; the model reads each prompt alone."
    )
    seconds: Number = Field(
        default=2.0, **RANGES["seconds"].bounds, description="How long it lasts, to the nearest frame."
    )
    camera: Literal[CAMERA_MOVES] | None = Field(default=None, description="How the camera moves.")  # pyright: ignore
    transition: Transition | None = Field(
        default=None, description="How it begins; without it, as the movie's scenes do. The first has the title before."
    )
    seed: Seed | None = Field(default=None, description="Another one makes the scene anew.")


class Storyboard(BaseModel):
    """A movie before it is made.

    Raises:
        TaskError: A field is unknown, missing, of the wrong kind or out of range, or a scene is too short to fade.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    title: Annotated[str, BeforeValidator(_short_words)] = Field(
        default="", max_length=LONGEST_TITLE, description="Shown first; an empty one is not."
    )
    scenes: tuple[Scene, ...] = Field(min_length=1, max_length=MOST_SCENES)
    transition: Transition = Field(
        default="fade", description="Between scenes: cut, cross-fade, or let each go on from the one before it."
    )
    fade_seconds: Number = Field(default=0.4, gt=0, le=5, description="How long a cross-fade takes.")
    title_seconds: Number = Field(default=2.5, gt=0, le=20, description="How long the title is shown.")
    shape: Shape = Field(default="portrait", description="9:16, 1:1 or 16:9.")
    fit: Fit = Field(
        default="pad",
        description="Where the model makes no such shape: show each picture whole before a blurred copy of itself, or "
        "cut it to the shape.",
    )
    sound: bool = True
    seed: Seed = Field(default=0, description="Gives a seed to each scene that has none.")
    negative_prompt: str | None = Field(default=None, max_length=LONGEST_PROMPT)
    temperature: Number | None = Field(default=None, **RANGES["temperature"].bounds)
    top_k: Whole | None = Field(default=None, **RANGES["top_k"].bounds)
    top_p: Number | None = Field(default=None, **RANGES["top_p"].bounds)
    guidance_scale: Number | None = Field(default=None, **RANGES["guidance_scale"].bounds)
    idea: str | None = Field(default=None, max_length=LONGEST_PROMPT, description="What it was written from.")
    writer: str | None = Field(default=None, max_length=200, description="Who wrote it.")

    def __init__(self, **values: Any):
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise _explained(error) from None

    @model_validator(mode="after")
    def _check(self) -> Self:
        total = sum(scene.seconds for scene in self.scenes)
        if total > LONGEST_MOVIE:
            raise ValueError(
                f"the scenes last {total:g} seconds together; {LONGEST_MOVIE:g} are the most; make several movies, or "
                "a film"
            )
        if self.title.strip() and self._fades(0) and self.title_seconds < 2 * self.fade_seconds:
            raise ValueError(
                f"the title is shown for {self.title_seconds:g} seconds and fades for {self.fade_seconds:g} at each "
                "end; show it longer, or fade faster"
            )
        takes = self.takes
        for number, take in enumerate(takes):
            seconds = sum(self.scenes[index].seconds for index in take)
            ends = [self._fades(take[0]) and (number > 0 or bool(self.title.strip())), self._fades_out(take[-1])]
            if sum(ends) * self.fade_seconds > seconds + 1e-9:
                raise ValueError(
                    f"scene {take[0] + 1} lasts {seconds:g} seconds and fades for {self.fade_seconds:g} at "
                    f"{'each end' if all(ends) else 'one end'}; make it longer, or fade faster"
                )
        return self

    @classmethod
    def of(cls, values: Storyboard | Mapping[str, Any]) -> Storyboard:
        """A storyboard from plain values.

        Raises:
            TaskError: As the class.
        """
        if isinstance(values, Storyboard):
            return values
        if not isinstance(values, Mapping):
            raise TaskError(
                f"the storyboard is {shown(values)}; it must be an object with a list of scenes, each with a prompt; "
                "write one",
                code="storyboard_invalid",
            )
        return cls(**{str(name): value for name, value in values.items()})

    @classmethod
    def read(cls, path: str | Path) -> Storyboard:
        """A storyboard from a JSON file.

        Raises:
            TaskError: It is missing, no JSON, or does not fit.
        """
        path = Path(path)
        try:
            if path.stat().st_size > LARGEST_FILE:
                raise TaskError(
                    f"'{path}' has {path.stat().st_size} bytes; a storyboard has at most {LARGEST_FILE}; choose "
                    "another file",
                    code="storyboard_invalid",
                )
            values = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise TaskError(
                f"'{path}' cannot be read ({(error.strerror or 'no such file').lower()}); it must be a storyboard's "
                "JSON file; check the path",
                code="storyboard_missing",
            ) from None
        except (ValueError, RecursionError):
            raise TaskError(
                f"'{path}' is not readable JSON; it must hold a storyboard; correct it", code="storyboard_invalid"
            ) from None
        return cls.of(values)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, without those that are not set; `of` reads them back."""
        return self.model_dump(mode="json", exclude_none=True)

    def save(self, path: str | Path) -> None:
        """Write it as JSON, atomically."""
        text = json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n"
        write_atomically(path, lambda file: file.write_text(text, encoding="utf-8"))

    def completed(self) -> Storyboard:
        """The same with a seed in every scene; scenes that are moved keep theirs."""
        seen: dict[tuple[str, str | None], int] = {}
        scenes = []
        for scene in self.scenes:
            words = scene.prompt, scene.camera
            seen[words] = seen.get(words, 0) + 1
            drawn = hashlib.sha256(repr((self.seed, *words, seen[words])).encode()).digest()
            seed = int.from_bytes(drawn[:4], "big") >> 1 if scene.seed is None else scene.seed
            scenes.append(scene.model_copy(update={"seed": seed}))
        return self.model_copy(update={"scenes": tuple(scenes)})

    @property
    def takes(self) -> list[list[int]]:
        """Indices of scenes, those together that go on from one another."""
        takes: list[list[int]] = []
        for index in range(len(self.scenes)):
            if index and self.beginning(index) == "continue":
                takes[-1].append(index)
            else:
                takes.append([index])
        return takes

    def beginning(self, index: int) -> Transition:
        """How a scene begins."""
        return self.scenes[index].transition or self.transition

    def _fades(self, index: int) -> bool:
        """Whether what comes before a scene fades into it; with nothing to go on from, the first one fades too."""
        return self.beginning(index) != "cut" if not index else self.beginning(index) == "fade"

    def _fades_out(self, index: int) -> bool:
        last = index + 1 == len(self.scenes)
        return self.transition != "cut" if last else self._fades(index + 1)


def _explained(error: ValidationError) -> TaskError:
    """What pydantic found first, in our words."""
    first = error.errors(include_url=False)[0]
    place, kind = list(first["loc"]), first["type"]
    where = "the storyboard"
    if place[:1] == ["scenes"] and len(place) > 1:
        where = f"scene {int(place[1]) + 1}"
        place = place[2:]
    name = str(place[0])[:60] if place else ""
    known = list(Scene.model_fields if where.startswith("scene") else Storyboard.model_fields)
    reason = first["msg"].removeprefix("Value error, ")
    reason = f"{reason[:1].lower()}{reason[1:]}"
    if kind == "extra_forbidden":
        close = difflib.get_close_matches(name, known, n=3) or known
        text = f"{where} has '{name}'; it takes {', '.join(close)}; correct the name or leave it out"
    elif kind == "missing":
        text = f"{where} lacks '{name}'; it must be there; give it"
    elif not name and kind == "value_error":
        text = reason
    elif not name:
        text = f"{where} is {shown(first['input'])}; it must be an object with {', '.join(known[:2])}; correct it"
    elif kind in ("too_short", "too_long"):
        text = f"{name} of {where} are {len(first['input'])}; there must be 1 to {MOST_SCENES}; change that"
    elif kind == "string_too_long":
        found, most = len(first["input"]), first.get("ctx", {}).get("max_length")
        text = f"{name} of {where} has {found} characters; the most is {most}; shorten it"
    elif kind == "literal_error":
        fitting = {"camera": CAMERA_MOVES, "transition": get_args(Transition)}.get(name) or get_args(
            {"shape": Shape, "fit": Fit}[name]
        )
        text = f"{name} of {where} is {shown(first['input'])}; there are {', '.join(fitting)}; name one of them"
    else:
        text = f"{name} of {where} is {shown(first['input'])}; {reason}; correct it"
    return TaskError(text, code="storyboard_invalid")
