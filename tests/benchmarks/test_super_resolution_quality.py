import json

import torch

from videopoet import VideoPoet
from videopoet.generation import upscaling
from videopoet.media.types import Video


def answer(benchmark, monkeypatch, capsys, poet, *arguments) -> dict:
    module = benchmark("super_resolution_quality")
    monkeypatch.setattr("sys.argv", ["super_resolution_quality", "--count", "2", *arguments])
    monkeypatch.setattr(module.VideoPoet, "from_pretrained", lambda *_, **__: poet)
    module.main()
    return json.loads(capsys.readouterr().out)


def test_without_super_resolution_only_the_ceiling_and_bicubic_are_measured(benchmark, monkeypatch, capsys):
    poet = VideoPoet.from_pretrained(device="cpu")
    figures = answer(benchmark, monkeypatch, capsys, poet)
    assert figures["size"] == [128, 128] and "psnr_db_upscaled" not in figures
    assert figures["psnr_db_bicubic_of_own"] > figures["psnr_db_bicubic"] > 15
    low, high = figures["gain_db_ceiling_interval"]
    assert low <= figures["gain_db_ceiling"] <= high


def test_an_upscaler_that_interpolates_gains_nothing(benchmark, monkeypatch, capsys):
    poet = VideoPoet.from_pretrained(device="cpu")
    object.__setattr__(poet.parts, "super_resolution", torch.nn.Identity())
    asked = []

    def interpolate(parts, clip, factor, words, seed, sampling, faithful):
        asked.append((faithful, sampling.num_steps))
        height, width = factor * clip.height, factor * clip.width
        return Video.from_pixels(upscaling.bicubic(clip.pixels(), height, width), clip.frame_rate)

    monkeypatch.setattr(upscaling, "upscale", interpolate)
    figures = answer(benchmark, monkeypatch, capsys, poet, "--num-steps", "7")
    assert asked == [(False, 7), (True, 7)] * 2
    assert abs(figures["gain_db_upscaled"]) < 0.01 and abs(figures["gain_db_upscaled_own"]) < 0.05
