import importlib.util
import json
from pathlib import Path

import pytest
import torch

spec = importlib.util.spec_from_file_location("poets", Path(__file__).parents[1] / "generation" / "conftest.py")
poets = importlib.util.module_from_spec(spec)
spec.loader.exec_module(poets)


@pytest.fixture(scope="module")
def poet():
    return poets.make_poet()


@pytest.fixture
def streaming(benchmark):
    return benchmark("streaming")


def test_a_clip_that_is_watched_is_there_sooner_and_the_same(streaming, poet, capsys):
    streaming.measure_clips(poet, None, repeats=2, seed=1)
    answer = json.loads(capsys.readouterr().out)
    assert answer["same_frames"] == 2 and answer["num_frames"] == 17
    assert answer["seconds_to_first_frame"] <= answer["seconds_to_last_frame"] <= answer["seconds_to_whole_streamed"]


def test_the_tokenizer_gives_the_same_in_pieces(streaming, poet, capsys):
    streaming.measure_tokenizer(poet.parts.video_tokenizer, 17, 16, seed=1)
    answer = json.loads(capsys.readouterr().out)
    assert answer["largest_difference"] < 0.1 and answer["num_frames"] == 17


def test_memory_that_was_held_for_a_moment_is_seen(streaming):
    memory = streaming.PeakMemory()
    torch.ones(100_000_000, dtype=torch.uint8).max()
    assert 90e6 < memory.grown() < 200e6
