"""Chains: tasks in a row, each on what those before it made; planned and checked before the first is begun.

A step takes from the results before it what it is not given, by kind: a clip as `video`, its sound or a sound as
`audio`, a picture as `image`, a caption as `prompt`; all that fits from the step right before it, and from earlier ones
what it still needs, the latest first.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from videopoet import runtime
from videopoet.errors import TaskError, VideoPoetError, shown
from videopoet.generation.composition import HEARING
from videopoet.generation.request import Request
from videopoet.generation.result import Result
from videopoet.media.files import probe
from videopoet.media.types import Audio, Image, Media, Video
from videopoet.sequence.conditions import REGIONS
from videopoet.sequence.tasks import Task, find_task

Steps = Sequence[Mapping[str, Any]]
MOST_STEPS = 100
KINDS = ("video", "image", "audio", "prompt")
_FIELDS = tuple(field.name for field in fields(Request))
_STAND_INS: dict[str, Any] = {
    "video": Video(torch.zeros(3, 1, 8, 8, dtype=torch.uint8), 8.0),
    "image": Image(torch.zeros(3, 8, 8, dtype=torch.uint8)),
    "audio": Audio(torch.zeros(1, 1), 16_000),
    "prompt": "a",
}
"""For results that are not made yet, so that the rest of a request can be checked."""


@dataclass(frozen=True)
class Link:
    """A step of a chain: what it is given, and which of its inputs are results of which steps before it."""

    task: Task
    given: dict[str, Any]
    """Fields of `Request`, its own seed among them."""
    taken: dict[str, int]
    """Index of a step by the name of the input that its result becomes."""

    def request(self, results: Sequence[Media | str] | None = None) -> Request:
        """The step's request, of the results before it; without them, of stand-ins.

        Raises:
            TaskError: It does not fit the task.
        """
        if results is None:
            taken = {name: _STAND_INS[name] for name in self.taken}
        else:
            taken = {name: as_input(results[index], name) for name, index in self.taken.items()}
        return Request(**{"task": self.task.name, **self.given, **taken})


def link(steps: Steps, seed: int, hears: bool) -> list[Link]:
    """Join steps to a chain, and check that each has what it needs.

    Args:
        steps: Mappings with `task` and other fields of `Request`.
        seed: Gives a seed to every step that has none of its own.
        hears: Whether the model makes the sound of its clips.

    Raises:
        TaskError: A step has an unknown task or field, lacks an input, or uses nothing of what was made before it.
        MediaError: A given file is missing or broken.
    """
    if isinstance(steps, str | Mapping) or not isinstance(steps, Sequence) or not 1 <= len(steps) <= MOST_STEPS:
        raise TaskError(
            f"the chain is {shown(steps)}; it must be a list of 1 to {MOST_STEPS} steps, each with a task; write one",
            code="chain_invalid",
        )
    tasks = [_task(step, number) for number, step in enumerate(steps, start=1)]
    links: list[Link] = []
    for number, (task, step) in enumerate(zip(tasks, steps, strict=True)):
        given = {name: value for name, value in step.items() if name != "task"}
        given.setdefault("seed", _seed(seed, number))
        # What a later step makes the sound of needs none before, and carries it on.
        given.setdefault("sound", HEARING not in tasks[number + 1 :])
        offers = [_offers(each, hears) for each in links]
        taken = {}
        for name in KINDS:
            if name in given or name not in task.takes or (name == "video" and "structure" in given):
                continue
            sources = [index for index, offered in enumerate(offers) if name in offered]
            if sources and (sources[-1] == number - 1 or name in task.requires):
                taken[name] = sources[-1]
        if number and not taken:
            made = sorted(set().union(*offers))
            raise TaskError(
                f"step {number + 1} ({task.name}) uses nothing of what is made before it ({', '.join(made)}); it takes "
                f"{', '.join(task.takes) or 'nothing'}; leave out what it is given instead, or choose another task",
                code="chain_broken",
            )
        try:
            links.append(Link(task, given, taken))
            links[-1].request()
        except TaskError as error:
            raise TaskError(f"step {number + 1}: {error}", code=error.code) from None
        with _naming_step(number + 1):
            for name in ("image", "video", "audio", "mask", "depth"):
                file = given.get(name)
                if isinstance(file, str | Path) and not (name == "mask" and file in REGIONS):
                    _check_file(Path(file))
    return links


def run(
    links: Sequence[Link],
    seed: int,
    check: Callable[[Request], None],
    make: Callable[[Request], Result],
    on_result: Callable[[int, Result], None],
) -> list[Result]:
    """Make what the links ask for, one after the other; see `VideoPoet.chain`.

    Args:
        links: Of `link`.
        seed: What their seeds were made of.
        check: Raises where a request does not fit the model; all are checked before the first is begun.
        make: Makes what a request asks for.
        on_result: Called with the index of a link and its result, as soon as there is one.
    """
    for number, each in enumerate(links, start=1):
        with _naming_step(number):
            check(each.request())
    results: list[Result] = []
    told: list[dict[str, Any]] = []
    for number, each in enumerate(links, start=1):
        with _naming_step(number):
            result = make(each.request([made.media for made in results]))
        results.append(replace(result, metadata={**result.metadata, "chain_seed": seed, "chain": list(told)}))
        told.append(result.metadata)
        on_result(number - 1, results[-1])
    return results


def as_input(media: Media | str, name: str) -> Media | str:
    """A result as the input of that name."""
    if name == "audio" and isinstance(media, Video):
        assert media.audio is not None
        return media.audio
    return media


def read_chain(path: str | Path) -> list[dict[str, Any]]:
    """Read steps from a JSON file: `[{"task": "text_to_video", "prompt": "a red ball"}, {"task": "outpainting"}]`.

    Raises:
        TaskError: It is missing or not such a list.
    """
    try:
        steps = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise TaskError(
            f"'{path}' cannot be read ({(error.strerror or 'no such file').lower()}); it must be a JSON file with a "
            "list of steps; check the path",
            code="chain_missing",
        ) from None
    except (ValueError, RecursionError):
        raise TaskError(
            f"'{path}' is not readable JSON; it must hold a list of steps; correct it", code="chain_invalid"
        ) from None
    return steps


@contextlib.contextmanager
def _naming_step(number: int) -> Iterator[None]:
    """Let errors say which step of a chain they are from."""
    try:
        yield
    except VideoPoetError as error:
        raise type(error)(f"step {number}: {error}", code=error.code) from error


def _check_file(path: Path) -> None:
    """Refuse a missing or broken file before anything is made; numbers (.npy) are read with their clip."""
    if path.suffix.lower() != ".npy" or not path.is_file():
        probe(path)


def _task(step: Mapping[str, Any], number: int) -> Task:
    if not isinstance(step, Mapping) or not isinstance(step.get("task"), str):
        raise TaskError(
            f"step {number} is {shown(step)}; it must have a task, and what that takes; correct it",
            code="chain_invalid",
        )
    for name in step:
        if name not in _FIELDS:
            raise TaskError(
                f"step {number} has '{name}', which no task takes; there are {', '.join(_FIELDS)}; correct it",
                code="chain_invalid",
            )
    return find_task(step["task"].replace("-", "_"))


def _offers(made: Link, hears: bool) -> set[str]:
    """What the result of a step can become."""
    names = {"prompt" if kind == "text" else kind for kind in made.task.gives}
    if made.task is HEARING:
        names.add("video")
    elif "video" in names and hears and made.given["sound"]:
        names.add("audio")
    return names


def _seed(seed: int, number: int) -> int:
    return int(torch.randint(2**31, (), generator=runtime.generator("chain", seed, number)))
