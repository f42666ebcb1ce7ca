"""Trajectory Frechet distance (TFD): whether subjects move, as a set, like those of true clips."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from videopoet.evaluation.cases import Case, Take
from videopoet.evaluation.metrics.base import Distance, Figure
from videopoet.evaluation.statistics import Floats, scaled_frechet_distance

FLOORS = np.array([0.05, 0.05, 0.005, 0.005, 0.005, 0.005, 0.005, 0.02, 0.05, 0.01])
"""The least scale of each feature, in short sides; without it, what hardly varies in truth would outweigh the rest."""


class TrajectoryFrechet(Distance):
    """Frechet distance between ten numbers about the largest subject's path, each over its spread in true clips.

    Start (x, y), mean velocity (x, y), mean and spread of speed, mean acceleration, net path, share of frames in which
    it is seen, and how far the path bends from an even, straight motion. Not bounded; the truth's own distance from as
    many other true clips is the floor, and shrinks with their number, so figures compare only at equal N.
    """

    number = "M8"
    suites = ("text_to_video", "unconditional", "audio_to_video")
    figures = {"tfd": Figure("trajectory Frechet distance; the floor is the truth's", "", better="lower")}
    baselines = ("freeze",)
    least = 400

    def collect(self, case: Case, take: Take) -> Floats | None:
        reading = take.reading
        if reading is None:
            return None
        if not reading.subjects:
            return np.zeros(len(FLOORS))
        return trajectory_features(reading.subjects[0].track, reading.height, reading.width)

    def summarize(self, collected: Sequence[Floats], reference: Sequence[Floats]) -> dict[str, float | None]:
        return {"tfd": scaled_frechet_distance(np.stack(collected), np.stack(reference), FLOORS)}


def trajectory_features(track: Tensor, height: int, width: int) -> Floats:
    """The ten numbers, in short sides and frames, of a track in pixels, (T, 2)."""
    seen = ~track.isnan().any(dim=1)
    places = track[seen].double().numpy() / min(height, width)
    presence = float(seen.double().mean())
    if len(places) < 3:
        return np.array([*(places[0] if len(places) else (0.0, 0.0)), *[0.0] * 6, presence, 0.0])
    times = np.flatnonzero(seen.numpy()).astype(float)
    steps = np.diff(places, axis=0) / np.diff(times)[:, None]
    speeds = np.linalg.norm(steps, axis=1)
    straight = np.stack([np.ones_like(times), times], axis=1)
    bent = places - straight @ np.linalg.lstsq(straight, places, rcond=None)[0]
    return np.array(
        [
            *places[0],
            *steps.mean(axis=0),
            speeds.mean(),
            speeds.std(),
            np.linalg.norm(np.diff(steps, axis=0), axis=1).mean(),
            np.linalg.norm(places[-1] - places[0]),
            presence,
            np.sqrt(np.square(bent).sum(axis=1).mean()),
        ]
    )
