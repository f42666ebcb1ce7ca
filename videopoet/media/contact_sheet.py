"""One picture that shows several clips or pictures beside one another, numbered from 1."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from videopoet.media.types import Image, Video

FRAMES_SHOWN = 6
"""Frames of a clip, spread over it."""
LEAST_SIDE = 96
"""Smaller frames are enlarged, each pixel to a square."""
GAP, MARGIN = 4, 28
"""Pixels between frames, and of the column with the numbers."""
PAPER = 245


def contact_sheet(media: Sequence[Video | Image]) -> Image:
    """Show each of the media, at least one, all of one size: a clip as a row of frames, pictures several in a row."""
    shown = [_shown(one) for one in media]
    per_row = 1 if isinstance(media[0], Video) else math.ceil(math.sqrt(len(media)))
    strips = [F.pad(_numbered(strip, number), (0, GAP, 0, GAP), value=PAPER) for number, strip in enumerate(shown, 1)]
    blank = torch.full_like(strips[0], PAPER)
    strips += [blank] * (-len(strips) % per_row)
    rows = [torch.cat(strips[first : first + per_row], dim=2) for first in range(0, len(strips), per_row)]
    return Image(F.pad(torch.cat(rows, dim=1), (GAP, 0, GAP, 0), value=PAPER).contiguous())


def _shown(media: Video | Image) -> Tensor:
    """Frames side by side, uint8 (3, H, W)."""
    if isinstance(media, Image):
        frames = media.frame[:, None]
    else:
        count = min(FRAMES_SHOWN, media.num_frames)
        frames = media.frames[:, torch.linspace(0, media.num_frames - 1, count).round().long()]
    scale = math.ceil(LEAST_SIDE / min(frames.shape[2:]))
    frames = frames.cpu().repeat_interleave(scale, dim=2).repeat_interleave(scale, dim=3)
    return torch.cat([F.pad(frame, (0, GAP), value=PAPER) for frame in frames.unbind(1)], dim=2)[:, :, :-GAP]


def _numbered(strip: Tensor, number: int) -> Tensor:
    """A strip with its number to the left."""
    import numpy as np
    from PIL import Image as Pillow
    from PIL import ImageDraw, ImageFont

    label = Pillow.new("RGB", (MARGIN, strip.shape[1]), (PAPER,) * 3)
    middle = (MARGIN // 2, strip.shape[1] // 2)
    ImageDraw.Draw(label).text(middle, str(number), fill=(40, 40, 40), font=ImageFont.load_default(16), anchor="mm")
    return torch.cat([torch.from_numpy(np.array(label)).permute(2, 0, 1), strip], dim=2)
