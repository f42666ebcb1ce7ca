"""Several tokens per pass, and the same ones: a window of guesses is checked at once, and what is right is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Generator, Tensor

from videopoet import runtime
from videopoet.generation.decoders.autoregressive import Autoregressive
from videopoet.generation.decoders.base import Decoder, guided_logits
from videopoet.generation.sampling import Sampling, gumbel_noise, sample
from videopoet.models.cached_pass import CachedPass, cached_pass
from videopoet.models.language_model import LanguageModel
from videopoet.sequence.layout import UNKNOWN, Batch, Row, batch_rows
from videopoet.sequence.vocabulary import Vocabulary


class Speculative(Decoder):
    """Jacobi decoding with the noise of every position drawn once.

    Exact: a token is a function of the tokens before it and of its position's noise, so a guess that equals what the
    model chooses after right tokens is right, and the result is what `Autoregressive` gives for the same streams (up
    to the rounding of passes of another length). A guess is first what the model's draft head chooses with that noise,
    where it has one, else the code at the same place of the latent frame before; then what the last pass chose there.
    Rows go on at their own speed. A text, which may end early, is left to `Autoregressive`, and so is a batch that is
    busy enough with one token per row.

    Args:
        window: The most guesses that a pass checks in a row.
        most_guesses: The most that it checks in all rows together.
        drafts: Let the model's draft head guess.
    """

    LEAST_WINDOW = 4
    """With fewer guesses a pass costs more than it saves."""

    def __init__(self, window: int = 16, most_guesses: int = 32, drafts: bool = True):
        self.window, self.most_guesses, self.drafts = window, most_guesses, drafts

    @torch.no_grad()
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
        size = min(self.window, self.most_guesses // len(rows))
        if "text_out" in rows[0].spans or size < min(self.window, self.LEAST_WINDOW):
            return Autoregressive().decode(model, vocabulary, rows, against, sampling, generators, on_step, on_settled)
        device = model.head_weight.device
        batch = batch_rows([*rows, *against], vocabulary.special("<pad>")).to(device)
        model.check_length(batch.tokens.shape[1])
        length, num_rows, num_copies = batch.tokens.shape[1], len(rows), 2 if against else 1
        unknown = (batch.tokens[0] == UNKNOWN).nonzero().flatten()  # the outputs of all rows have one shape
        ranges: list[tuple[int, int]] = [(start, stop) for start, stop in batch.ranges[0, unknown].tolist()]
        places_of = unknown.tolist()
        before = torch.tensor(places_before(batch, places_of), device=device)
        noise = _Noise(ranges, size, generators, device) if sampling.temperature else None

        tokens = batch.tokens.clone()  # (B, L)
        mask, positions = batch.attention_mask(model.causal_prefix), batch.positions
        placed = model.embedding.of_places(batch.modality, batch.places)  # (B, L, D)
        read = cached_pass(model, len(tokens), length)
        choose = partial(_choose, read, bool(against), batch.ranges[0, unknown, 0], sampling)
        drafts = _Drafts(model, batch, placed, unknown) if self.drafts and model.draft_head is not None else None
        first = [0] * num_rows  # of each row, the first index not yet settled
        guessed = [0] * num_rows  # the first that has no guess
        offsets = torch.arange(size, device=device)
        while (settled := min(first)) < len(unknown):
            # A row is fed from its last settled token on, which the pass before held a guess for.
            fed = [places_of[index - 1] if index else 0 for index in first]
            begin, start = runtime.sent(torch.tensor([first, fed]), device)[..., None]  # (R, 1) each
            window = (begin + offsets).clamp_max(len(unknown) - 1)  # (R, W)
            places = unknown[window]
            ends = [min(index + size, len(unknown)) for index in first]
            kinds = sorted({ranges[min(index + offset, len(unknown) - 1)] for index in first for offset in range(size)})
            if drafts is not None:
                if noise is not None:
                    noise.draw(ends)
                drafts.fill(tokens, window, partial(choose, kinds), noise)
            unguessed = [known - index for known, index, end in zip(guessed, first, ends, strict=True) if known < end]
            columns = range(min(unguessed, default=size), size)
            guesses = _guesses(tokens[:num_rows], places, before[window], columns, ranges[settled][0])
            guessed = ends
            tokens.scatter_(1, places.repeat(num_copies, 1), guesses.repeat(num_copies, 1))

            last = [places_of[index - 1] for index in ends]
            num_fed = max(end - start for start, end in zip(fed, last, strict=True))
            starts = start.repeat(num_copies, 1)
            hidden = _feed(read, model, batch, tokens, placed, mask, positions, fed, starts, num_fed)
            if noise is not None:
                noise.draw(ends)  # while a GPU is at the states
            if drafts is not None:
                drafts.keep(hidden, tokens, starts)
            asked = (places - 1 - start).clamp_min(0).repeat(num_copies, 1)  # of a complete row, any
            hidden = hidden.gather(1, asked[..., None].expand(-1, -1, hidden.shape[2]))  # (B, W, D)

            if noise is None:
                chosen = choose(kinds, hidden, window, None)
            else:  # in the order in which noise is held, which is far larger than the states
                slots = window % size
                order = torch.zeros_like(window).scatter_(1, slots, offsets.expand_as(window))
                hidden = hidden.gather(1, order.repeat(num_copies, 1)[..., None].expand_as(hidden))
                chosen = choose(kinds, hidden, window.gather(1, order), noise.held).gather(1, slots)
            right = (chosen == guesses).cumprod(dim=1).sum(dim=1).tolist()  # a GPU is waited for
            chosen = torch.where(begin >= len(unknown), guesses, chosen)
            tokens.scatter_(1, places.repeat(num_copies, 1), chosen.repeat(num_copies, 1))
            # The first wrong guess has been put right; those after it are better guesses now.
            first = [min(index + min(count + 1, size), len(unknown)) for index, count in zip(first, right, strict=True)]
            for _ in range(min(first) - settled):
                on_step()
            if on_settled is not None:
                on_settled(tokens[:num_rows], first)
        tokens = tokens.to(rows[0].tokens.device)
        return [row.filled(own[length - len(row.tokens) :]) for row, own in zip(rows, tokens, strict=False)]


def _guesses(tokens: Tensor, places: Tensor, before: Tensor, columns: range, usual: int) -> Tensor:
    """Tokens, (R, W), at the places: what stands there, else what stands `before` them, else the `usual` one.

    In other columns than those named something stands everywhere.
    """
    if not columns:
        return tokens.gather(1, places)
    tokens = tokens.clone()
    for column in columns:
        place = places[:, column : column + 1]
        guess = tokens.gather(1, before[:, column : column + 1])
        guess = torch.where(guess == UNKNOWN, usual, guess)
        tokens.scatter_(1, place, torch.where(tokens.gather(1, place) == UNKNOWN, guess, tokens.gather(1, place)))
    return tokens.gather(1, places)


def _choose(
    read: CachedPass,
    guided: bool,
    starts: Tensor,
    sampling: Sampling,
    kinds: Sequence[tuple[int, int]],
    hidden: Tensor,
    window: Tensor,
    noise: Tensor | None,
) -> Tensor:
    """Tokens, (R, W), for the indices in `window`, from hidden states (R or 2 R, W, D) and noise (R, W, V).

    `starts` (U,) are those of the ranges of all indices, and `kinds` the ranges in the window.
    """
    chosen = None
    for start, stop in kinds:
        logits = guided_logits(read, hidden, guided, start, stop, sampling.guidance_scale)
        here = start + sample(logits, sampling, None if noise is None else noise[:, :, : stop - start])
        chosen = here if chosen is None else torch.where(starts[window] == start, here, chosen)
    assert chosen is not None
    return chosen


class _Noise:
    """The noise of every position of every row, drawn once, in order, and kept while the row's window is on it."""

    def __init__(
        self, ranges: Sequence[tuple[int, int]], size: int, generators: Sequence[Generator], device: torch.device
    ):
        self.widths = [stop - start for start, stop in ranges]
        self.size, self.generators = size, generators
        self.drawn = [0] * len(generators)
        self.held = torch.zeros(len(generators), size, max(self.widths), device=device)
        """(R, W, V); that of index i is at i modulo W."""

    def draw(self, ends: Sequence[int]) -> None:
        """Have that of the indices before `ends`, one for each row."""
        slots: dict[int, list[int]] = {}
        drawn: dict[int, list[Tensor]] = {}
        for row, (stream, end) in enumerate(zip(self.generators, ends, strict=True)):
            while (start := self.drawn[row]) < end:
                width, stop = self.widths[start], start + 1
                while stop < end and self.widths[stop] == width:
                    stop += 1
                drawn.setdefault(width, []).append(gumbel_noise((stop - start, width), stream))
                slots.setdefault(width, []).extend(row * self.size + index % self.size for index in range(start, stop))
                self.drawn[row] = stop
        for width, noise in drawn.items():
            places, numbers = (
                runtime.sent(each, self.held.device) for each in (torch.tensor(slots[width]), torch.cat(noise))
            )
            self.held.flatten(0, 1)[:, :width].index_copy_(0, places, numbers)

    def of(self, window: Tensor) -> Tensor:
        """That of indices (R, N), (R, N, V)."""
        return self.held.gather(1, (window % self.size)[..., None].expand(-1, -1, self.held.shape[2]))


