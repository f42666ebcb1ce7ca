"""Painting: what of a clip is replaced, by a region, a box or a user's mask, and how the kept part comes back.

The model paints a whole clip, what it was shown included. Only the pixels that were to be replaced are taken of it; the
others are the given ones, exactly. Where the two meet, the new ones are shifted towards the old over a few pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from videopoet.errors import TaskError
from videopoet.generation import given
from videopoet.generation.request import Request
from videopoet.generation.window import Shape
from videopoet.media.types import Audio, Image, Video
from videopoet.sequence.conditions import REGIONS, Change, keep_mask, masked_clip

SEAM_SHARE = 1 / 16
"""Width of the seam, as a share of the short side: 4 pixels of 64."""
LEAST_SIDE = 8
"""Pixels of the result that a placed clip must have on each side, for something to be seen on it."""


@dataclass(frozen=True, eq=False)
class Canvas:
    """A clip to be painted, at the window's size and rate."""

    frames: Tensor
    """uint8 (3, T, H, W); what is not kept means nothing."""
    keep: Tensor
    """bool (T, H, W)"""
    sound: Audio | None
    facts: dict[str, Any]
    """What was kept, for the metadata."""

    def shown(self) -> Tensor:
        """What the model sees of it, (3, T, H, W) in [-1, 1]."""
        return masked_clip(Video(self.frames, 1.0).pixels(), self.keep)

    def painted(self, made: Tensor, first: int = 0) -> Tensor:
        """The kept pixels, exactly, and those made elsewhere, (3, T, H, W) in [-1, 1], for T frames from `first` on."""
        here = slice(first, first + made.shape[1])
        return blended(Video(self.frames[:, here], 1.0).pixels(), made, self.keep[here])


def canvas(request: Request, window: Shape, warnings: list[str]) -> Canvas:
    """The clip of an inpainting or outpainting request, with what of it is kept.

    Raises:
        MediaError: A file is missing or broken.
        TaskError: The mask or box does not fit the clip, or leaves nothing to keep or nothing to replace.
    """
    assert request.video is not None
    change: Change = "hide_region" if request.task == "inpainting" else "keep_region"
    region = request.mask if isinstance(request.mask, str) and request.mask in REGIONS else None
    facts: dict[str, Any] = {}
    if change == "keep_region" and request.mask is None:
        size = given.size_of(request.video)
        if request.box is not None or not given.same_shape(size, (window.height, window.width)):
            return _placed(request, size, window, warnings)
    clip = given.first_window(request.video, window, warnings, start=request.start)
    given.say_cut(request.video, window, warnings)
    shape = (clip.num_frames, window.height, window.width)
    if request.box is not None:
        keep = ~_boxed(request.box, given.size_of(request.video), window).expand(shape)
        facts["box"] = list(request.box)
    elif request.mask is not None and region is None:
        mask, facts["mask"] = _drawn(request.mask, given.size_of(request.video), clip.num_frames, window)
        keep = ~mask.expand(shape)
    else:
        facts["mask"] = region or "central"
        keep = keep_mask(REGIONS[facts["mask"]], change, *shape)
    return _checked(clip.frames, keep, clip.audio, facts)


def blended(original: Tensor, made: Tensor, keep: Tensor) -> Tensor:
    """Pixels (3, T, H, W): the original where `keep`, (T, H, W), says so, and what was made elsewhere.

    By the border, what was made is corrected by how far it is off at the nearest kept pixels, less and less with the
    distance. So no edge is seen, and nothing of what was to be replaced shines through.
    """
    seam = seam_pixels(*keep.shape[1:])
    known = keep[:, None].float()  # (T, 1, H, W)
    off = ((original - made) * keep).transpose(0, 1)  # (T, 3, H, W)
    correction = torch.zeros_like(off)
    ones = torch.ones(1, 1, 3, 3)
    for distance in range(1, seam + 1):
        near = F.conv2d(known, ones, padding=1)
        sums = F.conv2d(off, ones.expand(3, 1, 3, 3), padding=1, groups=3)
        ring = (near > 0) & (known == 0)
        off = torch.where(ring, sums / near.clamp_min(1), off)
        correction = torch.where(ring, off * (1 - distance / (seam + 1)), correction)
        known = torch.where(ring, torch.ones_like(known), known)
    return torch.where(keep, original, made + correction.transpose(0, 1))


def seam_pixels(height: int, width: int) -> int:
    """How far into what is replaced the seam reaches."""
    return max(1, round(min(height, width) * SEAM_SHARE))


