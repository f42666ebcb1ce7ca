"""Image to video and continuation: the given frames are kept, what was in them stays, and the clip goes on."""

from __future__ import annotations

from torch import Tensor

from videopoet.evaluation.cases import Case, Take
from videopoet.evaluation.metrics.base import Figure, PerPrompt, Score
from videopoet.media.quality import psnr

FROZEN = 0.6
"""Mean difference of neighbouring frames, of 255, under which nothing moves."""


class Continuation(PerPrompt):
    """The given frames, identity from them on, drift of colour, and the two ways to fail: freezing and looping.

    *frozen* counts clips that stand still where the truth does not; *looping*, clips that repeat a stretch of at least
    two frames exactly, to less than a level of 255, while they move.
    """

    number = "M13"
    suites = ("image_to_video", "video_continuation", "audio_video_continuation")
    figures = {
        "given_psnr": Figure("PSNR of the given frames", "dB"),
        "same_subject": Figure("clips whose subjects are those of the given frames"),
        "drift": Figure("change of the mean colour, beyond the truth's, of 255", "", better="lower"),
        "frozen": Figure("clips that stop moving", better="lower"),
        "looping": Figure("clips that repeat themselves", better="lower", has_chance=False),
    }
    baselines = ("freeze",)

    def score(self, case: Case, take: Take) -> dict[str, Score]:
        video, known = take.video, case.num_known
        truth = case.truth.video
        if video is None or video.frames.shape != truth.frames.shape:
            return {"same_subject": False}
        given = psnr(video.frames[:, :known], truth.frames[:, :known])
        reading = take.reading
        seen = {(one.shape, one.colour) for one in reading.subjects} if reading is not None and reading.valid else set()
        wanted = {(subject.shape, subject.colour) for subject in case.truth.scene.subjects}
        told = reading is None or not any({"shape", "colour"} & one.unscored for one in reading.subjects)
        after, true_after = video.frames[:, known:].float(), truth.frames[:, known:].float()
        moves = float(true_after.diff(dim=1).abs().mean()) >= FROZEN
        return {
            "given_psnr": min(given, 100.0),
            "same_subject": seen == wanted if told else None,
            "drift": max(0.0, _drift(video.frames.float()) - _drift(truth.frames.float())),
            "frozen": float(after.diff(dim=1).abs().mean()) < FROZEN if moves else None,
            "looping": loops(after),
        }


def _drift(frames: Tensor) -> float:
    means = frames.mean(dim=(2, 3))
    return float((means[:, -1] - means[:, 0]).abs().mean())


def loops(frames: Tensor) -> bool:
    """Whether frames, (3, T, H, W) of 255, come again, at least as many as lie between, while something moves."""
    num_frames = frames.shape[1]
    for lag in range(2, num_frames // 2 + 1):
        again = frames[:, lag : 2 * lag] - frames[:, :lag]
        moved = frames[:, 1 : lag + 1] - frames[:, :lag]
        if float(again.abs().mean()) < 0.25 and float(moved.abs().mean()) >= FROZEN:
            return True
    return False
