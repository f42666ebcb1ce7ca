"""Motion: what moves as asked, what moves although it should not, and how the camera moves."""

from __future__ import annotations

import torch
from torch import Tensor

from videopoet.evaluation.cases import Case, Take
from videopoet.evaluation.matching import pairs
from videopoet.evaluation.metrics.base import Figure, PerPrompt, Score

MOVES = 1 / 16
"""Share of the short side that a subject asked to move goes from where it was at least: 4 of 64 pixels."""
RESTS = 1 / 32
"""Share that a subject asked to stand still goes at most: 2 of 64 pixels, above the oracle's error."""
_GOES = ("left", "right", "up", "down", "bounce", "orbit", "fall")


class Motion(PerPrompt):
    """Motions by name; how many clips move at all where motion is asked, and where rest is; camera moves.

    Growing and shrinking name no path and count for the name alone. Paths are those under a camera at rest. The frozen
    first frame of the truth is the baseline: right where rest was asked, wrong elsewhere.
    """

    number = "M5"
    suites = ("text_to_video", "image_to_video", "video_continuation")
    figures = {
        "verb": Figure("right motions"),
        "moves": Figure("subjects asked to go somewhere that go 1/16 of the picture or more"),
        "false_motion": Figure("subjects asked to stand still that go 1/32 of the picture or more", better="lower"),
        "camera_move": Figure("right camera moves, of those asked for"),
        "camera_rest": Figure("camera at rest, where it should be"),
    }
    baselines = ("freeze",)

    def score(self, case: Case, take: Take) -> dict[str, Score]:
        reading = take.reading
        valid = reading is not None and reading.valid
        counts: dict[str, tuple[float, float]] = {}

        def count(name: str, hit: bool) -> None:
            hits, total = counts.get(name, (0.0, 0.0))
            counts[name] = hits + hit, total + 1

        for wanted, one in pairs(case.asked, reading):
            motion = wanted.get("motion")
            if motion is None or (one is not None and "motion" in one.unscored):
                continue
            seen = one if valid else None
            count("verb", seen is not None and seen.motion == motion)
            short = min(reading.height, reading.width) if reading is not None else 1
            if motion in _GOES:
                count("moves", seen is not None and extent(seen.path) >= MOVES * short)
            elif motion == "still":
                count("false_motion", seen is None or extent(seen.path) >= RESTS * short)
        if case.asked.camera is not None and not (reading is not None and "camera" in reading.unscored):
            right = valid and reading is not None and reading.camera == case.asked.camera
            count("camera_rest" if case.asked.camera == "still" else "camera_move", right)
        return dict(counts)


def extent(path: Tensor) -> float:
    """How far the farthest place of a path, (T, 2), is from its first; 0 of one that is never seen."""
    seen = path[~path.isnan().any(dim=1)]
    return float(torch.linalg.vector_norm(seen - seen[0], dim=1).max()) if len(seen) else 0.0
