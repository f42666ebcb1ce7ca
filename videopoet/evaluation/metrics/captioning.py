"""Captioning: what a caption says of a clip, slot by slot, against what is in it."""

from __future__ import annotations

import numpy as np

from videopoet.evaluation.caption_reading import Asked, read_caption
from videopoet.evaluation.cases import Case, Take
from videopoet.evaluation.metrics.base import Figure, PerPrompt, Score
from videopoet.evaluation.reading import SLOTS
from videopoet.evaluation.statistics import assign


class Captioning(PerPrompt):
    """Right slots of a caption that is read by the toy box's own grammar: M1 and M2, turned round.

    What a full caption of the clip names must be named; words of no slot change nothing. A size that is named where the
    clip's own caption leaves it out is not judged.
    """

    number = "M1c"
    suites = ("video_captioning",)
    verdict = {"video_captioning": ("all_correct",)}
    figures = {
        "slots": Figure("right slots of all that a full caption names"),
        "all_correct": Figure("captions with every slot right and no extra subject"),
    }

    def score(self, case: Case, take: Take) -> dict[str, Score]:
        if take.text is None:
            return {"slots": False, "all_correct": False}
        said, wanted = read_caption(take.text), case.asked
        verdicts = list(_verdicts(wanted, said))
        same_number = len(said.subjects) == len(wanted.subjects)
        return {"slots": (sum(verdicts), len(verdicts)), "all_correct": all(verdicts) and same_number}


def _verdicts(wanted: Asked, said: Asked) -> list[bool]:
    costs = np.array(
        [[-sum(one[slot] == other[slot] for slot in SLOTS) for other in said.subjects] for one in wanted.subjects],
        dtype=float,
    ).reshape(len(wanted.subjects), len(said.subjects))
    partner = dict(assign(costs))
    verdicts = [
        i in partner and said.subjects[partner[i]][slot] == value
        for i, one in enumerate(wanted.subjects)
        for slot, value in one.items()
        if value is not None
    ]
    return [*verdicts, said.scenery == wanted.scenery, said.camera == wanted.camera]
