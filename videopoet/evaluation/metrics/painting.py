"""In- and outpainting: what is kept stays, what is hidden goes on as it must, and no seam is seen."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from videopoet.evaluation.cases import Case, Take
from videopoet.evaluation.metrics.base import Figure, PerPrompt, Score
from videopoet.evaluation.metrics.physics import follow
from videopoet.sequence.conditions import REGIONS

SEEN, HIDDEN = 0.6, 0.6
"""Shares of a subject's pixels that are given, or are not, for it to count as seen or hidden in a frame."""
NEAR = 1.5 / 64
"""Of the short side: how far from its track a subject may reappear."""


class Painting(PerPrompt):
    """Kept pixels, subjects that reappear, seam, and PSNR in the hole where what is behind it was seen.

    *kept*: PSNR outside the hole within 0.5 dB of the tokenizer's own there. *reappears*: subjects that are given in
    some frames and hidden in others are found in the latter on their true track (median error 1.5 of 64 pixels at
    most), of their colour and shape. *seam*: mean difference of neighbours across the border of the hole, over that on
    a parallel line three pixels off, within a quarter of the truth's. *hole_psnr*: only for holes that move under a
    camera at rest, since what was never seen may be anything.
    """

    number = "M12"
    suites = ("inpainting", "outpainting")
    verdict = dict.fromkeys(suites, ("reappears",))
    figures = {
        "kept": Figure("clips that keep what was given as well as the tokenizer does"),
        "kept_psnr": Figure("PSNR of what was given", "dB"),
        "reappears": Figure("subjects hidden for a while that reappear on their track, colour and shape right"),
        "seam": Figure("clips whose border is no sharper or softer than the truth's by a quarter"),
        "hole_psnr": Figure("PSNR in moving holes", "dB"),
    }
    baselines = ("mean_fill", "nearest_in_time", "bilinear")

    def score(self, case: Case, take: Take) -> dict[str, Score]:
        keep, video = case.keep, take.video
        if keep is None or video is None or video.frames.shape != case.truth.video.frames.shape:
            return {"kept": False, "seam": False}
        made, true = video.frames.double(), case.truth.video.frames.double()
        kept_psnr = masked_psnr(made, true, keep)
        scores: dict[str, Score] = {"kept_psnr": kept_psnr}
        if (tokens := case.through_tokens.video) is not None:
            scores["kept"] = kept_psnr >= masked_psnr(tokens.frames.double(), true, keep) - 0.5
        truth_seam = seam_ratio(true, keep)
        scores["seam"] = 0.8 <= seam_ratio(made, keep) / truth_seam <= 1.25 if truth_seam > 0 else None
        if REGIONS[case.given["mask"]].slides and case.truth.scene.camera == "still":
            background = ~case.truth.masks.any(dim=0)
            scores["hole_psnr"] = masked_psnr(made, true, ~keep & background)
        scores["reappears"] = self._reappears(case, take, keep)
        return scores

    @staticmethod
    def _reappears(case: Case, take: Take, keep: Tensor) -> Score:
        reading = take.reading
        tracks = [track for track in case.truth.tracks if not track.isnan().all()]
        partners = follow(tracks, reading.subjects, len(tracks[0])) if reading is not None else [None] * len(tracks)
        hits = total = 0
        for number, (track, one) in enumerate(zip(tracks, partners, strict=True)):
            mask = case.truth.masks[number]
            area = mask.sum(dim=(1, 2))
            given = (mask & keep).sum(dim=(1, 2)) / area.clamp_min(1)
            hidden = (area > 0) & (given <= 1 - HIDDEN)
            if not hidden.any() or not ((area > 0) & (given >= SEEN)).any():
                continue
            total += 1
            subject = case.truth.scene.subjects[number]
            if one is None or reading is None or not reading.valid:
                continue
            short = min(reading.height, reading.width)
            errors = (one.track - track).norm(dim=1)[hidden].nan_to_num(nan=float(short))
            right = all(
                slot in one.unscored or getattr(one, slot) == getattr(subject, slot) for slot in ("shape", "colour")
            )
            hits += right and float(errors.median()) <= NEAR * short
        return (hits, total) if total else None


def masked_psnr(made: Tensor, true: Tensor, where: Tensor) -> float:
    """PSNR in dB of frames, (3, T, H, W) of 255, on the pixels in `where`, (T, H, W); 100 at the most."""
    if not where.any():
        return 100.0
    error = float((made - true).square().mean(dim=0)[where].mean())
    return float(10 * torch.log10(torch.tensor(255**2 / max(error, 255**2 * 1e-10))))


def seam_ratio(frames: Tensor, keep: Tensor) -> float:
    """How much neighbours differ across the border of the hole, over how much they do three pixels further inside."""
    across, level = _border(frames, keep, 0)
    inside, other_level = _border(frames, keep, 3)
    return (across / max(level, 1)) / max(inside / max(other_level, 1), 0.25)


def _border(frames: Tensor, keep: Tensor, depth: int) -> tuple[float, int]:
    """Sum and number of differences of neighbours that lie on both sides of the hole's edge, moved inwards."""
    hole = ~keep
    if depth:
        wide = 2 * depth + 1
        hole = F.max_pool2d(keep.float()[:, None], wide, stride=1, padding=depth)[:, 0] == 0
    total, count = 0.0, 0
    for axis in (1, 2):
        edge = hole.diff(dim=axis) != 0
        steps = frames.diff(dim=axis + 1).abs().mean(dim=0)
        total += float(steps[edge].sum())
        count += int(edge.sum())
    return total, count
