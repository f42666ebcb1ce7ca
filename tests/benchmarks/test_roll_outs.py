from dataclasses import replace

import pytest
import torch

from videopoet.data.toybox import Config, ToyBox


@pytest.fixture
def roll_outs(benchmark):
    return benchmark("roll_outs")


def test_a_clip_shows_its_own_scene_and_no_other(roll_outs):
    world = ToyBox(Config(split="test"))
    red = world.scene(1, num_subjects=1, colour="red", motion="left", camera="still", shape="ball")
    clip = world.render([red], audio=False).video[0]
    assert roll_outs.same(red, clip, 8.0) == (True, True)
    for changed, expected in (({"shape": "star"}, (False, True)), ({"colour": "blue"}, (False, False))):
        other = replace(red, subjects=(replace(red.subjects[0], **changed),))
        assert roll_outs.same(other, clip, 8.0) == expected
    assert roll_outs.same(red, torch.zeros_like(clip), 8.0) == (False, False)


def test_roll_outs_are_told_by_how_often_they_were_gone_on_from(roll_outs, monkeypatch, capsys):
    monkeypatch.setattr(roll_outs, "WINDOWS", (2, 3))
    monkeypatch.setattr("sys.argv", ["roll_outs.py", "--count", "1", "--split", "validation"])
    roll_outs.main()
    out = capsys.readouterr().out
    assert '"windows": {"2": {' in out and '"3": {' in out and '"drift_of_255"' in out
