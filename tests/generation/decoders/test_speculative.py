import pytest
import torch

from videopoet.generation.decoders.autoregressive import Autoregressive
from videopoet.generation.decoders.speculative import Speculative
from videopoet.generation.sampling import Sampling
from videopoet.models.cached_pass import CachedPass
from videopoet.runtime import generator
from videopoet.sequence.tasks import TASKS

GREEDY = Sampling(temperature=0)
every_task = pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))


def run(decoder, poet, rows, against, sampling, seed, **options):
    streams = [generator(seed, index) for index in range(len(rows))]
    parts = poet.parts
    return decoder.decode(parts.language_model, parts.vocabulary, rows, against, sampling, streams, **options)


def decode(poet, rows, against=(), sampling=GREEDY, seed=0):
    return run(Autoregressive(), poet, rows, against, sampling, seed)


def speculate(poet, rows, against=(), sampling=GREEDY, seed=0, window=5, **options):
    return run(Speculative(window, most_guesses=1000), poet, rows, against, sampling, seed, **options)


def equal(ones, others):
    return all(torch.equal(one.tokens, other.tokens) for one, other in zip(ones, others, strict=True))


@every_task
@pytest.mark.parametrize("temperature", [0, 1.0])
def test_every_task_gets_the_tokens_of_plain_decoding(poet, planned, task, temperature):
    rows = [planned(poet, task)]
    sampling = Sampling(temperature=temperature, top_p=0.9)
    assert equal(speculate(poet, rows, sampling=sampling), decode(poet, rows, sampling=sampling))


@pytest.mark.parametrize("window", [1, 2, 7, 64])
@pytest.mark.parametrize("seed", range(3))
def test_rows_that_go_on_at_their_own_speed_get_the_tokens_of_plain_decoding(poet, planned, window, seed):
    rows = [planned(poet, TASKS["text_to_video"], number, num_words=2 + number) for number in range(3)]
    against = [planned(poet, TASKS["text_to_video"], number, num_words=0) for number in range(3)]
    sampling = Sampling(temperature=0.5, top_k=40, top_p=0.95, guidance_scale=2.0)
    expected = decode(poet, rows, against, sampling, seed)
    assert equal(speculate(poet, rows, against, sampling, seed, window), expected)


def test_company_changes_nothing(poet, planned):
    rows = [planned(poet, TASKS["audio_video_continuation"], number) for number in range(3)]
    sampling = Sampling(temperature=1.0)
    together = speculate(poet, rows, sampling=sampling)
    parts = poet.parts
    for number, row in enumerate(rows):
        alone = Speculative(5, 1000).decode(
            parts.language_model, parts.vocabulary, [row], [], sampling, [generator(0, number)]
        )
        assert equal(alone, together[number : number + 1])


def test_right_guesses_save_passes_and_every_position_is_reported_once(poet, planned, monkeypatch):
    """A model that repeats the latent frame before is guessed right; the first frame is not."""
    row = planned(poet, TASKS["image_to_video"])
    chosen = int(row.ranges[row.to_generate][0, 0]) + 3
    plain, passes, steps = CachedPass.logits, [], []

    def always_the_same(read, hidden, start, stop):
        passes.append(len(hidden))
        return torch.zeros_like(plain(read, hidden, start, stop)).index_fill(-1, torch.tensor([chosen - start]), 9.0)

    monkeypatch.setattr(CachedPass, "logits", always_the_same)
    (decoded,) = speculate(poet, [row], window=8, on_step=lambda: steps.append(1))
    num_unknown = int(row.to_generate.sum())
    assert (decoded.tokens[row.to_generate] == chosen).all()
    assert len(steps) == num_unknown
    assert len(passes) <= num_unknown // 8 + 3
