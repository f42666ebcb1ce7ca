"""Pictures in frames of another shape: cut to it, or whole before a blurred copy of themselves."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from videopoet.media.resample import resize_and_crop

BACKDROP_CELLS = 12
"""How many cells the short side of a backdrop is blurred to."""
BACKDROP_LIGHT = 0.55


def fill(frames: Tensor, height: int, width: int) -> Tensor:
    """Cut frames, uint8 (3, T, H, W), to a shape; the middle fills (3, T, height, width)."""
    return resize_and_crop(frames, height, width)


def place(frames: Tensor, height: int, width: int) -> Tensor:
    """Show frames, uint8 (3, T, H, W), whole and as large as they fit, before a blurred copy of themselves."""
    scale = min(height / frames.shape[2], width / frames.shape[3])
    inner_height, inner_width = min(height, round(frames.shape[2] * scale)), min(width, round(frames.shape[3] * scale))
    picture = resize_and_crop(frames, inner_height, inner_width)
    if (inner_height, inner_width) == (height, width):
        return picture
    framed = backdrop(frames, height, width)
    top, left = (height - inner_height) // 2, (width - inner_width) // 2
    framed[:, :, top : top + inner_height, left : left + inner_width] = picture
    return framed


def backdrop(frames: Tensor, height: int, width: int) -> Tensor:
    """A blurred, darker copy of frames, uint8 (3, T, H, W), that fills (3, T, height, width)."""
    short = min(height, width)
    cells = (round(BACKDROP_CELLS * height / short), round(BACKDROP_CELLS * width / short))
    small = resize_and_crop(frames, *cells).transpose(0, 1).float()  # (T, 3, h, w)
    blurred = F.interpolate(small, (height, width), mode="bicubic", align_corners=False)
    return (blurred * BACKDROP_LIGHT).round().clamp(0, 255).to(torch.uint8).transpose(0, 1).contiguous()