class _Drafts:
    """First guesses of the model's draft head, and the states that it makes them of."""

    def __init__(self, model: LanguageModel, batch: Batch, placed: Tensor, unknown: Tensor):
        self.model, self.modality, self.placed, self.unknown = model, batch.modality, placed, unknown
        self.around = torch.tensor(batch.neighbours, device=unknown.device)[unknown]  # (U, 2)
        self.states = torch.zeros_like(placed)
        self.is_read = torch.zeros_like(batch.tokens, dtype=torch.bool)

    def keep(self, hidden: Tensor, tokens: Tensor, starts: Tensor) -> None:
        """Remember the hidden states, (B, F, D), of positions from `starts`, (B, 1), on."""
        offsets = torch.arange(hidden.shape[1], device=starts.device)
        step = (starts + offsets).clamp_max(tokens.shape[1] - 1)  # (B, F)
        self.states.scatter_(1, step[..., None].expand_as(hidden), hidden)
        self.is_read.scatter_(1, step, tokens.gather(1, step) != UNKNOWN)

    def fill(self, tokens: Tensor, window: Tensor, choose: Callable[..., Tensor], noise: _Noise | None) -> None:
        """Write guesses into tokens, (B, L), where a window, (R, W), has none and its neighbours have been read.

        `choose` gives the tokens, (R, N), for states (B, N, D), indices (R, N) and their noise.
        """
        places, around = self.unknown[window], self.around[window]
        exists = around >= 0  # (R, W, 2)
        is_read = self.is_read.gather(1, around.clamp_min(0).flatten(1)).view_as(around)
        there = tokens.gather(1, places)
        fits = (there == UNKNOWN) & exists.any(dim=2) & (is_read | ~exists).all(dim=2)
        columns = fits.any(dim=0).tolist()
        if True not in columns:
            return
        late = slice(columns.index(True), None)  # what has no guess yet is at the end
        copies = len(tokens) // len(window)
        every = places[:, late].repeat(copies, 1)
        states = self.model.draft(
            self.states, tokens, self.modality, self.placed, every, around[:, late].repeat(copies, 1, 1)
        )
        own = None if noise is None else noise.of(window[:, late])
        drafted = torch.where(fits[:, late], choose(states, window[:, late], own), there[:, late])
        tokens.scatter_(1, every, drafted.repeat(copies, 1))


