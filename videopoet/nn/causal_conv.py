"""3-D convolutions and norms that cannot see the future, and the resamplers built on them (MAGVIT-v2, section 2.2).

What cannot see the future can work on a clip that comes in pieces: each convolution then begins with the last frames
that it saw of the piece before (`PastFrames`), and the result is that of the whole clip, to rounding.
"""

from __future__ import annotations

from typing import Literal

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from videopoet.errors import MediaError


class PastFrames:
    """What the layers of one network remember of a clip that comes in pieces; a new one stands for its beginning.

    Its size does not grow with the clip: each convolution keeps as many frames as its kernel reaches back.
    """

    def __init__(self):
        self.begun = False
        """Whether a piece has passed through the whole network, which says so itself."""
        self.statistics: FrameStatistics | None = None
        """What the next piece is normalized by, where that is not its own."""
        self._of_layers: dict[nn.Module, Tensor] = {}
        self._of_tiles: dict[tuple[int, ...], PastFrames] = {}

    def of(self, layer: nn.Module, piece: Tensor) -> Tensor:
        """The frames, (B, C, k, H, W), that `layer` saw before `piece`.

        Raises:
            MediaError: They are of another size.
        """
        frames = self._of_layers.get(layer)
        if frames is None or frames.shape[3:] != piece.shape[3:] or frames.shape[:2] != piece.shape[:2]:
            before = "those of other tiles" if frames is None else f"one of {tuple(frames.shape)}"
            raise _another_size(f"features of shape {tuple(piece.shape)}", before)
        return frames

    def keep(self, layer: nn.Module, frames: Tensor) -> None:
        """Remember what `layer` will ask for at the next piece."""
        self._of_layers[layer] = frames.detach().clone()  # a view would keep the whole piece alive

    def of_tile(self, tile: tuple[int, ...]) -> PastFrames:
        """What is remembered of one tile of frames that are taken in tiles; it is named by their size and its place.

        Raises:
            MediaError: The piece before had no such tile.
        """
        if self.begun and tile not in self._of_tiles:
            raise _another_size(f"a tile {tile}", "one with others or none")
        return self._of_tiles.setdefault(tile, PastFrames())


