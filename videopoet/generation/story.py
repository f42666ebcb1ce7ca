"""Stories: what a film shows one after the other, as Python values or as a JSON file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from videopoet.errors import TaskError, shown

LONGEST_FILM = 3600.0
"""Seconds. What bounds a film is patience: its memory does not grow."""
LARGEST_STORY = 1 << 20
"""Bytes of a file."""


@dataclass(frozen=True)
class Scene:
    """A part of a film.

    Raises:
        TaskError: A value is of the wrong kind or out of range.
    """

    prompt: str
    seconds: float
    """How long it lasts, to the nearest frame."""
    camera: str | None = None
    """A move of the camera, as `Request.camera`."""

    def __post_init__(self) -> None:
        for name, kinds, wanted in (
            ("prompt", (str,), "text"),
            ("seconds", (int, float), "a number"),
            ("camera", (str, type(None)), "text"),
        ):
            value = getattr(self, name)
            if not isinstance(value, kinds) or isinstance(value, bool):
                raise TaskError(
                    f"{name} of a scene is {value!r} ({type(value).__name__}); it must be {wanted}; correct it",
                    code="type",
                )
        if not 0 < self.seconds <= LONGEST_FILM:  # which a NaN is not either
            raise TaskError(
                f"seconds of a scene is {self.seconds}; it must be above 0 and at most {LONGEST_FILM:g}; change it",
                code="range",
            )


Story = Sequence[Scene | Mapping[str, Any]]


def scenes_of(story: Story) -> tuple[Scene, ...]:
    """A story's scenes, checked.

    Raises:
        TaskError: There is none, one has a field too many or too few, or all together last too long.
    """
    known = [field.name for field in fields(Scene)]
    scenes = []
    if isinstance(story, str | Mapping) or not isinstance(story, Sequence) or not story:
        raise TaskError(
            f"the story is {shown(story)}; it must be a list of scenes, each with a prompt and seconds; write one",
            code="story_invalid",
        )
    for number, scene in enumerate(story, start=1):
        if isinstance(scene, Mapping):
            wrong = sorted(set(scene) - set(known)) + sorted({"prompt", "seconds"} - set(scene))
            if wrong:
                raise TaskError(
                    f"scene {number} {'has' if wrong[0] in scene else 'lacks'} '{wrong[0]}'; a scene has prompt, "
                    "seconds and, if wanted, camera; correct it",
                    code="story_invalid",
                )
            scene = Scene(**scene)
        if not isinstance(scene, Scene):
            raise TaskError(
                f"scene {number} is {shown(scene)}; it must have a prompt and seconds; correct it",
                code="story_invalid",
            )
        scenes.append(scene)
    if (total := sum(scene.seconds for scene in scenes)) > LONGEST_FILM:
        raise TaskError(
            f"the scenes last {total:g} seconds together; {LONGEST_FILM:g} are the most; make several films of it",
            code="range",
        )
    return tuple(scenes)


def read_story(path: str | Path) -> tuple[Scene, ...]:
    """Read a story from a JSON file: `[{"prompt": "a red ball bounces", "seconds": 4, "camera": "zoom in"}, ...]`.

    Raises:
        TaskError: It is missing or not such a list.
    """
    path = Path(path)
    try:
        if path.stat().st_size > LARGEST_STORY:
            raise TaskError(
                f"'{path}' has {path.stat().st_size} bytes; a story has at most {LARGEST_STORY}; choose another file",
                code="story_invalid",
            )
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TaskError(
            f"'{path}' cannot be read ({(error.strerror or 'no such file').lower()}); it must be a JSON file with a "
            "list of scenes; check the path",
            code="story_missing",
        ) from None
    except (ValueError, RecursionError):
        raise TaskError(
            f"'{path}' is not readable JSON; it must hold a list of scenes; correct it", code="story_invalid"
        ) from None
    return scenes_of(values)
