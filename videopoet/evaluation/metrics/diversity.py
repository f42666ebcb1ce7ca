"""Diversity: what a model chooses where the prompt leaves the choice to it."""

from __future__ import annotations

from collections.abc import Sequence

from videopoet.data.toybox_world import COLOURS, KINDS
from videopoet.evaluation.cases import Case, Take
from videopoet.evaluation.metrics.base import Figure, OverAll
from videopoet.evaluation.statistics import entropy

CELLS = 4
"""Start places are told apart on a grid of 4 by 4."""


class Diversity(OverAll):
    """Evenness (entropy over that of equal shares, 100 = all equally often) of slots that no prompt of the set names.

    Prompts such as "a ball bounces" leave open the colour, the scenery and where the subject starts. With few clips the
    truth itself is below 100; its value says how far.
    """

    number = "M15"
    suites = ("open_prompts",)
    figures = {
        "colours": Figure("evenness of colours"),
        "sceneries": Figure("evenness of sceneries"),
        "starts": Figure("evenness of start places on a 4x4 grid"),
        "read": Figure("answers that can be read at all; the others choose nothing"),
    }
    baselines = ("same_clip",)

    def collect(self, case: Case, take: Take) -> tuple[str | None, str | None, tuple[int, int] | None] | None:
        reading = take.reading
        if reading is None:
            return None
        if not (reading.valid and reading.subjects):
            return None, None, None
        first = reading.subjects[0]
        place = first.track[~first.track.isnan().any(dim=1)][:1]
        cell = None
        if len(place):
            column, row = place[0].tolist()
            cell = int(CELLS * row / reading.height), int(CELLS * column / reading.width)
        return first.colour, None if "scenery" in reading.unscored else reading.scenery, cell

    def summarize(self, collected: Sequence[tuple], reference: Sequence[object]) -> dict[str, float | None]:
        figures: dict[str, float | None] = {"read": sum(item[0] is not None for item in collected) / len(collected)}
        for index, (name, possible) in enumerate(
            (("colours", len(COLOURS)), ("sceneries", len(KINDS)), ("starts", CELLS**2))
        ):
            values = [item[index] for item in collected if item[index] is not None]
            figures[name] = entropy(values, possible) if values else None
        return figures
