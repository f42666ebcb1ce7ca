"""Stock decoders read without the code of `transformers`, whose import takes longer than a small model takes to a clip.

Llama, Mistral, Qwen2 and Qwen3 are one architecture: RMS norm, rotary attention and a gated MLP. `cached_pass` computes
with their weights alone. Whatever is unusual about a folder is left to `transformers`, its errors too.
"""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from videopoet.checkpoint import CONFIG, read_json, read_weights, weight_files
from videopoet.errors import CheckpointError

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
"""Model types whose layers are one: RMS norm, rotary attention, gated MLP."""
MOST_BYTES = 2**30
"""Of weights; of a larger model the import is the smaller part of the time that reading takes."""
_GENERATION = "generation_config.json"
_NEEDED = (
    *("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim"),
    *("intermediate_size", "rms_norm_eps", "max_position_embeddings", "tie_word_embeddings"),
)


def is_stock(config: Any) -> bool:
    """Whether a Hugging Face config is that of layers with nothing unusual in them but perhaps their rotary places."""
    if config.model_type not in FAMILIES or getattr(config, "hidden_act", None) != "silu":
        return False
    sliding = getattr(config, "sliding_window", None) is not None and config.model_type == "mistral"
    return not sliding and set(getattr(config, "layer_types", None) or ["full_attention"]) == {"full_attention"}


def rope_type(config: Any) -> str:
    """How a Hugging Face config has places turn."""
    return (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")


def read(folder: Path, dtype: torch.dtype) -> StockDecoder | None:
    """The decoder of a Hugging Face folder, in evaluation mode; None where it is for `transformers` to read."""
    try:
        values = read_json(folder / CONFIG)
        generation = read_json(folder / _GENERATION) if (folder / _GENERATION).exists() else {}
        if not _is_plain(values) or sum(file.stat().st_size for file in weight_files(folder)) > MOST_BYTES:
            return None
        tensors = read_weights(folder)
    except (CheckpointError, OSError):
        return None
    with torch.device("meta"):
        decoder = StockDecoder(values, generation)
    if decoder.config.tie_word_embeddings and "model.embed_tokens.weight" in tensors:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    expected = {name: value.shape for name, value in decoder.state_dict().items()}
    if expected != {name: value.shape for name, value in tensors.items()}:
        return None
    decoder.load_state_dict({name: value.to(dtype) for name, value in tensors.items()}, assign=True)
    return decoder.tied().eval()


class StockDecoder(nn.Module):
    """Weights of a causal LM, by the names that they have in `transformers`, and as that makes them.

    Args:
        values: Of its config.json.
        generation: Of its generation_config.json, which is kept for `transformers`.
    """

    def __init__(self, values: dict[str, Any], generation: dict[str, Any]):
        super().__init__()
        self.values, self.generation = values, generation
        self.config = _Config(**values)
        self.model = _Layers(self.config)
        self.lm_head = nn.Linear(self.config.hidden_size, self.config.vocab_size, bias=False)

    @property
    def base_model(self) -> nn.Module:
        return self.model

    def get_input_embeddings(self) -> nn.Module:
        return self.model.embed_tokens

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def tied(self) -> StockDecoder:
        """The decoder, with one table for ids and head where its config has one."""
        if self.config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight
        return self

    def opened(self) -> Any:
        """The model of `transformers` around the very same weights."""
        from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

        config = AutoConfig.for_model(**copy.deepcopy(vars(self.config)))
        learned = {name: weight.requires_grad for name, weight in self.named_parameters()}
        with torch.random.fork_rng(devices=[]):  # its fresh weights are drawn for nothing
            network = AutoModelForCausalLM.from_config(config, dtype=self.lm_head.weight.dtype)
        network.load_state_dict(self.state_dict(keep_vars=True), assign=True)
        if self.generation:
            network.generation_config = GenerationConfig.from_dict(copy.deepcopy(self.generation))
        for name, weight in network.named_parameters():
            weight.requires_grad_(learned[name])
        return network.to(self.lm_head.weight.device).train(self.training)


class _Config(SimpleNamespace):
    """What config.json says, by the names of `transformers`."""

    def get_text_config(self) -> _Config:
        return self


class _Layers(nn.Module):
    def __init__(self, config: Any):
        super().__init__()
        # Without a table torch would draw one, and import its compiler to do so where tensors have no values.
        table = torch.empty(config.vocab_size, config.hidden_size)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, _weight=table)
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.num_hidden_layers))
        self.norm = _Norm(config.hidden_size, config)
        self.rotary_emb = _Rotary(config)


class _Layer(nn.Module):
    def __init__(self, config: Any):
        super().__init__()
        self.self_attn = _Attention(config)
        self.mlp = _Mlp(config)
        self.input_layernorm = _Norm(config.hidden_size, config)
        self.post_attention_layernorm = _Norm(config.hidden_size, config)


class _Attention(nn.Module):
    def __init__(self, config: Any):
        super().__init__()
        self.head_dim, self.scaling = config.head_dim, config.head_dim**-0.5
        width, bias = config.hidden_size, getattr(config, "attention_bias", False)
        asks, gives = config.num_attention_heads * self.head_dim, config.num_key_value_heads * self.head_dim
        reads_bias = bias or config.model_type == "qwen2"
        self.q_proj = nn.Linear(width, asks, bias=reads_bias)
        self.k_proj = nn.Linear(width, gives, bias=reads_bias)
        self.v_proj = nn.Linear(width, gives, bias=reads_bias)
        self.o_proj = nn.Linear(asks, width, bias=bias)
        if config.model_type == "qwen3":
            self.q_norm, self.k_norm = _Norm(self.head_dim, config), _Norm(self.head_dim, config)


class _Mlp(nn.Module):
    def __init__(self, config: Any):
        super().__init__()
        width, bias = (config.hidden_size, config.intermediate_size), getattr(config, "mlp_bias", False)
        self.gate_proj, self.up_proj = nn.Linear(*width, bias=bias), nn.Linear(*width, bias=bias)
        self.down_proj = nn.Linear(*reversed(width), bias=bias)


class _Norm(nn.Module):
    def __init__(self, width: int, config: Any):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.variance_epsilon = config.rms_norm_eps


class _Rotary(nn.Module):
    inv_freq: torch.Tensor

    def __init__(self, config: Any):
        super().__init__()
        powers = torch.arange(0, config.head_dim, 2, device="cpu").float() / config.head_dim
        self.register_buffer("inv_freq", 1.0 / config.rope_parameters["rope_theta"] ** powers, persistent=False)
        self.attention_scaling = 1.0


def _is_plain(values: Any) -> bool:
    """Whether these values of a config.json say all that a `StockDecoder` asks, and nothing unusual."""
    if not isinstance(values, dict) or any(values.get(name) is None for name in ("model_type", *_NEEDED)):
        return False
    config = _Config(**values)
    return (
        is_stock(config)
        and rope_type(config) == "default"
        and set(values.get("rope_parameters") or ()) == {"rope_type", "rope_theta"}
        and "quantization_config" not in values
    )
