"""Training a part of a language model: LoRA on its layers, and the rows of its text ids kept as they are."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import nn

from videopoet.config import BaseConfig
from videopoet.errors import ConfigError
from videopoet.models.language_model import LanguageModel


class LoraConfig(BaseConfig):
    """Low-rank changes to a frozen language model (LoRA, arXiv 2106.09685), merged into its weights at the end."""

    rank: int = Field(default=16, ge=1)
    """Of each change."""
    alpha: int = Field(default=32, ge=1)
    """Changes are scaled by alpha / rank."""
    targets: tuple[str, ...] = ()
    """Ends of the names of the matrices that change, such as `q_proj`; with none, all but tables and head."""


def keep_text_rows(model: LanguageModel, num_text: int) -> None:
    """Let training leave the rows of the first `num_text` ids as they are, in the table and in the head."""
    for parameter in _tables(model):
        parameter.kept_rows = num_text  # pyright: ignore[reportAttributeAccessIssue]  read by `optimizer`


def add_lora(model: LanguageModel, config: LoraConfig, num_text: int) -> Any:
    """Freeze a language model's layers and put trainable low-rank changes beside their matrices.

    The rows of media ids, places and bits are trained whole: they are new. The changes are drawn from torch's present
    random state, and are nothing at first.

    Returns:
        What `merge` takes when training is over.

    Raises:
        ConfigError: `peft` is not installed, or a target names no matrix.
    """
    try:
        import peft
    except ImportError:
        raise ConfigError(
            "language_model.lora is set, and peft, which it needs, is not installed; install videopoet[lora] or train "
            "without it",
            code="extra_missing",
        ) from None
    settings = peft.LoraConfig(
        r=config.rank, lora_alpha=config.alpha, target_modules=list(config.targets) or "all-linear", bias="none"
    )
    names = [name for name, module in model.backbone.named_modules() if not list(module.children())]
    for target in config.targets:
        if not any(name == target or name.endswith(f".{target}") for name in names):
            ends = ", ".join(dict.fromkeys(name.rpartition(".")[2] for name in names))
            raise ConfigError(
                f"language_model.lora.targets names '{target}', which this model has not; it has {ends}; correct it",
                code="config_invalid",
            )
    adapted = peft.get_peft_model(model.backbone, settings)  # in place
    for parameter in _tables(model):
        parameter.requires_grad_(True)
    keep_text_rows(model, num_text)
    return adapted


def merge(adapted: Any) -> None:
    """Add the changes to the weights they belong to, in place, so that the model is a plain one again."""
    with torch.no_grad():
        adapted.merge_and_unload()


def _tables(model: LanguageModel) -> list[nn.Parameter]:
    backbone = model.backbone
    heads = (backbone.get_input_embeddings(), backbone.get_output_embeddings())
    tables = {id(head.weight): head.weight for head in heads}
    if (bias := model.head_bias) is not None:
        tables[id(bias)] = bias
    return list(tables.values())  # pyright: ignore[reportReturnType]
