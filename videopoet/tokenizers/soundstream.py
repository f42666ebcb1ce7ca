"""SoundStream (arXiv 2107.03312): 16 kHz sound to 50 frames a second of residual codes, and back.

Causal from end to end: a code depends on the samples of its own hop and of earlier ones. Only whole hops are coded;
what is left of the last one is dropped, so 34,000 samples become 106 frames and come back as 33,920 samples.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from videopoet.config import AtLeastOne, BaseConfig
from videopoet.nn.causal_conv1d import CausalConv1d, Downsample, Upsample, group_samples, ungroup_samples
from videopoet.nn.residual_quantizer import ResidualVectorQuantizer
from videopoet.tokenizers.base import AudioTokenizer


class Config(BaseConfig):
    """SoundStream's settings; the defaults are the paper's, for VideoPoet's 16 kHz and 4 levels."""

    sample_rate: int = Field(default=16_000, gt=0)
    """Samples per second. The paper has 24,000; AudioLM and VideoPoet have 16,000."""
    patch: int = Field(default=1, ge=1)
    """Samples stacked into channels before the first convolution. The paper has 1; more is cheaper and coarser."""
    strides: tuple[AtLeastOne, ...] = Field(default=(2, 4, 5, 8), min_length=1)
    """Downsampling factor of each encoder block; the decoder has them in reverse."""
    channels: int = Field(default=32, ge=1)
    """Channels after the first convolution; every block doubles them."""
    kernel_size: int = Field(default=7, ge=1)
    """Length of the residual units' kernels, and of the first and last convolutions'."""
    dilations: tuple[AtLeastOne, ...] = (1, 3, 9)
    """One residual unit per entry in every block."""
    dim: int = Field(default=512, ge=1)
    """Channels of the latents, and so of a code's vector; 512 is what open implementations have."""
    num_quantizers: int = Field(default=4, ge=1)
    """Residual levels. VideoPoet uses the first 4 of AudioLM's 12."""
    codebook_size: int = Field(default=1024, ge=2)
    """Codes per level."""
    codebook_decay: float = Field(default=0.99, ge=0, lt=1)
    """Decay of the running means that the codebooks follow."""
    dead_code_threshold: float = Field(default=2.0, ge=0)
    """A code that a batch uses less often than this, in running mean, is moved to a random latent. Keep it well under
    batch * frames / codebook_size, which is small for small batches."""
    rate_weight: float = Field(default=0.0, ge=0)
    """What a nat of a code's information is worth, as a share of the latents' mean power; 0 takes the nearest codes, as
    the paper does. With more, noise that nobody could foretell takes a few common codes, and a language model learns
    sooner what is heard above it."""
    quantizer_dropout: bool = True
    """In training, let each example use a random number of levels from 1 up, so that fewer levels decode too."""

    @property
    def hop(self) -> int:
        """Samples per frame of codes."""
        return self.patch * math.prod(self.strides)


class Reconstruction(NamedTuple):
    """A sound through the tokenizer, and what training needs."""

    audio: Tensor
    """Samples, (B, 1, s * hop), not clipped."""
    codes: Tensor
    """int64 codes, (B, Q, s)."""
    commitment: Tensor
    """How far the latents are from their codes, to be minimized."""


class SoundStream(AudioTokenizer):
    """A causal convolutional autoencoder around a residual vector quantizer."""

    Config = Config

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.sample_rate = config.sample_rate
        self.hop = config.hop
        self.num_quantizers = config.num_quantizers
        self.codebook_size = config.codebook_size
        self.encoder = Encoder(config)
        self.quantizer = ResidualVectorQuantizer(
            config.dim,
            config.codebook_size,
            config.num_quantizers,
            config.codebook_decay,
            config.dead_code_threshold,
            config.rate_weight,
        )
        self.decoder = Decoder(config)

    def forward(
        self, audio: Tensor, generator: torch.Generator | None = None, num_quantizers: int | None = None
    ) -> Reconstruction:
        """Encode and decode samples, (B, 1, S), with gradients; in training mode also move the codebooks.

        Args:
            generator: Where quantizer dropout and the codebooks' random latents come from.
            num_quantizers: How many levels to decode from. When None: all of them, or with quantizer dropout in
                training mode a random number for each example.
        """
        latents = self.encoder(self.whole_hops(audio))  # (B, D, s)
        levels = None
        if num_quantizers is not None:
            levels = torch.full((len(audio),), num_quantizers)
        elif self.training and self.config.quantizer_dropout:
            device = generator.device if generator is not None else torch.device("cpu")
            levels = torch.randint(1, self.num_quantizers + 1, (len(audio),), generator=generator, device=device)
        quantized = self.quantizer(latents, levels, generator)
        return Reconstruction(self.decoder(quantized.latents), quantized.codes, quantized.commitment)

    @torch.no_grad()
    def encode(self, audio: Tensor) -> Tensor:
        """Turn samples in [-1, 1], (B, 1, S), into int64 codes, (B, Q, s) with s = S // hop.

        Raises:
            MediaError: The audio has several channels, or is shorter than one hop.
        """
        return self.quantizer.codes(self.encoder(self.whole_hops(audio)))

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Turn codes, (B, q, s), of the first q levels into samples in [-1, 1], (B, 1, s * hop)."""
        return self.decoder(self.quantizer.latents(codes)).float().clamp(-1, 1)


class ResidualUnit(nn.Module):
    """A dilated convolution and a pointwise one around a shortcut."""

    def __init__(self, channels: int, kernel_size: int, dilation: int):
        super().__init__()
        self.dilated = CausalConv1d(channels, channels, kernel_size, dilation)
        self.pointwise = CausalConv1d(channels, channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.pointwise(F.elu(self.dilated(F.elu(x))))


class Encoder(nn.Module):
    """Samples, (B, 1, S), to latents, (B, D, s)."""

    def __init__(self, config: Config):
        super().__init__()
        self.patch = config.patch
        channels = config.channels
        layers: list[nn.Module] = [CausalConv1d(config.patch, channels, config.kernel_size)]
        for stride in config.strides:
            layers += [ResidualUnit(channels, config.kernel_size, dilation) for dilation in config.dilations]
            layers += [nn.ELU(), Downsample(channels, 2 * channels, stride)]
            channels *= 2
        layers += [nn.ELU(), CausalConv1d(channels, config.dim, kernel_size=3)]
        self.layers = nn.Sequential(*layers)

    def forward(self, audio: Tensor) -> Tensor:
        return self.layers(group_samples(audio, self.patch))


class Decoder(nn.Module):
    """Latents, (B, D, s), to samples, (B, 1, S): the encoder mirrored."""

    def __init__(self, config: Config):
        super().__init__()
        self.patch = config.patch
        channels = config.channels * 2 ** len(config.strides)
        layers: list[nn.Module] = [CausalConv1d(config.dim, channels, config.kernel_size)]
        for stride in reversed(config.strides):
            layers += [nn.ELU(), Upsample(channels, channels // 2, stride)]
            channels //= 2
            layers += [ResidualUnit(channels, config.kernel_size, dilation) for dilation in config.dilations]
        # Training begins near silence, where most of a sound is.
        layers += [nn.ELU(), CausalConv1d(channels, config.patch, config.kernel_size, gain=0.1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, latents: Tensor) -> Tensor:
        return ungroup_samples(self.layers(latents), self.patch)
