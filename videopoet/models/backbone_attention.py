"""How the attention of a Hugging Face backbone is computed in training."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from videopoet.nn import product_attention

NAME = "videopoet"
"""Of this attention among those of `transformers`."""


def install(backbone: Any) -> None:
    """Let a Hugging Face model attend by products where it computes in bf16 on a CPU, and as it did elsewhere.

    Models whose attention is not torch's, because of what it adds to that, keep their own.
    """
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    if backbone.config.get_text_config()._attn_implementation != "sdpa":
        return
    AttentionInterface.register(NAME, _forward)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    backbone.set_attn_implementation(NAME)


def _forward(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """As `transformers` calls attention: (B, L, H, D) of queries (B, H, L, D)."""
    is_bf16 = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    plain = dropout == 0 and attention_mask is not None and attention_mask.dtype == torch.bool
    if query.device.type != "cpu" or not is_bf16 or not plain or others.get("position_bias") is not None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **others)
    assert attention_mask is not None
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = (each.repeat_interleave(groups, dim=1) for each in (key, value))
    query = query * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    read = product_attention.attend(query, key, value, attention_mask)
    return read.transpose(1, 2).contiguous(), None
