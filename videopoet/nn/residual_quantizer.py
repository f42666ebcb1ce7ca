"""Residual vector quantization (SoundStream): each level's codebook holds what the levels before it left over."""

from __future__ import annotations

from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from videopoet.ranks import from_first_rank, sum_over_ranks

_KMEANS_ITERATIONS = 10


class ResidualQuantized(NamedTuple):
    """What a residual quantizer returns in training."""

    latents: Tensor
    """The quantized latents, shaped as the input; gradients pass straight through."""
    codes: Tensor
    """int64 codes, (B, Q, s), of all levels, those that an example did without included."""
    commitment: Tensor
    """Mean squared distance between what reaches a level and its code, over the levels in use."""


class ResidualVectorQuantizer(nn.Module):
    """Codebooks that follow the running mean of the latents assigned to them. fp32 throughout, whatever autocast says.

    The codebooks are buffers, no parameters: in training mode every forward pass moves them. The first one lays them
    out by k-means. A code's count is the running mean of how many latents of a batch are given to it.

    Args:
        dim: Channels of the latent.
        codebook_size: Codes per level.
        num_quantizers: Levels.
        decay: Decay of the running means.
        dead_code_threshold: A code whose count falls under this is moved to a random latent of the batch. It must stay
            well under the mean count, batch * frames / codebook_size, or the codebook never settles; 0 moves none.
        rate_weight: What a nat of information costs when a code is chosen, as a share of the mean power of the latents
            (entropy-constrained quantization, Chou et al. 1989). A code's information is that of its share of the
            counts. What is quiet then takes a few common codes, and rare ones are for what is loud. 0 takes the
            nearest.
    """

    codebooks: Tensor
    counts: Tensor
    initialized: Tensor

    def __init__(
        self,
        dim: int,
        codebook_size: int = 1024,
        num_quantizers: int = 4,
        decay: float = 0.99,
        dead_code_threshold: float = 2.0,
        rate_weight: float = 0.0,
    ):
        super().__init__()
        self.decay = decay
        self.dead_code_threshold = dead_code_threshold
        self.rate_weight = rate_weight
        self.register_buffer("codebooks", torch.randn(num_quantizers, codebook_size, dim))
        self.register_buffer("counts", torch.ones(num_quantizers, codebook_size))
        self.register_buffer("initialized", torch.tensor(False))

    def forward(
        self, latents: Tensor, num_quantizers: Tensor | None = None, generator: torch.Generator | None = None
    ) -> ResidualQuantized:
        """Quantize latents, (B, D, s); in training mode also move the codebooks.

        Args:
            num_quantizers: How many levels each example uses, (B,) integers from 1; all levels when None.
            generator: Where random latents for the layout and for unused codes come from.
        """
        batch, _, frames = latents.shape
        with torch.autocast(latents.device.type, enabled=False):
            vectors = rearrange(latents.float(), "b d s -> (b s) d")
            levels = torch.full((batch,), len(self.codebooks)) if num_quantizers is None else num_quantizers
            levels = levels.to(latents.device).repeat_interleave(frames)  # (B s,)
            residual, quantized = vectors, torch.zeros_like(vectors)
            codes, distance = [], vectors.new_zeros(())
            is_new = self.training and not self.initialized
            for level in range(len(self.codebooks)):
                if is_new:
                    self._lay_out(level, residual.detach(), generator)
                codes.append(self._chosen(level, residual.detach()))
                found = self.codebooks[level][codes[-1]]
                used = (levels > level).float()
                distance = distance + (F.mse_loss(residual, found, reduction="none").mean(dim=1) * used).sum()
                if self.training:
                    self._move(level, residual.detach(), codes[-1], used, generator)
                quantized = quantized + found * used[:, None]
                residual = residual - found
            if self.training:
                self.initialized.fill_(True)
            straight_through = vectors + (quantized - vectors).detach()
        return ResidualQuantized(
            rearrange(straight_through, "(b s) d -> b d s", b=batch),
            rearrange(torch.stack(codes), "q (b s) -> b q s", b=batch),
            distance / levels.sum(),
        )

    def codes(self, latents: Tensor) -> Tensor:
        """The codes, (B, Q, s), of latents, (B, D, s)."""
        with torch.autocast(latents.device.type, enabled=False):
            residual = rearrange(latents.float(), "b d s -> (b s) d")
            codes = []
            for level, codebook in enumerate(self.codebooks):
                codes.append(self._chosen(level, residual))
                residual = residual - codebook[codes[-1]]
        return rearrange(torch.stack(codes), "q (b s) -> b q s", b=latents.shape[0])

    def latents(self, codes: Tensor) -> Tensor:
        """The quantized latents, (B, D, s), that codes, (B, q, s), of the first q levels stand for."""
        level = torch.arange(codes.shape[1], device=codes.device)[:, None]
        return self.codebooks[level, codes].sum(dim=1).movedim(1, 2)

    def _chosen(self, level: int, vectors: Tensor) -> Tensor:
        """The code (N,) of a level that each vector, (N, D), takes."""
        if not self.rate_weight:
            return _nearest(vectors, self.codebooks[level])
        power = (self.counts[0] * self.codebooks[0].square().sum(dim=1)).sum() / self.counts[0].sum()
        counts = self.counts[level].clamp(min=1e-8)
        return _nearest(vectors, self.codebooks[level], self.rate_weight * power * (counts.sum() / counts).log())

    @torch.no_grad()
    def _lay_out(self, level: int, vectors: Tensor, generator: torch.Generator | None) -> None:
        """Place a level's codes by k-means."""
        size = self.codebooks.shape[1]
        codebook = _draw(vectors, size, generator)
        counts = codebook.new_zeros(size)
        for _ in range(_KMEANS_ITERATIONS):
            counts, sums = _assigned(vectors, _nearest(vectors, codebook), size)
            codebook = torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], codebook)
        self.codebooks[level] = from_first_rank(codebook)
        self.counts[level] = from_first_rank(counts)

    @torch.no_grad()
    def _move(
        self, level: int, vectors: Tensor, codes: Tensor, used: Tensor, generator: torch.Generator | None
    ) -> None:
        """Move a level's codes towards the mean of their latents, and unused codes to random latents."""
        codebook, counts = self.codebooks[level], self.counts[level]
        new_counts, new_sums = _assigned(vectors, codes, len(codebook), used)
        sum_over_ranks(new_counts)
        sum_over_ranks(new_sums)
        # The running sum is codebook * counts, so these two are the whole state.
        share = 1 - self.decay
        counts.mul_(self.decay).add_(new_counts, alpha=share)
        codebook.add_(share * (new_sums - new_counts[:, None] * codebook) / counts.clamp(min=1e-8)[:, None])
        if self.dead_code_threshold:
            dead = counts < self.dead_code_threshold
            drawn = from_first_rank(_draw(vectors, len(codebook), generator))
            codebook.copy_(torch.where(dead[:, None], drawn, codebook))
            # Half-way to dead takes ln(2) / (1 - decay) steps: a moved code has that long to find latents of its own.
            counts.copy_(torch.where(dead, 2 * self.dead_code_threshold, counts))


def _nearest(vectors: Tensor, codebook: Tensor, costs: Tensor | None = None) -> Tensor:
    """The index (N,) of the codebook row (K, D) closest to each vector (N, D), with each row's cost (K,) added."""
    squares = codebook.square().sum(dim=1)
    offsets = squares if costs is None else squares + costs
    return torch.addmm(offsets, vectors, codebook.t(), alpha=-2).argmin(dim=1)


def _assigned(vectors: Tensor, codes: Tensor, size: int, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """How many vectors each code is given, (K,), and their sum, (K, D)."""
    weights = vectors.new_ones(len(vectors)) if weights is None else weights
    counts = vectors.new_zeros(size).index_add_(0, codes, weights)
    sums = vectors.new_zeros(size, vectors.shape[1]).index_add_(0, codes, vectors * weights[:, None])
    return counts, sums


def _draw(vectors: Tensor, number: int, generator: torch.Generator | None) -> Tensor:
    """Random rows of vectors, with repetition only where there are too few."""
    device = generator.device if generator is not None else torch.device("cpu")
    rounds = -(-number // len(vectors))
    order = [torch.randperm(len(vectors), generator=generator, device=device) for _ in range(rounds)]
    return vectors[torch.cat(order)[:number].to(vectors.device)]
