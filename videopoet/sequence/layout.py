"""Rows of tokens: a task's pieces in the paper's order, with all that each position must know.

    <bos> <task> [<bot_i> text <eot_i>] [<bov_i> video <eov_i>] [<boa_i> audio <eoa_i>] [<source>] [<res>] [<len>]
    <bov_o> video <eov_o> | <boa_o> audio <eoa_o> | <bot_o> text <eot_o>, as the task predicts, then <eos>

The first line is the prefix, which is read in both directions; the second is the output, which is causal. What is
absent takes its markers along. Video is laid out by time, row, column; audio level by level, each over the whole clip.

Everything in a row stands at the position of the token it speaks of. The model predicts the token at position i from
its state at position i - 1, so a loss compares `logits[:, :-1]` with `tokens[:, 1:]` where `targets[:, 1:]` holds.

A row for generation is a row for training whose output codes are `UNKNOWN`: `build` lays out both.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Self

import torch
from torch import Tensor

from videopoet.errors import TaskError
from videopoet.sequence.conditions import Modality
from videopoet.sequence.tasks import Task
from videopoet.sequence.vocabulary import MODALITIES, Vocabulary

UNKNOWN = -1
"""A code or token that is still to be generated. No embedding has such a row, so feeding one to a model fails."""

VIDEO = MODALITIES.index("video")

_LETTER = {"text": "t", "video": "v", "audio": "a"}


@dataclass(frozen=True)
class Span:
    """Where a piece lies in its row, and the shape of its codes."""

    start: int
    shape: tuple[int, ...]

    @property
    def stop(self) -> int:
        """The position after the last token."""
        return self.start + torch.Size(self.shape).numel()


@dataclass(frozen=True, eq=False)
class Row:
    """One example; every tensor begins with the axis of positions, L."""

    tokens: Tensor
    """(L,) int64; `UNKNOWN` where a token is to be generated."""
    modality: Tensor
    """(L,) int64; index into `MODALITIES`."""
    places: Tensor
    """(L, 3) int64; time, row, column of a video token; level, frame, -1 of an audio token; else -1, -1, -1."""
    ranges: Tensor
    """(L, 2) int64; the first allowed id and the one after the last; where nothing is chosen, only the token itself."""
    targets: Tensor
    """(L,) bool; the token is the model's choice: counted in the loss, sampled in generation."""
    prefix_length: int
    """Positions before the first output marker."""
    spans: dict[str, Span]
    """Each piece's place in the row; `video_start` is the beginning of `video_out`."""

    @property
    def to_generate(self) -> Tensor:
        """(L,) bool; the positions that a decoder must fill, in order. It may stop a text output at `<eot_o>`."""
        return self.tokens == UNKNOWN

    @property
    def given_output(self) -> int:
        """How many known tokens the output starts with, after its marker."""
        span = self.spans.get("video_start")
        return span.stop - span.start if span else 0

    def filled(self, tokens: Tensor) -> Row:
        """This row with the tokens (L,) that a decoder has completed."""
        return replace(self, tokens=tokens)


