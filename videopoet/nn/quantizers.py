"""Look-up-free quantization (MAGVIT-v2, section 2.1) and its spherical form (BSQ): a code is a string of signs."""

from __future__ import annotations

from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from videopoet.nn.causal_conv import FrameNorm, NormName, PastFrames, PlaceNorm


class Quantized(NamedTuple):
    """What a quantizer returns in training."""

    latents: Tensor
    """The quantized latents, shaped as the input; gradients pass straight through."""
    codes: Tensor
    """int64 codes, the input's shape without its channels."""
    entropy: Tensor
    """Mean entropy of one latent's assignment minus entropy of the mean assignment, in nats; lower is better."""
    commitment: Tensor
    """Mean squared distance between latents and their quantized values."""


class LookupFreeQuantizer(nn.Module):
    """Each channel becomes the sign it has; the code is those bits. fp32 throughout, whatever autocast says.

    Args:
        num_bits: Channels of the latent; there are 2 ** num_bits codes.
        group_bits: Bits per group of the entropy of the mean assignment. A group's distribution is held in full,
            2 ** group_bits numbers; groups are taken as independent.
        inverse_temperature: Sharpness of the soft assignment.
        spherical: Put latents on the unit sphere first (BSQ), which bounds the quantization error.
        norm: What latents are normalized by otherwise: a frame's statistics, or each place alone.
    """

    def __init__(
        self,
        num_bits: int,
        group_bits: int = 9,
        inverse_temperature: float = 100.0,
        spherical: bool = False,
        norm: NormName = "frame",
    ):
        super().__init__()
        self.num_bits = num_bits
        self.num_groups = -(-num_bits // group_bits)
        assert num_bits % self.num_groups == 0, "bits must divide evenly into groups"
        self.spherical = spherical
        self.inverse_temperature = inverse_temperature
        # Without a norm, and one without affine, right before the signs LFQ does not train (its author's remark).
        if norm == "frame":
            self.norm = FrameNorm(num_bits, affine=False, max_groups=1)
        else:
            self.norm = PlaceNorm(num_bits, affine=False)

    def forward(self, latents: Tensor) -> Quantized:
        """Quantize latents, (B, num_bits, t, h, w), with the terms of the training loss."""
        with torch.autocast(latents.device.type, enabled=False):
            latents = self._normalize(latents.float())
            bits = latents > 0
            signs = self._signs(bits)
            straight_through = latents + (signs - latents).detach()
            return Quantized(straight_through, _pack(bits), self._entropy(latents), F.mse_loss(latents, signs))

    def codes(self, latents: Tensor, past: PastFrames | None = None) -> Tensor:
        """The codes, (B, t, h, w), of latents, (B, num_bits, t, h, w)."""
        with torch.autocast(latents.device.type, enabled=False):
            return _pack(self._normalize(latents.float(), past) > 0)

    def latents(self, codes: Tensor) -> Tensor:
        """The quantized latents, (B, num_bits, t, h, w), that codes, (B, t, h, w), stand for."""
        return self._signs(unpack_bits(codes, self.num_bits).movedim(-1, 1))

    def _normalize(self, latents: Tensor, past: PastFrames | None = None) -> Tensor:
        if self.spherical:
            return F.normalize(latents, dim=1)
        return self.norm(latents, past)

    def _signs(self, bits: Tensor) -> Tensor:
        scale = self.num_bits**-0.5 if self.spherical else 1.0
        return torch.where(bits, scale, -scale)

    def _entropy(self, latents: Tensor) -> Tensor:
        # softmax over codes of -inverse_temperature * distance factorizes into one sigmoid per bit.
        scale = self.num_bits**-0.5 if self.spherical else 1.0
        logits = 4 * self.inverse_temperature * scale * rearrange(latents, "b c t h w -> (b t h w) c")  # (N, num_bits)
        on = torch.sigmoid(logits)
        per_latent = (F.softplus(logits) - on * logits).sum(dim=1).mean()
        groups = rearrange(torch.stack([1 - on, on], dim=-1), "n (g b) s -> g n b s", g=self.num_groups)
        mean_assignment = groups[:, :, 0]  # (G, N, 2)
        for bit in range(1, groups.shape[2]):
            mean_assignment = torch.einsum("gnk,gns->gnks", mean_assignment, groups[:, :, bit]).flatten(2)
        mean_assignment = mean_assignment.mean(dim=1)  # (G, 2 ** group_bits)
        of_mean = -(mean_assignment * (mean_assignment + 1e-9).log()).sum()
        return per_latent - of_mean


def unpack_bits(codes: Tensor, num_bits: int) -> Tensor:
    """Spell codes, (...), as booleans, (..., num_bits), the lowest bit first."""
    return (codes.unsqueeze(-1) >> torch.arange(num_bits, device=codes.device)) & 1 > 0


def _pack(bits: Tensor) -> Tensor:
    places = torch.arange(bits.shape[1], device=bits.device).view(-1, 1, 1, 1)
    return (bits.long() << places).sum(dim=1)  # GPUs have no product of whole numbers
