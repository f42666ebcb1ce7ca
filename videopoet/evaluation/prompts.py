"""The frozen prompts that models are asked: three splits, paraphrases and minimal pairs, each with its captioned slots.

`prompts.json` is committed and its hash is checked, so that two models are asked the same; `draw` is how it was made,
from scenes of the test split. A slot that a caption does not name is None and may come out as it likes.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, Literal, NamedTuple

from videopoet.data.toybox import Config, Scene, ToyBox
from videopoet.data.toybox_lot import Lot
from videopoet.data.toybox_world import (
    CAMERAS,
    COLOURS,
    KINDS,
    MOTIONS,
    SHAPES,
    SIZE_CHANGING_CAMERAS,
    SIZES,
    is_held_out,
)
from videopoet.errors import DataError

Split = Literal["in", "combinations", "outside"]
SPLITS: tuple[Split, ...] = ("in", "combinations", "outside")
"""Combinations that training has; combinations held out of it; speeds and sizes outside the range of training."""
PER_SPLIT, NUM_PAIRS = 500, 200
FILE = Path(__file__).parent / "prompts.json"
SHA256 = "130ee475c8609d05dbd06a31e653a71f0681557b3c2e07563d216b684d20b65a"
"""Of the committed file; another file is refused."""

_OPPOSITES = (("left", "right"), ("up", "down"), ("in", "out"), ("bigger", "smaller"), ("grows", "shrinks"))
_GROUNDS = ("grass", "sand", "snow", "sea")
_PAIR_SLOTS = ("colour", "shape", "motion", "size", "scenery", "camera")
_FRESH_PAIRS, _PAIR_SEEDS = 5_000_000, 1_000
"""First seed of pairs that are not frozen, and how many each may try: about one scene in two has a word to change."""
_FASTER, _SMALLER, _BIGGER = (0.62, 0.72), 0.84, 1.14


class AskedSubject(NamedTuple):
    """What a prompt says of one subject."""

    colour: str
    shape: str
    motion: str
    size: str | None


@dataclass(frozen=True)
class Prompt:
    """One thing to ask for."""

    seed: int
    """Of the scene in the test split that shows it."""
    texts: tuple[str, ...]
    """Three ways to say the same."""
    subjects: tuple[AskedSubject, ...]
    scenery: str
    camera: str | None


@dataclass(frozen=True)
class Pair:
    """Two prompts that differ in one word, which changes one slot of the first subject, the scenery or the camera."""

    seed: int
    texts: tuple[str, str]
    slot: str
    values: tuple[str, str]


def prompts(split: Split) -> tuple[Prompt, ...]:
    """The prompts of a split.

    Raises:
        DataError: The committed file has been changed.
    """
    return tuple(
        Prompt(seed, tuple(texts), tuple(AskedSubject(*one) for one in subjects), scenery, camera)
        for seed, texts, subjects, scenery, camera in _committed()["splits"][split]
    )


def minimal_pairs() -> tuple[Pair, ...]:
    """The pairs of prompts.

    Raises:
        DataError: The committed file has been changed.
    """
    return tuple(_as_pair(row) for row in _committed()["pairs"])


def fresh_pair(number: int) -> Pair:
    """A pair that is none of the frozen ones, drawn by the same rule; equal numbers give equal pairs."""
    world, slot = ToyBox(Config(split="test")), _PAIR_SLOTS[number % len(_PAIR_SLOTS)]
    rows = (_pair(world, seed, slot) for seed in count(_FRESH_PAIRS + _PAIR_SEEDS * number))
    return _as_pair(next(row for row in rows if row))


def scene(split: Split, seed: int, number: int, world: ToyBox | None = None) -> Scene:
    """The scene of prompt `number` of a split: slots go round, so that each value is asked for about equally often."""
    world = world or ToyBox(Config(split="test", combinations="held_out" if split == "combinations" else "seen"))
    lot = Lot("prompts", split, seed)
    motions = MOTIONS[:4] if split == "outside" else MOTIONS
    shape, colour, motion = next(
        triple
        for turn in count()
        if is_held_out(
            *(
                triple := (
                    SHAPES[number % len(SHAPES)],
                    COLOURS[(number // len(SHAPES) + turn) % len(COLOURS)],
                    motions[(number + turn // len(COLOURS)) % len(motions)],
                )
            )
        )
        == (split == "combinations")
    )
    num_subjects = (
        1
        if split == "outside"
        else (1, 1, 1, 1, 1, 1, 1, 2, 2, 3)[number % 10 if number % 20 < 10 else 9 - number % 10]
    )
    camera = "still" if number % 3 else CAMERAS[1 + (number // 3 + number // 30) % (len(CAMERAS) - 1)]
    if split == "outside" or motion in ("grow", "shrink") and camera in SIZE_CHANGING_CAMERAS:
        camera = "still"
    size = "medium" if motion in ("grow", "shrink") else tuple(SIZES)[number % len(SIZES)]
    if num_subjects == 3 and size == "big":
        size = "small"
    drawn = world.scene(
        seed,
        num_subjects=num_subjects,
        shape=shape,
        colour=colour,
        motion=motion,
        size=size,
        kind=KINDS[number % len(KINDS)],
        camera=camera,
    )
    return _outside(drawn, lot) if split == "outside" else drawn


def draw() -> dict[str, Any]:
    """Draw all prompts anew; the same on every machine."""
    splits: dict[str, list[Any]] = {}
    for index, split in enumerate(SPLITS):
        world = ToyBox(Config(split="test", combinations="held_out" if split == "combinations" else "seen"))
        splits[split] = []
        for number in range(PER_SPLIT):
            seed = 1_000_000 * (index + 1) + number
            one = scene(split, seed, number, world)
            splits[split].append(
                [
                    seed,
                    list(one.captions[:3]),
                    [list(_asked(subject, one.captions[0])) for subject in one.subjects],
                    one.kind,
                    None if one.camera == "still" else one.camera,
                ]
            )
    return {"splits": splits, "pairs": _pairs()}


def write() -> str:
    """Write the file, and say its sha256; only for a new edition of the prompts."""
    rows = draw()
    lines = [
        f'"{split}": [\n' + ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows["splits"][split]) + "\n]"
        for split in SPLITS
    ]
    pairs = ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows["pairs"])
    text = '{"splits": {\n' + ",\n".join(lines) + '\n},\n"pairs": [\n' + pairs + "\n]}\n"
    FILE.write_text(text, encoding="utf-8")
    return hashlib.sha256(text.encode()).hexdigest()


def _asked(subject: Any, caption: str) -> AskedSubject:
    is_named = f"{subject.size} {subject.colour} {subject.shape}" in caption
    return AskedSubject(subject.colour, subject.shape, subject.motion, subject.size if is_named else None)


def _outside(drawn: Scene, lot: Lot) -> Scene:
    """The same, faster, and smaller or bigger, than training shows."""
    (subject,) = drawn.subjects
    span = lot.uniform(*_FASTER)
    factor = {"small": _SMALLER, "big": _BIGGER}.get(subject.size, 1.0)
    level = subject.motion in ("left", "right")
    other = replace(
        subject,
        span=span,
        radius=factor * SIZES[subject.size],
        x=0.0 if level else subject.x * 0.7,
        y=subject.y if level else 0.0,
    )
    return replace(drawn, subjects=(other,))


def _pairs() -> list[Any]:
    """One word of a caption changed: the slot goes round."""
    world = ToyBox(Config(split="test"))
    found: list[Any] = []
    for seed in count(4_000_000):
        if len(found) == NUM_PAIRS:
            return found
        row = _pair(world, seed, _PAIR_SLOTS[len(found) % len(_PAIR_SLOTS)])
        if row:
            found.append(row)
    raise AssertionError


def _pair(world: ToyBox, seed: int, slot: str) -> list[Any] | None:
    """The row of a scene's caption and the same with one word changed; None where no word can be changed alone."""
    lot = Lot("pairs", seed)
    one = world.scene(
        seed,
        num_subjects=1,
        size=lot.choose(("small", "big")) if slot == "size" else None,
        camera=lot.choose(
            [camera for camera in CAMERAS if camera.split()[-1] in ("left", "right", "up", "down", "in", "out")]
        )
        if slot == "camera"
        else "still",
    )
    changed = _changed(one, slot, lot)
    if not changed:
        return None
    text, values = changed
    return [seed, [one.captions[0], text], slot, list(values)]