def build(
    task: Task,
    vocabulary: Vocabulary,
    pieces: dict[str, Tensor],
    *,
    source: str | None = None,
    resolution: tuple[int, int] | None = None,
    length: int | None = None,
) -> Row:
    """Lay out a task's pieces as a row.

    Args:
        task: An entry of the task table.
        vocabulary: Turns codes into tokens.
        pieces: Codes by name: what the task gives as `text_in` (L,), `video_in` (t, h, w), `audio_in` (Q, s) and
            `video_start` (k, h, w), what it predicts as `video_out`, `audio_out` and `text_out`. `video_start` is
            written over the first k latent frames of `video_out`. `text_in` may be absent from any task: that is the
            row that guidance compares with. Where a text encoder gives features, its ids hold their positions.
        source: Name of the data source to imitate.
        resolution: Height and width in pixels of the output; without it, the usual ones are meant.
        length: Number of frames of the output.

    Raises:
        TaskError: A piece is missing, or the task has no place for it, or the start does not fit the output.
        DataError: A code is outside the vocabulary.
        ConfigError: The vocabulary has no token for the source, resolution or length.
    """
    _check(task, pieces)
    writer = _Writer(vocabulary, device=next(iter(pieces.values())).device)
    writer.mark("<bos>")
    writer.mark(task.task_token)
    for modality in ("text", "video", "audio"):
        if (piece := f"{modality}_in") in pieces:
            writer.mark(f"<bo{_LETTER[modality]}_i>")
            writer.give(piece, vocabulary.given_text if modality == "text" else modality, pieces[piece])
            writer.mark(f"<eo{_LETTER[modality]}_i>")
    if source is not None:
        writer.mark(f"<source:{source}>")
    if resolution is not None:
        writer.mark(f"<res:{resolution[0]}x{resolution[1]}>")
    if length is not None:
        writer.mark(f"<len:{length}>")
    prefix_length = writer.length
    for view in task.predict:
        modality = view.modality
        writer.mark(f"<bo{_LETTER[modality]}_o>")
        writer.predict(f"{modality}_out", modality, pieces[f"{modality}_out"], start=pieces.get(f"{modality}_start"))
        if modality == "text":
            writer.choose_end()
        elif not task.open_ended:
            writer.mark(f"<eo{_LETTER[modality]}_o>")
    if not task.open_ended:
        writer.mark("<eos>")
    return writer.row(prefix_length)


def plan(
    task: Task, vocabulary: Vocabulary, pieces: dict[str, Tensor], shapes: dict[str, tuple[int, ...]], **head
) -> Row:
    """Lay out a row for generation: `pieces` are what is given, `shapes` those of the codes to come.

    `shapes` has `video_out` (t, h, w), `audio_out` (Q, s) or `text_out` (the most text tokens). `head` and what is
    raised are as in `build`.
    """
    device = next((codes.device for codes in pieces.values()), None)
    outputs = {piece: torch.full(shape, UNKNOWN, device=device) for piece, shape in shapes.items()}
    return build(task, vocabulary, pieces | outputs, **head)


