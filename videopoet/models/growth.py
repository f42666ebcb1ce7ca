"""Room for media tokens in a language model that was trained on text: new rows after the old ones, which stay."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

HEAD_SPREAD = 0.25
"""Spread of new rows that are read as logits, in that of the old ones. With all of it a model that has learned nothing
of media would be as sure of its first guesses as it is of words."""
_MIXED = 8
_CHUNK = 4096


@torch.no_grad()
def grow(backbone: Any, size: int, num_known: int, generator: torch.Generator) -> None:
    """Give a Hugging Face causal LM `size` ids, in place; the rows of its old ids are not touched.

    New rows have the mean and the covariance of the first `num_known` old ones, which are those that text has trained:
    a model's table is often longer than its tokenizer's list.
    """
    old = len(backbone.get_input_embeddings().weight)
    with torch.random.fork_rng(devices=[]):  # transformers draws rows of its own, which are replaced here
        backbone.resize_token_embeddings(size, mean_resizing=False)
    table, head = backbone.get_input_embeddings(), backbone.get_output_embeddings()
    num_known = min(num_known, old)
    is_tied = head.weight is table.weight
    _draw(table.weight, old, num_known, HEAD_SPREAD if is_tied else 1.0, generator)
    if not is_tied:
        _draw(head.weight, old, num_known, HEAD_SPREAD, generator)
    if getattr(head, "bias", None) is not None:
        head.bias[old:] = head.bias[:num_known].float().mean().to(head.bias.dtype)


@torch.no_grad()
def widen_codes(backbone: Any, first: int, num_codes: int, wanted: int) -> None:
    """Give a backbone, in place, `wanted` visual codes for the `num_codes` whose ids begin at `first`.

    A code of more bits begins as the code of its lower bits; what comes after the visual codes moves up.
    """
    old = [tensor.clone() for tensor in _tables(backbone)]
    last = first + num_codes
    rows = torch.cat([torch.arange(first), first + torch.arange(wanted) % num_codes, torch.arange(last, len(old[0]))])
    with torch.random.fork_rng(devices=[]):  # transformers draws rows of its own, which are replaced here
        backbone.resize_token_embeddings(len(rows), mean_resizing=False)
    for tensor, values in zip(_tables(backbone), old, strict=True):
        tensor.copy_(values[rows])


def _tables(backbone: Any) -> list[Tensor]:
    """What has a row for each id: the table, the head where it is another, and the head's bias where it has one."""
    table, head = backbone.get_input_embeddings(), backbone.get_output_embeddings()
    tensors = [table.weight] if head.weight is table.weight else [table.weight, head.weight]
    return tensors if getattr(head, "bias", None) is None else [*tensors, head.bias]


def _draw(weight: Tensor, first: int, num_known: int, spread: float, generator: torch.Generator) -> None:
    """Fill the rows (V - first, D) from `first` on."""
    mean = weight[:num_known].float().mean(dim=0)  # (D,)
    for start in range(first, len(weight), _CHUNK):
        count = min(_CHUNK, len(weight) - start)
        # A sum of centred rows with random signs has their covariance, with no matrix to factor.
        picks = torch.randint(num_known, (count, _MIXED), generator=generator)
        signs = 2.0 * torch.randint(2, (count, _MIXED, 1), generator=generator) - 1
        rows = ((weight[picks].float() - mean) * signs).sum(dim=1) / _MIXED**0.5  # (count, D)
        weight[start : start + count] = (mean + spread * rows).to(weight.dtype)
