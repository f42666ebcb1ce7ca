"""Language models of other families with fresh weights."""

import pytest

from videopoet.errors import ConfigError
from videopoet.models import construction
from videopoet.models.language_model import Config


def test_a_family_that_cannot_be_steered_is_refused():
    with pytest.raises(ConfigError, match="family 'mamba' cannot be used.*choose a decoder with ordinary attention"):
        construction.needs_causal_prefix("mamba")


def test_what_a_family_decides_itself_is_known():
    assert construction.unheeded("gpt2") == ["num_key_value_heads", "head_width"]
    assert construction.unheeded("qwen3") == []
    assert construction.needs_causal_prefix("gpt2") is False


@pytest.mark.parametrize("architecture", ["gpt2", "opt"])
def test_other_names_of_a_setting_are_found(architecture):
    config = Config(
        architecture=architecture,
        width=32,
        num_layers=1,
        num_heads=2,
        num_key_value_heads=2,
        hidden_width=72,
        longest=32,
    )
    model = construction.from_scratch(config, 64, (32, 48), (1, 8), 0)
    assert any(72 in weight.shape for weight in model.backbone.parameters())


def test_a_setting_that_a_family_computes_is_left_to_it():
    config = Config(architecture="falcon", width=32, num_layers=1, num_heads=2, num_key_value_heads=2, longest=32)
    assert construction.from_scratch(config, 64, (32, 48), (1, 8), 0).backbone.config.head_dim == 16
