"""Token after token in the order of the row, with cached keys and values: how VideoPoet decodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor

from videopoet import runtime
from videopoet.generation.decoders.base import Decoder, guided_logits
from videopoet.generation.sampling import Sampling, gumbel_noises, sample
from videopoet.models.cached_pass import cached_pass
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
        read = cached_pass(model, len(tokens), length)
        fed = 0
        for index, place in enumerate(unknown):
            step = slice(fed, place)
            embeddings = model.embed_tokens(tokens[:, step], batch.modality[:, step]) + placed[:, step]
            hidden = read(embeddings, mask[:, :, step, :place], positions[:, step], step)[:, -1]  # (B, D)
            start, stop = ranges[place]
            logits = guided_logits(read, hidden, bool(against), start, stop, sampling.guidance_scale)  # (R, V)
            noise = runtime.sent(gumbel_noises((stop - start,), generators), device) if sampling.temperature else None
            chosen = start + sample(logits, sampling, noise)
            if start <= end < stop:  # a text, which may end before its last position
                chosen = chosen.masked_fill(ended, end)
                ended |= chosen == end
            tokens[:, place] = chosen.repeat(2) if against else chosen
            fed = place
            on_step()
            if on_settled is not None:
                on_settled(tokens[: len(rows)], [index + 1] * len(rows))
            if start <= end < stop and ended.all():
                break
        tokens = tokens.masked_fill(tokens == UNKNOWN, end).to(rows[0].tokens.device)
        return [row.filled(own[length - len(row.tokens) :]) for row, own in zip(rows, tokens, strict=False)]
