"""How a language model begins: with fresh weights, or around a trained Hugging Face causal LM."""

from __future__ import annotations

from typing import Any

import torch

from videopoet.models import growth, token_embedding
from videopoet.models.language_model import Config, LanguageModel
from videopoet.models.token_embedding import TokenEmbedding


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
                num_key_value_heads=config.num_key_value_heads,
                head_dim=config.head_width,
                intermediate_size=config.hidden_width,
                max_position_embeddings=config.longest,
                tie_word_embeddings=config.tied,
                pad_token_id=pad,
            )
        ),
        attn_implementation="sdpa",
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
