"""Several tokens per pass, from rows of the picture that are filled in side by side. Approximate."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor

from videopoet import runtime
from videopoet.generation.decoders.autoregressive import Autoregressive
from videopoet.generation.decoders.base import Decoder, guided_logits
from videopoet.generation.decoders.speculative import Speculative, places_before
from videopoet.generation.sampling import Sampling, gumbel_noises, sample
from videopoet.models.cached_pass import cached_pass
from videopoet.models.language_model import LanguageModel
from videopoet.sequence.layout import UNKNOWN, Row, batch_rows
from videopoet.sequence.vocabulary import MODALITIES, Vocabulary

VIDEO = MODALITIES.index("video")


class RowParallel(Decoder):
    """ZipAR's window (He et al., 2024): a row of codes begins once the row above is `window` codes ahead.

    Approximate: a code does not see those of the row above that are not there yet, and the first of a row follows a
    guess of the last of the row above. With a window as wide as the picture it is `Autoregressive`. The longer a row of
    codes, the more passes it saves: (rows - 1) x window + columns are left. Sound and text, which have no rows, are
    left to the exact decoders.

    Args:
        window: How many codes a row is ahead of the next; from 1.
    """

    exact = False

    def __init__(self, window: int = 2):
        assert window >= 1
        self.window = window

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
        if not (rows[0].to_generate & (rows[0].modality == VIDEO)).any():
            exact = Autoregressive() if "text_out" in rows[0].spans else Speculative()
            return exact.decode(model, vocabulary, rows, against, sampling, generators, on_step, on_settled)
        device = model.head_weight.device
        batch = batch_rows([*rows, *against], vocabulary.special("<pad>")).to(device)
        tokens, length = batch.tokens, batch.tokens.shape[1]
        model.check_length(length)
        num_rows, num_copies = len(rows), 2 if against else 1
        unknown = (tokens[0] == UNKNOWN).nonzero().flatten().tolist()
        ranges: list[list[int]] = batch.ranges[0].tolist()
        before = dict(zip(unknown, places_before(batch, unknown), strict=True))
        steps = schedule(batch.modality[0].tolist(), batch.places[0].tolist(), unknown, self.window)

        mask, positions = batch.attention_mask(model.causal_prefix), batch.positions
        placed = model.embedding.of_places(batch.modality, batch.places)  # (B, L, D)
        read = cached_pass(model, len(tokens), length)
        final = (tokens[0] != UNKNOWN).tolist()
        to_feed = set(range(length))  # whose keys and values are not kept yet
        seen = torch.zeros(length, dtype=torch.bool, device=device)  # whose are
        num_settled = 0
        for chosen_places in steps:
            # What is known before the last of them and was not fed; and before each of them, if only as a guess.
            known = [place for place in sorted(to_feed) if place < chosen_places[-1] and final[place]]
            guessed = [place - 1 for place in chosen_places if not final[place - 1]]
            fed = sorted([*known, *guessed])
            to_feed.difference_update(known)
            step = torch.tensor(fed, device=device)
            seen[known] = True
            ids = tokens[:, step]
            for place in guessed:
                source = before[place] if final[before[place]] else next(p for p in range(place, -1, -1) if final[p])
                ids[:, fed.index(place)] = tokens[:, source]
            embeddings = model.embed_tokens(ids, batch.modality[:, step]) + placed[:, step]
            reach = fed[-1] + 1
            sees = mask[:, :, step, :reach] & (seen[:reach] | (step[:, None] == torch.arange(reach, device=device)))
            hidden = read(embeddings, sees, positions[:, step], step.expand(len(tokens), -1))  # (B, F, D)

            for start, stop in dict.fromkeys((ranges[place][0], ranges[place][1]) for place in chosen_places):
                places = [place for place in chosen_places if ranges[place] == [start, stop]]
                states = hidden[:, [fed.index(place - 1) for place in places]]
                logits = guided_logits(read, states, bool(against), start, stop, sampling.guidance_scale)  # (R, N, V)
                noise = runtime.sent(gumbel_noises((len(places), stop - start), generators), device)
                chosen = start + sample(logits, sampling, noise)
                tokens[:, places] = chosen.repeat(num_copies, 1)
            for place in chosen_places:
                final[place] = True
                on_step()
            while num_settled < len(unknown) and final[unknown[num_settled]]:
                num_settled += 1
            if on_settled is not None:
                on_settled(tokens[:num_rows], [num_settled] * num_rows)
        tokens = tokens.to(rows[0].tokens.device)
        return [row.filled(own[length - len(row.tokens) :]) for row, own in zip(rows, tokens, strict=False)]


def schedule(modality: list[int], places: list[list[int]], unknown: Sequence[int], window: int) -> list[list[int]]:
    """Which positions are chosen in each pass, each list in order.

    Args:
        modality: Of every position of a row.
        places: Time, row, column of a video token.
        unknown: The positions to choose, in order.
        window: How many codes a row is ahead of the next.
    """
    steps: dict[int, list[int]] = {}
    row_start = after = 0
    previous: tuple[int, int] | None = None
    for position in unknown:
        if modality[position] != VIDEO:  # one by one, after all before it
            step, previous = after, None
        else:
            row, column = (places[position][0], places[position][1]), places[position][2]
            if row != previous:
                follows = previous is not None and column == 0
                row_start = row_start + min(window, after - row_start) if follows else after - column
                previous = row
            step = row_start + column
        steps.setdefault(step, []).append(position)
        after = max(after, step + 1)
    return [steps[step] for step in sorted(steps)]
