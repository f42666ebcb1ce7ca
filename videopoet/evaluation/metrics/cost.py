"""Cost: what an answer takes to make on the machine that the report names."""

from __future__ import annotations

from videopoet.evaluation.cases import Case, Take
from videopoet.evaluation.metrics.base import Figure, PerPrompt, Score
from videopoet.sequence.tasks import TASKS


class Cost(PerPrompt):
    """Seconds an answer takes, in batches of the size that the report names; parameters and memory stand there too."""

    number = "M17"
    suites = tuple(TASKS)
    figures = {"seconds": Figure("seconds for one answer, median", "s", better="lower", median=True)}
    has_chance = False

    def score(self, case: Case, take: Take) -> dict[str, Score]:
        return {"seconds": take.seconds}
