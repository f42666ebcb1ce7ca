"""Binding and count: of several subjects, whether each has its own colour and motion, and how many there are."""

from __future__ import annotations

from videopoet.evaluation.cases import Case, Take
from videopoet.evaluation.matching import count_is_right, pairs
from videopoet.evaluation.metrics.base import Figure, PerPrompt, Score


class Binding(PerPrompt):
    """Prompts with two or three subjects: shape, colour and motion belong together, not only occur.

    A model that hears the words and not their order, the bag of words, pairs colours with shapes by lot.
    """

    number = "M3"
    suites = ("text_to_video",)
    figures = {
        "bound": Figure("clips with every (shape, colour, motion) right, of those with enough subjects"),
        "count": Figure("clips with as many subjects as asked"),
        "enough_subjects": Figure("clips with several asked subjects that show as many"),
    }
    baselines = ("bag_of_words",)

    def score(self, case: Case, take: Take) -> dict[str, Score]:
        asked, reading = case.asked, take.reading
        scores: dict[str, Score] = {"count": count_is_right(asked, reading)} if asked.subjects else {}
        if len(asked.subjects) < 2:
            return scores
        enough = reading is not None and reading.valid and len(reading.subjects) >= len(asked.subjects)
        scores["enough_subjects"] = enough
        if enough:
            scores["bound"] = all(
                one is not None
                and all(
                    getattr(one, slot) == wanted.get(slot)
                    for slot in ("shape", "colour", "motion")
                    if wanted.get(slot) is not None and slot not in one.unscored
                )
                for wanted, one in pairs(asked, reading)
            )
        return scores