def _feed(
    read: CachedPass,
    model: LanguageModel,
    batch: Batch,
    tokens: Tensor,
    placed: Tensor,
    mask: Tensor,
    positions: Tensor,
    fed: Sequence[int],
    starts: Tensor,
    num_fed: int,
) -> Tensor:
    """Hidden states, (B, F, D), of so many positions of each row from `fed` on, on the device `starts` (B, 1)."""
    length = tokens.shape[1]
    if len(set(fed)) == 1:
        step = slice(fed[0], fed[0] + num_fed)
        known = tokens[:, step].clamp_min(0)
        embeddings = model.embed_tokens(known, batch.modality[:, step]) + placed[:, step]
        return read(embeddings, mask[:, :, step, : step.stop], positions[:, step], step)
    step = starts + torch.arange(num_fed, device=tokens.device)
    step = step.clamp_max(length - 1)  # (B, F)
    known = tokens.gather(1, step).clamp_min(0)  # a row that needs fewer positions feeds some that hold no guess yet
    embeddings = model.embed_tokens(known, batch.modality.gather(1, step))
    embeddings = embeddings + placed.gather(1, step[..., None].expand(-1, -1, placed.shape[2]))
    reach = min(max(fed) + num_fed, length)
    seen = mask[:, 0].gather(1, step[..., None].expand(-1, -1, length))[:, None, :, :reach]  # (B, 1, F, K)
    return read(embeddings, seen, positions.gather(1, step), step)


def places_before(batch: Batch, unknown: Sequence[int]) -> list[int]:
    """For each unknown position the one whose token it probably repeats: a latent frame earlier, else one earlier."""
    before, latest = {}, {}
    for position, (modality, place) in enumerate(
        zip(batch.modality[0].tolist(), batch.places[0].tolist(), strict=True)
    ):
        before[position] = latest.get((modality, place[0] - 1, *place[1:]), position - 1)
        latest[modality, *place] = position
    return [before[position] for position in unknown]
