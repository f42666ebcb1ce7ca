"""A draft head changes how many passes a clip takes, and nothing else."""

import pytest
import torch

from videopoet.generation.decoders.autoregressive import Autoregressive
from videopoet.generation.decoders.speculative import Speculative
from videopoet.generation.sampling import Sampling
from videopoet.models.cached_pass import CachedPass
from videopoet.models.language_model import LanguageModel
from videopoet.runtime import generator
from videopoet.sequence.layout import plan
from videopoet.sequence.tasks import TASKS


@pytest.fixture(scope="module")
def drafting(make_poet):
    """A poet whose draft head guesses wildly."""
    poet = make_poet()
    head = poet.parts.language_model.add_draft_head(24)
    for weight in head.parameters():
        torch.nn.init.normal_(weight, std=0.5, generator=generator("head"))
    return poet


def run(decoder, poet, rows, against=(), sampling=None, seed=0):
    streams = [generator(seed, index) for index in range(len(rows))]
    parts = poet.parts
    return decoder.decode(
        parts.language_model, parts.vocabulary, rows, against, sampling or Sampling(temperature=0), streams
    )


def equal(ones, others):
    return all(torch.equal(one.tokens, other.tokens) for one, other in zip(ones, others, strict=True))


@pytest.fixture
def drafts(monkeypatch):
    """How many positions every call of the head was for."""
    plain, counts = LanguageModel.draft, []

    def counted(model, *given):
        counts.append(given[-2].shape[1])
        return plain(model, *given)

    monkeypatch.setattr(LanguageModel, "draft", counted)
    return counts


@pytest.mark.parametrize("name", ["text_to_image", "image_to_video", "inpainting", "audio_video_continuation"])
@pytest.mark.parametrize("temperature", [0, 1.0])
def test_drafts_leave_the_tokens_as_they_are(drafting, planned, drafts, name, temperature):
    rows, sampling = [planned(drafting, TASKS[name])], Sampling(temperature=temperature, top_p=0.9)
    expected = run(Autoregressive(), drafting, rows, sampling=sampling)
    assert equal(run(Speculative(3), drafting, rows, sampling=sampling), expected)
    assert drafts


@pytest.mark.parametrize("window", [2, 7])
def test_rows_that_go_on_at_their_own_speed_keep_their_tokens(drafting, planned, drafts, window):
    rows = [planned(drafting, TASKS["text_to_video"], number, num_words=2 + number) for number in range(3)]
    against = [planned(drafting, TASKS["text_to_video"], number, num_words=0) for number in range(3)]
    sampling = Sampling(temperature=0.5, top_k=40, top_p=0.95, guidance_scale=2.0)
    expected = run(Autoregressive(), drafting, rows, against, sampling)
    assert equal(run(Speculative(window, 1000), drafting, rows, against, sampling), expected)
    assert drafts


def test_a_head_that_is_right_saves_passes(drafting, monkeypatch):
    """A model whose tokens follow from their position: no latent frame tells of the next, but the head knows."""
    row = plan(TASKS["unconditional"], drafting.parts.vocabulary, {}, {"video_out": (4, 4, 4)})
    start, places = int(row.ranges[row.to_generate][0, 0]), row.to_generate.nonzero().flatten()
    passes = []

    def states(positions):
        codes = (positions * positions * 7 + 3 * positions) % 61
        return codes[..., None].float().expand(*positions.shape, 32)

    def read(self, embeddings, mask, positions, places):
        passes.append(1)
        return states(positions + 1)

    def logits(self, hidden, first, stop):
        return 9.0 * torch.nn.functional.one_hot(hidden[..., 0].long(), stop - first)

    def draft(self, hidden, tokens, modality, placed, wanted, around):
        return states(wanted)

    monkeypatch.setattr(CachedPass, "__call__", read)
    monkeypatch.setattr(CachedPass, "logits", logits)
    monkeypatch.setattr(LanguageModel, "draft", draft)
    taken = {}
    for helped in (False, True):
        passes.clear()
        (made,) = run(Speculative(2, drafts=helped), drafting, [row])
        assert torch.equal(made.tokens[places], start + states(places)[:, 0].long())
        taken[helped] = len(passes)
    # Of a first latent frame's first row nothing is known; after that every pass has two right guesses.
    assert taken[True] <= 4 + (64 - 4) // 2
    assert taken[False] > 1.2 * taken[True]


def test_a_head_is_not_asked_where_it_is_not_wanted(drafting, planned, drafts):
    run(Speculative(7, drafts=False), drafting, [planned(drafting, TASKS["text_to_video"])])
    assert not drafts


def test_a_stream_is_the_clip_that_is_made_without_drafts(drafting, make_poet, drafts):
    asked = {"prompt": "a red ball", "seed": 3, "sound": False}
    stream = drafting.stream("text_to_video", **asked)
    frames = torch.cat([piece.frames for piece in stream], dim=1)
    assert drafts
    assert torch.equal(frames, stream.result.media.frames)
    assert torch.equal(frames, make_poet().generate("text_to_video", **asked).media.frames)
