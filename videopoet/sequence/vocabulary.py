"""The unified vocabulary: one range of ids for text, special tokens, video codes and each level of audio codes."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from videopoet.config import BaseConfig
from videopoet.errors import ConfigError, DataError
from videopoet.sequence.tasks import task_tokens

MODALITIES = ("text", "special", "video", "audio", "prompt")
"""In the order of their ids; a row names a position's modality by its index here. A `prompt` is text of which a frozen
text encoder gives features; what the language model embeds and writes itself is `text`."""

# <eot_o> comes first, right after the last text id: what may stand in a text output is then one range.
STRUCTURE = (
    *("<eot_o>", "<bot_o>", "<bos>", "<eos>", "<pad>"),
    *("<bot_i>", "<eot_i>", "<bov_i>", "<eov_i>", "<boa_i>", "<eoa_i>"),
    *("<bov_o>", "<eov_o>", "<boa_o>", "<eoa_o>"),
)


class Config(BaseConfig):
    """Sizes of the vocabulary; a checkpoint carries them, so its ids never move when the task table grows."""

    text_size: int = Field(ge=1)
    """Ids of the language model's own tokenizer; they stay first and untouched."""
    num_special: int = Field(default=256, ge=len(STRUCTURE))
    """Room for special tokens, spare ones included."""
    visual_codes: int = Field(default=2**18, ge=1)
    """Codes of the video tokenizer."""
    audio_codebook_size: int = Field(default=1024, ge=1)
    """Codes of one level of the audio tokenizer."""
    audio_quantizers: int = Field(default=4, ge=0)
    """Levels of the audio tokenizer."""
    prompt_ids: int = Field(default=0, ge=0)
    """Ids of a text encoder whose features stand in the rows; they come after those of the language model, whose table
    has no rows for them. 0 where it embeds the ids of prompts itself."""
    task_tokens: tuple[str, ...] = Field(default_factory=task_tokens)
    """One for each kind of output in the task table."""
    sources: tuple[str, ...] = ()
    """Names of data sources that a row can ask for, as <source:NAME>."""
    resolutions: tuple[tuple[int, int], ...] = ()
    """Heights and widths in pixels that a row can name, as <res:HxW>; a row without one means the usual size."""
    lengths: tuple[int, ...] = ()
    """Frame counts that a row can name, as <len:T>."""

    @property
    def special_names(self) -> tuple[str, ...]:
        """The special tokens in the order of their ids; spare ids after them have no name."""
        return (
            *STRUCTURE,
            *self.task_tokens,
            *(f"<source:{source}>" for source in self.sources),
            *(f"<res:{height}x{width}>" for height, width in self.resolutions),
            *(f"<len:{length}>" for length in self.lengths),
        )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        names = self.special_names
        if len(names) > self.num_special:
            raise ValueError(f"{len(names)} special tokens are named and num_special is {self.num_special}")
        if len(set(names)) < len(names):
            raise ValueError("a special token is named twice")
        return self

    def with_resolutions(self, sizes: tuple[tuple[int, int], ...]) -> Self:
        """This vocabulary, whose rows can name these heights and widths too; spare ids become theirs, and none moves.

        Raises:
            ConfigError: No ids are spare, or lengths are named, whose ids would move.
        """
        new = tuple(size for size in dict.fromkeys(sizes) if size not in self.resolutions)
        if new and (self.lengths or len(self.special_names) + len(new) > self.num_special):
            why = "lengths stand after its sizes" if self.lengths else f"all {self.num_special} special ids are used"
            raise ConfigError(
                f"the vocabulary has no room for the size {new[0][1]}x{new[0][0]} (width x height); {why}; "
                "use its own sizes, or train from fresh weights",
                code="vocabulary_full",
            )
        return self.model_copy(update={"resolutions": (*self.resolutions, *new)})


@dataclass(frozen=True)
class Vocabulary:
    """Translates between codes, which one tokenizer knows, and tokens, which the language model knows."""

    config: Config

    @property
    def size(self) -> int:
        """All ids of the language model, spare ones included."""
        return self.range("audio")[1]

    @property
    def given_text(self) -> str:
        """The modality of text that a row is given: `prompt` where features stand for it, else `text`."""
        return "prompt" if self.config.prompt_ids else "text"

    def range(self, modality: str, level: int | None = None) -> tuple[int, int]:
        """The first id of a modality and the one after its last; for audio, of one level where `level` is given."""
        config = self.config
        if level is not None:
            start = self.range("audio")[0] + level * config.audio_codebook_size
            return start, start + config.audio_codebook_size
        sizes = (
            config.text_size,
            config.num_special,
            config.visual_codes,
            config.audio_quantizers * config.audio_codebook_size,
            config.prompt_ids,
        )
        index = MODALITIES.index(modality)
        start = sum(sizes[:index])
        return start, start + sizes[index]

    @cached_property
    def special_tokens(self) -> dict[str, int]:
        """Every named special token and its id."""
        start, _ = self.range("special")
        return {name: start + index for index, name in enumerate(self.config.special_names)}

    def special(self, name: str) -> int:
        """The id of a special token such as `<bos>`, `<res:128x224>` or `<len:17>`.

        Raises:
            ConfigError: The vocabulary has no such token.
        """
        if name not in self.special_tokens:
            close = difflib.get_close_matches(name, self.special_tokens, n=3)
            raise ConfigError(
                f"the vocabulary has no token {name}; it has {', '.join(close or self.special_tokens)}; "
                "use one of these or add it to the vocabulary's config",
                code="token_unknown",
            )
        return self.special_tokens[name]

    def tokens(self, modality: str, codes: Tensor) -> Tensor:
        """Turn ids of text (..., L), video codes (..., t, h, w) or audio codes (..., Q, s) into tokens of that shape.

        Raises:
            DataError: A code, or the number of audio levels, is outside the vocabulary.
        """
        start, size = self._offsets(modality, codes)
        if codes.numel() and not (0 <= codes.min() and codes.max() < size):
            raise DataError(
                f"{modality} codes reach from {int(codes.min())} to {int(codes.max())}, this vocabulary holds 0 to "
                f"{size - 1}; use the tokenizer that it was made for",
                code="codes_out_of_range",
            )
        return codes + start

    def codes(self, modality: str, tokens: Tensor) -> Tensor:
        """Turn tokens back into codes of the same shape; the inverse of `tokens`.

        Raises:
            DataError: A token belongs to another modality or audio level.
        """
        start, size = self._offsets(modality, tokens)
        codes = tokens - start
        if codes.numel() and not (0 <= codes.min() and codes.max() < size):
            first, stop = self.range(modality)
            raise DataError(
                f"tokens from {int(tokens.min())} to {int(tokens.max())} are not all {modality} tokens in place; those "
                f"go from {first} to {stop - 1}; use the vocabulary that they were made with",
                code="tokens_out_of_range",
            )
        return codes

    def _offsets(self, modality: str, ids: Tensor) -> tuple[Tensor | int, int]:
        start, stop = self.range(modality)
        if modality != "audio":
            return start, stop - start
        levels = ids.shape[-2]
        if levels > self.config.audio_quantizers:
            raise DataError(
                f"audio has {levels} levels, this vocabulary holds {self.config.audio_quantizers}; "
                "use the tokenizer that it was made for",
                code="codes_out_of_range",
            )
        size = self.config.audio_codebook_size
        return start + size * torch.arange(levels, device=ids.device)[:, None], size
