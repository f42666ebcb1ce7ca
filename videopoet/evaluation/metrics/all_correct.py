"""Text fidelity of whole clips: everything that the prompt says is seen, and nothing more."""

from __future__ import annotations

from videopoet.evaluation.cases import Case, Take
from videopoet.evaluation.matching import count_is_right, verdicts
from videopoet.evaluation.metrics.base import Figure, PerPrompt, Score


class AllCorrect(PerPrompt):
    """Clips with every asked slot right and no subject too many; the headline of what is made from words.

    `subjects_right` leaves scenery and camera aside. A clip that is no scene of the toy box is wrong; how many those
    are is printed.
    """

    number = "M2"
    suites = (
        "text_to_video",
        "text_to_image",
        "image_to_video",
        "video_continuation",
        "inpainting",
        "outpainting",
        "audio_video_continuation",
    )
    verdict = dict.fromkeys(
        ("text_to_video", "text_to_image", "image_to_video", "video_continuation"), ("all_correct",)
    )
    figures = {
        "all_correct": Figure("clips with every asked slot right and no extra subject"),
        "subjects_right": Figure("the same without scenery and camera"),
        "invalid": Figure("clips that are no scene of the toy box", better="lower", has_chance=False),
    }
    baselines = ("retrieval", "freeze")

    def score(self, case: Case, take: Take) -> dict[str, Score]:
        found = list(verdicts(case, take.reading))
        counted = count_is_right(case.asked, take.reading)
        subjects = [right for slot, right in found if slot not in ("scenery", "camera")]
        invalid = take.reading is None or not take.reading.valid
        if not found or not case.asked.subjects:
            return {"invalid": invalid}
        return {
            "all_correct": all(right for _, right in found) and counted is not False,
            "subjects_right": all(subjects) and counted is not False if subjects else None,
            "invalid": invalid,
        }
