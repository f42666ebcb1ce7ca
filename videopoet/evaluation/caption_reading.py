"""What a caption in the toy box's grammar says: the inverse of `toybox_captions`, for captions that a model writes.

Words that the grammar does not know are passed over. A verb belongs to the subjects before it that have none yet.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from videopoet.data.toybox_captions import (
    AIR_PLACES,
    AIR_VERBS,
    GROUND_PLACES,
    GROUND_VERBS,
    STYLES,
    split_words,
    third_person,
)
from videopoet.data.toybox_world import CAMERAS, COLOURS, SHAPES, SIZES


@dataclass(frozen=True)
class Asked:
    """What a prompt says; None where it does not say."""

    subjects: tuple[Mapping[str, str | None], ...] = ()
    """Of each subject its slots: shape, colour, motion, size."""
    scenery: str | None = None
    camera: str | None = None


def _phrases() -> dict[tuple[str, ...], tuple[str, str]]:
    """Every phrase that says something, as its words, with the slot and the value."""
    table: dict[tuple[str, ...], tuple[str, str]] = {}
    for slot, values in (("shape", SHAPES), ("colour", COLOURS), ("size", tuple(SIZES)), ("style", STYLES)):
        table |= {(value,): (slot, value) for value in values}
    table |= {tuple(camera.split()): ("camera", camera) for camera in CAMERAS[1:]}
    for verbs in (GROUND_VERBS, AIR_VERBS):
        for motion, choices in verbs.items():
            for verb in choices:
                for form in (verb, third_person(verb)):
                    table[tuple(form.split())] = ("motion", motion)
    for places in (GROUND_PLACES, AIR_PLACES):
        for kind, choices in places.items():
            table |= {tuple(place.split()): ("scenery", kind) for place in choices}
    return table


PHRASES = _phrases()
_LONGEST = max(map(len, PHRASES))


def read_caption(caption: str) -> Asked:
    """The subjects, the scenery and the camera that a caption names; a camera that it does not name is at rest."""
    subjects: list[dict[str, str | None]] = []
    before: dict[str, str | None] = {}
    scenery, camera = None, "still"
    for slot, value in _said(split_words(caption)):
        if slot == "shape":
            subjects.append({"shape": value, "colour": None, "motion": None, "size": None} | before)
            before = {}
        elif slot in ("colour", "size"):
            before[slot] = value
        elif slot == "motion":
            for subject in subjects:
                subject["motion"] = subject["motion"] or value
        elif slot == "scenery":
            scenery = scenery or value
        elif slot == "camera":
            camera = value
    return Asked(tuple(subjects), scenery, camera)


def _said(words: list[str]) -> Iterator[tuple[str, str]]:
    start = 0
    while start < len(words):
        for length in range(min(_LONGEST, len(words) - start), 0, -1):
            if (found := PHRASES.get(tuple(words[start : start + length]))) is not None:
                yield found
                break
        else:
            length = 1
        start += length
