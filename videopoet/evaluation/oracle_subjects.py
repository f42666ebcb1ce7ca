"""Finds the subjects of a clip: everything that is neither scenery nor shadow, parted by colour.

No two subjects of a scene share a colour, so a colour is what follows a subject through the clip; a second thing of one
colour is found as well and counts as one too many.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

PALETTE = {
    "red": (0.89, 0.14, 0.16),
    "orange": (0.99, 0.52, 0.06),
    "yellow": (1.00, 0.86, 0.12),
    "green": (0.08, 0.60, 0.24),
    "blue": (0.10, 0.32, 0.92),
    "purple": (0.52, 0.18, 0.74),
    "pink": (1.00, 0.48, 0.72),
    "white": (0.98, 0.98, 0.98),
}
"""The names of what is seen, as red, green and blue in [0, 1] in even light; white comes last."""
COLOURS = tuple(PALETTE)
_WHITE = len(COLOURS) - 1

_LEAST_AREA = 0.003
"""Part of the picture that a subject fills at least."""
_MOST_SUBJECTS = 4
_SHADOW = 0.075
"""The grey that shadows darken towards."""
_DARKEST_SHADOW = 0.65
_LEAST_CHROMA = 0.16
_SURE_CHROMA = 0.30
_LEAST_HUE = 0.90
"""Cosine between a pixel's hue and a colour's, from which on it may be of that colour."""


_WHITE_OVER_NOISE = 10
"""A white subject stands out so many times more than the picture mostly does: there are white things in the scenery."""


_NOISY = 0.018
"""How far pixels mostly are from the scenery when noise must be averaged out."""
_WHITE_GAIN = 1.5
"""A white subject's edge is fainter than its dark marks and its shaded side, which its strength is measured by."""
_LEAST_STRENGTH = 0.35
"""Contrast with the scenery, over the strongest nearby, from which on a pixel is of a subject in a noisy picture."""


class Found(NamedTuple):
    """One subject."""

    colour: str
    cover: Tensor
    """How much of each pixel it covers, (T, H, W)."""
    frame_colours: tuple[str | None, ...]
    hidden: Tensor
    """bool (T,): whether it touches another subject, which may hide some of it."""
    cut: Tensor
    """bool (T,): whether it touches a side of the picture."""


class Findings(NamedTuple):
    """All that stands out from the scenery."""

    subjects: list[Found]
    strange: Tensor
    """Part of each frame that stands out and is no subject, (T,)."""
    noise: float
    """How far pixels mostly are from the scenery."""


def find_subjects(pixels: Tensor, behind: Tensor) -> Findings:
    """Find the subjects in pixels in [0, 1] before their scenery, each (T, H, W, 3)."""
    _, height, width, _ = pixels.shape
    if (pixels - behind).abs().amax(dim=-1).median() > _NOISY:
        pixels, behind = _smooth(pixels), _smooth(behind)
    stands_out, contrast, noise = _stands_out(pixels, behind)
    chroma, likeness, hue = _hues(pixels)
    coloured = stands_out & (chroma > _LEAST_CHROMA) & (likeness > _LEAST_HUE)
    sure = coloured & (chroma > _SURE_CHROMA)
    least = _LEAST_AREA * height * width
    labels = torch.full_like(hue, -1)
    parts: list[tuple[int, Tensor]] = []
    counts = torch.stack([(sure & (hue == k)).flatten(1).sum(dim=1) for k in range(_WHITE)])
    for k in counts.float().quantile(0.5, dim=1).argsort(descending=True).tolist():
        if len(parts) >= _MOST_SUBJECTS or (counts[k] >= 0.5 * least).float().mean() < 0.3:
            continue
        left = coloured & (hue == k)
        while len(parts) < _MOST_SUBJECTS:
            part = largest(left, sure)
            if (part.flatten(1).sum(dim=1) >= least * (0.7 if left is coloured else 1.0)).float().mean() < 0.5:
                break
            if _is_apart(part, [other for _, other in parts], least):
                parts.append((k, part))
            left = left & ~part
            if (left.flatten(1).sum(dim=1) >= least).float().mean() < 0.5:
                break
    white = _white(
        pixels, stands_out & (contrast > _WHITE_OVER_NOISE * noise), chroma, [part for _, part in parts], least
    )
    if white is not None:
        parts.append((_WHITE, white))
    for index, (_, part) in enumerate(parts):
        labels = torch.where(part, index, labels)
    labels = _spread(labels, stands_out, len(parts))
    subjects = []
    for index, (k, _) in enumerate(parts):
        mask = largest(labels == index)
        others = F.max_pool2d(((labels >= 0) & (labels != index))[:, None].float(), 3, 1, 1)[:, 0] > 0
        edges = mask[:, 0].any(1) | mask[:, -1].any(1) | mask[:, :, 0].any(1) | mask[:, :, -1].any(1)
        cover = _cover(mask, contrast, noise, is_white=k == _WHITE)
        present = mask.flatten(1).sum(dim=1) >= 0.5 * least
        cover = cover * present[:, None, None]
        subjects.append(
            Found(
                colour=COLOURS[k],
                cover=cover,
                frame_colours=_frame_colours(pixels, mask, chroma, hue, likeness, present, k),
                hidden=(mask & others).flatten(1).any(dim=1),
                cut=edges,
            )
        )
    strange = _solid(stands_out & (labels < 0)).flatten(1).float().mean(dim=1)
    return Findings(subjects, strange, noise)


