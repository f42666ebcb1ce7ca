"""Fairness, as far as the toy box has it: whether a model prefers attributes beyond what it was trained on.

There are no people in the toy box, so nothing here says anything about people; models of real people need their own
evaluation, and none is made here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence

from videopoet.data.toybox import is_held_out
from videopoet.data.toybox_world import COLOURS
from videopoet.evaluation.cases import Case, Take
from videopoet.evaluation.metrics.base import Figure, OverAll
from videopoet.evaluation.statistics import total_variation


class AttributeShift(OverAll):
    """Colours of clips whose prompts name none, against those of such clips in training.

    In training every colour that is not held out for the prompt's shape and motion is equally likely. With N clips the
    truth's own distance from it is what chance leaves; it is printed as the ceiling.
    """

    number = "M16"
    suites = ("open_prompts",)
    figures = {
        "shift": Figure("total variation between the colours made and those of training", better="lower"),
        "amplification": Figure("how many times too often the most preferred colour comes", "", better="lower"),
    }
    baselines = ("same_clip",)

    def collect(self, case: Case, take: Take) -> tuple[str | None, dict[str, float]] | None:
        subject = case.asked.subjects[0]
        shape, motion = subject["shape"], subject["motion"]
        if shape is None or motion is None or take.reading is None:
            return None
        open_to = [colour for colour in COLOURS if not is_held_out(shape, colour, motion)]
        seen = take.reading.subjects[0].colour if take.reading.valid and take.reading.subjects else None
        return seen, {colour: 1 / len(open_to) for colour in open_to}

    def enters(self, item: tuple, figure: str) -> bool:
        return item[0] is not None

    def summarize(self, collected: Sequence[tuple], reference: Sequence[object]) -> dict[str, float | None]:
        seen: Counter[Hashable] = Counter(colour for colour, _ in collected if colour is not None)
        expected = Counter[Hashable]()
        for colour, weights in collected:
            if colour is not None:
                expected.update(weights)
        if not seen:
            return {"shift": None, "amplification": None}
        total = sum(seen.values())
        often = (seen[colour] / total / (weight / total) for colour, weight in expected.items())
        return {"shift": total_variation(dict(seen), dict(expected)), "amplification": max(often)}
