"""Physics: from the given beginning the rest of the clip follows, and is measured against what does follow."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from videopoet.evaluation.cases import Case, Take
from videopoet.evaluation.metrics.base import Figure, PerPrompt, Score
from videopoet.evaluation.reading import SubjectReading
from videopoet.evaluation.statistics import assign, match_times

HORIZONS = 2, 4, 8
"""Frames after the last given one at which places are compared."""


class Physics(PerPrompt):
    """Where each subject is 2, 4 and 8 frames on, when it lands, and whether an even motion keeps its speed.

    Errors are in pixels of a picture 64 high or wide, whichever is less. A subject that is not seen is as far off as
    the picture is long, and where it vanishes its speed has changed by as much. Reflected speeds are not compared: at
    8 frames a second a rebound is too short to have one.
    """

    number = "M6"
    suites = ("video_continuation",)
    figures = {
        **{
            f"position_{frames}": Figure(
                f"error of a centre {frames} frames on, median", "px", better="lower", median=True
            )
            for frames in HORIZONS
        },
        "landings": Figure("landings seen within a frame of when they must be"),
        "speed_change": Figure("change of an even speed, a frame, median", "px", better="lower", median=True),
    }
    baselines = ("copy_last", "constant_velocity")

    def score(self, case: Case, take: Take) -> dict[str, Score]:
        reading, known = take.reading, case.num_known
        tracks = [track for track in case.truth.tracks if not track.isnan().all()]
        if reading is None or not tracks:
            return {}
        scale = 64 / min(reading.height, reading.width)
        partners = follow(tracks, reading.subjects, known)
        farthest = math.hypot(reading.height, reading.width)
        scores: dict[str, Score] = {}
        for frames in HORIZONS:
            if known - 1 + frames < len(tracks[0]):
                errors = [
                    _distance(one, track, known - 1 + frames, farthest)
                    for track, one in zip(tracks, partners, strict=True)
                ]
                scores[f"position_{frames}"] = scale * float(np.median(errors))
        scores["landings"] = self._landings(case, partners, reading.frame_rate)
        changes = []
        for number, (track, one) in enumerate(zip(tracks, partners, strict=True)):
            is_even = case.truth.scene.subjects[number].motion in ("left", "right", "up", "down")
            before = _speed(track[:known])
            if is_even and before is not None and case.truth.scene.camera == "still":
                after = _speed(one.track[known - 1 :]) if one is not None else None
                changes.append(abs(after - before) if after is not None else farthest)
        scores["speed_change"] = scale * float(np.median(changes)) if changes else None
        return scores

    @staticmethod
    def _landings(case: Case, partners: list[SubjectReading | None], frame_rate: float) -> Score:
        frame = 1 / frame_rate
        first, last = (case.num_known - 1) * frame, (case.truth.plain.num_frames - 1) * frame
        hits = total = 0
        for number, one in enumerate(partners):
            # A landing in the last frame of the clip, or in that after the given ones, is not seen from both sides.
            due = [
                impact.seconds
                for impact in case.truth.scene.impacts
                if impact.subject == number and impact.strength == 1.0 and first + frame < impact.seconds < last - frame
            ]
            total += len(due)
            hits += len(match_times(sorted(one.impacts), due, frame * 1.001)) if one is not None else 0
        return (hits, total) if total else None


def follow(tracks: list[Tensor], subjects: tuple[SubjectReading, ...], known: int) -> list[SubjectReading | None]:
    """The seen subject that is nearest to each true track, (T, 2), during the given frames, one each."""
    costs = np.array(
        [
            [
                float(torch.nan_to_num(one.track[:known] - track[:known], nan=100.0).norm(dim=1).mean())
                for one in subjects
            ]
            for track in tracks
        ]
    ).reshape(len(tracks), len(subjects))
    partner = dict(assign(costs))
    return [subjects[partner[i]] if i in partner else None for i in range(len(tracks))]


def _distance(one: SubjectReading | None, track: Tensor, frame: int, farthest: float) -> float:
    if one is None or len(one.track) <= frame or one.track[frame].isnan().any():
        return farthest
    return float((one.track[frame] - track[frame]).norm())


def _speed(track: Tensor) -> float | None:
    steps = track.diff(dim=0).norm(dim=1)
    steps = steps[~steps.isnan()]
    return float(steps.mean()) if len(steps) > 1 else None