def _smooth(pixels: Tensor) -> Tensor:
    """Pixels, (T, H, W, 3), each mixed with those around it."""
    frames = pixels.movedim(-1, 1)
    for _ in range(2):
        padded = F.pad(frames, (0, 0, 1, 1), mode="replicate")
        frames = (0.25 * (padded[..., :-2, :] + padded[..., 2:, :]) + 0.5 * frames).mT
    return frames.movedim(1, -1)


def _stands_out(pixels: Tensor, behind: Tensor) -> tuple[Tensor, Tensor, float]:
    """Where there is neither scenery nor shadow, bool (T, H, W); how far pixels are from the scenery, (T, H, W), and
    how far they mostly are."""
    change = pixels - behind
    contrast = change.abs().amax(dim=-1)
    noise = contrast.median().item()
    threshold = min(max(5 * noise, 0.025), 0.18)
    towards = behind - _SHADOW
    shade = (-(change * towards).sum(dim=-1) / towards.square().sum(dim=-1).clamp_min(1e-3)).clamp(0, _DARKEST_SHADOW)
    beside = (change + shade[..., None] * towards).abs().amax(dim=-1)
    return (contrast > threshold) & (beside > max(0.6 * threshold, 0.014)), contrast, noise


def _hues(pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """How far pixels are from grey, how near in hue to the nearest colour other than white, and which that is."""
    palette = pixels.new_tensor(list(PALETTE.values())[:-1])
    hues = F.normalize(palette - palette.mean(dim=1, keepdim=True), dim=1)
    chroma = pixels.amax(dim=-1) - pixels.amin(dim=-1)
    likeness, hue = (F.normalize(pixels - pixels.mean(dim=-1, keepdim=True), dim=-1) @ hues.T).max(dim=-1)
    return chroma, likeness, hue


def _white(pixels: Tensor, stands_out: Tensor, chroma: Tensor, parts: list[Tensor], least: float) -> Tensor | None:
    """Where a white subject is seen, (T, H, W), if there is one: there are white marks on the others."""
    light = stands_out & (chroma < 0.22) & (pixels.amin(dim=-1) > 0.45)
    # Marks are narrow and lie in a coloured subject, so that all of a mark is near that colour.
    apart = light & ~_near(parts, light)
    mask = largest(light & (F.max_pool2d(apart[:, None].float(), 7, 1, 3)[:, 0] > 0), apart)
    return mask if _is_apart(mask, parts, least) else None


def _near(parts: list[Tensor], like: Tensor) -> Tensor:
    """Where one of the parts is at most two pixels away, bool (T, H, W)."""
    if not parts:
        return torch.zeros_like(like)
    return F.max_pool2d(torch.stack(parts).any(dim=0)[:, None].float(), 5, 1, 2)[:, 0] > 0


def _is_apart(part: Tensor, others: list[Tensor], least: float) -> bool:
    """Whether a part is mostly large enough, and is no mark on the others and no fringe of theirs."""
    area, apart = part.flatten(1).sum(dim=1), (part & ~_near(others, part)).flatten(1).sum(dim=1)
    return ((area >= least) & (apart >= 0.4 * area)).float().mean().item() >= 0.5


def _spread(labels: Tensor, where: Tensor, num_labels: int) -> Tensor:
    """Give pixels that stand out the label next to them: marks, shaded sides and edges belong to their subject."""
    for _ in range(10 if num_labels else 0):
        masks = torch.stack([labels == index for index in range(num_labels)], dim=1).float()
        near = F.avg_pool2d(masks, 3, 1, 1)
        votes, nearest = near.max(dim=1)
        fresh = where & (labels < 0) & (votes > 0)
        if not fresh.any():
            break
        labels = torch.where(fresh, nearest, labels)
    return labels


def _cover(mask: Tensor, contrast: Tensor, noise: float, is_white: bool) -> Tensor:
    """How much of each pixel of a mask is covered: pixels at its edge show some of what is behind, (T, H, W)."""
    # Where a subject happens to look like what is behind it, it has holes.
    mask = -F.max_pool2d(-F.max_pool2d(mask[:, None].float(), 3, 1, 1), 3, 1, 1)[:, 0] > 0
    strength = torch.where(mask, contrast, 0.0)[:, None]
    # A codec smears a subject over its surroundings, faintly; low contrast inside it belongs to it all the same.
    least = min(_LEAST_STRENGTH, 30 * noise)
    strong = mask & (strength > least * F.max_pool2d(strength, 5, 1, 2))[:, 0]
    if not is_white and mask.any():
        strong &= contrast > least * contrast[mask].median()
    mask = strong | mask & _between(strong, 1) & _between(strong, 2)
    strength = strength * mask[:, None]
    inside = -F.max_pool2d(-mask[:, None].float(), 3, 1, 1)[:, 0] > 0
    most = F.max_pool2d(strength, 3, 1, 1).clamp_min(1e-3)
    gain = _WHITE_GAIN if is_white else 1.0
    return torch.where(inside, 1.0, (gain * strength / most)[:, 0].clamp_max(1))


def _between(mask: Tensor, dim: int) -> Tensor:
    """Where there is some of a mask, (T, H, W), on both sides along an axis."""
    before = mask.to(torch.uint8).cummax(dim).values
    after = mask.flip(dim).to(torch.uint8).cummax(dim).values.flip(dim)
    return (before & after) > 0


def _frame_colours(
    pixels: Tensor, mask: Tensor, chroma: Tensor, hue: Tensor, likeness: Tensor, present: Tensor, expected: int
) -> tuple[str | None, ...]:
    """The colour that each frame alone shows in a mask."""
    if expected == _WHITE:
        pale = (mask & (chroma < 0.18)).flatten(1).sum(dim=1) >= 0.5 * mask.flatten(1).sum(dim=1)
        return tuple(
            COLOURS[_WHITE] if there and is_pale else None for there, is_pale in zip(present, pale, strict=True)
        )
    weights = mask * chroma.square()
    votes = torch.stack([(weights * (hue == k)).flatten(1).sum(dim=1) for k in range(_WHITE)], dim=1)
    share, best = (votes / votes.sum(dim=1, keepdim=True).clamp_min(1e-6)).max(dim=1)
    return tuple(
        COLOURS[k] if there and part > 0.5 else None
        for there, part, k in zip(present.tolist(), share.tolist(), best.tolist(), strict=True)
    )


def _solid(masks: Tensor) -> Tensor:
    """Masks, (T, H, W), without what is thinner than three pixels."""
    thin = -F.max_pool2d(-masks[:, None].float(), 3, 1, 1)
    return F.max_pool2d(thin, 3, 1, 1)[:, 0] > 0


def largest(masks: Tensor, seeds: Tensor | None = None) -> Tensor:
    """The connected part of each mask, (T, H, W), with most seeds, or else pixels; gaps of two pixels are bridged."""
    num_frames, height, width = masks.shape
    bridged = F.max_pool2d(masks[:, None].float(), 3, stride=1, padding=1)[:, 0] > 0
    # A run is what is unbroken along a row; rows are set apart, so that no run goes on in the next.
    apart = width + 3
    steps = np.diff(F.pad(bridged, (1, 2)).flatten().numpy().astype(np.int8), prepend=0)
    starts, ends = np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)
    if not len(starts):
        return torch.zeros_like(masks)
    row = starts // apart
    # Runs of the next row that touch, at a corner too, are of the same part.
    first = np.searchsorted(ends, starts + apart, side="left")
    past = np.searchsorted(starts, ends + apart, side="right")
    past = np.where(row % height == height - 1, first, np.maximum(past, first))
    lower = np.repeat(np.arange(len(starts)), past - first)
    upper = np.arange(len(lower)) - np.repeat(np.cumsum(past - first) - (past - first), past - first)
    upper = upper + np.repeat(first, past - first)
    part = np.arange(len(starts))
    while True:
        least = part.copy()
        np.minimum.at(least, lower, part[upper])
        np.minimum.at(least, upper, part[lower])
        least = least[least]
        if (least == part).all():
            break
        part = least
    counted = masks if seeds is None else masks & seeds
    sums = np.concatenate([[0], np.cumsum(F.pad(counted, (1, 2)).flatten().numpy())])
    size = np.bincount(part, weights=sums[ends] - sums[starts], minlength=len(starts))[part]
    frame = row // height
    most = np.zeros(num_frames)
    np.maximum.at(most, frame, size)
    winner = np.full(num_frames, -1)
    is_winner = (size == most[frame]) & (size > 0)
    winner[frame[is_winner][::-1]] = part[is_winner][::-1]
    kept = part == winner[frame]
    painted = np.zeros(num_frames * height * apart + 1, dtype=np.int8)
    painted[starts[kept]], painted[ends[kept]] = 1, -1
    painted = torch.from_numpy(np.cumsum(painted[:-1], dtype=np.int8) > 0)
    return masks & painted.view(num_frames, height, apart)[..., 1 : width + 1]