class FrameStatistics:
    """Means and variances of the first frames that pass, for all that pass after them.

    The first are a small copy of large frames, and tiles of these come after it: they are then normalized as one.
    """

    def __init__(self):
        self._of_norms: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def of(self, norm: nn.Module, groups: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance, each (N, G, 1), that `norm` takes for values of its groups, (N, G, values)."""
        if norm not in self._of_norms:
            variance, mean = torch.var_mean(groups.float(), dim=2, correction=0, keepdim=True)
            self._of_norms[norm] = mean.detach(), variance.detach()
        return self._of_norms[norm]


def _another_size(found: str, before: str) -> MediaError:
    return MediaError(
        f"a piece of a clip has {found} after {before}; all pieces have one batch and size; begin a new clip with new "
        "PastFrames",
        code="size_invalid",
    )


class CausalConv3d(nn.Conv3d):
    """A convolution over (T, H, W): space is padded on both sides, time in the past only."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int, int] = 3,
        stride: tuple[int, int, int] = (1, 1, 1),
        bias: bool = True,
    ):
        kernel = (kernel_size, kernel_size, kernel_size) if isinstance(kernel_size, int) else kernel_size
        space = (kernel[1] // 2, kernel[2] // 2)
        super().__init__(in_channels, out_channels, kernel, stride=stride, padding=(0, *space), bias=bias)
        self.num_past = kernel[0] - 1

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Begin as a convolution of pictures, in the last slice of time: training on images alone leaves an inflated
        network, which treats each frame of a clip as it did images."""
        _, height, width = self.kernel_size
        image = nn.Conv2d(self.in_channels, self.out_channels, (height, width), device=self.weight.device)
        self.weight.zero_()
        self.weight[:, :, -1] = image.weight
        if self.bias is not None and image.bias is not None:
            self.bias.copy_(image.bias)

    def forward(self, input: Tensor, past: PastFrames | None = None) -> Tensor:
        if not self.num_past:
            return super().forward(input)
        if past is not None and past.begun:
            input = torch.cat([past.of(self, input), input], dim=2)
            past.keep(self, input[:, :, -self.num_past :])
            # Frame 0 stood alone: after it, a stride's first output is at the end of its group of frames.
            return super().forward(input[:, :, self.stride[0] - 1 :])
        if past is not None:
            past.keep(self, F.pad(input, (0, 0, 0, 0, self.num_past, 0))[:, :, -self.num_past :])
        if input.shape[2] == 1:
            # One frame after frames of zeros: only the last slice of the kernel meets data.
            weight = self.weight[:, :, -1:].contiguous()  # Apple's GPUs read others wrongly
            return F.conv3d(input, weight, self.bias, self.stride, self.padding)
        return super().forward(F.pad(input, (0, 0, 0, 0, self.num_past, 0)))


class FrameNorm(nn.GroupNorm):
    """GroupNorm whose statistics come from one frame alone; pooled over time they would leak the future."""

    def __init__(self, channels: int, affine: bool = True, max_groups: int = 32):
        groups = next(n for n in range(min(max_groups, channels), 0, -1) if channels % n == 0)
        super().__init__(groups, channels, eps=1e-6, affine=affine)

    def forward(self, input: Tensor, past: PastFrames | None = None) -> Tensor:
        frames = rearrange(input, "b c t h w -> (b t) c h w")
        if past is None or past.statistics is None:
            frames = super().forward(frames)
        else:
            mean, variance = past.statistics.of(self, frames.unflatten(1, (self.num_groups, -1)).flatten(2))
            mean, variance = (each.expand(-1, -1, self.num_channels // self.num_groups) for each in (mean, variance))
            weight, bias = (each.repeat(len(frames)) if self.affine else None for each in (self.weight, self.bias))
            # What a batch norm does with the statistics that it was trained on, and each frame's channels are its own.
            channels = frames.flatten(0, 1)[None]
            normalized = F.batch_norm(channels, mean.flatten(), variance.flatten(), weight, bias, eps=self.eps)
            frames = normalized.view_as(frames)
        return rearrange(frames, "(b t) c h w -> b c t h w", b=input.shape[0])


class PlaceNorm(nn.Module):
    """Each place by itself: the root mean square over its channels becomes 1 (RMSNorm).

    What is far away in the frame changes nothing, so that a part of a frame passes as it does in the whole.
    """

    def __init__(self, channels: int, affine: bool = True):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(channels)) if affine else None

    def forward(self, input: Tensor, past: PastFrames | None = None) -> Tensor:
        x = input.movedim(1, -1)
        # Torch warns of a weight in another dtype than the input, as it is under autocast, and computes in fp32 then.
        weight = None if self.weight is None else self.weight.float()
        x = F.rms_norm(x.float(), (x.shape[-1],), weight, eps=1e-6).to(x.dtype)
        return (x if self.bias is None else x + self.bias).movedim(-1, 1)


NORMS = {"frame": FrameNorm, "place": PlaceNorm}
NormName = Literal["frame", "place"]


class AdaptiveNorm(nn.Module):
    """A norm whose scale and shift are linear in the quantized latent at the same place (adaptive GroupNorm)."""

    def __init__(self, channels: int, latent_channels: int, norm: NormName = "frame"):
        super().__init__()
        self.norm = NORMS[norm](channels, affine=False)
        self.scale_and_shift = CausalConv3d(latent_channels, 2 * channels, kernel_size=1)
        nn.init.zeros_(self.scale_and_shift.weight)
        nn.init.zeros_(self.scale_and_shift.bias)  # pyright: ignore[reportArgumentType]

    def forward(self, x: Tensor, latents: Tensor, past: PastFrames | None = None) -> Tensor:
        scale, shift = self.scale_and_shift(latents).chunk(2, dim=1)  # (B, C, t, h, w)
        if scale.shape[2:] != x.shape[2:]:
            num_alone = 0 if past is not None and past.begun else 1
            scale, shift = _stretch(scale, x, num_alone), _stretch(shift, x, num_alone)
        return self.norm(x, past) * (1 + scale) + shift


class ResidualBlock(nn.Module):
    """Norm, swish, causal convolution, twice, around a shortcut."""

    def __init__(self, in_channels: int, out_channels: int, norm: NormName = "frame", time_kernel: int = 3):
        super().__init__()
        kernel = (time_kernel, 3, 3)
        self.norm1 = NORMS[norm](in_channels)
        self.conv1 = CausalConv3d(in_channels, out_channels, kernel, bias=False)
        self.norm2 = NORMS[norm](out_channels)
        self.conv2 = CausalConv3d(out_channels, out_channels, kernel, bias=False)
        self.shortcut = (
            nn.Identity() if in_channels == out_channels else CausalConv3d(in_channels, out_channels, 1, bias=False)
        )

    def forward(self, x: Tensor, past: PastFrames | None = None) -> Tensor:
        y = self.conv1(F.silu(self.norm1(x, past)), past)
        y = self.conv2(F.silu(self.norm2(y, past)), past)
        return self.shortcut(x) + y


class Downsample(CausalConv3d):
    """A strided causal convolution; in time frame 0 stands alone and the others go in groups."""

    def __init__(self, in_channels: int, out_channels: int, time_stride: int, space_stride: int):
        super().__init__(in_channels, out_channels, stride=(time_stride, space_stride, space_stride))


class Upsample(nn.Module):
    """A causal convolution and depth-to-space; of frame 0 only the last copy is kept, so 5 -> 9 -> 17."""

    def __init__(self, in_channels: int, out_channels: int, time_stride: int, space_stride: int):
        super().__init__()
        self.strides = (time_stride, space_stride)
        self.conv = CausalConv3d(in_channels, out_channels * time_stride * space_stride**2)

    def forward(self, x: Tensor, past: PastFrames | None = None) -> Tensor:
        time, space = self.strides
        x = rearrange(self.conv(x, past), "b (c p q r) t h w -> b c (t p) (h q) (w r)", p=time, q=space, r=space)
        return x if past is not None and past.begun else x[:, :, time - 1 :]


def _stretch(x: Tensor, like: Tensor, num_alone: int) -> Tensor:
    """Repeat latents to the place of a finer grid; the first `num_alone` once, every later one equally often."""
    frames, height, width = like.shape[2:]
    if x.shape[2] != frames:
        repeats = (frames - num_alone) // (x.shape[2] - num_alone)
        x = torch.cat([x[:, :, :num_alone], x[:, :, num_alone:].repeat_interleave(repeats, dim=2)], dim=2)
    x = x.repeat_interleave(height // x.shape[3], dim=3)
    return x.repeat_interleave(width // x.shape[4], dim=4)
