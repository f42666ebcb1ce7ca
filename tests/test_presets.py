import pytest
import torch

from videopoet import presets
from videopoet.config import override
from videopoet.errors import ConfigError
from videopoet.models import construction, super_resolution
from videopoet.sequence.tasks import TASKS
from videopoet.tokenizers.magvit_v2 import MagvitV2
from videopoet.tokenizers.soundstream import SoundStream
from videopoet.training import rehearsal
from videopoet.training.run import RunConfig


@pytest.mark.parametrize("name", presets.PRESETS)
def test_every_preset_constructs_trains_every_task_and_survives_json(name):
    config = presets.preset(name)
    with torch.device("meta"):
        video, audio = MagvitV2(config.video_tokenizer.model), SoundStream(config.audio_tokenizer.model)
    assert video.grid(config.world.num_frames, config.world.height, config.world.width)
    assert audio.sample_rate == config.world.sample_rate
    assert {share.task for share in config.language_model.mixture.shares} == set(TASKS)
    assert RunConfig.from_dict(config.to_dict()) == config


def test_the_paper_preset_has_the_paper_shapes():
    config = presets.preset("paper")
    with torch.device("meta"):
        video, audio = MagvitV2(config.video_tokenizer.model), SoundStream(config.audio_tokenizer.model)
    assert (video.num_codes, video.grid(17, 128, 128)) == (2**18, (5, 16, 16))
    assert (audio.num_frames(34_000), audio.num_quantizers, audio.codebook_size) == (106, 4, 1024)


@pytest.mark.parametrize(("name", "millions"), [("paper", 300), ("paper_1b", 1000), ("paper_8b", 8000)])
def test_language_models_have_the_size_that_the_paper_gives_without_their_tables(name, millions):
    with rehearsal.without_values():
        config = presets.preset(name).language_model.model
        model = construction.from_scratch(config, 1000, (300, 812), (4, 512), 5)
    layers = sum(parameter.numel() for parameter in model.backbone.base_model.layers.parameters())
    assert layers == pytest.approx(millions * 1e6, rel=0.03)


def test_an_unknown_preset_lists_those_there_are():
    with pytest.raises(ConfigError, match="did you mean small"):
        presets.preset("smal")


@pytest.mark.parametrize("name", presets.PRESETS)
def test_every_preset_trains_super_resolution_for_its_own_tokenizer(name):
    config = presets.preset(name)
    assert config.super_resolution is not None
    shape, pairs = config.super_resolution.model, config.super_resolution.pairs
    bits = config.video_tokenizer.model.num_bits
    assert super_resolution.Config(**shape.to_dict(), num_bits=bits, text_size=1).group_bits == bits // 2
    assert pairs.batch_size <= pairs.pool_clips


def test_the_small_super_resolution_is_small():
    config = presets.preset("small")
    assert config.super_resolution is not None
    with torch.device("meta"):
        model = super_resolution.SuperResolution(
            super_resolution.Config(**config.super_resolution.model.to_dict(), num_bits=12, text_size=300)
        )
    assert 6e6 < sum(parameter.numel() for parameter in model.parameters()) < 10e6


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("language_model.model.head_width=9", "multiple of 2"),
        ("language_model.model.num_key_value_heads=3", "heads cannot share 3 keys evenly"),
        ("language_model.model.architecture=qwen33", "no causal LM 'qwen33'.* qwen3"),
        ("language_model.training.optimizer.betas=[0.9, 2]", "less than 1"),
        ("video_tokenizer.model.strides=[[0, 2]]", "greater than or equal to 1"),
        ("video_tokenizer.model.channels=[0, 32]", "greater than or equal to 1"),
        ("video_tokenizer.objective.adversary.multipliers=[0]", "greater than or equal to 1"),
        ("audio_tokenizer.model.dilations=[0]", "greater than or equal to 1"),
        ("audio_tokenizer.objective.spectrogram_adversary.window=1000", "must be a multiple of"),
    ],
)
def test_what_no_network_can_be_built_of_is_refused_before_any_stage(setting, message):
    with pytest.raises(ConfigError, match=message):
        override(presets.tiny(), [setting])
