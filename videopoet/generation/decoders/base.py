"""The decoder contract: how the unknown tokens of planned rows are filled in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from torch import Generator

from videopoet.generation.sampling import Sampling
from videopoet.models.language_model import LanguageModel
from videopoet.sequence.layout import Row
from videopoet.sequence.vocabulary import Vocabulary


class Decoder(ABC):
    """A way of filling tokens in."""

    @abstractmethod
    def decode(
        self,
        model: LanguageModel,
        vocabulary: Vocabulary,
        rows: Sequence[Row],
        against: Sequence[Row],
        sampling: Sampling,
        generators: Sequence[Generator],
        on_step: Callable[[], None] = lambda: None,
    ) -> list[Row]:
        """Fill in the unknown tokens of rows.

        Args:
            model: Gives the logits.
            vocabulary: What the rows are written in.
            rows: Planned rows (`layout.plan`) whose outputs have one shape.
            against: For each of them the row that guidance compares with, with the same output; empty without guidance.
            sampling: How to choose.
            generators: A random stream per row: what a row becomes depends on its own alone.
            on_step: Called after each forward pass; what it raises ends the decoding.

        Returns:
            The rows, complete.
        """
