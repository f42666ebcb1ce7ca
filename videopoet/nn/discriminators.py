"""Discriminators: a StyleGAN-type one for video (MAGVIT-v2), multi-scale waveform and spectrogram ones for sound."""

from __future__ import annotations

import math
from typing import NamedTuple, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from videopoet.config import AtLeastOne, BaseConfig


class VideoDiscriminatorConfig(BaseConfig):
    """MAGVIT-v2's settings for video; an image stage has multipliers (2, 2, 4, 4, 4)."""

    channels: int = Field(default=128, ge=1)
    """Channels after the first convolution."""
    multipliers: tuple[AtLeastOne, ...] = (2, 4, 4, 4, 4)
    """Channels of each block, in multiples of `channels`; every block halves time and space."""


class VideoDiscriminator(nn.Module):
    """Clips, (B, 3, T, H, W), of any length and size to one logit each, (B,); an image is a one-frame clip.

    The last latents are averaged over time and space, where the paper flattens them and so fixes the clip's shape.
    """

    def __init__(self, config: VideoDiscriminatorConfig):
        super().__init__()
        self.config = config
        widths = [config.channels, *(config.channels * multiplier for multiplier in config.multipliers)]
        last = widths[-1]
        self.first = _Conv3d(3, widths[0])
        self.blocks = nn.Sequential(*(_VideoBlock(*pair) for pair in zip(widths[:-1], widths[1:], strict=True)))
        self.last = _Conv3d(last, last)
        self.hidden = nn.Linear(last, last)
        self.logit = nn.Linear(last, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv3d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, video: Tensor) -> Tensor:
        x = F.leaky_relu(self.first(video.contiguous(memory_format=torch.channels_last_3d)), 0.2)
        x = F.leaky_relu(self.last(self.blocks(x)), 0.2)
        x = F.leaky_relu(self.hidden(x.mean(dim=(2, 3, 4))), 0.2)
        return self.logit(x).squeeze(1)


class _Conv3d(nn.Conv3d):
    """A kernel of 3 at every place, zeros around.

    Time is padded by hand: padded inside the convolution, a clip of two frames in bf16 gets weight gradients from
    memory that oneDNN's backward pass never wrote.
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(in_channels, out_channels, 3, padding=(0, 1, 1))

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(F.pad(input, (0, 0, 0, 0, 1, 1)))


class _VideoBlock(nn.Module):
    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv1 = _Conv3d(in_channels, in_channels)
        self.conv2 = _Conv3d(in_channels, out_channels)
        self.shortcut = nn.Conv3d(in_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = blur_and_halve(F.leaky_relu(self.conv1(x), 0.2))
        y = F.leaky_relu(self.conv2(y), 0.2)
        return (y + self.shortcut(blur_and_halve(x))) / math.sqrt(2)


def blur_and_halve(x: Tensor) -> Tensor:
    """Blur T, H and W with (1, 2, 1) / 4 and keep every other place, (B, C, T, H, W) -> half rounded up; 1 stays 1."""
    for axis in (2, 3, 4):
        size = x.shape[axis]
        if size == 1:
            continue
        padding = [0, 0, 0, 0, 0, 0]
        padding[2 * (4 - axis) : 2 * (4 - axis) + 2] = [1, 1]
        x = F.pad(x, padding, mode="replicate")
        before, at, after = (x.narrow(axis, start, size) for start in range(3))
        x = (0.25 * before + 0.5 * at + 0.25 * after)[(slice(None),) * axis + (slice(None, None, 2),)]
    return x


class Judgement(NamedTuple):
    """What a discriminator of sound returns."""

    logits: Tensor
    """One logit per place, (B, places)."""
    features: list[Tensor]
    """The activations of every layer before the logits, for feature matching."""


class WaveformDiscriminatorConfig(BaseConfig):
    """SoundStream's settings, which are MelGAN's."""

    num_scales: int = Field(default=3, ge=1)
    """Copies, which hear the sound at 1, 1/2, 1/4 ... of its sample rate."""
    channels: int = Field(default=16, ge=1)
    """Channels after the first convolution."""
    num_strided: int = Field(default=4, ge=1)
    """Grouped convolutions, each of which has four times the channels and a quarter of the places."""
    max_channels: int = Field(default=1024, ge=1)
    """Where the channels stop to grow."""


class WaveformDiscriminator(nn.Module):
    """Judge sound, (B, 1, S), as samples, at several sample rates."""

    def __init__(self, config: WaveformDiscriminatorConfig):
        super().__init__()
        self.config = config
        self.scales = nn.ModuleList(_WaveformScale(config) for _ in range(config.num_scales))

    def forward(self, audio: Tensor) -> list[Judgement]:
        judgements = []
        for number, scale in enumerate(self.scales):
            if number:
                audio = F.avg_pool1d(audio, 4, stride=2, padding=1, count_include_pad=False)
            judgements.append(scale(audio))
        return judgements


class _WaveformScale(nn.Module):
    def __init__(self, config: WaveformDiscriminatorConfig):
        super().__init__()
        width = config.channels
        convolutions = [nn.Conv1d(1, width, 15, padding=7)]
        for _ in range(config.num_strided):
            wider = min(4 * width, config.max_channels)
            groups = math.gcd(max(width // 4, 1), wider)
            convolutions.append(nn.Conv1d(width, wider, 41, stride=4, padding=20, groups=groups))
            width = wider
        convolutions.append(nn.Conv1d(width, width, 5, padding=2))
        self.convolutions = nn.ModuleList(weight_norm(convolution) for convolution in convolutions)
        self.logit = weight_norm(nn.Conv1d(width, 1, 3, padding=1))

    def forward(self, audio: Tensor) -> Judgement:
        features = []
        for convolution in self.convolutions:
            audio = F.leaky_relu(convolution(audio), 0.2)
            features.append(audio)
        return Judgement(self.logit(audio).squeeze(1), features)


class SpectrogramDiscriminatorConfig(BaseConfig):
    """SoundStream's settings of its STFT discriminator."""

    window: int = Field(default=1024, ge=128)
    """Samples per window."""
    hop: int = Field(default=256, ge=1)
    """Samples between windows."""
    channels: int = Field(default=32, ge=1)
    """Channels after the first convolution."""
    multipliers: tuple[AtLeastOne, ...] = (2, 4, 4, 8, 8, 16)
    """Channels of each residual block, in multiples of `channels`; all halve the frequencies, every other one time."""

    @model_validator(mode="after")
    def _frequencies_halve(self) -> Self:
        if self.window % (part := 2 ** (1 + len(self.multipliers))):
            raise ValueError(
                f"half a window of {self.window} samples is halved once more for each multiplier, so it must be a "
                f"multiple of {part}"
            )
        return self


