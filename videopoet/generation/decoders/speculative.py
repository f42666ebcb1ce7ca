"""Several tokens per pass, and the same ones: a window of guesses is checked at once, and what is right is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Generator, Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from videopoet.generation.decoders.autoregressive import Autoregressive
from videopoet.generation.decoders.base import Decoder
from videopoet.generation.sampling import Sampling, guide, gumbel_noise, sample
from videopoet.models.language_model import LanguageModel
from videopoet.sequence.layout import UNKNOWN, Batch, Row, batch_rows
from videopoet.sequence.vocabulary import Vocabulary


class Speculative(Decoder):
    """Jacobi decoding with the noise of every position drawn once.

    Exact: a token is a function of the tokens before it and of its position's noise, so a guess that equals what the
    model chooses after right tokens is right, and the result is what `Autoregressive` gives for the same streams (up
    to the rounding of passes of another length). A guess is first the code at the same place of the latent frame
    before, then what the last pass chose there. Rows go on at their own speed. A text, which may end early, is left to
    `Autoregressive`, and so is a batch that is busy enough with one token per row.

    Args:
        window: The most guesses that a pass checks in a row.
        most_guesses: The most that it checks in all rows together.
    """

    LEAST_WINDOW = 4
    """With fewer guesses a pass costs more than it saves."""

    def __init__(self, window: int = 16, most_guesses: int = 32):
        self.window, self.most_guesses = window, most_guesses

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
    ) -> list[Row]:
        size = min(self.window, self.most_guesses // len(rows))
        if "text_out" in rows[0].spans or size < min(self.window, self.LEAST_WINDOW):
            return Autoregressive().decode(model, vocabulary, rows, against, sampling, generators, on_step)
        device = model.head_weight.device
        batch = batch_rows([*rows, *against], vocabulary.special("<pad>")).to(device)
        length, num_rows, num_copies = batch.tokens.shape[1], len(rows), 2 if against else 1
        unknown = (batch.tokens[0] == UNKNOWN).nonzero().flatten()  # the outputs of all rows have one shape
        ranges = batch.ranges[0, unknown].tolist()
        before = _places_before(batch, unknown)
        noises: list[list[Tensor]] = [[] for _ in rows]

        tokens, others = batch.tokens[:num_rows].clone(), batch.tokens[num_rows:]
        mask, positions = batch.attention_mask(), batch.positions
        placed = model.embedding.of_places(batch.modality, batch.places)  # (B, L, D)
        layers = [_Layer(length) for _ in range(model.num_layers)]
        cache = Cache(layers=[*layers])
        first = torch.zeros(num_rows, dtype=torch.long, device=device)  # of each row, the first index not yet settled
        fed = torch.zeros(num_rows, dtype=torch.long, device=device)  # the first position whose token may have changed
        offsets = torch.arange(size, device=device)
        while (settled := int(first.min())) < len(unknown):
            window = (first[:, None] + offsets).clamp_max(len(unknown) - 1)  # (R, W) indices into `unknown`
            places = unknown[window]
            self._guess(tokens, places, before[window], ranges[settled])

            num_fed = int((places[:, -1] - fed).max())
            step = (fed[:, None] + torch.arange(num_fed, device=device)).clamp_max(length - 1)  # (R, F) positions
            both = step.repeat(num_copies, 1)
            known = torch.cat([tokens, torch.where(others == UNKNOWN, tokens, others)] if against else [tokens])
            known = known.clamp_min(0)  # a row that needs fewer positions feeds some that hold no guess yet
            embeddings = model.embed_tokens(known.gather(1, both), batch.modality.gather(1, both))
            embeddings = embeddings + placed.gather(1, both[..., None].expand(-1, -1, placed.shape[2]))
            reach = int(both.max()) + 1
            seen = mask[:, 0].gather(1, both[..., None].expand(-1, -1, length))[:, None, :, :reach]  # (B, 1, F, K)
            for layer in layers:
                layer.step, layer.reach = both, reach
            hidden = model(embeddings, seen, positions.gather(1, both), cache)  # (B, F, D)
            asked = (places - 1 - fed[:, None]).clamp_min(0).repeat(num_copies, 1)  # of a complete row, any
            hidden = hidden.gather(1, asked[..., None].expand(-1, -1, hidden.shape[2]))  # (B, W, D)

            chosen = self._choose(model, hidden, window, ranges, sampling, generators, noises)
            guesses = tokens.gather(1, places)
            chosen = torch.where((first < len(unknown))[:, None], chosen, guesses)  # a complete row stays
            right = (chosen == guesses).cumprod(dim=1).sum(dim=1)
            tokens.scatter_(1, places, chosen)
            # The first wrong guess has been put right; those after it are better guesses now.
            first = (first + (right + 1).clamp_max(size)).clamp_max(len(unknown))
            fed = unknown[(first - 1).clamp_min(0)]
            noises = [own[done:] for own, done in zip(noises, (first - window[:, 0]).tolist(), strict=True)]
            for _ in range(int(first.min()) - settled):
                on_step()
        tokens = tokens.to(rows[0].tokens.device)
        return [row.filled(own[length - len(row.tokens) :]) for row, own in zip(rows, tokens, strict=True)]

    def _guess(self, tokens: Tensor, places: Tensor, before: Tensor, usual: list[int]) -> None:
        """Fill guesses into `tokens` at those of the places, (R, W), that have none: what stands `before` them."""
        for column in range(places.shape[1]):
            place = places[:, column : column + 1]
            guess = tokens.gather(1, before[:, column : column + 1])
            guess = torch.where(guess == UNKNOWN, usual[0], guess)
            tokens.scatter_(1, place, torch.where(tokens.gather(1, place) == UNKNOWN, guess, tokens.gather(1, place)))

    def _choose(
        self,
        model: LanguageModel,
        hidden: Tensor,
        window: Tensor,
        ranges: list[list[int]],
        sampling: Sampling,
        generators: Sequence[Generator],
        noises: list[list[Tensor]],
    ) -> Tensor:
        """Tokens, (R, W), for the indices in `window`, from hidden states (R or 2 R, W, D)."""
        indices = window.tolist()
        if sampling.temperature:
            for row, stream, own in zip(indices, generators, noises, strict=True):
                for index in row[len(own) :]:
                    if len(own) == index - row[0]:
                        own.append(gumbel_noise((ranges[index][1] - ranges[index][0],), stream))
        chosen = torch.zeros_like(window)
        for start, stop in dict.fromkeys(tuple(ranges[index]) for row in indices for index in row):
            here = torch.tensor([[ranges[index] == [start, stop] for index in row] for row in indices])
            here = here.to(hidden.device)
            logits = [model.logits(part[here], start, stop) for part in hidden.chunk(len(hidden) // len(window))]
            joined = logits[0] if len(logits) == 1 else guide(logits[0], logits[1], scale=sampling.guidance_scale)
            noise = [own[index - row[0]] for row, own in zip(indices, noises, strict=True) if own for index in row]
            noise = [one for one, wanted in zip(noise, here.flatten().tolist(), strict=True) if wanted] if noise else []
            drawn = torch.stack(noise).to(hidden.device) if noise else joined
            chosen[here] = start + sample(joined, sampling, drawn)
        return chosen


def _places_before(batch: Batch, unknown: Tensor) -> Tensor:
    """For each unknown position the one whose token it probably repeats: a latent frame earlier, else one earlier."""
    modality, places = batch.modality[0], batch.places[0]
    before = unknown - 1
    for index, position in enumerate(unknown.tolist()):
        earlier = places[position] - places.new_tensor([1, 0, 0])
        same = (modality[:position] == modality[position]) & (places[:position] == earlier).all(dim=1)
        if len(found := same.nonzero()):
            before[index] = found[-1]
    return before


class _Layer(CacheLayerMixin):
    """Keys and values of one layer, written at positions that differ from row to row and may be written again."""

    is_sliding = False

    def __init__(self, length: int):
        super().__init__()
        self.length, self.reach = length, 0
        self.step = torch.empty(0, dtype=torch.long)
        """(B, F) positions that the next pass writes; `reach` is the first one after what it sees."""

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.keys, self.values = (
            states.new_zeros(*states.shape[:2], self.length, states.shape[3]) for states in (key_states, value_states)
        )
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None and self.values is not None
        for held, states in ((self.keys, key_states), (self.values, value_states)):
            held.scatter_(2, self.step[:, None, :, None].expand(-1, states.shape[1], -1, states.shape[3]), states)
        return self.keys[:, :, : self.reach], self.values[:, :, : self.reach]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.reach, 0

    def get_seq_length(self) -> int:
        return self.reach

    def get_max_length(self) -> int:
        return self.length
