"""Suites: lists of cases. Each task of the table is one; three more ask what no single answer shows.

`minimal_pairs` are two prompts that differ in one word, `open_prompts` name no colour and no scenery, and `tokenizer`
is the tokenizers without a language model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal

from videopoet.data.toybox import Config, ToyBox, is_held_out
from videopoet.data.toybox_captions import AIR_VERBS, GROUND_VERBS, third_person
from videopoet.data.toybox_world import COLOURS, SHAPES
from videopoet.errors import ConfigError
from videopoet.evaluation.caption_reading import read_caption
from videopoet.evaluation.cases import Case, make_case
from videopoet.generation.window import Window
from videopoet.sequence.tasks import TASKS

Split = Literal["in", "comb"]
SPLITS: dict[Split, Literal["seen", "held_out"]] = {"in": "seen", "comb": "held_out"}
"""Combinations of shape, colour and motion that training has, and those that it never has."""
EXTRA = {"minimal_pairs": "text_to_video", "open_prompts": "text_to_video", "tokenizer": "text_to_video"}
"""Suites that are no task of the table, and the task that they ask of a model."""
SUITES = (*TASKS, *EXTRA)
OPPOSITES = {"left": "right", "right": "left", "up": "down", "down": "up", "grow": "shrink", "shrink": "grow"}
CHANGES = ("colour", "shape", "motion", "size")
REFERENCE = 10_000_000
"""Added to the seeds of a suite: true clips of other prompts, which sets are compared with."""


def world_of(window: Window, split: Split) -> ToyBox:
    """The toy box's test split as a model sees it.

    Raises:
        ConfigError: There is no such split.
    """
    if split not in SPLITS:
        raise ConfigError(
            f"unknown split '{split}'; there are {', '.join(SPLITS)}; choose one of them", code="split_unknown"
        )
    return ToyBox(
        Config(
            height=window.height,
            width=window.width,
            num_frames=window.num_frames,
            frame_rate=window.frame_rate,
            sample_rate=window.sample_rate,
            split="test",
            combinations=SPLITS[split],
        )
    )


def task_of(suite: str) -> str:
    """The task that a suite asks of a model."""
    return EXTRA.get(suite, suite)


def suites_of(tasks: Sequence[str]) -> list[str]:
    """The suites of these tasks, in the table's order; `tokenizer` by its name, as it is no task.

    Raises:
        ConfigError: One is neither a task nor `tokenizer`.
    """
    known = (*TASKS, "tokenizer")
    for name in tasks:
        if name not in known:
            raise ConfigError(
                f"unknown task '{name}'; there are {', '.join(known)}; correct the name", code="task_unknown"
            )
    return [suite for suite in SUITES if (suite if suite == "tokenizer" else task_of(suite)) in tasks]


def cases(suite: str, world: ToyBox, window: Window, numbers: range, seed: int) -> Iterator[Case]:
    """The cases of a suite with these numbers; equal seeds give equal cases, on every machine."""
    for number in numbers:
        own_seed = seed + number
        if suite == "minimal_pairs":
            yield _minimal_pair(world, window, number, own_seed)
        elif suite == "open_prompts":
            yield _open_prompt(world, window, number, own_seed)
        else:
            yield make_case(suite, task_of(suite), number, world, world.scene(own_seed), window)


def fingerprint(case: Case) -> str:
    """sha256 over all that a case asks and gives; scenes say everything about their clips."""
    said = (case.suite, case.number, case.prompt, case.truth.scene, case.style, case.given.get("mask"), case.num_known)
    if case.other is not None:
        said = (*said, case.other.prompt)
    return hashlib.sha256(repr(said).encode()).hexdigest()


def _minimal_pair(world: ToyBox, window: Window, number: int, seed: int) -> Case:
    """A prompt about one subject, and the same prompt with one word changed."""
    slot = CHANGES[number % len(CHANGES)]
    attempt = seed
    while True:
        scene = world.scene(attempt, num_subjects=1, camera="still", size=("small", "big")[number % 2])
        subject = scene.subjects[0]
        values = {name: getattr(subject, name) for name in CHANGES}
        changed = _other_value(slot, values)
        if changed is not None and is_held_out(*_triple(values | {slot: changed})) == is_held_out(*_triple(values)):
            break
        attempt += REFERENCE // 10  # far from the seeds of the other numbers
    before, after = (
        make_case(
            "minimal_pairs",
            "text_to_video",
            number,
            world,
            world.scene(attempt, num_subjects=1, camera="still", kind=scene.kind, **each),
            window,
        )
        for each in (values, values | {slot: changed})
    )
    return replace(before, other=after, changed=(0, slot))


def _other_value(slot: str, values: dict[str, str]) -> str | None:
    value = values[slot]
    if slot == "motion":
        return OPPOSITES.get(value)
    if slot == "size":
        return {"small": "big", "big": "small"}.get(value)
    choices = COLOURS if slot == "colour" else SHAPES
    return choices[(choices.index(value) + 1) % len(choices)]


def _triple(values: dict[str, str]) -> tuple[str, str, str]:
    return values["shape"], values["colour"], values["motion"]


def _open_prompt(world: ToyBox, window: Window, number: int, seed: int) -> Case:
    """A prompt that names a shape and a motion only, as the toy box's own loose captions do."""
    scene = world.scene(seed, num_subjects=1, camera="still")
    subject = scene.subjects[0]
    verb = (GROUND_VERBS if subject.on_ground else AIR_VERBS)[subject.motion][0]
    prompt = f"a {subject.shape} {third_person(verb)}"
    case = make_case("open_prompts", "text_to_video", number, world, scene, window)
    return replace(case, prompt=prompt, asked=read_caption(prompt))
