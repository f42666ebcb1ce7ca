"""How a language model begins: with fresh weights, or around a trained Hugging Face causal LM."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

from videopoet.models import growth, probe, stock, token_embedding
from videopoet.models.language_model import Config, LanguageModel
from videopoet.models.token_embedding import TokenEmbedding

_NAMES = {
    "num_key_value_heads": ("num_key_value_heads",),
    "head_width": ("head_dim",),
    "hidden_width": ("intermediate_size", "n_inner", "ffn_dim"),
}
"""What `transformers` calls settings that some families decide themselves; the first is the usual name."""


def from_scratch(
    config: Config,
    vocabulary_size: int,
    visual_range: tuple[int, int],
    audio_places: tuple[int, int],
    pad: int,
    num_features: int = 0,
) -> LanguageModel:
    """A language model with fresh weights, drawn from torch's present random state."""
    from transformers import AutoConfig, AutoModelForCausalLM

    backbone = AutoModelForCausalLM.from_config(
        without_dropout(
            AutoConfig.for_model(
                config.architecture,
                vocab_size=vocabulary_size,
                hidden_size=config.width,
                num_hidden_layers=config.num_layers,
                num_attention_heads=config.num_heads,
                max_position_embeddings=config.longest,
                tie_word_embeddings=config.tied,
                pad_token_id=pad,
                **_settings(config),
            )
        ),
        dtype=torch.float32,
    )
    embedding = TokenEmbedding(
        token_embedding.Config(
            width=config.width,
            audio_places=audio_places,
            num_bits=(visual_range[1] - visual_range[0] - 1).bit_length() if config.bits else 0,
            first_visual=visual_range[0],
            num_features=num_features,
            first_prompt=vocabulary_size,
        )
    )
    return LanguageModel(backbone, embedding)


def unheeded(architecture: str) -> list[str]:
    """Settings of a `Config` that this family decides itself: with another value its models are as large as before."""

    if architecture in stock.FAMILIES:
        return []

    def size(config: Config) -> int:
        with torch.device("meta"):
            model = from_scratch(config, 64, (32, 48), (1, 8), 0)
        return sum(parameter.numel() for parameter in model.parameters())

    small = _small(architecture)
    return [name for name in _NAMES if size(small) == size(small.model_copy(update={name: 2 * getattr(small, name)}))]


@cache
def needs_causal_prefix(architecture: str) -> bool:
    """Whether models of this family cannot let the prefix see all of itself; a small one with fresh weights is tried.

    Raises:
        ConfigError: They cannot be built, or steered as ours must be; the message says why.
    """
    if architecture in stock.FAMILIES:
        return False
    num_known = 16
    with torch.random.fork_rng(devices=[]), probe.refusing(architecture):
        torch.manual_seed(0)
        model = from_scratch(_small(architecture), 64, (32, 48), (1, 8), 0).eval()
        probe.check_family(model.backbone)
        probe.check(model, num_known, probe.text_logits(model.backbone, num_known))
    return model.causal_prefix


def _small(architecture: str) -> Config:
    return Config(
        architecture=architecture,
        width=64,
        num_layers=2,
        num_heads=4,
        num_key_value_heads=2,
        head_width=16,
        hidden_width=96,
        longest=64,
    )


def _settings(config: Config) -> dict[str, int]:
    """Those of `_NAMES` by the names that the family has for them, as far as they can be set."""
    from transformers import AutoConfig

    family = AutoConfig.for_model(config.architecture).get_text_config()
    known = family.to_dict()
    named = {}
    for setting, names in _NAMES.items():
        name = next((name for name in names if name in known), names[0])
        attribute = getattr(type(family), name, None)
        if not isinstance(attribute, property) or attribute.fset is not None:
            named[name] = getattr(config, setting)
    return named


def from_text_model(
    backbone: Any,
    vocabulary_size: int,
    visual_range: tuple[int, int],
    audio_places: tuple[int, int],
    num_known: int,
    generator: torch.Generator,
    num_features: int = 0,
    bits: bool = True,
) -> LanguageModel:
    """A language model around a trained Hugging Face causal LM, which is changed in place.

    Its first `num_known` ids are those that its text tokenizer gives; see `growth.grow`. Prompts enter as features
    of width `num_features`, where that is not 0; without `bits`, those of a visual code mean nothing.
    """
    growth.grow(backbone, vocabulary_size, num_known, generator)
    table = backbone.get_input_embeddings()
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        embedding = TokenEmbedding(
            token_embedding.Config(
                width=table.weight.shape[1],
                audio_places=audio_places,
                num_bits=(visual_range[1] - visual_range[0] - 1).bit_length() if bits else 0,
                first_visual=visual_range[0],
                num_features=num_features,
                first_prompt=vocabulary_size,
            )
        )
        rows = table(torch.arange(num_known))  # as the model sees them: Gemma's table scales its rows
        embedding.match(float(rows.float().std(dim=0).square().mean().sqrt()), generator)
    return LanguageModel(backbone, embedding.to(table.weight.dtype))


def without_dropout(config: Any) -> Any:
    """A Hugging Face config, changed in place, whose models drop nothing.

    That noise would come from no seed of ours: a resumed run would not be the run that was not stopped.
    """
    text = config.get_text_config()
    for name, value in text.to_dict().items():
        if "drop" in name and isinstance(value, float):
            setattr(text, name, 0.0)
    return config
