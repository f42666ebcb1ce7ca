"""The MAGVIT-v2 video tokenizer: a causal 3-D autoencoder around look-up-free quantization (section 2)."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

import torch
from einops import rearrange
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from videopoet.checkpoint import load_weights
from videopoet.config import AtLeastOne, BaseConfig
from videopoet.nn.causal_conv import (
    NORMS,
    AdaptiveNorm,
    CausalConv3d,
    Downsample,
    NormName,
    PastFrames,
    ResidualBlock,
    Upsample,
)
from videopoet.nn.quantizers import LookupFreeQuantizer, Quantized
from videopoet.tokenizers.base import VideoTokenizer


class Reconstruction(NamedTuple):
    """What a training pass returns: the video seen through its codes, (B, 3, T, H, W), and the quantizer's terms."""

    video: Tensor
    quantized: Quantized


class Config(BaseConfig):
    """Shape of the tokenizer; the defaults are the paper's for 128x128 video."""

    num_bits: int = Field(default=18, ge=1, le=24)
    """Bits of one code; there are 2 ** num_bits codes."""
    patch_size: int = Field(default=1, ge=1)
    """Pixels per side that the stem folds into channels before any convolution; 1 is the paper's, 4 suits a CPU."""
    channels: tuple[AtLeastOne, ...] = Field(default=(128, 256, 256, 512), min_length=1)
    """Width of each level, fine to coarse."""
    strides: tuple[tuple[AtLeastOne, AtLeastOne], ...] = ((1, 2), (2, 2), (2, 2))
    """Between one level and the next, by how much time and space shrink."""
    num_blocks: int = Field(default=4, ge=1)
    """Residual blocks per level."""
    num_middle_blocks: int = Field(default=4, ge=0)
    """Further residual blocks at the coarsest level, at the encoder's end and the decoder's start."""
    adaptive_norm: bool = True
    """Let the quantized latent scale and shift the decoder at each level (adaptive GroupNorm)."""
    norm: NormName = "frame"
    """What activations are normalized over: each `frame` in groups of channels, the paper's, or each `place` alone,
    which trains on crops as well as on whole frames."""
    num_flat_levels: int = Field(default=0, ge=0)
    """The finest levels whose residual blocks see one frame at a time, a third of the work; the paper has none."""
    spherical: bool = False
    """Quantize on the unit sphere (BSQ) in place of LFQ."""
    entropy_group_bits: int = Field(default=9, ge=1, le=14)
    """Bits per group in the entropy of the mean assignment; num_bits must divide into such groups evenly."""
    entropy_inverse_temperature: float = Field(default=100.0, gt=0)
    """Sharpness of the soft assignment in the entropy term."""

    @property
    def space_stride(self) -> int:
        """Pixels per side of a code."""
        return self.patch_size * prod(space for _, space in self.strides)

    @model_validator(mode="after")
    def _levels_and_strides_agree(self) -> Config:
        if len(self.strides) != len(self.channels) - 1:
            raise ValueError(f"{len(self.channels)} levels need {len(self.channels) - 1} strides between them")
        if self.num_flat_levels > len(self.channels):
            raise ValueError(f"{self.num_flat_levels} flat levels are more than the {len(self.channels)} there are")
        if self.num_bits % -(-self.num_bits // self.entropy_group_bits):
            raise ValueError(f"{self.num_bits} bits do not divide evenly into groups of {self.entropy_group_bits}")
        return self


class MagvitV2(VideoTokenizer):
    """Pixels to codes of `num_bits` bits and back, causal in time."""

    Config = Config
    config: Config

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.normalizes_frames = config.norm == "frame"
        self.num_codes = 2**config.num_bits
        self.time_stride = prod(time for time, _ in config.strides)
        self.space_stride = config.space_stride
        self.encoder = Encoder(config)
        self.quantizer = LookupFreeQuantizer(
            config.num_bits,
            config.entropy_group_bits,
            config.entropy_inverse_temperature,
            config.spherical,
            config.norm,
        )
        self.decoder = Decoder(config)

    @torch.no_grad()
    def begin_from(self, other: MagvitV2, name: str) -> None:
        """Take the weights of a tokenizer, `name` in errors, of this shape and of as many bits or fewer.

        Its bits come first. Those after them begin as random signs that the decoder does not hear: the picture is the
        same at first, exactly so on the sphere and nearly so where latents share a norm.

        Raises:
            CheckpointError: It has another shape, or more bits.
        """
        known, num_bits = other.config.num_bits, self.config.num_bits
        weights = other.state_dict()
        if known < num_bits:
            spread = weights["encoder.to_latents.weight"].std()
            for key, own in self.state_dict().items():
                if key not in weights:
                    continue
                if key.startswith("encoder.to_latents."):
                    new = spread * torch.randn_like(own[known:]) if own.ndim > 1 else torch.zeros_like(own[known:])
                    weights[key] = torch.cat([weights[key], new.to(weights[key])])
                elif own.ndim > 1 and own.shape[1] == num_bits and weights[key].shape[1] == known:
                    # Latents on the sphere shrink as bits are added.
                    scale = (num_bits / known) ** 0.5 if self.config.spherical else 1.0
                    unheard = torch.zeros_like(own[:, known:]).to(weights[key])
                    weights[key] = torch.cat([scale * weights[key], unheard], dim=1)
        load_weights(self, weights, name)

    def encode_whole(self, video: Tensor, past: PastFrames | None = None) -> Tensor:
        return self.quantizer.codes(self.encoder(video, past), past)

    def decode_whole(self, codes: Tensor, past: PastFrames | None = None) -> Tensor:
        return self.decoder(self.quantizer.latents(codes), past).clamp(-1, 1)

    def forward(self, video: Tensor) -> Reconstruction:
        """See video, (B, 3, T, H, W), through its codes, with gradients."""
        self.grid(*video.shape[2:])
        quantized = self.quantizer(self.encoder(video))
        return Reconstruction(self.decoder(quantized.latents), quantized)


class Encoder(nn.Module):
    """Pixels, (B, 3, T, H, W), to latents, (B, num_bits, t, h, w)."""

    def __init__(self, config: Config):
        super().__init__()
        self.patch_size = config.patch_size
        widths = config.channels
        self.from_pixels = CausalConv3d(3 * config.patch_size**2, widths[0])
        layers: list[nn.Module] = []
        for level, width in enumerate(widths):
            if level:
                layers.append(Downsample(widths[level - 1], width, *config.strides[level - 1]))
            layers += _blocks(config, level, config.num_blocks)
        layers += _blocks(config, len(widths) - 1, config.num_middle_blocks)
        self.layers = nn.Sequential(*layers)
        self.norm = NORMS[config.norm](widths[-1])
        self.to_latents = CausalConv3d(widths[-1], config.num_bits, kernel_size=1)

    def forward(self, video: Tensor, past: PastFrames | None = None) -> Tensor:
        p = self.patch_size
        x = rearrange(video, "b c t (h p) (w q) -> b (c p q) t h w", p=p, q=p)
        x = self.from_pixels(x, past)
        for layer in self.layers:
            x = layer(x, past)
        if past is not None:
            past.begun = True
        return self.to_latents(F.silu(self.norm(x, past)))


class Decoder(nn.Module):
    """Quantized latents, (B, num_bits, t, h, w), to pixels, (B, 3, T, H, W)."""

    def __init__(self, config: Config):
        super().__init__()
        self.patch_size = config.patch_size
        widths = config.channels
        self.from_latents = CausalConv3d(config.num_bits, widths[-1])
        self.middle = nn.Sequential(*_blocks(config, len(widths) - 1, config.num_middle_blocks))
        self.levels = nn.ModuleList()
        for level in reversed(range(len(widths))):
            norm = (
                AdaptiveNorm(widths[level], config.num_bits, config.norm)
                if config.adaptive_norm
                else NORMS[config.norm](widths[level])
            )
            blocks = nn.Sequential(*_blocks(config, level, config.num_blocks))
            up = Upsample(widths[level], widths[level - 1], *config.strides[level - 1]) if level else nn.Identity()
            self.levels.append(nn.ModuleDict({"norm": norm, "blocks": blocks, "up": up}))
        self.norm = NORMS[config.norm](widths[0])
        self.to_pixels = CausalConv3d(widths[0], 3 * config.patch_size**2)

    def forward(self, latents: Tensor, past: PastFrames | None = None) -> Tensor:
        x = self.from_latents(latents, past)
        for block in self.middle:
            x = block(x, past)
        for level in self.levels:
            norm, blocks, up = (level[name] for name in ("norm", "blocks", "up"))  # pyright: ignore[reportIndexIssue]
            x = norm(x, latents, past) if isinstance(norm, AdaptiveNorm) else norm(x, past)
            for block in blocks:
                x = block(x, past)
            x = up(x, past) if isinstance(up, Upsample) else x
        x = self.to_pixels(F.silu(self.norm(x, past)), past)
        if past is not None:
            past.begun = True
        p = self.patch_size
        return rearrange(x, "b (c p q) t h w -> b c t (h p) (w q)", p=p, q=p)


def _blocks(config: Config, level: int, count: int) -> list[ResidualBlock]:
    width, time_kernel = config.channels[level], 1 if level < config.num_flat_levels else 3
    return [ResidualBlock(width, width, config.norm, time_kernel) for _ in range(count)]