def read_back(row: Row, vocabulary: Vocabulary) -> dict[str, Tensor]:
    """The pieces of a row without unknown tokens; the inverse of `build`. A text output ends at its first `<eot_o>`.

    Raises:
        DataError: A token does not belong where it stands.
    """
    pieces = {}
    for piece, span in row.spans.items():
        modality = vocabulary.given_text if piece == "text_in" else piece.split("_")[0]
        tokens = row.tokens[span.start : span.stop]
        if piece == "text_out":
            ends = (tokens == vocabulary.special("<eot_o>")).nonzero().flatten().tolist()
            pieces[piece] = vocabulary.codes("text", tokens[: ends[0]] if ends else tokens)
        else:
            pieces[piece] = vocabulary.codes(modality, tokens.view(span.shape))
    return pieces


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows padded on the left, so that rows with outputs of one shape have them at the same positions."""

    tokens: Tensor
    """(B, L) int64"""
    modality: Tensor
    """(B, L) int64"""
    places: Tensor
    """(B, L, 3) int64"""
    ranges: Tensor
    """(B, L, 2) int64"""
    targets: Tensor
    """(B, L) bool"""
    padding: Tensor
    """(B,) int64; how many positions of each row are padding."""
    prefix_length: Tensor
    """(B,) int64; without padding."""

    @property
    def positions(self) -> Tensor:
        """(B, L) int64; each row counts from 0 at its first token, padding is 0."""
        index = torch.arange(self.tokens.shape[1], device=self.tokens.device)
        return (index - self.padding[:, None]).clamp_min(0)

    @property
    def to_generate(self) -> Tensor:
        """(B, L) bool; see `Row.to_generate`."""
        return self.tokens == UNKNOWN

    @property
    def num_padding(self) -> int:
        """Positions spent on padding, of `tokens.numel()`."""
        return int(self.padding.sum())

    @property
    def neighbours(self) -> list[tuple[int, int]]:
        """For each position of an output the one at its place a latent frame before (in sound: a level before), and
        the one above it; -1 where there is none. Rows with outputs of one shape have the same."""
        latest: dict[tuple[int, ...], int] = {}
        neighbours = []
        for position, (modality, place) in enumerate(
            zip(self.modality[0].tolist(), self.places[0].tolist(), strict=True)
        ):
            time, row, column = place
            above = latest.get((modality, time, row - 1, column), -1) if modality == VIDEO else -1
            neighbours.append((latest.get((modality, time - 1, row, column), -1), above))
            latest[modality, time, row, column] = position
        return neighbours

    def unpadded(self) -> list[Row]:
        """The rows, which do not know any more where their pieces lie."""
        columns = [self.tokens, self.modality, self.places, self.ranges, self.targets]
        return [
            Row(*(column[number, padding:] for column in columns), prefix_length=prefix_length, spans={})
            for number, (padding, prefix_length) in enumerate(
                zip(self.padding.tolist(), self.prefix_length.tolist(), strict=True)
            )
        ]

    def attention_mask(self, causal_prefix: bool = False) -> Tensor:
        """Which position (second to last axis) sees which (last axis), bool (B, 1, L, L). See `attention_mask`."""
        return attention_mask(self.tokens.shape[1], self.prefix_length, self.padding, causal_prefix)

    def to(self, device: torch.device | str) -> Self:
        """The batch on another device."""
        return replace(self, **{field.name: getattr(self, field.name).to(device) for field in fields(self)})


def batch_rows(rows: list[Row], pad: int) -> Batch:
    """Pad rows on the left with the token `pad` to one length."""
    length = max(len(row.tokens) for row in rows)
    padding = torch.tensor([length - len(row.tokens) for row in rows], device=rows[0].tokens.device)

    def stack(name: str, value: int) -> Tensor:
        columns = [getattr(row, name) for row in rows]
        return torch.stack([torch.cat([c.new_full((length - len(c), *c.shape[1:]), value), c]) for c in columns])

    special = MODALITIES.index("special")
    ranges = stack("ranges", 0)
    is_padding = torch.arange(length, device=padding.device) < padding[:, None]
    ranges[is_padding] = torch.tensor([pad, pad + 1], device=padding.device)
    return Batch(
        tokens=stack("tokens", pad),
        modality=stack("modality", special),
        places=stack("places", -1),
        ranges=ranges,
        targets=stack("targets", False),
        padding=padding,
        prefix_length=torch.tensor([row.prefix_length for row in rows], device=padding.device),
    )


def attention_mask(length: int, prefix_length: Tensor, padding: Tensor, causal_prefix: bool = False) -> Tensor:
    """The prefix language model's mask, bool (B, 1, L, L), True where the row's position sees the column's.

    The prefix sees all of the prefix, the output sees the prefix and what came before it, nothing sees padding. Padding
    sees itself, so that its softmax is finite. With `causal_prefix` the prefix is causal too, for models that take no
    other mask.
    """
    index = torch.arange(length, device=padding.device)
    first = torch.minimum(index, padding[:, None])  # (B, L): each position sees one run of others, from first to last
    last = index.expand_as(first)
    if not causal_prefix:
        end = (padding + prefix_length)[:, None]
        last = torch.where((index >= padding[:, None]) & (index < end), end - 1, last)
    return ((first[:, :, None] <= index) & (index <= last[:, :, None]))[:, None]


class _Writer:
    """Appends markers and pieces, and keeps the columns of the row in step."""

    def __init__(self, vocabulary: Vocabulary, device: torch.device):
        self.vocabulary = vocabulary
        self.device = device
        self.length = 0
        self.spans: dict[str, Span] = {}
        self.columns: list[tuple[Tensor, Tensor, Tensor, Tensor, Tensor]] = []

    def mark(self, name: str) -> None:
        self._append("special", torch.tensor([self.vocabulary.special(name)], device=self.device))

    def give(self, piece: str, modality: str, codes: Tensor) -> None:
        self.spans[piece] = Span(self.length, tuple(codes.shape))
        self._append(modality, self._tokens(modality, codes), self._places(modality, codes))

    def predict(self, piece: str, modality: Modality, codes: Tensor, start: Tensor | None) -> None:
        if start is not None:
            codes = torch.cat([start, codes[len(start) :]])
            self.spans[f"{modality}_start"] = Span(self.length, tuple(start.shape))
        self.spans[piece] = Span(self.length, tuple(codes.shape))
        places = self._places(modality, codes)
        targets = torch.ones(codes.numel(), dtype=torch.bool, device=self.device)
        targets[: start.numel() if start is not None else 0] = False
        self._append(modality, self._tokens(modality, codes), places, targets, self._choices(modality, places))

    def choose_end(self) -> None:
        """The end of a text output, which is the model's choice: the only marker that is."""
        end = torch.tensor([self.vocabulary.special("<eot_o>")], device=self.device)
        nowhere = torch.full((1, 3), -1, device=self.device)
        chosen = torch.ones(1, dtype=torch.bool, device=self.device)
        self._append("special", end, nowhere, chosen, self._choices("text", nowhere))

    def row(self, prefix_length: int) -> Row:
        tokens, modality, places, ranges, targets = (torch.cat(column) for column in zip(*self.columns, strict=True))
        return Row(tokens, modality, places, ranges, targets, prefix_length, self.spans)

    def _append(
        self,
        modality: str,
        tokens: Tensor,
        places: Tensor | None = None,
        targets: Tensor | None = None,
        choices: Tensor | None = None,
    ) -> None:
        count = len(tokens)
        only_itself = torch.stack([tokens, tokens + 1], dim=1)
        places = torch.full((count, 3), -1, device=self.device) if places is None else places
        targets = torch.zeros(count, dtype=torch.bool, device=self.device) if targets is None else targets
        ranges = only_itself if choices is None else torch.where(targets[:, None], choices, only_itself)
        index = torch.full((count,), MODALITIES.index(modality), device=self.device)
        self.columns.append((tokens, index, places, ranges, targets))
        self.length += count

    def _tokens(self, modality: str, codes: Tensor) -> Tensor:
        unknown = codes == UNKNOWN
        return self.vocabulary.tokens(modality, codes.masked_fill(unknown, 0)).masked_fill(unknown, UNKNOWN).flatten()

    def _places(self, modality: str, codes: Tensor) -> Tensor:
        if modality in ("text", "prompt"):
            return torch.full((codes.numel(), 3), -1, device=self.device)
        places = torch.cartesian_prod(*(torch.arange(size, device=self.device) for size in codes.shape))
        return torch.nn.functional.pad(places, (0, 3 - places.shape[1]), value=-1)

    def _choices(self, modality: str, places: Tensor) -> Tensor:
        start, stop = self.vocabulary.range(modality)
        if modality == "text":
            stop = self.vocabulary.special("<eot_o>") + 1
        if modality == "audio":
            size = self.vocabulary.config.audio_codebook_size
            starts = start + size * places[:, 0]
            return torch.stack([starts, starts + size], dim=1)
        return torch.tensor([start, stop], device=self.device).expand(len(places), 2)


def _check(task: Task, pieces: dict[str, Tensor]) -> None:
    predicted = [f"{view.modality}_out" for view in task.predict]
    known = [view.piece for view in task.given] + predicted
    needed = [view.piece for view in task.given if not view.optional and view.modality != "text"] + predicted
    for piece in pieces:
        if piece not in known:
            raise TaskError(
                f"{task.name} has no place for {piece}; its pieces are {', '.join(known)}; leave it out",
                code="input_unexpected",
            )
    for piece in needed:
        if piece not in pieces:
            raise TaskError(
                f"{task.name} needs {piece} and got {', '.join(pieces) or 'nothing'}; give it", code="input_missing"
            )
    if "video_start" in pieces:
        start, output = tuple(pieces["video_start"].shape), tuple(pieces["video_out"].shape)
        if start[1:] != output[1:] or start[0] >= output[0]:
            raise TaskError(
                f"the known start has shape {start} and the output {output} (time, rows, columns); "
                "give a start that is shorter and of the same rows and columns",
                code="start_too_long" if start[1:] == output[1:] else "start_shape",
            )