def _as_pair(row: list[Any]) -> Pair:
    seed, texts, slot, values = row
    return Pair(seed, tuple(texts), slot, tuple(values))


def _changed(one: Scene, slot: str, lot: Lot) -> tuple[str, tuple[str, str]] | None:
    """A caption with one word changed, and the slot's two values; None where no word can be changed alone."""
    (subject,), caption = one.subjects, one.captions[0]
    before, comma, camera = caption.partition(f", {one.camera}") if one.camera != "still" else (caption, "", "")
    words, ending = re.findall(r"\w+", before), comma + camera
    shape, colour, motion = subject.triple
    match slot:
        case "colour":
            new = lot.choose([other for other in COLOURS if other != colour])
            if "orange" in (colour, new) and subject.size == "medium" or is_held_out(shape, new, motion):
                return None
            return _swap(before, colour, new, ending), (colour, new)
        case "shape":
            new = lot.choose([other for other in SHAPES if other != shape])
            return None if is_held_out(new, colour, motion) else (_swap(before, shape, new, ending), (shape, new))
        case "size":
            new = "big" if subject.size == "small" else "small"
            if subject.size not in words:
                return None
            return _swap(before, subject.size, new, ending), (subject.size, new)
        case "motion":
            opposite = {"left": "right", "up": "down", "grow": "shrink"}
            opposite |= {new: old for old, new in opposite.items()}
            new = opposite.get(motion)
            if new is None or is_held_out(shape, colour, new):
                return None
            for pair in _OPPOSITES:
                for old, other in (pair, pair[::-1]):
                    if old != "in" and words.count(old) == 1 and old != "out":
                        return _swap(before, old, other, ending), (motion, new)
            return None
        case "scenery":
            new = lot.choose([other for other in _GROUNDS if other != one.kind])
            is_plain = re.search(rf"\b(on|over) the {one.kind}\b", before) and one.kind in _GROUNDS
            return (_swap(before, one.kind, new, ending), (one.kind, new)) if is_plain else None
        case "camera":
            kind, _, way = one.camera.rpartition(" ")
            new = next(other for pair in _OPPOSITES for old, other in (pair, pair[::-1]) if old == way)
            return f"{before}, {kind} {new}", (one.camera, f"{kind} {new}")
    return None


def _swap(text: str, old: str, new: str, ending: str) -> str:
    return re.sub(rf"\b{old}\b", new, text, count=1) + ending


@functools.cache
def _committed() -> dict[str, Any]:
    text = FILE.read_bytes()
    found = hashlib.sha256(text).hexdigest()
    if found != SHA256:
        raise DataError(
            f"the prompts in '{FILE.name}' have sha256 {found[:16]}..., and {SHA256[:16]}... is the edition that "
            "scores are compared on; restore the file",
            code="prompts_changed",
        )
    return json.loads(text)
