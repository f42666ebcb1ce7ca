import pytest
import torch

from videopoet.generation.decoders.autoregressive import Autoregressive
from videopoet.generation.sampling import Sampling, guide
from videopoet.models.cached_pass import CachedPass
from videopoet.runtime import generator
from videopoet.sequence.layout import UNKNOWN, batch_rows
from videopoet.sequence.tasks import TASKS

GREEDY = Sampling(temperature=0)
every_task = pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))


def decode(poet, rows, against=(), sampling=GREEDY, seed=0, **options):
    streams = [generator(seed, index) for index in range(len(rows))]
    parts = poet.parts
    return Autoregressive().decode(parts.language_model, parts.vocabulary, rows, against, sampling, streams, **options)


@torch.no_grad()
def decode_without_cache(poet, row, against=None, scale=1.0):
    """The likeliest tokens and all logits, each from a forward pass over the whole row so far."""
    model, pad = poet.parts.language_model, poet.parts.vocabulary.special("<pad>")

    def hidden_before(row, tokens, place):
        batch = batch_rows([row], pad)
        embeddings = model.embed(tokens[None, :place], batch.modality[:, :place], batch.places[:, :place])
        mask = batch.attention_mask()[:, :, :place, :place]
        return model(embeddings, mask, batch.positions[:, :place])[:, -1]

    rows = [row] if against is None else [row, against]
    filled = [row.tokens.clone() for row in rows]
    all_logits, offset = [], len(row.tokens) - len(rows[-1].tokens)
    for place in row.to_generate.nonzero().flatten().tolist():
        start, stop = row.ranges[place].tolist()
        logits = [
            model.logits(hidden_before(one, tokens, place - offset * number), start, stop)
            for number, (one, tokens) in enumerate(zip(rows, filled, strict=True))
        ]
        logits = logits[0] if against is None else guide(logits[0], logits[1], scale)
        chosen = start + int(logits.argmax())
        for number, tokens in enumerate(filled):
            tokens[place - offset * number] = chosen
        all_logits.append(logits)
        if row.modality[place] == 0 and chosen == poet.parts.vocabulary.special("<eot_o>"):
            break
    return filled[0], all_logits


@every_task
def test_cached_equals_uncached(poet, planned, task, monkeypatch):
    row = planned(poet, task)
    expected_tokens, expected_logits = decode_without_cache(poet, row)
    seen, plain = [], CachedPass.logits
    monkeypatch.setattr(CachedPass, "logits", lambda *given: seen.append(plain(*given)) or seen[-1])
    (decoded,) = decode(poet, [row])
    known = expected_tokens != UNKNOWN
    assert torch.equal(decoded.tokens[known], expected_tokens[known])
    torch.testing.assert_close(seen, expected_logits, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["text_to_video", "stylization", "text_to_audio"])
def test_guided_rows_of_one_batch_equal_rows_on_their_own(poet, planned, name):
    row, without = planned(poet, TASKS[name]), planned(poet, TASKS[name], num_words=0)
    expected, _ = decode_without_cache(poet, row, without, scale=3.0)
    (decoded,) = decode(poet, [row], [without], Sampling(temperature=0, guidance_scale=3.0))
    assert torch.equal(decoded.tokens, expected)
    assert not torch.equal(decoded.tokens, decode(poet, [row])[0].tokens), "guidance must matter for this to be a test"


def test_a_guidance_scale_of_one_is_no_guidance(poet, planned):
    row = planned(poet, TASKS["text_to_video"])
    without = planned(poet, TASKS["text_to_video"], num_words=0)
    (decoded,) = decode(poet, [row], [without], Sampling(temperature=0, guidance_scale=1.0))
    assert torch.equal(decoded.tokens, decode(poet, [row])[0].tokens)


@pytest.mark.parametrize("name", ["text_to_video", "video_captioning"])
def test_a_row_becomes_the_same_in_any_company(poet, planned, name):
    rows = [planned(poet, TASKS[name], seed=number, num_words=number + 1) for number in range(3)]
    together = decode(poet, rows, sampling=Sampling())
    for number, row in enumerate(rows):
        parts = poet.parts
        (alone,) = Autoregressive().decode(
            parts.language_model, parts.vocabulary, [row], [], Sampling(), [generator(0, number)]
        )
        assert torch.equal(alone.tokens, together[number].tokens)


def test_the_seed_decides(poet, planned):
    row = planned(poet, TASKS["text_to_video"])
    first, again, other = (decode(poet, [row], sampling=Sampling(), seed=seed)[0].tokens for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@every_task
def test_every_position_gets_a_token_that_belongs_there(poet, planned, task):
    row = planned(poet, task)
    wild = Sampling(temperature=10.0)
    (decoded,) = decode(poet, [row], sampling=wild)
    assert torch.equal(decoded.tokens[~row.to_generate], row.tokens[~row.to_generate])
    start, stop = decoded.ranges.unbind(dim=1)
    assert ((start <= decoded.tokens) & (decoded.tokens < stop)).all()


def test_a_text_ends_where_the_model_ends_it(poet, planned):
    row = planned(poet, TASKS["video_captioning"])
    end = poet.parts.vocabulary.special("<eot_o>")
    steps = []
    for seed in range(20):
        steps.clear()
        wild = Sampling(temperature=10.0)
        (decoded,) = decode(poet, [row], sampling=wild, seed=seed, on_step=lambda: steps.append(1))
        text = decoded.tokens[row.to_generate]
        first = (text == end).nonzero().flatten()[:1].tolist()
        if first:
            assert (text[first[0] :] == end).all()
            assert len(steps) == first[0] + 1
            return
    pytest.fail("no text ended early")


def test_what_a_step_raises_ends_the_decoding(poet, planned):
    def cancel():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        decode(poet, [planned(poet, TASKS["unconditional"])], on_step=cancel)


def test_there_is_one_step_per_unknown_token(poet, planned):
    row, steps = planned(poet, TASKS["audio_video_continuation"]), []
    decode(poet, [row], on_step=lambda: steps.append(1))
    assert len(steps) == int(row.to_generate.sum())
