"""The tokenizer contract: media in, codes out, and back. Tokenizers know nothing of the language."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from videopoet import pretrained
from videopoet.checkpoint import load_component, load_weights, read_json, save_component
from videopoet.config import BaseConfig
from videopoet.errors import CheckpointError, ConfigError, MediaError
from videopoet.nn.causal_conv import FrameStatistics, PastFrames
from videopoet.nn.tiles import Tile, Tiling


class Tokenizer(nn.Module):
    """A network with a config that saves itself to a folder and loads from one."""

    Config: ClassVar[type[BaseConfig]]
    config: Any

    def save(self, folder: str | Path, dtype: torch.dtype | None = None) -> None:
        """Write `config.json` and `model.safetensors`, the latter in `dtype` where one is given.

        Codebooks keep theirs: a rounded one would give other codes than a language model was trained on.
        """
        tensors = self.state_dict()
        if dtype is not None:
            tensors = {
                name: tensor.to(dtype) if tensor.is_floating_point() and not name.startswith("quantizer.") else tensor
                for name, tensor in tensors.items()
            }
        save_component(folder, self.config, tensors)

    @classmethod
    def is_described_by(cls, values: Any) -> bool:
        """Whether a folder whose `config.json` holds these values has one of these tokenizers in it."""
        try:
            return bool(cls.Config.from_dict(values))
        except ConfigError:
            return False

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

    Large frames are taken in tiles, one after the other, and each tile latent frame by latent frame, so that a network
    never holds more than a tile; the result is near that of whole frames, and no longer the same.
    """

    tiling: Tiling | None = Tiling()
    """Which frames are large; None takes all of them whole."""
    latent_frames_at_once: ClassVar[int] = 1
    """Of a tile; more where each piece of a clip computes some of its past anew."""
    normalizes_frames: bool = False
    """Whether it consists of layers that take a frame's statistics from `PastFrames`: tiles then have those of a copy
    of the frame that is as small as they are."""
    num_codes: int
    codes_are_bits: bool = True
    """Whether codes alike in bits are alike in pixels."""
    time_stride: int
    space_stride: int

    def enable_tiling(self, tile_size: int = Tiling.tile_size, tile_overlap: int = Tiling.tile_overlap) -> None:
        """Take frames with a side above `tile_size` in tiles that share `tile_overlap` pixels, which is the default.

        Raises:
            ConfigError: There are no such tiles.
        """
        self.tiling = Tiling(tile_size, tile_overlap)

    def disable_tiling(self) -> None:
        """Take all frames whole, in memory that grows with them."""
        self.tiling = None

    @torch.no_grad()
    def encode(self, video: Tensor, past: PastFrames | None = None) -> Tensor:
        """Turn pixels in [-1, 1], (B, 3, T, H, W), into int64 codes, (B, t, h, w).

        Args:
            video: A clip, or a piece of one.
            past: What is known of the pieces before; T is then 1 + time_stride k at first, and later time_stride k.

        Raises:
            MediaError: T - 1, H or W is not a multiple of its stride, or the size is not that of the pieces before.
        """
        num_frames, height, width = video.shape[2:]
        grid = self.grid(num_frames, height, width, goes_on=past is not None and past.begun)
        if self.tiling is None or self.tiling.fits(height, width):
            return self.encode_whole(video, past)
        alone = 0 if past is not None and past.begun else 1
        first = alone + (self.latent_frames_at_once - alone) * self.time_stride
        cuts = [*range(first, num_frames, self.latent_frames_at_once * self.time_stride)]
        rows, columns = self.tiling.within(*grid[1:], self.space_stride)
        size = rows * self.space_stride, columns * self.space_stride
        small = F.adaptive_avg_pool3d(video, (num_frames, *size)) if self.normalizes_frames else None
        codes = torch.empty(len(video), *grid, dtype=torch.int64, device=video.device)
        for tile, pieces in self._by_tiles(self.encode_whole, video, small, cuts, grid[1:], past):
            tile.cut_into(codes, torch.cat([*pieces], dim=1))
        return codes

    @torch.no_grad()
    def decode(self, codes: Tensor, past: PastFrames | None = None) -> Tensor:
        """Turn codes, (B, t, h, w), into pixels in [-1, 1], (B, 3, T, H, W) with T = 1 + (t - 1) * time_stride.

        Args:
            codes: Of a clip, or of a piece of one, of any t.
            past: What is known of the pieces before; after the first, T is t * time_stride.

        Raises:
            MediaError: The size is not that of the pieces before.
        """
        rows, columns = codes.shape[2:]
        height, width = rows * self.space_stride, columns * self.space_stride
        if self.tiling is None or self.tiling.fits(height, width):
            return self.decode_whole(codes, past)
        num_frames = codes.shape[1] * self.time_stride
        if past is None or not past.begun:
            num_frames -= self.time_stride - 1
        cuts = [*range(self.latent_frames_at_once, codes.shape[1], self.latent_frames_at_once)]
        small = None
        if self.normalizes_frames:
            down, across = (
                torch.arange(few, device=codes.device) * many // few
                for few, many in zip(self.tiling.within(rows, columns, self.space_stride), (rows, columns), strict=True)
            )
            small = codes[:, :, down[:, None], across]
        video = torch.zeros(len(codes), 3, num_frames, height, width, device=codes.device)  # sums, so in fp32
        for tile, pieces in self._by_tiles(self.decode_whole, codes, small, cuts, (rows, columns), past):
            done = 0
            for pixels in pieces:
                tile.blend_into(video[:, :, done : done + pixels.shape[2]], pixels)
                done += pixels.shape[2]
        return video

    @abstractmethod
    def encode_whole(self, video: Tensor, past: PastFrames | None = None) -> Tensor:
        """What `encode` gives of frames that are taken whole; the size is on the grid."""

    @abstractmethod
    def decode_whole(self, codes: Tensor, past: PastFrames | None = None) -> Tensor:
        """What `decode` gives of frames that are taken whole."""

    def _by_tiles(
        self,
        network: Callable[[Tensor, PastFrames], Tensor],
        media: Tensor,
        small: Tensor | None,
        cuts: Sequence[int],
        grid: tuple[int, int],
        past: PastFrames | None,
    ) -> Iterator[tuple[Tile, Iterator[Tensor]]]:
        """Each tile of a clip, or of a piece of one, with what the network makes of it, piece by piece.

        Args:
            network: Takes a piece, and what is known of those before.
            media: Pixels or codes, (..., T, H, W).
            small: A copy of them no larger than a tile, by whose statistics all tiles are normalized.
            cuts: Where in time the pieces begin, after the first.
            grid: Rows and columns of the codes.
            past: What is known of the clip.
        """
        assert self.tiling is not None
        known: list[FrameStatistics | None] = [
            FrameStatistics() if self.normalizes_frames else None for _ in [0, *cuts]
        ]

        def through_network(part: Tensor, place: tuple[int, ...]) -> Iterator[Tensor]:
            own = PastFrames() if past is None else past.of_tile((*grid, *place))
            for piece, own.statistics in zip(part.tensor_split([*cuts], dim=-3), known, strict=True):
                yield network(piece, own)

        if small is not None:
            for _ in through_network(small, ()):
                pass  # what it leaves in `known` is all that is wanted of it
        for tile in self.tiling.tiles(*grid, self.space_stride):
            yield tile, through_network(tile.of(media, media.shape[-1] // grid[1]), tile.place)
        if past is not None:
            past.begun = True

    def grid(self, num_frames: int, height: int, width: int, *, goes_on: bool = False) -> tuple[int, int, int]:
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

    def whole_hops(self, audio: Tensor) -> Tensor:
        """What is coded of samples, (B, 1, S): those of whole hops.

        Raises:
            MediaError: The audio has several channels, or is shorter than one hop.
        """
        if audio.shape[1] != 1:
            raise MediaError(
                f"audio has {audio.shape[1]} channels; the tokenizer takes 1; mix them down first",
                code="audio_channels",
            )
        frames = self.num_frames(audio.shape[-1])
        if not frames:
            raise MediaError(
                f"audio of {audio.shape[-1]} samples is shorter than one frame of {self.hop}; use a longer sound",
                code="audio_too_short",
            )
        return audio[..., : frames * self.hop]


class Published(Tokenizer):
    """A tokenizer that others trained, as `transformers` has it; its folder stays one that plain `transformers` opens.

    It computes in the precision of its weights, float32, whatever is around it: the codes are those of the public
    implementation, and saving does not round them.
    """

    family: ClassVar[str]
    """Its model type in `transformers`."""

    def __init__(self, network: Any):
        super().__init__()
        self.network, self.config = network, network.config

    @staticmethod
    @abstractmethod
    def network_class() -> Any:
        """The class of `transformers`."""

    def save(self, folder: str | Path, dtype: torch.dtype | None = None) -> None:
        """Write the Hugging Face folder; published weights stay as they are, whatever `dtype` says."""
        pretrained.save_network(self.network, Path(folder))

    @classmethod
    def is_described_by(cls, values: Any) -> bool:
        return isinstance(values, dict) and values.get("model_type") == cls.family

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read a Hugging Face folder, in evaluation mode; weights from safetensors only.

        Raises:
            CheckpointError: It is missing, broken, or of another kind.
            ConfigError: It is of this kind, and its settings are none that a row of tokens can hold.
        """
        folder = Path(folder)
        if not cls.is_described_by(read_json(folder / "config.json")):
            raise CheckpointError(
                f"'{folder}' holds no tokenizer of the family '{cls.family}': its config.json says otherwise; check "
                "the path",
                code="checkpoint_mismatch",
            )
        pretrained.check_safetensors(folder)
        return cls(cls.read(folder)).eval().requires_grad_(False)

    @classmethod
    def read(cls, folder: Path) -> Any:
        """The network in a folder that is of this kind.

        Raises:
            CheckpointError: Its weights are broken, or do not fit its config.
        """
        return pretrained.load_network(cls.network_class(), folder, "the tokenizer", dtype=torch.float32)

    @staticmethod
    @contextlib.contextmanager
    def own_precision(input: Tensor) -> Iterator[None]:
        """Within it neither autocast nor a GPU's TF32 rounds what is computed on the device of `input`."""
        without_tf32 = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
        with torch.autocast(input.device.type, enabled=False), without_tf32:
            yield


class PublishedAudioTokenizer(Published, AudioTokenizer):
    """A published codec, of whose levels the first few are used; how many is kept in its `config.json`.

    Args:
        network: Of `transformers`.
        sample_rate: In Hz.
        hop: Samples per frame of codes.
        levels: The fewest and the most that can be used.
        num_channels: Of the sound that it codes.

    Raises:
        ConfigError: It codes several channels, or its config names more levels than there are.
    """

    USUAL_LEVELS = 4
    """As in VideoPoet (section 3.1); codecs have up to 32, and each costs as many tokens as the first."""

    def __init__(self, network: Any, sample_rate: int, hop: int, levels: tuple[int, int], num_channels: int = 1):
        super().__init__(network)
        if num_channels != 1:
            raise ConfigError(
                f"this {self.family} codes {num_channels} channels; sound of 1 is taken; use a codec of one channel",
                code="tokenizer_unfit",
            )
        self.sample_rate, self.hop, self.levels = sample_rate, hop, levels
        self.codebook_size = network.config.codebook_size
        self.use_levels(getattr(network.config, "num_levels", max(levels[0], min(self.USUAL_LEVELS, levels[1]))))

    def use_levels(self, num_levels: int) -> None:
        """Code with the first `num_levels` levels.

        Raises:
            ConfigError: There are fewer, or the codec needs more.
        """
        least, most = self.levels
        if not least <= num_levels <= most:
            raise ConfigError(
                f"{num_levels} audio levels are asked for; this {self.family} has {least} to {most}; choose among "
                "these",
                code="tokenizer_unfit",
            )
        self.num_quantizers = self.config.num_levels = num_levels  # in its config.json, where transformers ignores it
