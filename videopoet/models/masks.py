"""A mask as a backbone wants it: with its own sliding windows, and as numbers where its attention adds it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def for_backbone(
    config: Any, mask: Tensor, dtype: torch.dtype, places: Tensor | None = None
) -> Tensor | dict[str, Tensor]:
    """What a Hugging Face model takes as `attention_mask`.

    A layer that was trained with a sliding window keeps it, on both sides of a position in the prefix: it has learned
    no greater distance. `transformers` leaves a 4-D mask as it is, so the window has to be in it.

    Args:
        config: Of the backbone's text model.
        mask: bool (B, 1, L, K), True where a position sees another.
        dtype: Of the hidden states.
        places: Which of K the positions are, (B, L); None says the last L of them.

    Returns:
        One mask, or one for each kind of layer where the model has several.
    """
    window, kinds = getattr(config, "sliding_window", None), getattr(config, "layer_types", None)
    if kinds is None:
        return _as_added(config, mask if window is None else mask & _near(mask, window, places), dtype)
    if set(kinds) <= {"full_attention"}:
        return _as_added(config, mask, dtype)
    masks = {"full_attention": mask}
    if window is not None:
        masks["sliding_attention"] = mask & _near(mask, window, places)
    return {kind: _as_added(config, masks.get(kind, mask), dtype) for kind in set(kinds)}


def _near(mask: Tensor, window: int, places: Tensor | None) -> Tensor:
    """bool (B or 1, 1, L, K), True where two positions are less than a window apart."""
    length, seen = mask.shape[-2:]
    columns = torch.arange(seen, device=mask.device)
    rows = columns[None, seen - length :] if places is None else places
    return ((rows[..., None] - columns).abs() < window)[:, None]


def _as_added(config: Any, mask: Tensor, dtype: torch.dtype) -> Tensor:
    if config._attn_implementation == "eager":
        return torch.zeros_like(mask, dtype=dtype).masked_fill(~mask, torch.finfo(dtype).min)
    return as_numbers(mask, dtype) if mask.device.type == "cuda" else mask


def as_numbers(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask as what is added to scores, (B, 1, L, K), as the kernels of GPUs want it: rows begin at multiples of 8.

    Of a bool mask each layer makes one of its own, and keeps it for the backward pass.
    """
    kind = mask.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else dtype
    length = mask.shape[-1]
    rows = mask.new_zeros(*mask.shape[:-1], -(-length // 8) * 8, dtype=dtype)[..., :length]
    return rows.masked_fill_(~mask, float("-inf"))
