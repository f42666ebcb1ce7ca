import math
import wave

import pytest
import torch

from videopoet.evaluation.metrics.reconstruction import si_sdr


@pytest.fixture
def tone():
    return 0.5 * torch.sin(torch.arange(16000) * 2 * math.pi * 440 / 16000)


def test_opus_gives_a_tone_back_in_time(benchmark, tone):
    heard, bits = benchmark("real_sounds").by_opus(tone, 16000)
    assert heard.shape == tone.shape
    assert si_sdr(heard[2000:14000], tone[2000:14000]) > 10
    assert 3000 < bits < 20000


def test_each_folder_has_a_row_for_each_way_and_broken_files_none(benchmark, tone, tmp_path, monkeypatch, capsys):
    for name in ("bells", "drums"):
        (tmp_path / name).mkdir()
        with wave.open(str(tmp_path / name / "tone.wav"), "wb") as file:
            file.setparams((1, 2, 16000, 0, "NONE", ""))
            file.writeframes((tone * 32767).to(torch.int16).numpy().tobytes())
    (tmp_path / "drums" / "broken.wav").write_bytes(b"RIFF")
    monkeypatch.setattr("sys.argv", ["real_sounds", "--media", str(tmp_path)])
    benchmark("real_sounds").main()
    printed = capsys.readouterr().out
    assert printed.count('"files": 1') == 4
    assert all(printed.count(f'"{name}"') == 2 for name in ("bells", "drums", "tokenizer", "opus"))
