"""Rows that wait to be filled in, and works that go on together so that their rows share the decoder's batches.

A work is a generator: it yields a `Fill` where it needs tokens, is sent the pieces of the completed rows, and returns
what it made. What a row becomes depends on its own random stream alone, so company changes nothing but the speed.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from videopoet.generation.decoders.base import Decoder
from videopoet.generation.early_frames import Settling
from videopoet.generation.poet_folder import Parts
from videopoet.generation.sampling import Sampling
from videopoet.models.language_model import LanguageModel
from videopoet.sequence import layout
from videopoet.sequence.layout import Row
from videopoet.sequence.tasks import Task

Pieces = dict[str, Tensor]
"""Codes of a row by the names of its pieces."""
MOST_ROWS = 32
"""The most rows in one batch of the decoder, without those that guidance compares with."""
CACHE_BYTES = 2**31
"""What the keys and values of one batch may take; it makes batches of a large model smaller. A GPU gives an eighth of
its memory, whatever else is in it: batches of one size repeat to the bit."""


@dataclass(frozen=True, eq=False)
class Fill:
    """Planned rows of one task, and how to choose their tokens; `Decoder.decode` says what each field is."""

    task: Task
    rows: list[Row]
    against: list[Row]
    sampling: Sampling
    generators: list[torch.Generator]
    takers: list[Callable[[Tensor], None]] = field(default_factory=list)
    """For each row what takes its codes of video, latent frame by latent frame, as they become final; empty where
    nobody waits for them."""

    @property
    def kind(self) -> Hashable:
        """Fills of one kind fit into one batch: the same positions are unknown, and tokens are chosen alike."""
        spans = self.rows[0].spans.items()
        outputs = tuple((piece, span.shape) for piece, span in spans if piece.endswith(("_out", "_start")))
        return self.task.name, outputs, self.sampling, bool(self.against)


Work = Generator[Fill, list[Pieces], Any]


def most_rows(model: LanguageModel, length: int) -> int:
    """How many rows of `length` positions a batch may have, those that guidance compares with included."""
    table = model.head_weight
    row_bytes = 2 * model.num_layers * length * model.key_width * table.element_size()
    is_cuda = table.device.type == "cuda"
    most_bytes = torch.cuda.get_device_properties(table.device).total_memory // 8 if is_cuda else CACHE_BYTES
    return max(1, most_bytes // row_bytes)


def go_on_together(
    works: Sequence[Work], parts: Parts, decoder: Decoder, on_token: Callable[[int], None]
) -> Iterator[dict[int, Any]]:
    """Bring works to their ends; rows that several of them wait for are filled together where they are alike.

    Args:
        works: Not yet begun; all of them begin before the first token is chosen.
        parts: Whose language model and vocabulary the rows are for.
        decoder: Fills rows in.
        on_token: Called for each token that has become final in all rows of a batch, with how many those are; what it
            raises ends the works.

    Yields:
        After each batch, what the works returned that have ended since, by their index.
    """
    waiting: dict[int, Fill] = {}

    def go_on(numbers: Sequence[int], pieces: Sequence[list[Pieces] | None]) -> dict[int, Any]:
        ended = {}
        for number, made in zip(numbers, pieces, strict=True):
            try:
                # A generator that has not begun takes None, and nothing else.
                waiting[number] = works[number].send(made)  # pyright: ignore[reportArgumentType]
            except StopIteration as end:
                ended[number] = end.value
        return ended

    yield go_on(range(len(works)), [None] * len(works))
    while waiting:
        kind = waiting[min(waiting)].kind
        group = {number: fill for number, fill in waiting.items() if fill.kind == kind}
        made = _fill(list(group.values()), parts, decoder, on_token)
        for number in group:
            del waiting[number]
        yield go_on(list(group), made)


def _fill(fills: Sequence[Fill], parts: Parts, decoder: Decoder, on_token: Callable[[int], None]) -> list[list[Pieces]]:
    """The pieces of all rows of fills of one kind."""
    rows, against, generators = (
        [each for fill in fills for each in getattr(fill, name)] for name in ("rows", "against", "generators")
    )
    takers = [taker for fill in fills for taker in fill.takers or [_ignore] * len(fill.rows)]
    longest = max(len(row.tokens) for row in (*rows, *against))
    size = min(MOST_ROWS, max(1, most_rows(parts.language_model, longest) // (2 if against else 1)))
    pieces: list[Pieces] = []
    for first in range(0, len(rows), size):
        chosen = slice(first, first + size)
        num_rows = len(rows[chosen])
        settling = None
        if any(taker is not _ignore for taker in takers[chosen]):
            settling = Settling(rows[chosen], takers[chosen], parts.vocabulary)
            settling.begin()
        filled = decoder.decode(
            parts.language_model,
            parts.vocabulary,
            rows[chosen],
            against[chosen],
            fills[0].sampling,
            generators[chosen],
            lambda num_rows=num_rows: on_token(num_rows),
            settling,
        )
        pieces += [layout.read_back(row, parts.vocabulary) for row in filled]
    ends = torch.tensor([len(fill.rows) for fill in fills]).cumsum(0).tolist()
    return [pieces[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def _ignore(codes: Tensor) -> None:
    """Takes codes that nobody waits for."""
