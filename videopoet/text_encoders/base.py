"""The text-encoder contract: a prompt in, ids out, with what a prompt may not be said in one place."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Self

from videopoet.errors import TaskError


class TextEncoder(ABC):
    """Turns prompts into the ids that hold text positions in a row."""

    size: int
    """Number of text ids."""
    longest: int
    """The most ids of one text."""

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

    @abstractmethod
    def decode(self, ids: list[int]) -> str:
        """The words that ids stand for."""

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
