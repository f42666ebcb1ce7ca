"""From logits to a token: guidance, temperature, top-k, top-p and the draw. Plain functions, in fp32."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor


@dataclass(frozen=True)
class Sampling:
    """How freely tokens are chosen."""

    temperature: float = 1.0
    """0 takes the likeliest token."""
    top_k: int | None = None
    """Choose among so many likeliest tokens; None among all."""
    top_p: float = 1.0
    """Choose among the likeliest tokens that together have this probability."""
    guidance_scale: float = 1.0
    """How far to go from the logits without the prompt to those with it, and beyond; 1 is the prompt alone."""


def guide(conditional: Tensor, unconditional: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance: logits (..., V) moved away from those without the prompt."""
    return torch.lerp(unconditional.float(), conditional.float(), scale)


def keep_top_k(logits: Tensor, top_k: int) -> Tensor:
    """Logits (..., V) of the `top_k` likeliest tokens, and of what ties with the last of them; the rest is -inf."""
    if top_k >= logits.shape[-1]:
        return logits
    least = logits.topk(top_k, dim=-1).values[..., -1:]
    return logits.masked_fill(logits < least, float("-inf"))


def keep_top_p(logits: Tensor, top_p: float) -> Tensor:
    """Logits (..., V) of the fewest likeliest tokens whose probabilities reach `top_p`; the rest is -inf."""
    if top_p >= 1:
        return logits
    ordered, order = logits.sort(dim=-1, descending=True)
    probabilities = ordered.softmax(dim=-1)
    before = probabilities.cumsum(dim=-1) - probabilities  # of all likelier tokens; 0 for the first, which always stays
    ordered = ordered.masked_fill(before >= top_p, float("-inf"))
    return torch.empty_like(logits).scatter_(-1, order, ordered)


def gumbel_noise(shape: tuple[int, ...], generator: Generator) -> Tensor:
    """What `sample` takes, drawn on the CPU: independent standard Gumbel numbers."""
    return gumbel_noises(shape, [generator])[0]


def gumbel_noises(shape: tuple[int, ...], generators: Sequence[Generator]) -> Tensor:
    """The same of several random streams, (R, *shape)."""
    uniform = torch.stack([torch.rand(shape, generator=generator) for generator in generators])
    return uniform.clamp_(1e-9, 1 - 2**-24).log_().neg_().log_().neg_()


def sample(logits: Tensor, sampling: Sampling, noise: Tensor | None) -> Tensor:
    """Choose one token per row: the highest sum of score and noise, which draws from the softmax of the `scores`.

    With the same noise, logits that differ little nearly always give the same token; decoders that guess ahead and
    check their guesses rest on that.

    Args:
        logits: (..., V), already guided.
        sampling: Temperature, top-k and top-p.
        noise: (..., V), `gumbel_noise`; a row depends on its own and on nothing else in the batch. At a temperature of
            0 nothing is drawn, and it may be None.

    Returns:
        int64 indices, (...).
    """
    logits = _tempered(logits, sampling)
    if sampling.temperature == 0:
        return logits.argmax(dim=-1)
    assert noise is not None
    chosen = (logits + noise).argmax(dim=-1)
    if sampling.top_p >= 1:
        return chosen
    # The highest sum of all tokens is also that of the likeliest, if it is of one of them. That is so for a share
    # `top_p` of all draws, and the logits of the others alone have to be put in order.
    likelier = logits > logits.gather(-1, chosen.unsqueeze(-1))
    outside = (logits.softmax(dim=-1) * likelier).sum(dim=-1) >= sampling.top_p
    rows = outside.flatten().nonzero().flatten()  # once: what is chosen by a mask is counted anew each time
    if len(rows):
        logits, noise = (each.reshape(-1, each.shape[-1])[rows] for each in (logits, noise))
        again = (keep_top_p(logits, sampling.top_p) + noise).argmax(dim=-1)
        chosen = chosen.flatten().index_copy_(0, rows, again).view_as(chosen)
    return chosen


def scores(logits: Tensor, sampling: Sampling) -> Tensor:
    """The logits (..., V) in fp32, under temperature, top-k and top-p, whose softmax `sample` draws from."""
    logits = _tempered(logits, sampling)
    return logits if sampling.temperature == 0 else keep_top_p(logits, sampling.top_p)


def _tempered(logits: Tensor, sampling: Sampling) -> Tensor:
    """Logits (..., V) in fp32 under temperature and top-k."""
    logits = logits.float()
    if sampling.temperature == 0:
        return logits
    if sampling.temperature != 1:
        logits = logits / sampling.temperature
    return logits if sampling.top_k is None else keep_top_k(logits, sampling.top_k)
