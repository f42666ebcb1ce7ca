import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from videopoet.models.language_model import LanguageModel
from videopoet.models.token_embedding import Config, TokenEmbedding

SIZES = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
}


@pytest.fixture(scope="session")
def make():
    """Makes a small language model of a family of `transformers`, by its model type and what its config says."""

    def of_family(family, **settings):
        torch.manual_seed(0)
        config = AutoConfig.for_model(family, **(SIZES | settings))
        backbone = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        for weight in backbone.parameters():
            torch.nn.init.normal_(weight, 0.5 if weight.ndim == 1 else 0.0, 0.3)
        return LanguageModel(backbone, TokenEmbedding(Config(width=32))).eval().requires_grad_(False)

    return of_family
