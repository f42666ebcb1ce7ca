"""Text fidelity by slots: how much of what the prompt says is seen."""

from __future__ import annotations

from videopoet.evaluation.cases import Case, Take
from videopoet.evaluation.matching import verdicts
from videopoet.evaluation.metrics.base import Figure, PerPrompt, Score


class SlotFidelity(PerPrompt):
    """Right slots of all that the prompts name. Subjects seen are taken for those asked so that most slots agree."""

    number = "M1"
    suites = (
        "text_to_video",
        "text_to_image",
        "image_to_video",
        "video_continuation",
        "inpainting",
        "outpainting",
    )
    figures = {
        "slots": Figure("right slots of all that were asked"),
        "shape": Figure("right shapes"),
        "colour": Figure("right colours"),
        "motion": Figure("right motions"),
        "size": Figure("right sizes, where named"),
        "scenery": Figure("right sceneries"),
        "camera": Figure("right camera moves, rest included"),
    }
    baselines = ("retrieval",)

    def score(self, case: Case, take: Take) -> dict[str, Score]:
        counts: dict[str, tuple[float, float]] = {}
        for slot, right in verdicts(case, take.reading):
            for name in ("slots", slot):
                hits, total = counts.get(name, (0.0, 0.0))
                counts[name] = hits + right, total + 1
        return dict(counts)
