"""Sound and picture together: what lands is heard, when it lands, and as what it is made of."""

from __future__ import annotations

from videopoet.evaluation.cases import Case, Take
from videopoet.evaluation.metrics.base import Figure, PerPrompt, Score
from videopoet.evaluation.reading import HeardImpact
from videopoet.evaluation.statistics import match_times

CLOSE, LOOSE = 0.050, 0.100
"""Seconds between a landing and its sound, at the most."""


class SoundSync(PerPrompt):
    """Landings and onsets, one partner each: F1 within 50 and 100 ms, lag, material, and silence where nothing lands.

    Where the picture is given, landings are the true ones. Where the sound is given, it is heard by the oracle, and the
    landings are those that the oracle sees in the picture made for it; where both are made, both are read. A landing is
    seen between frames, so that the truth itself shows what a frame rate allows: its value is the ceiling. Where there
    is no picture, only material and silence are asked; where the sound is given, neither is, as they are not made.
    """

    number = "M10"
    suites = (
        "text_to_video",
        "video_to_audio",
        "audio_to_video",
        "text_to_audio",
        "audio_video_continuation",
    )
    verdict = {
        **dict.fromkeys(("video_to_audio", "audio_video_continuation"), ("f1_50ms", "silence")),
        "audio_to_video": ("f1_50ms",),
        "text_to_audio": ("material", "silence"),
    }
    figures = {
        "f1_50ms": Figure("landings and onsets within 50 ms, F1"),
        "f1_100ms": Figure("landings and onsets within 100 ms, F1"),
        "lag": Figure("how much later it is heard, median", "ms", better="neither", median=True),
        "material": Figure("onsets that sound like what is asked for"),
        "silence": Figure("no onset where nothing lands"),
    }
    baselines = ("mean_time",)

    def score(self, case: Case, take: Take) -> dict[str, Score]:
        return _compared(case, onsets(case, take), landings(case, take))

    def by_chance(self, case: Case, take: Take, own: Take) -> dict[str, Score]:
        """The sound of one clip with the picture of another: the given one, or that of the answer to this prompt."""
        return _compared(case, onsets(case, take), landings(case, own if case.given_sound is None else take))


def onsets(case: Case, take: Take) -> tuple[HeardImpact, ...] | None:
    """What is heard in the sound, given or made; None where there is none."""
    return (case.given_sound or take).heard


def landings(case: Case, take: Take) -> list[float] | None:
    """When things land in the picture, in seconds; None where there is no picture."""
    if "video" in case.given:
        return case.truth.impacts
    if take.reading is None:
        return None
    times = sorted(seconds for one in take.reading.subjects for seconds in one.impacts)
    return [time for i, time in enumerate(times) if not i or time - times[i - 1] > CLOSE]


def _compared(case: Case, heard: tuple[HeardImpact, ...] | None, seen: list[float] | None) -> dict[str, Score]:
    if heard is None:
        return {}
    times = [one.seconds for one in heard]
    scores: dict[str, Score] = {}
    if case.given_sound is None and (materials := case.truth.materials):
        right = sum(one.material in materials for one in heard)
        # No onset where there should be one is a miss, not an absence of evidence.
        scores["material"] = (right, max(len(heard), 1))
    elif case.given_sound is None:
        scores["silence"] = not heard
    if seen is None:
        return scores
    for name, tolerance in (("f1_50ms", CLOSE), ("f1_100ms", LOOSE)):
        hits = len(match_times(times, seen, tolerance))
        if times or seen:
            scores[name] = (2 * hits, len(times) + len(seen))
    close = match_times(times, seen, 2 * LOOSE)
    if close:
        scores["lag"] = 1000 * sum(times[i] - seen[j] for i, j in close) / len(close)
    return scores
