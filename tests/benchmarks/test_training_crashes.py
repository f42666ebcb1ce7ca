import random
import signal

import pytest
import torch
import torch.distributed as distributed

from videopoet import checkpoint

SHARE = {"F01": 0.05, "F02": 0.02, "F05": 0.1, "F07": 0.1, "F12": 0.1}


@pytest.fixture
def crashes(benchmark):
    return benchmark("training_crashes")


@pytest.mark.skipif(not distributed.is_available(), reason="this torch has no torch.distributed")
@pytest.mark.parametrize("fault", SHARE)
def test_a_few_cases_of_every_fault_pass(crashes, tmp_path, fault):
    outcomes = list(crashes.cases(fault, crashes.Runs(tmp_path), SHARE[fault]))
    assert outcomes and outcomes == [None] * len(outcomes)


def test_runs_that_end_apart_are_told_apart(crashes, tmp_path):
    runs = crashes.Runs(tmp_path)
    places = [runs.new() for _ in range(3)]
    for place, seed in zip(places, (0, 0, 1), strict=True):
        assert runs.train(place, crashes.settings(seed=seed), resume=False) == [0]
    assert crashes.difference(places[1], places[0]) is None
    assert "model differs" in crashes.difference(places[2], places[0])
    (places[1] / ".checkpoint-0000099.partial-x").mkdir()
    assert "left behind" in crashes.difference(places[1], places[0])
    last = places[1] / f"checkpoint-{crashes.NUM_STEPS:07d}"
    crashes.harm("flipped", last / "mean.safetensors", last, last, random.Random(0))
    assert "mean.safetensors has changed" in crashes.difference(places[1], places[0])


def test_a_kill_in_the_middle_of_writing_leaves_half_a_file(crashes, tmp_path):
    runs = crashes.Runs(tmp_path)
    place, tally = runs.new(), tmp_path / "tally"
    config = crashes.settings()
    assert runs.train(runs.new(), config, before=lambda rank: crashes.disk_calls(tally=tally)) == [0]
    assert len(tally.read_text()) > 50
    for fatal in range(9):  # the first calls make folders
        killed = runs.train(place, config, before=lambda rank, n=fatal: crashes.disk_calls(fatal=n, when="half"))
        assert killed == [-signal.SIGKILL]
    (remains,) = place.glob(".checkpoint-*")
    assert remains.is_dir() and not list(place.glob("checkpoint-*"))
    assert checkpoint.why_invalid(remains) == "it has no manifest"


def test_samples_of_an_epoch_come_once_and_then_in_another_order(benchmark):
    stand = benchmark("training_stand")
    ids = torch.cat([stand.batches(index)[0] for index in range(15)])[: 2 * stand.NUM_SAMPLES]
    first, second = ids.split(stand.NUM_SAMPLES)
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(stand.NUM_SAMPLES))
    assert not torch.equal(first, second)
