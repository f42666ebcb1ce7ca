import importlib.util

import pytest
import torch


@pytest.fixture(scope="module")
def poet(root):
    """The poet of random weights that the tests of generation have."""
    spec = importlib.util.spec_from_file_location("generation_conftest", root / "tests" / "generation" / "conftest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.make_poet()


def test_both_train_for_as_many_steps_on_the_same_tokens(benchmark, poet, monkeypatch):
    step = benchmark("training_step")
    monkeypatch.setattr(poet.parts.text_encoder, "encode", lambda prompt: [1] * (1 + len(prompt) % 3))
    batch = step.make_batch(poet, 3)
    rows = step.SameRows(batch, 1)
    assert torch.equal(rows.labels[batch.targets], batch.tokens[batch.targets])
    assert (rows.labels != -100).sum() == batch.targets.sum()
    ours, backbone = step.trained(poet), step.trained(poet).backbone
    for model, train in ((ours, step.train_ours), (backbone, step.train_theirs)):
        before = [weight.clone() for weight in model.parameters()]
        laps = train(model, batch, 5, 1e-3)
        assert len(laps.durations()) == 2, "whole steps but the first two"
        assert any(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))
