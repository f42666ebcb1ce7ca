"""Token after token in the order of the row, with cached keys and values: how VideoPoet decodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Generator, Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from videopoet.generation.decoders.base import Decoder
from videopoet.generation.sampling import Sampling, guide, gumbel_noise, sample
from videopoet.models.language_model import LanguageModel
from videopoet.sequence.layout import UNKNOWN, Row, batch_rows
from videopoet.sequence.vocabulary import Vocabulary


class Autoregressive(Decoder):
    """One forward pass per chosen token. Known tokens between two chosen ones are fed along with the first of them."""

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
        device = model.head_weight.device
        batch = batch_rows([*rows, *against], vocabulary.special("<pad>")).to(device)
        tokens, length = batch.tokens, batch.tokens.shape[1]
        model.check_length(length)
        unknown = [place for place, chosen in enumerate((tokens[0] == UNKNOWN).tolist()) if chosen]
        assert torch.equal(batch.to_generate, batch.to_generate[:1].expand_as(tokens)), "outputs must have one shape"
        ranges = batch.ranges[0].tolist()
        end = vocabulary.special("<eot_o>")
        ended = torch.zeros(len(rows), dtype=torch.bool, device=device)

        mask, positions = batch.attention_mask(model.causal_prefix), batch.positions
        placed = model.embedding.of_places(batch.modality, batch.places)  # (B, L, D)
        cache = Cache(layers=[_Layer(length) for _ in range(model.num_layers)])
        fed = 0
        for index, place in enumerate(unknown):
            step = slice(fed, place)
            embeddings = model.embed_tokens(tokens[:, step], batch.modality[:, step]) + placed[:, step]
            hidden = model(embeddings, mask[:, :, step, :place], positions[:, step], cache)[:, -1]  # (B, D)
            start, stop = ranges[place]
            logits = model.logits(hidden, start, stop)  # (B, stop - start)
            if against:
                logits = guide(*logits.chunk(2), scale=sampling.guidance_scale)
            noise = torch.stack([gumbel_noise((stop - start,), stream) for stream in generators]).to(device)
            chosen = start + sample(logits, sampling, noise)
            if start <= end < stop:  # a text, which may end before its last position
                chosen = chosen.masked_fill(ended, end)
                ended |= chosen == end
            tokens[:, place] = chosen.repeat(2) if against else chosen
            fed = place
            on_step()
            if on_settled is not None:
                on_settled(tokens[: len(rows)], [index + 1] * len(rows))
            if ended.all():
                break
        tokens = tokens.masked_fill(tokens == UNKNOWN, end).to(rows[0].tokens.device)
        return [row.filled(own[length - len(row.tokens) :]) for row, own in zip(rows, tokens, strict=False)]


class _Layer(CacheLayerMixin):
    """Keys and values of one layer in room for the whole row, so that no step copies those before it."""

    is_sliding = False

    def __init__(self, length: int):
        super().__init__()
        self.length, self.filled = length, 0

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.keys, self.values = (
            states.new_empty(*states.shape[:2], self.length, states.shape[3]) for states in (key_states, value_states)
        )
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None and self.values is not None
        start, self.filled = self.filled, self.filled + key_states.shape[2]
        self.keys[:, :, start : self.filled] = key_states
        self.values[:, :, start : self.filled] = value_states
        return self.keys[:, :, : self.filled], self.values[:, :, : self.filled]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.filled + query_length, 0

    def get_seq_length(self) -> int:
        return self.filled

    def get_max_length(self) -> int:
        return self.length
