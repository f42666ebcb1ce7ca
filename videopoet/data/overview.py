"""What is in a prepared dataset, for people: figures, a few clips and pictures, and what of them training sees."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from videopoet import runtime
from videopoet.data.prepared import Dataset
from videopoet.data.token_cache import INDEX, TOKENS, TokenCache
from videopoet.errors import DataError
from videopoet.media.contact_sheet import PAPER, contact_sheet
from videopoet.media.types import Image, Video

DIMMED = 0.3
"""How bright the parts of a picture are that training does not see."""


def overview(dataset: Dataset, size: tuple[int, int]) -> dict[str, Any]:
    """Figures of a dataset, as JSON values.

    Args:
        dataset: The clips.
        size: Height and width that training would show them in.
    """
    shown, too_small = _shown(dataset, "clips", size)
    pictures, pictures_too_small = _shown(dataset.pictures, "pictures", size)
    seen_pictures = {"shown": pictures, "too_small": pictures_too_small}
    training = {"size": f"{size[1]}x{size[0]}", "shown": shown, "too_small": too_small, "pictures": seen_pictures}
    config, counts = dataset.config, dataset.counts
    return {
        "dataset": str(dataset.folder),
        **counts,
        "hours": round(counts["seconds"]["kept"] / 3600, 4),
        "clip": {
            "seconds": config.seconds,
            "num_frames": config.num_frames,
            "frame_rate": config.frame_rate,
            "sample_rate": config.sample_rate,
        },
        "training": training,
        "tokens": _tokens(dataset),
    }


def sample(dataset: Dataset, count: int, seed: int = 0) -> list[int]:
    """Numbers of clips that chance draws, in the order of the list; with few clips, all of them."""
    drawn = torch.randperm(len(dataset), generator=runtime.generator(seed, "look"))[:count]
    return sorted(drawn.tolist())


def sheet(dataset: Dataset, numbers: list[int], size: tuple[int, int]) -> Image:
    """Clips as rows of frames, or pictures, at least one, numbered from 1; what is dark is cut off in training."""
    clips = []
    for number in numbers:
        frames = dataset.tensor(dataset.row(number), "video")
        top, left, height, width = crop(tuple(frames.shape[2:]), size)
        bright = torch.zeros(frames.shape[2:], dtype=torch.bool)
        bright[top : top + height, left : left + width] = True
        clips.append(torch.where(bright, frames, (frames * DIMMED).to(torch.uint8)))
    tallest, widest = (max(clip.shape[axis] for clip in clips) for axis in (2, 3))
    framed = [_framed(clip, tallest, widest) for clip in clips]
    if dataset.kind == "picture":
        return contact_sheet([Image(clip[:, 0]) for clip in framed])
    return contact_sheet([Video(clip, dataset.config.frame_rate) for clip in framed])


def stacked(sheets: list[Image]) -> Image:
    """Sheets, at least one, one below the other."""
    widest = max(sheet.frame.shape[2] for sheet in sheets)
    return Image(
        torch.cat([F.pad(one.frame, (0, widest - one.frame.shape[2], 0, 0), value=PAPER) for one in sheets], dim=1)
    )


def crop(stored: tuple[int, ...], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The part of a stored picture that training sees: top, left, height and width; none of one that is too small."""
    if stored[0] < size[0] or stored[1] < size[1]:
        return 0, 0, 0, 0
    scale = min(stored[0] / size[0], stored[1] / size[1])
    height, width = round(size[0] * scale), round(size[1] * scale)
    return (stored[0] - height) // 2, (stored[1] - width) // 2, height, width


def seen_share(stored: tuple[int, int], size: tuple[int, int]) -> float:
    """The share of a stored picture's area that training sees."""
    _, _, height, width = crop(stored, size)
    return height * width / (stored[0] * stored[1])


def _shown(dataset: Dataset, name: str, size: tuple[int, int]) -> tuple[list[dict[str, Any]], int]:
    """For each size that is stored, how many there are and the share that is seen; and how many are too small."""
    shown, too_small = [], 0
    for (height, width), number in sorted(Counter(zip(dataset.sizes[::2], dataset.sizes[1::2], strict=True)).items()):
        if height < size[0] or width < size[1]:
            too_small += number
        else:
            share = seen_share((height, width), size)
            shown.append({"size": f"{width}x{height}", name: number, "seen": round(share, 3)})
    return shown, too_small


def _framed(frames: Tensor, height: int, width: int) -> Tensor:
    """Frames, uint8 (3, T, H, W), in the middle of a larger sheet of paper."""
    down, right = height - frames.shape[2], width - frames.shape[3]
    return F.pad(frames, (right // 2, right - right // 2, down // 2, down - down // 2), value=PAPER)


def _tokens(dataset: Dataset) -> dict[str, Any] | None:
    """What is known of the codes beside the clips; None where there are none."""
    if not (dataset.folder / TOKENS).exists():
        return None
    try:
        cache = TokenCache(dataset)
    except DataError as error:
        return {"usable": False, "why": str(error), "finished": (dataset.folder / TOKENS / INDEX).exists()}
    return {"usable": True, **cache.counts, "views": cache.views.to_dict(), "tokenizers": list(cache.fingerprints)}
