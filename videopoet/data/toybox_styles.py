"""The looks that finished pictures of the toy box, or of footage, can be given."""

import torch
import torch.nn.functional as F
from torch import Tensor

from videopoet.data.toybox_captions import STYLES
from videopoet.errors import ConfigError


def stylize(video: Tensor, style: str) -> Tensor:
    """Give finished pictures, (B, 3, T, H, W) in [-1, 1], one of the looks in STYLES.

    Raises:
        ConfigError: There is no such style.
    """
    if style == "negative":
        return -video
    if style == "sepia":
        paper = torch.tensor([[0.393, 0.769, 0.189], [0.349, 0.686, 0.168], [0.272, 0.534, 0.131]], device=video.device)
        toned = torch.einsum("dc,bcthw->bdthw", paper, (video + 1) / 2)
        return toned * (2 / paper[0].sum()) - 1
    frames = video.transpose(1, 2).flatten(0, 1)
    grey = (0.299 * frames[:, :1] + 0.587 * frames[:, 1:2] + 0.114 * frames[:, 2:] + 1) / 2
    if style == "pixelated":
        height, width = frames.shape[-2:]
        block = max(min(height, width) // 16, 1)
        coarse = F.avg_pool2d(frames, block, ceil_mode=True, count_include_pad=False)
        looks = F.interpolate(coarse, scale_factor=float(block), mode="nearest")[..., :height, :width]
    elif style == "outline":
        looks = (1 - 2 * _edges(frames)).expand_as(frames)
    elif style == "hatched":
        height, width = frames.shape[-2:]
        step = max(min(height, width) / 16, 3.0)
        row = torch.arange(height, device=video.device).view(-1, 1)
        column = torch.arange(width, device=video.device).view(1, -1)
        one_way = (torch.remainder(row + column, step) / step - 0.5).abs() * 2
        other_way = (torch.remainder(row - column, step) / step - 0.5).abs() * 2
        ink = ((0.75 - grey) * 1.4 - one_way + 0.5).clamp(0, 1) + ((0.4 - grey) * 1.6 - other_way + 0.5).clamp(0, 1)
        looks = (1 - 1.7 * torch.maximum(ink.clamp(0, 1), _edges(frames))).expand_as(frames)
    else:
        raise ConfigError(
            f"unknown style '{style}'; the styles are {', '.join(STYLES)}; choose one", code="toybox_style"
        )
    return looks.unflatten(0, (video.shape[0], -1)).transpose(1, 2).contiguous()


def _edges(frames: Tensor) -> Tensor:
    """How much each pixel, (N, 3, H, W), lies on an edge: (N, 1, H, W) in [0, 1]."""
    padded = F.pad(frames, (1, 1, 1, 1), mode="replicate")
    across = (padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]).abs().amax(dim=1, keepdim=True)
    down = (padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]).abs().amax(dim=1, keepdim=True)
    return ((across + down - 0.15) / 0.5).clamp(0, 1)
