"""The super-resolution transformer's objective: say the codes that are hidden from it (MAGVIT's masked modelling)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from videopoet import runtime
from videopoet.config import BaseConfig
from videopoet.data.upscaling import Pairs
from videopoet.generation.masked_decoding import masked_share
from videopoet.models.super_resolution import UNKNOWN, SuperResolution
from videopoet.training.loop import Losses, Objective


class Config(BaseConfig):
    """What is hidden and what is spoilt."""

    text_drop: float = Field(default=0.1, ge=0, le=1)
    """Share of rows whose text is left out, so that guidance has something to compare with."""
    low_resolution_drop: float = Field(default=0.1, ge=0, le=1)
    """Share of rows whose low-resolution codes are left out."""
    most_noise: float = Field(default=0.5, ge=0, le=1)
    """The largest share of a row's low-resolution codes that are replaced by any others; each row draws its share from
    0 to this, and the model is told. The paper does not give its own."""


class MaskedToken(Objective):
    """Cross-entropy over masked codes, summed over their factors, in nats a code."""

    model: SuperResolution

    def __init__(
        self,
        model: SuperResolution,
        config: Config,
        validation: Sequence[Pairs] = (),
        write_samples: Callable[[Path], dict[str, float]] | None = None,
    ):
        self.model, self.config, self.validation, self.write_samples = model, config, validation, write_samples
        self.blocks = tuple(model.layers)

    def __call__(self, batch: Pairs, step: int, generator: torch.Generator) -> Losses:
        rows, device = len(batch.codes), batch.codes.device
        noise = self.config.most_noise * torch.rand(rows, generator=generator)
        low_codes = with_noise(batch.low_codes, noise, 2**self.model.config.num_bits, generator)
        drops = torch.rand(rows, 2, generator=generator).to(device)
        low_codes = low_codes.masked_fill((drops[:, 0] < self.config.low_resolution_drop)[:, None, None, None], UNKNOWN)
        text = batch.text.masked_fill((drops[:, 1] < self.config.text_drop)[:, None], UNKNOWN)
        loss = self.loss(batch.codes, low_codes, text, noise.to(device), generator)
        name = "loss_images" if batch.codes.shape[1] == 1 else "loss_clips"
        return Losses(loss, {name: loss.detach()}, tokens=batch.codes.numel() + batch.low_codes.numel())

    def loss(self, codes: Tensor, low_codes: Tensor, text: Tensor, noise: Tensor, generator: torch.Generator) -> Tensor:
        """Mean cross-entropy of the codes, (B, t, h, w), that a mask of random size hides."""
        masked = random_mask(codes.shape, generator).to(codes.device)
        hidden = self.model(codes.masked_fill(masked, UNKNOWN), low_codes, text, noise)
        logits = self.model.logits(hidden[masked]).float()  # (N, G, V)
        each = F.cross_entropy(logits.flatten(0, 1), self.model.groups(codes[masked]).flatten())
        return each * self.model.config.num_groups

    @torch.no_grad()
    def validate(self, folder: Path) -> dict[str, float]:
        """The loss on clean validation pairs, always under the same masks, and what the writer of samples measures."""
        losses = []
        for number, pairs in enumerate(self.validation):
            generator = runtime.generator("validation masks", number)
            with runtime.autocast(pairs.codes.device):
                clean = torch.zeros(len(pairs.codes), device=pairs.codes.device)
                losses.append(self.loss(pairs.codes, pairs.low_codes, pairs.text, clean, generator).item())
        figures = {"loss": sum(losses) / len(losses)} if losses else {}
        return figures | (self.write_samples(folder) if self.write_samples else {})


def random_mask(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Which codes are hidden, bool (B, t, h, w): in each row a share as decoding meets it, and at least one code."""
    rows, size = shape[0], torch.Size(shape[1:]).numel()
    counts = (masked_share(torch.rand(rows, 1, generator=generator)) * size).ceil().clamp_min(1)
    ranks = torch.rand(rows, size, generator=generator).argsort(dim=1).argsort(dim=1)
    return (ranks < counts).view(tuple(shape))


def with_noise(codes: Tensor, share: Tensor, num_codes: int, generator: torch.Generator) -> Tensor:
    """Codes, (B, t, h, w), of which a share (B,) is replaced by any of `num_codes` others."""
    spoilt = torch.rand(codes.shape, generator=generator) < share[:, None, None, None]
    others = torch.randint(num_codes, codes.shape, generator=generator)
    return torch.where(spoilt.to(codes.device), others.to(codes.device), codes)