class SpectrogramDiscriminator(nn.Module):
    """Judge sound, (B, 1, S), by the real and imaginary parts of its spectrogram."""

    def __init__(self, config: SpectrogramDiscriminatorConfig):
        super().__init__()
        self.config = config
        widths = [config.channels, *(config.channels * multiplier for multiplier in config.multipliers)]
        self.first = nn.Conv2d(2, widths[0], 7, padding=3)
        self.blocks = nn.ModuleList(
            _SpectrogramBlock(before, after, time_stride=1 + number % 2)
            for number, (before, after) in enumerate(zip(widths[:-1], widths[1:], strict=True))
        )
        num_frequencies = config.window // 2 // 2 ** len(config.multipliers)
        self.logit = nn.Conv2d(widths[-1], 1, (1, num_frequencies))

    def forward(self, audio: Tensor) -> Judgement:
        with torch.autocast(audio.device.type, enabled=False):
            hann = torch.hann_window(self.config.window, device=audio.device)
            spectrum = torch.stft(
                audio.squeeze(1).float(),
                self.config.window,
                self.config.hop,
                window=hann / hann.square().sum().sqrt(),
                return_complex=True,
            )[:, :-1]  # (B, window / 2, frames): without the highest frequency, halves stay whole
            x = torch.view_as_real(spectrum).permute(0, 3, 2, 1)  # (B, 2, frames, window / 2)
        x = F.elu(self.first(x.contiguous(memory_format=torch.channels_last)))
        features = [x]
        for block in self.blocks:
            x = F.elu(block(x))
            features.append(x)
        return Judgement(self.logit(x).flatten(1), features)


class _SpectrogramBlock(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, time_stride: int):
        super().__init__()
        self.time_stride = time_stride
        self.conv1 = nn.Conv2d(in_channels, in_channels, 3, padding=1)
        self.conv2 = nn.Conv2d(in_channels, out_channels, (time_stride + 2, 4), stride=(time_stride, 2), padding=1)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(F.elu(self.conv1(x)))
        # Places are picked by slicing: a pointwise convolution with strides in bf16 and channels-last writes past its
        # memory in oneDNN's backward pass. Of an odd number of frames the even kernel leaves out the last.
        picked = x[:, :, :: self.time_stride, ::2][:, :, : y.shape[2]]
        return y + self.shortcut(picked)
