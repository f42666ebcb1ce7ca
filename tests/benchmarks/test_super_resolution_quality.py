import json
from types import SimpleNamespace

import pytest
import torch

from videopoet.data.toybox import words
from videopoet.generation import upscaling
from videopoet.generation.request import Settings
from videopoet.media.types import Video
from videopoet.text_encoders.own_tokens import OwnTokens
from videopoet.tokenizers import magvit_v2


@pytest.fixture
def parts():
    torch.manual_seed(0)
    config = magvit_v2.Config(
        num_bits=4, patch_size=8, channels=(8, 8), strides=((4, 1),), num_blocks=1, num_middle_blocks=0
    )
    return SimpleNamespace(
        video_tokenizer=magvit_v2.MagvitV2(config).eval(),
        text_encoder=OwnTokens.from_words(words()),
        settings=Settings(),
        super_resolution=None,
        device=torch.device("cpu"),
    )


@pytest.fixture
def answer(benchmark, monkeypatch, capsys, parts):
    module = benchmark("super_resolution_quality")
    monkeypatch.setattr(module, "VideoPoet", SimpleNamespace(from_pretrained=lambda *_: SimpleNamespace(parts=parts)))

    def run(*arguments) -> dict:
        monkeypatch.setattr("sys.argv", ["super_resolution_quality", "--count", "3", *arguments])
        module.main()
        return json.loads(capsys.readouterr().out)

    return run


def test_without_super_resolution_only_the_ceiling_and_bicubic_are_measured(answer):
    figures = answer()
    assert figures["size"] == [128, 128] and "psnr_db_upscaled" not in figures
    assert figures["psnr_db_bicubic_of_own"] > 25 > figures["psnr_db_bicubic"]
    low, high = figures["gain_db_ceiling_interval"]
    assert low <= figures["gain_db_ceiling"] <= high


def test_an_upscaler_that_interpolates_gains_nothing(answer, parts, monkeypatch):
    parts.super_resolution, asked = "one that interpolates", []

    def interpolate(parts, clip, factor, words, seed, sampling):
        asked.append((sampling.faithfulness, sampling.num_steps))
        pixels = upscaling.bicubic(clip.pixels(), factor * clip.height, factor * clip.width)
        return Video.from_pixels(pixels, clip.frame_rate)

    monkeypatch.setattr(upscaling, "upscale", interpolate)
    figures = answer("--num-steps", "7")
    assert asked == [(0, 7), (1, 7)] * 3
    assert abs(figures["gain_db_upscaled"]) < 0.01 and abs(figures["gain_db_upscaled_own"]) < 0.05
