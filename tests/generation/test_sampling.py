import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from videopoet.generation.sampling import Sampling, guide, gumbel_noise, keep_top_k, keep_top_p, sample, scores
from videopoet.runtime import generator


def random_logits(seed, rows=3, width=11):
    return 3 * torch.randn(rows, width, generator=generator("logits", seed))


def noise(rows, width, seed=0):
    return gumbel_noise((rows, width), generator("noise", seed))


def test_a_guidance_scale_of_one_is_the_prompt_alone():
    conditional, unconditional = random_logits(0), random_logits(1)
    torch.testing.assert_close(guide(conditional, unconditional, 1.0), conditional)
    torch.testing.assert_close(guide(conditional, unconditional, 0.0), unconditional)


def test_guidance_goes_beyond_the_prompt():
    assert guide(torch.tensor([2.0]), torch.tensor([1.0]), 3.0).item() == 4.0


def test_guidance_is_computed_in_full_precision():
    assert guide(torch.ones(2).bfloat16(), torch.zeros(2).bfloat16(), 1.001).dtype == torch.float32


@given(seed=st.integers(0, 999), top_k=st.integers(1, 12))
@settings(max_examples=30, deadline=None)
def test_top_k_keeps_that_many_and_the_likeliest(seed, top_k):
    logits = random_logits(seed)
    kept = keep_top_k(logits, top_k).isfinite()
    assert (kept.sum(dim=1) == min(top_k, 11)).all()
    least_kept = logits.masked_fill(~kept, float("inf")).amin(dim=1)
    assert (logits.masked_fill(kept, float("-inf")).amax(dim=1) <= least_kept).all()


@given(seed=st.integers(0, 999), top_p=st.floats(0.01, 1.0))
@settings(max_examples=30, deadline=None)
def test_top_p_keeps_the_fewest_tokens_that_reach_it(seed, top_p):
    logits = random_logits(seed)
    probabilities = logits.softmax(dim=1)
    kept = keep_top_p(logits, top_p).isfinite()
    for row, chosen in zip(probabilities, kept, strict=True):
        assert row[chosen].sum() >= top_p - 1e-5
        assert row[chosen].sum() - row[chosen].min() < top_p + 1e-5
        assert row[chosen].min() >= row[~chosen].max() if (~chosen).any() else True


def test_a_temperature_of_zero_takes_the_likeliest():
    logits = random_logits(2)
    assert torch.equal(sample(logits, Sampling(temperature=0), noise(3, 11)), logits.argmax(dim=1))


def test_samples_follow_the_probabilities():
    logits = torch.tensor([[0.1, 0.2, 0.3, 0.4]]).log()
    counts = sample(logits.expand(20000, 4), Sampling(), noise(20000, 4)).bincount()
    expected = torch.tensor([2000.0, 4000.0, 6000.0, 8000.0])
    assert ((counts - expected).square() / expected).sum() < 16.3  # chi-square, 3 degrees of freedom, p = 0.001


@pytest.mark.parametrize("seed", range(4))
def test_an_excluded_token_is_never_drawn(seed):
    logits = torch.tensor([[float("-inf"), 1.0, 0.0, float("-inf")]]).expand(500, 4)
    assert set(sample(logits, Sampling(), noise(500, 4, seed)).tolist()) == {1, 2}
    assert (sample(logits, Sampling(top_k=1), noise(500, 4, seed)) == 1).all()
    assert (sample(logits, Sampling(top_p=0.1), noise(500, 4, seed)) == 1).all()


@given(seed=st.integers(0, 999), top_p=st.floats(0.01, 1.0), top_k=st.none() | st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_what_is_drawn_is_the_highest_sum_of_score_and_noise(seed, top_p, top_k):
    sampling = Sampling(temperature=0.7, top_k=top_k, top_p=top_p)
    logits, drawn = random_logits(seed, rows=50).view(10, 5, 11), noise(50, 11, seed).view(10, 5, 11)
    assert torch.equal(sample(logits, sampling, drawn), (scores(logits, sampling) + drawn).argmax(dim=2))


def test_noise_is_finite_where_the_random_number_is_zero_or_nearly_one(monkeypatch):
    monkeypatch.setattr(torch, "rand", lambda shape, generator: torch.tensor([0.0, 1 - 2**-24]))
    assert gumbel_noise((2,), generator(0)).isfinite().all()


def test_a_low_temperature_is_safer_than_a_high_one():
    logits, drawn = torch.tensor([[0.0, 1.0]]).expand(1000, 2), noise(1000, 2)
    shares = [sample(logits, Sampling(temperature=t), drawn).float().mean() for t in (0.2, 1.0, 5.0)]
    assert shares[0] > shares[1] > shares[2] > 0.5


def test_a_row_depends_on_its_own_noise_alone():
    logits, drawn = random_logits(3), noise(3, 11)
    together = sample(logits, Sampling(top_p=0.9), drawn)
    alone = [sample(logits[i : i + 1], Sampling(top_p=0.9), drawn[i : i + 1]).item() for i in range(3)]
    assert together.tolist() == alone
