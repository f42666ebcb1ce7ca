"""The tokenizer contract: media in, codes out, and back. Tokenizers know nothing of the language."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Self

from torch import Tensor, nn

from videopoet.checkpoint import load_component, load_weights, save_component
from videopoet.config import BaseConfig
from videopoet.errors import MediaError
from videopoet.nn.causal_conv import PastFrames


class Tokenizer(nn.Module):
    """A network with a config that saves itself to a folder and loads from one."""

    Config: ClassVar[type[BaseConfig]]
    config: Any

    def save(self, folder: str | Path) -> None:
        """Write `config.json` and `model.safetensors`."""
        save_component(folder, self.config, self.state_dict())

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote, in evaluation mode.

        Raises:
            CheckpointError: A file is missing, broken or does not fit.
        """
        config, tensors = load_component(folder, cls.Config)
        tokenizer = cls(config)  # pyright: ignore[reportCallIssue]
        load_weights(tokenizer, {name: tensor.float() for name, tensor in tensors.items()}, folder)
        return tokenizer.eval()


class VideoTokenizer(Tokenizer, ABC):
    """Clips to visual codes. Causal: frame 0 stands alone, so an image is a one-frame clip.

    A clip may come in pieces, as it is made or read: with the same `PastFrames` for each of them the result is that of
    the whole clip, to rounding, in memory that does not grow with it. Encoding and decoding have one of their own.
    """

    num_codes: int
    time_stride: int
    space_stride: int

    @abstractmethod
    def encode(self, video: Tensor, past: PastFrames | None = None) -> Tensor:
        """Turn pixels in [-1, 1], (B, 3, T, H, W), into int64 codes, (B, t, h, w).

        Args:
            video: A clip, or a piece of one.
            past: What is known of the pieces before; T is then 1 + time_stride k at first, and later time_stride k.

        Raises:
            MediaError: T - 1, H or W is not a multiple of its stride, or the size is not that of the pieces before.
        """

    @abstractmethod
    def decode(self, codes: Tensor, past: PastFrames | None = None) -> Tensor:
        """Turn codes, (B, t, h, w), into pixels in [-1, 1], (B, 3, T, H, W) with T = 1 + (t - 1) * time_stride.

        Args:
            codes: Of a clip, or of a piece of one, of any t.
            past: What is known of the pieces before; after the first, T is t * time_stride.

        Raises:
            MediaError: The size is not that of the pieces before.
        """

    def grid(self, num_frames: int, height: int, width: int, goes_on: bool = False) -> tuple[int, int, int]:
        """The shape (t, h, w) of the codes of a clip, or of a piece that goes on from one before.

        Raises:
            MediaError: The clip is off the tokenizer's grid; the message names the nearest size that fits.
        """
        alone = 0 if goes_on else 1  # frame 0
        if num_frames < 1 or (num_frames - alone) % self.time_stride:
            nearest = alone + max(1 - alone, round((num_frames - alone) / self.time_stride)) * self.time_stride
            what, fits = ("piece that goes on", "") if goes_on else ("clip", "1 + ")
            raise MediaError(
                f"a {what} of {num_frames} frames is off the grid; the tokenizer takes {fits}{self.time_stride} k "
                f"frames; use {nearest}",
                code="frames_not_on_grid",
            )
        for name, size in (("height", height), ("width", width)):
            if size < self.space_stride or size % self.space_stride:
                nearest = max(1, round(size / self.space_stride)) * self.space_stride
                raise MediaError(
                    f"{name} {size} is off the grid; the tokenizer takes multiples of {self.space_stride}; "
                    f"use {nearest}",
                    code="size_invalid",
                )
        stride = self.space_stride
        return alone + (num_frames - alone) // self.time_stride, height // stride, width // stride


class AudioTokenizer(Tokenizer, ABC):
    """Sound to codes on several levels, coarse to fine."""

    sample_rate: int
    hop: int
    num_quantizers: int
    codebook_size: int

    @abstractmethod
    def encode(self, audio: Tensor) -> Tensor:
        """Turn samples in [-1, 1], (B, 1, S), into int64 codes, (B, Q, s) with s = S // hop."""

    @abstractmethod
    def decode(self, codes: Tensor) -> Tensor:
        """Turn codes, (B, Q, s), into samples, (B, 1, s * hop)."""

    def num_frames(self, num_samples: int) -> int:
        """How many code frames a sound of `num_samples` has; what is left of the last hop is dropped."""
        return num_samples // self.hop
