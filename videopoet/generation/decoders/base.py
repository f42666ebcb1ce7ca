"""The decoder contract: how the unknown tokens of planned rows are filled in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor

from videopoet.generation.sampling import Sampling, guide
from videopoet.models.cached_pass import CachedPass
from videopoet.models.language_model import LanguageModel
from videopoet.sequence.layout import Row
from videopoet.sequence.vocabulary import Vocabulary


class Decoder(ABC):
    """A way of filling tokens in."""

    exact: bool = True
    """Whether tokens are drawn from the model's own distribution."""

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
        on_settled: Callable[[Tensor, Sequence[int]], None] | None = None,
    ) -> list[Row]:
        """Fill in the unknown tokens of rows.

        Args:
            model: Gives the logits.
            vocabulary: What the rows are written in.
            rows: Planned rows (`layout.plan`) whose outputs have one shape.
            against: For each of them the row that guidance compares with, with the same output; empty without guidance.
            sampling: How to choose.
            generators: A random stream per row: what a row becomes depends on its own alone.
            on_step: Called once for each token that has become final in every row; what it raises ends the decoding.
            on_settled: Called when tokens have become final: with the tokens of all rows, (R, L), padded on the left,
                and with how many of those that were unknown are final in each row, counted from the first on. What it
                raises ends the decoding.

        Returns:
            The rows, complete.
        """


def guided_logits(read: CachedPass, hidden: Tensor, guided: bool, start: int, stop: int, scale: float) -> Tensor:
    """Logits over the ids in [start, stop), (R, ..., stop - start).

    Args:
        read: Whose head it is.
        hidden: (R, ..., D); where they are to be guided, (2 R, ..., D), those to compare with last.
        guided: Whether they are.
        start: The first id.
        stop: The one after the last.
        scale: Of guidance.
    """
    if not guided:
        return read.logits(hidden, start, stop)
    if read.head_is_affine and hidden.dtype == torch.float32:  # the same logits for half the products
        return read.logits(guide(*hidden.chunk(2), scale=scale), start, stop)
    return guide(*read.logits(hidden, start, stop).chunk(2), scale=scale)
