"""Which subject that was asked for is which that was seen, and which of its slots are right."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from videopoet.evaluation.caption_reading import Asked
from videopoet.evaluation.cases import Case
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


def verdicts(case: Case, reading: ClipReading | None) -> Iterator[tuple[str, bool]]:
    """Every slot that was asked for and can be told, and whether it is right; nothing of an invalid clip is right.

    What cannot be told of the truth, such as a size in a single picture, is asked of no answer to the case.
    """
    asked, right = case.asked, case.right.reading
    valid = reading is not None and reading.valid
    for (wanted, one), (_, true) in zip(pairs(asked, reading), pairs(asked, right), strict=True):
        untold = (one.unscored if one is not None else frozenset()) | (
            true.unscored if true is not None else frozenset()
        )
        for slot, value in wanted.items():
            if value is not None and slot not in untold:
                yield slot, valid and one is not None and getattr(one, slot) == value
    untold = frozenset().union(*(each.unscored for each in (reading, right) if each is not None))
    for slot in ("scenery", "camera"):
        value = getattr(asked, slot)
        if value is not None and slot not in untold:
            yield slot, valid and reading is not None and getattr(reading, slot) == value


def count_is_right(asked: Asked, reading: ClipReading | None) -> bool | None:
    """Whether as many subjects are seen as were asked for; None where that cannot be told."""
    if reading is not None and "count" in reading.unscored:
        return None
    return reading is not None and reading.valid and len(reading.subjects) == len(asked.subjects)
