"""Suites: lists of cases. Each task of the table is one; three more ask what no single answer shows.

`minimal_pairs` are two prompts that differ in one word, `open_prompts` name no colour and no scenery, and `tokenizer`
is the tokenizers without a language model. Prompts are the frozen ones, the same for all tasks; those after the last
frozen one are drawn by the same rule, for sets that need more, and to tune on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from videopoet.data.toybox import Config, Scene, ToyBox
from videopoet.data.toybox_captions import AIR_VERBS, GROUND_VERBS, third_person
from videopoet.data.toybox_world import SIZES, impacts
from videopoet.errors import ConfigError
from videopoet.evaluation import prompts
from videopoet.evaluation.caption_reading import read_caption
from videopoet.evaluation.cases import Case, make_case
from videopoet.evaluation.prompts import NUM_PAIRS, PER_SPLIT, SPLITS, Pair, Split
from videopoet.generation.window import Window
from videopoet.sequence.tasks import TASKS

EXTRA = {"minimal_pairs": "text_to_video", "open_prompts": "text_to_video", "tokenizer": "text_to_video"}
"""Suites that are no task of the table, and the task that they ask of a model."""
SUITES = (*TASKS, *EXTRA)
SUBJECTLESS = ("scenery", "camera")
"""Slots of a clip, not of a subject."""
REFERENCE_PROMPTS = 10_000_000
"""Added to the numbers of prompts: true clips of other prompts, which sets are compared with."""
_STRIDE = 173
"""Neighbours among the frozen prompts share a colour; at this stride, prime to their number, few name all values."""


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
            combinations="held_out" if split == "combinations" else "seen",
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


def left_out(suite: str, split: Split) -> str | None:
    """Why a suite is not asked of a split; None if it is."""
    if suite == "minimal_pairs" and split != "in":
        return "minimal pairs are of split in alone"
    if suite == "open_prompts" and split == "outside":
        return "an open prompt names neither a speed nor a size, so nothing in it is out of range"
    return None


def num_prompts(suite: str, count: int) -> int:
    """How many prompts a suite has where `count` are wanted: of minimal pairs no more than there are frozen ones."""
    return min(count, NUM_PAIRS) if suite == "minimal_pairs" else count


def num_frozen(suite: str, count: int, seed: int) -> int:
    """How many of a suite's prompts are frozen ones."""
    if suite == "open_prompts":
        return 0
    return max(0, min(seed + num_prompts(suite, count), PER_SPLIT) - seed)


def cases(
    suite: str, world: ToyBox, window: Window, numbers: Iterable[int], seed: int, split: Split = "in"
) -> Iterator[Case]:
    """The cases of a suite with these numbers; equal seeds give equal cases, on every machine.

    `world` is that of the split, and the first case has prompt `seed`. Prompts below `PER_SPLIT` are the frozen ones,
    in an order in which few of them name all values; minimal pairs below it are, and go round.

    Raises:
        DataError: The file of frozen prompts has been changed.
    """
    for number in numbers:
        wanted = seed + number
        if suite == "minimal_pairs":
            frozen = wanted < PER_SPLIT
            pair = prompts.minimal_pairs()[wanted % NUM_PAIRS] if frozen else prompts.fresh_pair(wanted)
            yield _minimal_pair(world, window, number, pair)
        elif suite == "open_prompts":
            yield _open_prompt(world, window, number, wanted)
        else:
            yield make_case(suite, task_of(suite), number, world, _scene(world, split, wanted), window)


def _scene(world: ToyBox, split: Split, wanted: int) -> Scene:
    """The scene of a prompt, captioned as the prompt says it."""
    frozen = prompts.prompts(split)
    if wanted >= PER_SPLIT:
        return prompts.scene(split, frozen[0].seed + wanted, wanted, world)
    number = wanted * _STRIDE % PER_SPLIT
    asked = frozen[number]
    # Worlds of other sizes say it in other words.
    return replace(prompts.scene(split, asked.seed, number, world), captions=asked.texts)


def fingerprint(case: Case) -> str:
    """sha256 over all that a case asks and gives; scenes say everything about their clips."""
    said = (case.suite, case.number, case.prompt, case.truth.scene, case.style, case.given.get("mask"), case.num_known)
    if case.other is not None:
        said = (*said, case.other.prompt)
    return hashlib.sha256(repr(said).encode()).hexdigest()


def _minimal_pair(world: ToyBox, window: Window, number: int, pair: Pair) -> Case:
    """A prompt about one subject, and the same prompt with one word changed."""
    before = world.scene(
        pair.seed,
        num_subjects=1,
        size=pair.values[0] if pair.slot == "size" else None,
        camera=pair.values[0] if pair.slot == "camera" else "still",
    )
    first, second = (
        make_case("minimal_pairs", "text_to_video", number, world, replace(scene, captions=(text,)), window)
        for scene, text in zip((before, _changed(before, pair)), pair.texts, strict=True)
    )
    return replace(first, other=second, changed=(-1 if pair.slot in SUBJECTLESS else 0, pair.slot))


def _changed(before: Scene, pair: Pair) -> Scene:
    """The scene that the second prompt of a pair asks for: the first, but for the slot."""
    old, new = pair.values
    if pair.slot == "scenery":
        return replace(before, kind=new)
    if pair.slot == "camera":
        return replace(before, camera=new)
    (subject,) = before.subjects
    after = replace(subject, **{pair.slot: new})
    if pair.slot == "size":
        after = replace(after, radius=subject.radius * SIZES[new] / SIZES[old])
    elif pair.slot == "motion" and new in ("left", "right"):
        after = replace(after, facing=-subject.facing)
    return replace(before, subjects=(after,), impacts=impacts((after,), before.stage))


def _open_prompt(world: ToyBox, window: Window, number: int, seed: int) -> Case:
    """A prompt that names a shape and a motion only, as the toy box's own loose captions do."""
    scene = world.scene(seed, num_subjects=1, camera="still")
    subject = scene.subjects[0]
    verb = (GROUND_VERBS if subject.on_ground else AIR_VERBS)[subject.motion][0]
    prompt = f"a {subject.shape} {third_person(verb)}"
    case = make_case("open_prompts", "text_to_video", number, world, scene, window)
    return replace(case, prompt=prompt, asked=read_caption(prompt))
