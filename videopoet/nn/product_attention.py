"""Attention as products of matrices in bf16, for processors.

On a CPU torch's own kernel for attention computes bf16 at the speed of fp32, where products alone are several times as
fast. Like that kernel this keeps no scores: the backward pass computes them again, part by part, each small enough for
the cache. Scores are rounded to bf16 before the softmax. Both passes are operators of torch, which a compiled layer
calls as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, library
from torch.utils.flop_counter import register_flop_formula

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
    return _attend(queries, keys, values, unseen.expand(len(queries), -1, -1, -1))


@library.custom_op("videopoet::attend", mutates_args=())
def _attend(queries: Tensor, keys: Tensor, values: Tensor, unseen: Tensor) -> Tensor:
    read = torch.empty_like(queries)
    for part in _parts(queries, keys):
        read[part] = _weights(queries[part], keys[part], unseen[part[0]]) @ values[part]
    return read


@library.custom_op("videopoet::attend_backward", mutates_args=())
def _gradients(
    gradient: Tensor, queries: Tensor, keys: Tensor, values: Tensor, unseen: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    of_queries, of_keys, of_values = (torch.empty_like(each) for each in (queries, keys, values))
    for part in _parts(queries, keys):
        weights, come = _weights(queries[part], keys[part], unseen[part[0]]), gradient[part]
        of_values[part] = weights.mT @ come
        of_weights = come @ values[part].mT
        of_scores = torch.ops.aten._softmax_backward_data(of_weights, weights, -1, weights.dtype)
        of_queries[part] = of_scores @ keys[part]
        of_keys[part] = of_scores.mT @ queries[part]
    return of_queries, of_keys, of_values


@_attend.register_fake
def _(queries: Tensor, keys: Tensor, values: Tensor, unseen: Tensor) -> Tensor:
    return torch.empty_like(queries)


@_gradients.register_fake
def _(gradient: Tensor, queries: Tensor, keys: Tensor, values: Tensor, unseen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(queries), torch.empty_like(keys), torch.empty_like(values)


def _remember(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    return (*_gradients(gradient.contiguous(), *ctx.saved_tensors), None)


_attend.register_autograd(_backward, setup_context=_remember)


@register_flop_formula(torch.ops.videopoet.attend)
def _attend_flops(queries: torch.Size, keys: torch.Size, *_: Any, **__: Any) -> int:
    return 4 * queries.numel() * keys[2]


@register_flop_formula(torch.ops.videopoet.attend_backward)
def _gradients_flops(gradient: torch.Size, queries: torch.Size, keys: torch.Size, *_: Any, **__: Any) -> int:
    return 10 * queries.numel() * keys[2]


def _weights(queries: Tensor, keys: Tensor, unseen: Tensor) -> Tensor:
    return torch.softmax((queries @ keys.mT).add_(unseen), dim=-1)


def _parts(queries: Tensor, keys: Tensor) -> Iterator[tuple[slice, slice]]:
    """Rows and heads that are computed together: several rows, one, or some heads of one."""
    num_rows, num_heads, length, _ = queries.shape
    most = max(1, MOST_SCORES // (length * keys.shape[2]))  # heads
    for row in range(0, num_rows, rows := max(1, most // num_heads)):
        for head in range(0, num_heads, heads := min(most, num_heads)):
            yield slice(row, row + rows), slice(head, head + heads)
