"""Attention as products of matrices in bf16, for processors.

On a CPU torch's own kernel for attention computes bf16 at the speed of fp32, where products alone are several times as
fast. Like that kernel this keeps no scores: the backward pass computes them again, part by part, each small enough for
the cache. Scores are rounded to bf16 before the softmax.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

MOST_SCORES = 2**20
"""Scores, of all heads, that are there at once."""


def attend(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """What queries (B, H, L, D), scaled already, read in values (B, H, K, D): (B, H, L, D), in bf16.

    Args:
        queries: Of any dtype.
        keys: (B, H, K, D).
        values: (B, H, K, D).
        mask: bool (B or 1, 1, L, K), True where one sees another; each sees something.
    """
    queries, keys, values = (
        each.to(torch.bfloat16, memory_format=torch.contiguous_format) for each in (queries, keys, values)
    )
    unseen = torch.zeros_like(mask, dtype=torch.bfloat16).masked_fill_(~mask, float("-inf"))
    return _Attention.apply(queries, keys, values, unseen.expand(len(queries), -1, -1, -1))  # pyright: ignore


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, queries: Tensor, keys: Tensor, values: Tensor, unseen: Tensor) -> Tensor:
        read = torch.empty_like(queries)
        for part in _parts(queries, keys):
            read[part] = _weights(queries[part], keys[part], unseen[part[0]]) @ values[part]
        ctx.save_for_backward(queries, keys, values, unseen)
        return read

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        queries, keys, values, unseen = ctx.saved_tensors
        gradient = gradients[0].contiguous()
        of_queries, of_keys, of_values = (torch.empty_like(each) for each in (queries, keys, values))
        for part in _parts(queries, keys):
            weights, come = _weights(queries[part], keys[part], unseen[part[0]]), gradient[part]
            of_values[part] = weights.mT @ come
            of_weights = come @ values[part].mT
            of_scores = torch.ops.aten._softmax_backward_data(of_weights, weights, -1, weights.dtype)
            of_queries[part] = of_scores @ keys[part]
            of_keys[part] = of_scores.mT @ queries[part]
        return of_queries, of_keys, of_values, None


def _weights(queries: Tensor, keys: Tensor, unseen: Tensor) -> Tensor:
    return torch.softmax((queries @ keys.mT).add_(unseen), dim=-1)


def _parts(queries: Tensor, keys: Tensor) -> Iterator[tuple[slice, slice]]:
    """Rows and heads that are computed together: several rows, one, or some heads of one."""
    num_rows, num_heads, length, _ = queries.shape
    most = max(1, MOST_SCORES // (length * keys.shape[2]))  # heads
    for row in range(0, num_rows, rows := max(1, most // num_heads)):
        for head in range(0, num_heads, heads := min(most, num_heads)):
            yield slice(row, row + rows), slice(head, head + heads)
