"""Control by words: two prompts that differ in one word, made from one seed."""

from __future__ import annotations

from videopoet.evaluation.cases import Case, Take
from videopoet.evaluation.metrics.base import Figure, PerPrompt, Score
from videopoet.evaluation.reading import ClipReading


class MinimalPairs(PerPrompt):
    """The changed slot takes its new value, from its old one, and every other slot stays as it was.

    What stays is compared between the two clips, not with the prompt, so that only control is measured. A model that
    does not read its prompt, such as the baseline that answers both alike, scores 0.
    """

    number = "M4"
    suites = ("minimal_pairs",)
    verdict = {"minimal_pairs": ("controlled",)}
    figures = {
        "controlled": Figure("pairs in which the changed slot changes as asked and every other stays"),
        "changed": Figure("pairs in which the changed slot changes as asked"),
        "others_stay": Figure("pairs in which every other slot stays"),
    }
    baselines = ("same_again",)

    def score(self, case: Case, take: Take) -> dict[str, Score]:
        before, after = take.reading, take.other.reading if take.other is not None else None
        if case.changed is None or case.other is None:
            return {}
        subject, slot = case.changed
        if before is None or after is None or not (before.valid and after.valid):
            return {"controlled": False, "changed": False, "others_stay": False}
        if any(slot in one.unscored for reading in (before, after) for one in (reading, *reading.subjects)):
            return {}
        old, new = _slots(before), _slots(after)
        asked_old, asked_new = (
            getattr(asked, slot) if subject < 0 else asked.subjects[subject][slot]
            for asked in (case.asked, case.other.asked)
        )
        place = next((key for key in old if key[1] == slot and old[key] == asked_old), None)
        changed = place is not None and new.get(place) == asked_new
        rest = {key for key in old.keys() | new.keys() if key[1] != slot}
        stays = len(before.subjects) == len(after.subjects) and all(old.get(key) == new.get(key) for key in rest)
        return {"controlled": changed and stays, "changed": changed, "others_stay": stays}


def _slots(reading: ClipReading) -> dict[tuple[int, str], str | None]:
    """Every slot of a reading that can be told, by the number of its subject; the clip's own under -1."""
    slots = {
        (number, slot): getattr(one, slot)
        for number, one in enumerate(reading.subjects)
        for slot in ("shape", "colour", "motion", "size")
        if slot not in one.unscored
    }
    return slots | {
        (-1, slot): getattr(reading, slot) for slot in ("scenery", "camera") if slot not in reading.unscored
    }
