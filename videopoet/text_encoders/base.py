"""The text-encoder contract: a prompt in, ids out, and where it has them, features of the ids.

The ids of an encoder that gives features hold the positions of a prompt in a row; the features stand there for what the
language model would embed. Words that the model itself writes, as of a caption, are ids of its own tokenizer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Self

from videopoet.errors import TaskError

if TYPE_CHECKING:
    from torch import Tensor


class TextEncoder(ABC):
    """Turns prompts into the ids that hold text positions in a row."""

    size: int
    """Number of ids that `encode` gives."""
    longest: int
    """The most ids of one text."""
    num_features: int = 0
    """Width of the features of an id; 0 where the language model embeds the ids itself."""

    @property
    def answer_size(self) -> int:
        """Number of ids that the language model itself knows, and writes texts in."""
        return self.size

    def features(self, ids: Tensor, visible: Tensor) -> Tensor:
        """What stands in a row for the ids of prompts: (B, L, num_features) of int64 ids (B, L).

        Args:
            ids: Of whole prompts.
            visible: bool (B, L); False where there is padding, which changes nothing of the others.
        """
        raise NotImplementedError(f"{type(self).__name__} gives no features")

    @abstractmethod
    def encode(self, prompt: str) -> list[int]:
        """The ids of a prompt.

        Raises:
            TaskError: The prompt is empty, too long, or holds one of the special tokens.
        """

    def encode_caption(self, caption: str) -> list[int]:
        """The ids of what somebody said of a clip: of its beginning if it is too long, and none if it is empty.

        Raises:
            TaskError: It holds one of the special tokens.
        """
        beginning = self.beginning(caption)
        return self.encode(beginning) if beginning else []

    def beginning(self, caption: str) -> str:
        """As many words of a caption as can be encoded."""
        words = caption.split()
        while words:
            try:
                self.encode(" ".join(words))
            except TaskError as error:
                if error.code != "prompt_too_long":
                    raise
                # Most words are one id or more: what is surely too much goes at once, then word by word.
                words = words[: min(len(words) - 1, self.longest)]
            else:
                break
        return " ".join(words)

    def encode_answer(self, caption: str) -> list[int]:
        """The ids in which the language model is to write a caption, of its beginning if it is too long.

        Raises:
            TaskError: It holds one of the special tokens.
        """
        return self.encode_caption(caption)

    @abstractmethod
    def decode(self, ids: list[int]) -> str:
        """The words that the ids of an answer stand for."""

    @abstractmethod
    def unknown_words(self, prompt: str) -> list[str]:
        """Words of a prompt that this encoder cannot tell apart, in order of appearance."""

    def known_words(self) -> list[str] | None:
        """All words that this encoder can tell apart, sorted; None where it reads any text."""
        return None

    @abstractmethod
    def save(self, folder: str | Path) -> None:
        """Write what `load` needs."""

    @classmethod
    @abstractmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote."""