def _checked(frames: Tensor, keep: Tensor, sound: Audio | None, facts: dict[str, Any]) -> Canvas:
    if keep.all() or not keep.any():
        found, fits = ("nothing", "some") if keep.all() else ("everything", "less")
        raise TaskError(
            f"the mask or box replaces {found} of the {frames.shape[3]}x{frames.shape[2]} result; a part must be "
            f"replaced and a part kept; mark {fits} of it white",
            code="mask_empty" if keep.all() else "mask_full",
        )
    facts |= {"kept_share": round(keep.float().mean().item(), 4), "seam_pixels": seam_pixels(*keep.shape[1:])}
    return Canvas(frames, keep, sound, facts)


def _placed(request: Request, size: tuple[int, int], window: Shape, warnings: list[str]) -> Canvas:
    """The whole clip in the box of a result that goes on around it; without a box, as large as fits, in the middle."""
    assert request.video is not None
    height, width = size
    if request.box is None:
        scale = min(window.height / height, window.width / width)
        tall, wide = max(1, round(height * scale)), max(1, round(width * scale))
        top, left = (window.height - tall) // 2, (window.width - wide) // 2
        bottom, right = top + tall, left + wide
    else:
        left, top, right, bottom = (round(side) for side in _in_pixels(request.box, (window.height, window.width)))
    if min(right - left, bottom - top) < LEAST_SIDE:
        raise TaskError(
            f"the clip would be {right - left}x{bottom - top} pixels of the {window.width}x{window.height} result; at "
            f"least {LEAST_SIDE} a side are needed; give it a larger box",
            code="box_invalid",
        )
    if not given.same_shape(size, (bottom - top, right - left)):
        warnings.append(
            f"the clip is {width}x{height} and its box {right - left}x{bottom - top}, of another shape; the clip is "
            "cut to its middle"
        )
    clip = given.first_window(
        request.video, window, warnings, start=request.start, height=bottom - top, width=right - left
    )
    frames = torch.zeros(3, clip.num_frames, window.height, window.width, dtype=torch.uint8)
    frames[:, :, top:bottom, left:right] = clip.frames
    keep = torch.zeros(clip.num_frames, window.height, window.width, dtype=torch.bool)
    keep[:, top:bottom, left:right] = True
    box = (left / window.width, top / window.height, right / window.width, bottom / window.height)
    return _checked(frames, keep, clip.audio, {"box": [round(side, 4) for side in box]})


def _boxed(box: tuple[float, ...], size: tuple[int, int], window: Shape) -> Tensor:
    """Which pixels of the window a box of the given clip touches, bool (1, H, W)."""
    height, width = size
    scale = max(window.height / height, window.width / width)
    left, top, right, bottom = _in_pixels(box, size)
    cut_left, cut_top = (width * scale - window.width) / 2, (height * scale - window.height) / 2
    inside = torch.zeros(1, window.height, window.width, dtype=torch.bool)
    first_row, last_row = math.floor(top * scale - cut_top + 1e-6), math.ceil(bottom * scale - cut_top - 1e-6)
    first_column, last_column = math.floor(left * scale - cut_left + 1e-6), math.ceil(right * scale - cut_left - 1e-6)
    inside[:, max(0, first_row) : max(0, last_row), max(0, first_column) : max(0, last_column)] = True
    if not inside.any():
        raise TaskError(
            f"the box {_named(box)} lies in what is cut off: of the {width}x{height} clip, its middle of the shape "
            f"{window.width}x{window.height} is used; move the box there",
            code="box_invalid",
        )
    return inside


def _in_pixels(box: tuple[float, ...], size: tuple[int, int]) -> tuple[float, ...]:
    """A box's sides in pixels of a picture of (height, width).

    Raises:
        TaskError: It reaches beyond the picture.
    """
    height, width = size
    sides = box if max(box) > 1 else (box[0] * width, box[1] * height, box[2] * width, box[3] * height)
    if sides[2] > width or sides[3] > height:
        raise TaskError(
            f"the box {_named(box)} reaches beyond the picture, which is {width}x{height} pixels; a box lies inside "
            "it; change its right and bottom",
            code="box_invalid",
        )
    return sides


def _drawn(
    mask: str | Path | Image | Video, size: tuple[int, int], num_frames: int, window: Shape
) -> tuple[Tensor, str]:
    """What a mask marks in the window, bool (1 or T, H, W), and whether it is a picture or a clip."""
    frames, kind = given.mask_frames(mask, num_frames, window)
    height, width = frames.shape[2:]
    given.check_shape("mask", (height, width), size, window)
    marked = frames.float().mean(0) > 127.5  # (T, H, W)
    # What the cut to the window's shape leaves, and then every pixel that white touches: thin strokes survive.
    scale = max(window.height / height, window.width / width)
    tall, wide = min(height, round(window.height / scale)), min(width, round(window.width / scale))
    top, left = (height - tall) // 2, (width - wide) // 2
    marked = marked[:, top : top + tall, left : left + wide]
    return F.adaptive_max_pool2d(marked.float(), (window.height, window.width)) > 0, kind


def _named(box: tuple[float, ...]) -> str:
    return ",".join(f"{side:g}" for side in box)
