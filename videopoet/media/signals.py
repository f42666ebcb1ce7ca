"""Control signals as pictures: what stylization is conditioned on, in the form a video tokenizer takes."""

from __future__ import annotations

import torch
from torch import Tensor

FULL_SCALE = 1 / 8
"""The displacement, as a share of the frame's width or height, that fills the range; at 8 fps a fast crossing."""


def structure_clip(depth: Tensor, flow: Tensor) -> Tensor:
    """Join optical flow and depth into one clip of three channels in [-1, 1], (B, 3, T, H, W), as in VideoPoet A.4.

    Channels 0 and 1 are the flow to the right and downwards, 1.0 at `FULL_SCALE` of the frame and clipped there, so
    that a motion looks the same at every resolution and a still scene is 0; channel 2 is the depth.

    Args:
        depth: Values in [0, 1], (B, 1, T, H, W).
        flow: Displacements in pixels per frame, (B, 2, T, H, W).
    """
    height, width = flow.shape[-2:]
    full = torch.tensor([width, height], dtype=flow.dtype, device=flow.device) * FULL_SCALE
    flow = (flow / full.view(1, 2, 1, 1, 1)).clamp(-1.0, 1.0)
    return torch.cat([flow, depth * 2.0 - 1.0], dim=1)
