import json
import sys

from videopoet.models import language_model


def test_chunks_take_a_third_of_the_memory_at_equal_numbers(benchmark, monkeypatch, capsys):
    monkeypatch.setitem(language_model.MOST_LOGITS, "cpu", 2**18)
    arguments = ["loss_memory", "--codes", "4096", "--positions", "512", "--width", "16"]
    monkeypatch.setattr(sys, "argv", arguments)
    benchmark("loss_memory").main()
    said = json.loads(capsys.readouterr().out)
    assert 0 < said["share"] < 1 / 3
    assert said["largest_difference"] < 1e-5 and said["largest_gradient_difference"] < 1e-5


def test_all_positions_at_once_take_what_the_naive_loss_does(benchmark, monkeypatch, capsys):
    arguments = ["loss_memory", "--codes", "4096", "--positions", "512", "--width", "16"]
    monkeypatch.setattr(sys, "argv", arguments)
    benchmark("loss_memory").main()
    assert 0.9 < json.loads(capsys.readouterr().out)["share"] < 1.1
