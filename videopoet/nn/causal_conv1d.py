"""1-D convolutions that cannot see the future, and the resamplers built on them (SoundStream).

Tensors are (B, C, S) in shape and channels-last in memory, the layout in which CPU kernels are several times faster.
It is kept from layer to layer, and grouping neighbouring samples into channels is then a view.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class CausalConv1d(nn.Conv1d):
    """A convolution padded in the past only, so that the length stays.

    Its first weights keep the variance times `gain` squared: without norms, PyTorch's own would let a signal fade.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, dilation: int = 1, gain: float = 1.0):
        super().__init__(in_channels, out_channels, kernel_size, dilation=dilation)
        self.past = (kernel_size - 1) * dilation
        nn.init.normal_(self.weight, std=gain * (in_channels * kernel_size) ** -0.5)
        nn.init.zeros_(self.bias)  # pyright: ignore[reportArgumentType]

    def forward(self, input: Tensor) -> Tensor:
        # A channels-last picture of height 1: only 4-D tensors carry that memory format.
        x = F.pad(input.unsqueeze(2), (self.past, 0))
        x = F.conv2d(x, self.weight.unsqueeze(2), self.bias, dilation=(1, self.dilation[0]))
        return x.contiguous(memory_format=torch.channels_last).squeeze(2)


class Downsample(CausalConv1d):
    """A strided causal convolution with a kernel of two strides: a kernel of 2 over groups of `stride` samples."""

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__(in_channels * stride, out_channels, kernel_size=2)
        self.group = stride

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(group_samples(input, self.group))


class Upsample(CausalConv1d):
    """A transposed causal convolution with a kernel of two strides: a kernel of 2, then one group per input step."""

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__(in_channels, out_channels * stride, kernel_size=2)
        self.group = stride

    def forward(self, input: Tensor) -> Tensor:
        return ungroup_samples(super().forward(input), self.group)


def group_samples(x: Tensor, group: int) -> Tensor:
    """Stack `group` neighbouring samples: (B, C, S) -> (B, group * C, S / group)."""
    batch, channels, length = x.shape
    return x.transpose(1, 2).reshape(batch, length // group, group * channels).transpose(1, 2)


def ungroup_samples(x: Tensor, group: int) -> Tensor:
    """Undo `group_samples`: (B, group * C, s) -> (B, C, s * group)."""
    batch, channels, length = x.shape
    return x.transpose(1, 2).reshape(batch, length * group, channels // group).transpose(1, 2)
