"""The tokenizers: what of a clip survives its codes, in pixels, in what can be read, and in sound."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from videopoet.evaluation.cases import Case, Take
from videopoet.evaluation.matching import count_is_right, verdicts
from videopoet.evaluation.metrics.base import Figure, PerPrompt, Score
from videopoet.evaluation.metrics.painting import masked_psnr
from videopoet.evaluation.statistics import match_times
from videopoet.media.quality import WINDOW, psnr, ssim
from videopoet.nn.losses import multi_scale_mel_loss

EDGE_REACH = 2
"""Pixels around a true silhouette that are its edge."""
ONSET_SECONDS = 0.05


class Reconstruction(PerPrompt):
    """PSNR, SSIM, PSNR at edges, the gap between first and later frames, survival of all slots; and of the sound.

    Survival is the share of true clips that still show everything after the tokenizer: the most that any model on its
    codes can reach. MS-SSIM needs 176 pixels a side and is not measured on smaller clips. SI-SDR is scale-invariant;
    the mel distance is SoundStream's loss over six window lengths. The baseline is blurred truth.
    """

    number = "M14"
    suites = ("tokenizer",)
    verdict = {"tokenizer": ("survival",)}
    figures = {
        "psnr": Figure("PSNR of the whole clip", "dB"),
        "ssim": Figure("SSIM", ""),
        "edge_psnr": Figure("PSNR within 2 pixels of a subject's edge", "dB"),
        "first_frame_gap": Figure("PSNR of the first frame above that of the others", "dB", better="neither"),
        "survival": Figure("clips whose every slot can still be read"),
        "causal": Figure("codes of the beginning that the rest does not change"),
        "si_sdr": Figure("SI-SDR of the sound", "dB"),
        "mel_distance": Figure("mel distance of the sound", "", better="lower"),
        "onsets_kept": Figure("onsets that are still heard within 50 ms, F1"),
    }
    baselines = ("blur",)
    has_chance = False

    def score(self, case: Case, take: Take) -> dict[str, Score]:
        scores: dict[str, Score] = {}
        truth = case.truth.plain
        if take.video is not None:
            made, true = take.video.frames, truth.frames
            silhouettes = case.truth.masks.any(dim=0).float()[:, None]
            reach = 2 * EDGE_REACH + 1
            widest = F.max_pool2d(silhouettes, reach, stride=1, padding=EDGE_REACH)
            core = -F.max_pool2d(-silhouettes, reach, stride=1, padding=EDGE_REACH)
            edge = (widest - core)[:, 0] > 0
            scores["psnr"] = min(psnr(made, true), 100.0)
            if min(made.shape[2:]) > WINDOW // 2:
                scores["ssim"] = ssim(made, true)
            scores["edge_psnr"] = masked_psnr(made.double(), true.double(), edge)
            first, later = psnr(made[:, :1], true[:, :1]), psnr(made[:, 1:], true[:, 1:])
            scores["first_frame_gap"] = min(first, 100.0) - min(later, 100.0)
            found = [right for _, right in verdicts(case, take.reading)]
            scores["survival"] = all(found) and count_is_right(case.asked, take.reading) is not False if found else None
            scores["causal"] = take.prefix_agreement
        if take.audio is not None and truth.audio is not None:
            made, true = take.audio.samples[0], truth.audio.samples[0]
            length = min(len(made), len(true))
            made, true = made[:length], true[:length]
            scores["si_sdr"] = si_sdr(made, true)
            scores["mel_distance"] = float(
                multi_scale_mel_loss(made[None, None], true[None, None], take.audio.sample_rate)
            )
            heard, known = take.heard, Take(audio=truth.audio).heard
            if heard is not None and known is not None and (heard or known):
                pairs = match_times([one.seconds for one in heard], [one.seconds for one in known], ONSET_SECONDS)
                scores["onsets_kept"] = (2 * len(pairs), len(heard) + len(known))
        return scores


def si_sdr(made: Tensor, true: Tensor) -> float:
    """Scale-invariant signal-to-distortion ratio in dB of samples, (S,), from -100 to 100."""
    made, true = made.double() - made.double().mean(), true.double() - true.double().mean()
    target = (made @ true) / true.square().sum().clamp_min(1e-12) * true
    ratio = target.square().sum().clamp_min(1e-12) / (made - target).square().sum().clamp_min(1e-12)
    return float(10 * torch.log10(ratio).clamp(-10, 10))
