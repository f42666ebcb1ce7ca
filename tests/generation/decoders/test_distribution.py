"""The exact decoders draw from the model's own distribution: chi-square over everything that four tokens can be."""

import pytest
import torch

from videopoet.generation.decoders.autoregressive import Autoregressive
from videopoet.generation.decoders.speculative import Speculative
from videopoet.generation.sampling import Sampling, guide, scores
from videopoet.runtime import generator
from videopoet.sequence.layout import batch_rows
from videopoet.sequence.tasks import TASKS

COUNT, MANY = 3000, 500
DOUBT = 1e-4  # the p-value from which on draws count as the distribution's own
SAMPLINGS = {
    "top-k": Sampling(top_k=3, temperature=1.5),
    "top-p": Sampling(top_p=0.6, temperature=1.2),
    "guidance, top-k and top-p": Sampling(guidance_scale=1.7, top_k=4, top_p=0.9, temperature=2.0),
}
DECODERS = {
    "autoregressive": Autoregressive(),
    "speculative, window 2": Speculative(2, 10**6),
    "speculative, window 4": Speculative(4, 10**6),
}


@pytest.fixture(scope="module")
def rows(poet, planned):
    task = TASKS["text_to_image"]
    return planned(poet, task), planned(poet, task, num_words=0)


@torch.no_grad()
def true_probabilities(poet, row, against, sampling):
    """{tokens: probability} of all that the unknown tokens of a row can become, by passes over whole rows."""
    model, pad = poet.parts.language_model, poet.parts.vocabulary.special("<pad>")
    guided = sampling.guidance_scale != 1
    batch = batch_rows([row, against], pad)
    places = batch.to_generate[0].nonzero().flatten().tolist()
    known, probabilities = torch.empty(1, 0, dtype=torch.long), torch.ones(1)
    for number, place in enumerate(places):
        start, stop = batch.ranges[0, place].tolist()
        logits = []
        for side in range(2 if guided else 1):
            tokens = batch.tokens[side].repeat(len(known), 1)
            tokens[:, places[:number]] = known
            shown = slice(0, place)
            modality, where = batch.modality[side : side + 1, shown], batch.places[side : side + 1, shown]
            embeddings = model.embed(
                tokens[:, shown], modality.expand(len(known), -1), where.expand(len(known), -1, -1)
            )
            mask = batch.attention_mask()[side : side + 1, :, shown, shown].expand(len(known), -1, -1, -1)
            positions = batch.positions[side : side + 1, shown].expand(len(known), -1)
            logits.append(model.logits(model(embeddings, mask, positions)[:, -1], start, stop))
        joined = guide(logits[0], logits[1], sampling.guidance_scale) if guided else logits[0]
        joint = probabilities[:, None] * scores(joined, sampling).softmax(dim=1)
        prefix, code = joint.nonzero().unbind(dim=1)
        known, probabilities = torch.cat([known[prefix], start + code[:, None]], dim=1), joint[prefix, code]
    assert len(known) > 20, "too little can happen for this to be a test"
    return {tuple(tokens): float(p) for tokens, p in zip(known.tolist(), probabilities, strict=True)}


def drawn(poet, decoder, row, against, sampling):
    """`COUNT` draws of the unknown tokens of a row."""
    parts, made = poet.parts, []
    for first in range(0, COUNT, MANY):
        streams = [generator("distribution", first + number) for number in range(MANY)]
        compared = [against] * MANY if sampling.guidance_scale != 1 else []
        filled = decoder.decode(parts.language_model, parts.vocabulary, [row] * MANY, compared, sampling, streams)
        made += [tuple(each.tokens[row.to_generate].tolist()) for each in filled]
    return made


def p_value(draws, probabilities):
    """How likely draws as unlike these probabilities are; what is expected less than five times counts as one."""
    assert all(draw in probabilities for draw in draws), "what has no probability was drawn"
    counts = dict.fromkeys(probabilities, 0)
    for draw in draws:
        counts[draw] += 1
    expected = {outcome: len(draws) * p for outcome, p in probabilities.items()}
    often = [outcome for outcome in expected if expected[outcome] >= 5]
    pairs = [(counts[outcome], expected[outcome]) for outcome in often]
    rest = sum(counts.values()) - sum(count for count, _ in pairs), len(draws) - sum(mean for _, mean in pairs)
    if rest[1] >= 5:
        pairs.append(rest)
    chi_square = sum((count - mean) ** 2 / mean for count, mean in pairs)
    halves = torch.tensor([(len(pairs) - 1) / 2, chi_square / 2], dtype=torch.float64)
    return float(torch.special.gammaincc(halves[0], halves[1]))


@pytest.mark.parametrize("decoder", DECODERS.values(), ids=list(DECODERS))
@pytest.mark.parametrize("sampling", SAMPLINGS.values(), ids=list(SAMPLINGS))
def test_exact_decoders_draw_from_the_models_distribution(poet, rows, sampling, decoder):
    probabilities = true_probabilities(poet, *rows, sampling)
    assert p_value(drawn(poet, decoder, *rows, sampling), probabilities) > DOUBT


@pytest.mark.parametrize("sampling", SAMPLINGS.values(), ids=list(SAMPLINGS))
def test_drafts_of_a_head_leave_the_distribution_as_it_is(make_poet, rows, sampling):
    poet = make_poet()
    for weight in poet.parts.language_model.add_draft_head(24).parameters():
        torch.nn.init.normal_(weight, std=0.5, generator=generator("head"))
    probabilities = true_probabilities(poet, *rows, sampling)
    assert p_value(drawn(poet, Speculative(2, 10**6), *rows, sampling), probabilities) > DOUBT


def test_a_slightly_different_distribution_is_told_apart(poet, rows):
    draws = drawn(poet, Autoregressive(), *rows, SAMPLINGS["top-k"])
    other = true_probabilities(poet, *rows, Sampling(top_k=3, temperature=2.2))
    assert p_value(draws, other) < DOUBT
