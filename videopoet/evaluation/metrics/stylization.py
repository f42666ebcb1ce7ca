"""Stylization: the structure of the given clip is kept, and the style that the words name is applied."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from videopoet.evaluation.cases import Case, Take
from videopoet.evaluation.metrics.base import Figure, PerPrompt, Score

EDGE = 0.25
"""Least difference of neighbours but one, of pixels in [-1, 1], that is an edge."""


class Stylization(PerPrompt):
    """STR, how much structure is kept, STY, whether the style is there, and their product.

    STR is the mean of two edge scores (F1 at one pixel), over the whole picture and around the subjects, frame by
    frame, against the renderer's own stylization of the true clip: silhouettes and motion are both in it, and it is
    100 of the truth in every style, also in those that have no colours. STY is an exact test for each style. The clip
    itself, unchanged, keeps all structure and has no style; another clip in the style is the reverse.
    """

    number = "M11"
    suites = ("stylization",)
    verdict = {"stylization": ("both",)}
    figures = {
        "structure": Figure("STR: edges where the stylized truth has them, F1"),
        "style": Figure("STY: clips in the style that was asked for"),
        "both": Figure("product of the two"),
    }
    baselines = ("copy_input", "ignore_input")

    def score(self, case: Case, take: Take) -> dict[str, Score]:
        if take.video is None or case.style is None:
            return {}
        pixels, wanted = take.video.pixels(), case.truth.video.pixels()
        if pixels.shape != wanted.shape:
            return {"structure": 0.0, "style": False, "both": 0.0}
        subjects = F.max_pool2d(case.truth.masks.any(dim=0).float()[:, None], 5, stride=1, padding=2)[:, 0] > 0
        style = has_style(pixels, case.style, case.truth.plain.pixels())
        if case.style == "hatched":
            pixels, wanted = unhatched(pixels), unhatched(wanted)
        found, true = edges(pixels), edges(wanted)
        structure = 0.5 * edge_f1(found, true) + 0.5 * edge_f1(found & subjects, true & subjects)
        return {"structure": structure, "style": style, "both": structure * style}


def unhatched(pixels: Tensor) -> Tensor:
    """The greys that hatching stands for: its lines are the same in every picture, and no structure of it."""
    step = round(hatching_step(*pixels.shape[2:]))
    frames = F.pad(pixels.transpose(0, 1), (step // 2, (step - 1) // 2) * 2, mode="replicate")
    return F.avg_pool2d(frames, step, stride=1).transpose(0, 1)


def hatching_step(height: int, width: int) -> float:
    """Pixels from line to line."""
    return max(min(height, width) / 16, 3.0)


def edges(pixels: Tensor) -> Tensor:
    """Where pixels, (3, T, H, W), change at once, bool (T, H, W)."""
    frames = F.pad(pixels.transpose(0, 1), (1, 1, 1, 1), mode="replicate")
    across = (frames[:, :, 1:-1, 2:] - frames[:, :, 1:-1, :-2]).abs().amax(dim=1)
    down = (frames[:, :, 2:, 1:-1] - frames[:, :, :-2, 1:-1]).abs().amax(dim=1)
    return torch.maximum(across, down) > EDGE


def edge_f1(found: Tensor, true: Tensor) -> float:
    """F1 of edges, bool (T, H, W), each within a pixel of the other's; 1 where there are none in either."""
    near_true, near_found = (
        F.max_pool2d(one.float()[:, None], 3, stride=1, padding=1)[:, 0] > 0 for one in (true, found)
    )
    num_found, num_true = int(found.sum()), int(true.sum())
    if not num_found or not num_true:
        return float(num_found == num_true)
    precision, recall = float((found & near_true).sum()) / num_found, float((true & near_found).sum()) / num_true
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def has_style(pixels: Tensor, style: str, plain: Tensor) -> bool:
    """Whether pixels in [-1, 1], (3, T, H, W), are in a style; `plain` is the clip that was to be stylized."""
    test = {
        "sepia": is_sepia,
        "pixelated": is_pixelated,
        "outline": lambda video: is_grey(video) and not is_hatched(video) and float((video > 0.5).float().mean()) > 0.5,
        "hatched": lambda video: is_grey(video) and is_hatched(video),
        # Any picture is some picture's negative: it must be against what was given.
        "negative": lambda video: (
            is_grey(video) == is_grey(plain) and (video * plain).mean() < -0.25 * plain.square().mean()
        ),
    }[style]
    return bool(test(pixels))


def is_grey(pixels: Tensor) -> bool:
    """Whether hardly a pixel has a colour."""
    return bool((pixels.amax(dim=0) - pixels.amin(dim=0) < 0.24).float().mean() > 0.97)


def is_sepia(pixels: Tensor) -> bool:
    """Whether all colours are shades of one brown."""
    shades = (pixels + 1) / 2
    brown = torch.tensor([1.0, 0.890, 0.693]).view(3, 1, 1, 1)
    brightness = (shades * brown).sum(dim=0) / brown.square().sum()
    off = (shades - brightness * brown).norm(dim=0)
    return bool((off < 0.1).float().mean() > 0.95) and float((shades[0] - shades[2]).mean()) > 0.06


def is_pixelated(pixels: Tensor) -> bool:
    """Whether the blocks of 16 a side are each of one colour, and edges lie between them."""
    side = max(min(pixels.shape[2:]) // 16, 1)
    rows, columns = (length // side * side for length in pixels.shape[2:])
    frames = pixels[:, :, :rows, :columns].transpose(0, 1)
    blocks = F.interpolate(F.avg_pool2d(frames, side), scale_factor=float(side), mode="nearest")
    inside = (frames - blocks).square().mean()
    # The same blocks, moved by half a block, are no blocks of such a picture.
    moved = frames.roll((side // 2, side // 2), dims=(2, 3))
    across = (
        (moved - F.interpolate(F.avg_pool2d(moved, side), scale_factor=float(side), mode="nearest")).square().mean()
    )
    return bool(inside < 0.35 * across)


def is_hatched(pixels: Tensor) -> bool:
    """Whether diagonal lines of the hatching's distance stand out of what else is in the picture."""
    height, width = pixels.shape[2:]
    step = hatching_step(height, width)
    spectrum = torch.fft.fft2(pixels.mean(dim=0) - pixels.mean()).abs().square().mean(dim=0)
    rows, columns = ({math.floor(length / step), math.ceil(length / step)} for length in (height, width))
    around = spectrum[1 : height // 2, 1 : width // 2].mean()
    lines = max(spectrum[sign * row, column] for row in rows for column in columns for sign in (1, -1))
    return bool(lines > 6 * around)
