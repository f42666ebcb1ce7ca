"""Which subject that was asked for is which that was seen, and which of its slots are right."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from videopoet.evaluation.caption_reading import Asked
from videopoet.evaluation.reading import SLOTS, ClipReading, SubjectReading
from videopoet.evaluation.statistics import assign


def pairs(asked: Asked, reading: ClipReading | None) -> list[tuple[Mapping[str, str | None], SubjectReading | None]]:
    """Each asked subject with the seen one that is taken for it: together as many slots as can be agree."""
    seen = reading.subjects if reading is not None else ()
    costs = np.array(
        [[-sum(wanted.get(slot) == getattr(one, slot) for slot in SLOTS) for one in seen] for wanted in asked.subjects],
        dtype=float,
    ).reshape(len(asked.subjects), len(seen))
    partner = dict(assign(costs))
    return [(wanted, seen[partner[i]] if i in partner else None) for i, wanted in enumerate(asked.subjects)]


def verdicts(asked: Asked, reading: ClipReading | None) -> Iterator[tuple[str, bool]]:
    """Every slot that was asked for and can be told, and whether it is right; nothing of an invalid clip is right."""
    valid = reading is not None and reading.valid
    for wanted, one in pairs(asked, reading):
        for slot, value in wanted.items():
            if value is not None and not (one is not None and slot in one.unscored):
                yield slot, valid and one is not None and getattr(one, slot) == value
    for slot in ("scenery", "camera"):
        value = getattr(asked, slot)
        if value is not None and not (reading is not None and slot in reading.unscored):
            yield slot, valid and reading is not None and getattr(reading, slot) == value


def count_is_right(asked: Asked, reading: ClipReading | None) -> bool | None:
    """Whether as many subjects are seen as were asked for; None where that cannot be told."""
    if reading is not None and "count" in reading.unscored:
        return None
    return reading is not None and reading.valid and len(reading.subjects) == len(asked.subjects)
