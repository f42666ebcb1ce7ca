"""Diversity: what a model chooses where the prompt leaves the choice to it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

from videopoet.data.toybox_world import COLOURS, KINDS
from videopoet.evaluation.cases import Case, Take
from videopoet.evaluation.metrics.base import Figure, OverAll
from videopoet.evaluation.statistics import entropy

CELLS = 4
"""Start places are told apart on a grid of 4 by 4."""
POSSIBLE = {"colours": len(COLOURS), "sceneries": len(KINDS), "starts": CELLS**2}
"""How many different ones there are of what is left open."""


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

    def collect(self, case: Case, take: Take) -> Mapping[str, Hashable] | None:
        reading = take.reading
        if reading is None:
            return None
        if not (reading.valid and reading.subjects):
            return dict.fromkeys(POSSIBLE)
        first = reading.subjects[0]
        place = first.track[~first.track.isnan().any(dim=1)][:1]
        cell = None
        if len(place):
            column, row = place[0].tolist()
            cell = int(CELLS * row / reading.height), int(CELLS * column / reading.width)
        scenery = None if "scenery" in reading.unscored else reading.scenery
        return {"colours": first.colour, "sceneries": scenery, "starts": cell}

    def enters(self, item: Mapping[str, Hashable], figure: str) -> bool:
        return figure == "read" or item[figure] is not None

    def summarize(
        self, collected: Sequence[Mapping[str, Hashable]], reference: Sequence[object]
    ) -> dict[str, float | None]:
        read = sum(item["colours"] is not None for item in collected) / len(collected)
        figures: dict[str, float | None] = {"read": read}
        for name, possible in POSSIBLE.items():
            values = [item[name] for item in collected if item[name] is not None]
            figures[name] = entropy(values, possible) if values else None
        return figures
