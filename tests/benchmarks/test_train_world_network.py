import json
import sys

import pytest

from videopoet.data.toybox import Config, ToyBox
from videopoet.evaluation.world_network import LABELS


@pytest.fixture
def train_world_network(benchmark):
    return benchmark("train_world_network")


def test_targets_share_one_among_what_is_true(train_world_network):
    world = ToyBox(Config())
    scenes = [world.scene(seed, num_subjects=seed + 1) for seed in range(3)]
    for label, known in LABELS.items():
        found = train_world_network.targets(scenes, label)
        assert found.sum(dim=1).tolist() == pytest.approx([1, 1, 1])
        for row, scene in zip(found, scenes, strict=True):
            true = train_world_network.values(scene, label)
            assert {known[index] for index in row.nonzero().flatten().tolist()} == set(true)


def test_its_scenes_are_neither_those_of_training_nor_those_it_is_tested_on(train_world_network):
    learned, tested = (
        {scene.seed for _, scenes in train_world_network.labelled(first, 40, 8) for scene in scenes}
        for first in (train_world_network.FIRST_SEED, train_world_network.FIRST_HELD_OUT)
    )
    assert len(learned) == len(tested) == 40 and not learned & tested
    assert min(learned | tested) >= 2**48


def test_weights_that_ship_are_not_written_over(train_world_network, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train_world_network.py"])
    with pytest.raises(SystemExit):
        train_world_network.main()


def test_a_step_is_taken_written_and_measured(train_world_network, tmp_path, monkeypatch, capsys):
    weights = tmp_path / "weights.safetensors"
    command = ["train_world_network.py", "--output", str(weights), "--count", "6"]
    monkeypatch.setattr(sys, "argv", [*command, "--steps", "1"])
    train_world_network.main()
    monkeypatch.setattr(sys, "argv", [*command, "--steps", "0"])
    train_world_network.main()
    first, again = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert set(first["percent"]) == set(LABELS) and first["parameters"] < 250_000
    assert (again["percent"], again["sha256"]) == (first["percent"], first["sha256"])
