"""Masked decoding: all codes at once, again and again, each time keeping those that the model is surest of (MaskGIT).

This is how the super-resolution transformer answers. What fills in the language model's rows is in `decoders`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from pydantic import Field
from torch import Generator, Tensor

from videopoet import runtime
from videopoet.config import BaseConfig
from videopoet.generation.sampling import Sampling, gumbel_noises, sample
from videopoet.models.super_resolution import UNKNOWN, SuperResolution


class MaskedSampling(BaseConfig):
    """How codes are chosen; of the guidance scales, 1 is no guidance and 0 leaves the condition out."""

    num_steps: int = Field(default=24, ge=1, le=1000)
    """Forward passes; the paper's 24."""
    temperature: float = Field(default=1.0, ge=0, le=10)
    """Of the draw of each code; 0 takes the likeliest."""
    choice_temperature: float = Field(default=4.5, ge=0, le=100)
    """How much luck there is in which codes are kept; it falls to 0 with the last step. At 0 the surest always stay."""
    text_guidance: float = Field(default=1.0, ge=0, le=100)
    """How far to go from the logits without the text to those with it, and beyond."""
    low_resolution_guidance: float = Field(default=1.0, ge=0, le=100)
    """The same for the low-resolution codes."""
    noise: float = Field(default=0.0, ge=0, le=1)
    """The share of low-resolution codes that the model is told may be wrong: more makes it trust them less."""
    faithfulness: float = Field(default=0.0, ge=0, le=1)
    """How much is put right in the pixels of what the result, scaled down again, has other than the small clip; at 1 it
    is that clip, and only what is finer comes from the model."""


def masked_share(progress: Tensor) -> Tensor:
    """Which share of the codes is masked when `progress`, in [0, 1], of the decoding is done: a quarter of a cosine."""
    return torch.cos(progress * (math.pi / 2))


@torch.no_grad()
def decode(
    model: SuperResolution,
    codes: Tensor,
    low_codes: Tensor,
    text: Tensor,
    sampling: MaskedSampling,
    generators: Sequence[Generator],
    on_step: Callable[[], None] = lambda: None,
) -> Tensor:
    """Fill in the unknown codes of a high-resolution grid.

    Args:
        model: Gives the logits.
        codes: (B, t, h, w), UNKNOWN where to be chosen; what is known stays. Rows have equally many unknown codes.
        low_codes: (B, t, h / 2, w / 2).
        text: (B, L) ids, UNKNOWN after their end; all UNKNOWN in a row without text.
        sampling: How to choose.
        generators: A random stream per row: what a row becomes depends on its own alone.
        on_step: Called after each step; what it raises ends the decoding.

    Returns:
        The codes, (B, t, h, w), complete.
    """
    shape, codes = codes.shape, codes.flatten(1).clone()
    unknown = codes == UNKNOWN
    num_unknown = int(unknown[0].sum())
    assert (unknown.sum(dim=1) == num_unknown).all(), "rows must have equally many unknown codes"
    choosing, guided = Sampling(temperature=sampling.temperature), _guided(model, low_codes, text, sampling)
    steps = min(sampling.num_steps, num_unknown)  # each chooses one code at least
    for step in range(steps):
        logits = guided(codes.view(shape)).flatten(1, 3)  # (B, N, G, V)
        noise = runtime.sent(gumbel_noises(tuple(logits.shape[1:]), generators), codes.device)
        groups = sample(logits.flatten(0, 2), choosing, noise.flatten(0, 2)).view(logits.shape[:-1])
        chosen = model.codes(groups)
        sureness = logits.log_softmax(-1).gather(-1, groups[..., None]).squeeze(-1).sum(-1)  # (B, N)
        progress = (step + 1) / steps
        noise = runtime.sent(gumbel_noises((codes.shape[1],), generators), codes.device)
        sureness = sureness + sampling.choice_temperature * (1 - progress) * noise
        sureness = sureness.masked_fill(codes != UNKNOWN, float("inf"))
        num_left = int(num_unknown * masked_share(torch.tensor(progress))) if step + 1 < steps else 0
        num_left = max(min(num_left, num_unknown - step - 1), steps - step - 1)
        kept = torch.ones_like(unknown)
        if num_left:
            kept.scatter_(1, sureness.topk(num_left, dim=1, largest=False).indices, False)
        codes = torch.where(kept & (codes == UNKNOWN), chosen, codes)
        on_step()
    return codes.view(shape)


def _guided(
    model: SuperResolution, low_codes: Tensor, text: Tensor, sampling: MaskedSampling
) -> Callable[[Tensor], Tensor]:
    """What gives the logits, (B, t, h, w, G, V), of codes, (B, t, h, w), in each step.

    They are moved from those of nothing to those of the clip, and on to those of clip and text. The two scales are
    independent (InstructPix2Pix's form); what has no weight is not computed.
    """
    towards_text, towards_low = sampling.text_guidance, sampling.low_resolution_guidance
    if bool((text == UNKNOWN).all()):
        towards_text = 0.0
    # nothing + low (clip - nothing) + text (both - clip)
    weights = ((1 - towards_low, False, False), (towards_low - towards_text, True, False), (towards_text, True, True))
    used = [entry for entry in weights if entry[0]]
    condition = model.condition(
        torch.cat([low_codes if sees else torch.full_like(low_codes, UNKNOWN) for _, sees, _ in used]),
        torch.cat([text if reads else torch.full_like(text, UNKNOWN) for _, _, reads in used]),
        torch.full((len(used) * len(low_codes),), sampling.noise, device=low_codes.device),
    )

    def logits(codes: Tensor) -> Tensor:
        hidden = model.refine(codes.repeat(len(used), 1, 1, 1), condition)
        parts = model.logits(hidden).float().chunk(len(used))
        return torch.stack([weight * part for (weight, _, _), part in zip(used, parts, strict=True)]).sum(dim=0)

    return logits
