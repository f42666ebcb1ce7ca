"""How near one clip is to another, pixel by pixel: PSNR and SSIM. What needs a network is in `evaluation`."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from videopoet.errors import MediaError

WINDOW, SIGMA = 11, 1.5
"""SSIM's Gaussian window, as its authors have it."""


def psnr(frames: Tensor, reference: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of uint8 frames, (3, T, H, W), over the whole clip; inf where they are equal.

    Raises:
        MediaError: The shapes differ.
    """
    _check(frames, reference)
    error = (frames.double() - reference.double()).square().mean()
    return float(10 * torch.log10(255**2 / error))


def ssim(frames: Tensor, reference: Tensor) -> float:
    """Structural similarity of uint8 frames, (3, T, H, W): the mean over channels, frames and pixels.

    At the edges pictures are mirrored, as torchmetrics does.

    Raises:
        MediaError: The shapes differ, or a side is too short to be mirrored.
    """
    _check(frames, reference)
    margin = WINDOW // 2
    if min(frames.shape[-2:]) <= margin:
        raise MediaError(
            f"frames are {frames.shape[-1]}x{frames.shape[-2]}; SSIM needs {margin + 1} pixels a side; compare larger "
            "ones",
            code="video_too_small",
        )
    offsets = torch.arange(WINDOW, dtype=torch.float64, device=frames.device) - margin
    kernel = torch.exp(-(offsets**2) / (2 * SIGMA**2))
    kernel = (kernel / kernel.sum()).float()

    def mean(x: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(x, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))

    total = 0.0
    for frame, other in zip(frames.unbind(1), reference.unbind(1), strict=True):
        x, y = (F.pad(picture.unsqueeze(1) / 255, (margin,) * 4, mode="reflect") for picture in (frame, other))
        mean_x, mean_y = mean(x), mean(y)
        variance_x, variance_y = mean(x * x) - mean_x**2, mean(y * y) - mean_y**2
        covariance = mean(x * y) - mean_x * mean_y
        small, smaller = 0.01**2, 0.03**2
        likeness = (2 * mean_x * mean_y + small) * (2 * covariance + smaller)
        total += float((likeness / ((mean_x**2 + mean_y**2 + small) * (variance_x + variance_y + smaller))).mean())
    return total / frames.shape[1]


def _check(frames: Tensor, reference: Tensor) -> None:
    if frames.shape != reference.shape:
        raise MediaError(
            f"the clips have shapes {tuple(frames.shape)} and {tuple(reference.shape)}; only equal ones compare; "
            "resize one",
            code="video_shapes_differ",
        )
