import functools
import importlib.util

import pytest
import torch

from videopoet.generation.decoders.autoregressive import Autoregressive
from videopoet.generation.sampling import Sampling
from videopoet.generation.window import Window
from videopoet.models.cached_pass import CachedPass
from videopoet.sequence.tasks import TASKS


@pytest.fixture(scope="module")
def poet(root):
    """The poet of random weights that the tests of generation have."""
    spec = importlib.util.spec_from_file_location("generation_conftest", root / "tests" / "generation" / "conftest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.make_poet()


@pytest.mark.parametrize("cache", ["dynamic", "static", "static-compiled"])
def test_transformers_makes_the_same_tokens_from_rows_of_several_lengths(benchmark, poet, cache, monkeypatch):
    against = benchmark("decoding_against_transformers")
    # Traced as for a compiler, and run without one, which would take minutes.
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    monkeypatch.setattr(CachedPass, "__call__", CachedPass.__call__)  # counting is undone with the test
    passes = against.CountedPasses()
    window, parts = Window(poet.parts), poet.parts
    prompts = ["a red ball bounces", "a blue star", "a ball"]
    task = TASKS["text_to_video"]
    rows = [window.plan(task, {"text_in": torch.tensor(parts.text_encoder.encode(prompt))}) for prompt in prompts]
    without = [window.plan(task, {}) for _ in rows]
    sampling = Sampling(temperature=0, guidance_scale=2.0)
    ours = against.by_us(poet, rows, without, Autoregressive())(sampling)
    assert passes.number == ours.shape[1]
    pad, passes.number = parts.vocabulary.special("<pad>"), 0
    theirs = against.by_transformers(parts.language_model, rows, without, pad, *against.THEIRS[cache], passes)
    assert torch.equal(theirs(sampling), ours)
    assert passes.number == 2 * ours.shape[1], "one with the prompt and one without for each token"


def test_what_fails_is_a_row_with_its_reason_and_stops_nobody_else(benchmark, monkeypatch):
    against = benchmark("decoding_against_transformers")
    monkeypatch.setattr(CachedPass, "__call__", CachedPass.__call__)
    rows = []
    monkeypatch.setattr(against, "report", lambda question, **figures: rows.append(figures))

    def fails(sampling):
        raise RuntimeError("no compiler\nand more")

    everyone = {"ours": lambda sampling: torch.zeros(1, 3), "transformers compiled": fails}
    against.measure(everyone, Sampling(), 1, against.CountedPasses(), "tiny")
    assert [row["strategy"] for row in rows] == ["transformers compiled", "ours"]
    assert rows[0]["failed"] == "no compiler"
    assert rows[1]["same_tokens"] == 1.0
