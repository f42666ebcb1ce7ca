"""The prefix language model: any Hugging Face causal LM, whose vocabulary has grown by media tokens.

It sees vectors and ids; what the ids stand for is `sequence`'s business. On disk it is a standard Hugging Face folder
that plain `transformers` opens, beside a `token_embedding/` of our own, and a `draft_head/` where it has one.
"""

from __future__ import annotations

import difflib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint as recompute

from videopoet import pretrained
from videopoet.checkpoint import load_component, load_weights, read_json, save_component
from videopoet.config import BaseConfig
from videopoet.errors import ConfigError
from videopoet.models import draft_head, growth, masks, stock, token_embedding
from videopoet.models.draft_head import DraftHead
from videopoet.models.stock import StockDecoder
from videopoet.models.token_embedding import TokenEmbedding

MOST_LOGITS = {"cpu": 2**25, "cuda": 2**28}
"""Logits that a loss holds at once, on each kind of device; beyond it they are recomputed chunk by chunk in the
backward pass. Each chunk reads the head's table and adds to its gradient: on a GPU that would take longer than all
else."""

AUDIO_FRAMES = 512
"""The most frames of sound in a row, about ten seconds."""


class Config(BaseConfig):
    """A language model from scratch: a stock architecture with QK-norm. VideoPoet names only parameter counts."""

    architecture: str = "qwen3"
    """A causal LM of `transformers`, by its model type."""
    width: int = Field(default=1024, ge=8)
    """Width of the hidden states."""
    num_layers: int = Field(default=24, ge=1)
    num_heads: int = Field(default=16, ge=1)
    num_key_value_heads: int = Field(default=16, ge=1)
    """Heads with keys of their own; as many of `num_heads` share each, so it divides these."""
    head_width: int = Field(default=64, ge=8, multiple_of=2)
    """Of one head; its numbers turn in pairs."""
    hidden_width: int = Field(default=2816, ge=8)
    """Width inside the gated MLP."""
    tied: bool = True
    """Use the embedding table as the head."""
    bits: bool = True
    """Let the bits of a visual code enter beside its row of the table."""
    longest: int = Field(default=8192, ge=16)
    """The most positions of a sequence."""

    @model_validator(mode="after")
    def _can_be_built(self) -> Self:
        if self.num_heads % self.num_key_value_heads:
            raise ValueError(f"{self.num_heads} heads cannot share {self.num_key_value_heads} keys evenly")
        if self.architecture not in stock.FAMILIES:
            from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as FAMILIES

            if self.architecture not in FAMILIES:
                close = difflib.get_close_matches(self.architecture, FAMILIES, n=3) or stock.FAMILIES
                raise ValueError(
                    f"there is no causal LM '{self.architecture}'; among others there are {', '.join(close)}"
                )
        return self


class HeadShape(NamedTuple):
    """What a family does to the products of hidden states and its head's table before they are its logits."""

    scale: float = 1.0
    cap: float | None = None
    """Logits are bent to stay between -cap and cap (Gemma 2)."""

    @classmethod
    def of(cls, config: Any) -> Self:
        """That of a Hugging Face text config."""
        scale = getattr(config, "logit_scale", None) or 1.0  # Cohere
        return cls(
            scale / (getattr(config, "logits_scaling", None) or 1.0),  # Granite
            getattr(config, "final_logit_softcapping", None),
        )

    def __call__(self, products: Tensor) -> Tensor:
        logits = products if self.scale == 1 else products * self.scale
        return logits if self.cap is None else torch.tanh(logits / self.cap) * self.cap


class LanguageModel(nn.Module):
    """Token embeddings in, hidden states out, and logits over the ranges that positions allow."""

    def __init__(self, backbone: Any, embedding: TokenEmbedding):
        super().__init__()
        self.backbone = backbone
        self.embedding = embedding
        self.draft_head: DraftHead | None = None
        """Guesses tokens for a decoder that checks them; the model gives what it gives without it."""
        self.reader: Callable[[Tensor, Tensor], Tensor] | None = None
        """Gives the features, (N, n, F), of prompts, int64 ids (N, n), of which bool (N, n) are visible. It is no part
        of the model: it is neither trained nor saved with it."""
        self.head_shape = HeadShape.of(backbone.config.get_text_config())

    @property
    def weights(self) -> Any:
        """The Hugging Face causal LM, or the `StockDecoder` that stands for it until the model itself is asked for."""
        return self._modules["backbone"]

    @property
    def backbone(self) -> Any:
        """The Hugging Face causal LM."""
        if isinstance(self.weights, StockDecoder):
            self.backbone = self.weights.opened()
        return self.weights

    @backbone.setter
    def backbone(self, network: nn.Module) -> None:
        self._modules["backbone"] = network

    def save(self, folder: str | Path) -> None:
        """Write the Hugging Face folder with `token_embedding/` in it."""
        folder = Path(folder)
        pretrained.save_network(self.backbone, folder)
        save_component(folder / "token_embedding", self.embedding.config, self.embedding.state_dict())
        if self.draft_head is not None:
            save_component(folder / "draft_head", self.draft_head.config, self.draft_head.state_dict())

    @classmethod
    def load(cls, folder: str | Path, dtype: torch.dtype = torch.float32) -> Self:
        """Read what `save` wrote, in evaluation mode.

        Raises:
            CheckpointError: A file is missing, broken or does not fit.
        """
        folder = Path(folder)
        pretrained.check_no_code(folder)
        config, tensors = load_component(folder / "token_embedding", token_embedding.Config)
        embedding = TokenEmbedding(config)
        load_weights(embedding, tensors, folder / "token_embedding")
        model = cls(stock.read(folder, dtype) or _transformers_model(folder, dtype), embedding.to(dtype))
        if (folder / "draft_head").is_dir():
            config, tensors = load_component(folder / "draft_head", draft_head.Config)
            head = model.add_draft_head(config.hidden_width)
            load_weights(head, tensors, folder / "draft_head")
        return model.eval()

    @classmethod
    def shaped_as(cls, folder: str | Path) -> Self:
        """A model of the same shape as one that `save` wrote, with weights of its own; where tensors are made without
        values, it costs nothing."""
        from transformers import AutoConfig, AutoModelForCausalLM

        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        values = read_json(Path(folder) / "token_embedding" / "config.json")
        embedding = TokenEmbedding(token_embedding.Config.from_dict(values))
        model = cls(AutoModelForCausalLM.from_config(config, dtype=torch.float32), embedding)
        if (Path(folder) / "draft_head").is_dir():
            values = read_json(Path(folder) / "draft_head" / "config.json")
            model.add_draft_head(draft_head.Config.from_dict(values).hidden_width)
        return model

    def add_draft_head(self, hidden_width: int) -> DraftHead:
        """Give the model a head of fresh weights, in place of one that it may have.

        Args:
            hidden_width: Inside of the head.
        """
        table = self.head_weight
        config = draft_head.Config(width=table.shape[1], hidden_width=hidden_width)
        head = DraftHead(config)
        fresh = head.direct.weight
        # Weights that have no values, as a plan's, cannot be moved even to where they are.
        alike = (fresh.device, fresh.dtype) == (table.device, table.dtype)
        self.draft_head = head if alike else head.to(table.device, table.dtype)
        return self.draft_head

    def widen_codes(self, first: int, num_codes: int, wanted: int) -> None:
        """Know `wanted` visual codes in place of the `num_codes` whose ids begin at `first`; see `growth.widen_codes`.

        Both are powers of two, as codes of bits are.
        """
        growth.widen_codes(self.backbone, first, num_codes, wanted)
        self.embedding = self.embedding.widened((wanted - 1).bit_length(), len(self.head_weight))

    def insert_words(self, first: int, count: int, generator: torch.Generator) -> None:
        """Know `count` more ids of text, which begin at `first`, where they ended; see `growth.insert_words`."""
        growth.insert_words(self.backbone, first, count, generator)
        self.embedding.move_up(count)

    def translate_codes(self, first: int, num_codes: int, new: Tensor, old: Tensor) -> None:
        """Take visual codes for those of another tokenizer in the same places; see `growth.translate_codes`."""
        growth.translate_codes(self.backbone, self.embedding, first, num_codes, new, old)

    @property
    def key_width(self) -> int:
        """Width of the keys of a position in one layer, of all heads that have their own."""
        config = self.weights.config.get_text_config()
        num_heads = config.num_attention_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // num_heads
        return (getattr(config, "num_key_value_heads", None) or num_heads) * width

    @property
    def num_layers(self) -> int:
        return self.weights.config.get_text_config().num_hidden_layers

    @property
    def layers(self) -> tuple[nn.Module, ...]:
        """The backbone's layers, first to last."""
        lists = (module for module in self.backbone.modules() if isinstance(module, nn.ModuleList))
        return tuple(next(layers for layers in lists if len(layers) == self.num_layers))

    @property
    def head_weight(self) -> Tensor:
        """The head's table, (V, D)."""
        return self.weights.get_output_embeddings().weight

    @property
    def head_bias(self) -> Tensor | None:
        """What the head adds to the logits, (V,), in the families where it does (Phi)."""
        return getattr(self.weights.get_output_embeddings(), "bias", None)

    @property
    def longest(self) -> int | None:
        """The most positions of a sequence; None where the family has no limit."""
        return getattr(self.weights.config.get_text_config(), "max_position_embeddings", None)

    @property
    def causal_prefix(self) -> bool:
        """Whether the backbone reads its prefix in one direction only, because it obeys no other mask."""
        return getattr(self.weights.config, "causal_prefix", False)

    @causal_prefix.setter
    def causal_prefix(self, value: bool) -> None:
        self.weights.config.causal_prefix = value  # kept in its config.json, where `transformers` ignores it

    def check_length(self, length: int) -> None:
        """Refuse a sequence that the backbone has no positions for.

        Raises:
            ConfigError: It is longer than `longest`.
        """
        if self.longest is not None and length > self.longest:
            raise ConfigError(
                f"the row has {length} positions, this language model has {self.longest}; ask for a shorter or smaller "
                "clip, or convert a model with a longer context",
                code="row_too_long",
            )

    def embed(self, tokens: Tensor, modality: Tensor, places: Tensor) -> Tensor:
        """Input embeddings, (B, L, D), of tokens (B, L) at their places (B, L, 3)."""
        return self.embed_tokens(tokens, modality) + self.embedding.of_places(modality, places)

    def embed_tokens(self, tokens: Tensor, modality: Tensor) -> Tensor:
        """The part of the input embeddings, (B, L, D), that depends on what was chosen; their places are the rest.

        Where prompts enter as features, each of them is here as a whole: features of a token depend on its prompt.
        """
        table = self.weights.get_input_embeddings()
        if self.reader is None:
            return table(tokens) + self.embedding.of_bits(tokens, modality)
        is_prompt = modality == self.embedding.PROMPT
        embeddings = table(tokens.masked_fill(is_prompt, 0)) + self.embedding.of_bits(tokens, modality)
        if not is_prompt.any():  # processes that divide the weights all give them a gradient, were it zero
            features = self.embedding.features_embedding
            if features is None or not torch.is_grad_enabled():
                return embeddings
            return embeddings + 0 * features.weight.sum()
        return embeddings.masked_scatter(is_prompt[..., None], self._read(tokens, is_prompt).to(embeddings.dtype))

    def _read(self, tokens: Tensor, is_prompt: Tensor) -> Tensor:
        """Embeddings, (N, D), of the N positions of prompts, row by row."""
        assert self.reader is not None
        speaks = is_prompt.any(dim=1)  # rows without a prompt have nothing to attend to
        tokens, is_prompt = tokens[speaks], is_prompt[speaks]
        lengths = is_prompt.sum(dim=1)
        visible = torch.arange(int(lengths.max()), device=tokens.device) < lengths[:, None]  # (B, n)
        ids = torch.zeros_like(visible, dtype=tokens.dtype)
        ids[visible] = tokens[is_prompt] - self.embedding.config.first_prompt
        return self.embedding.of_features(self.reader(ids, visible)[visible])

    def forward(
        self,
        embeddings: Tensor,
        mask: Tensor | None,
        positions: Tensor,
        cache: Any = None,
        places: Tensor | None = None,
    ) -> Tensor:
        """Hidden states, (B, L, D).

        Args:
            embeddings: (B, L, D).
            mask: bool (B, 1, L, K), True where a position (L) sees another (K, cached ones first); None for all.
            positions: (B, L), counted without padding.
            cache: A `transformers` cache that is read and extended, or None.
            places: Which of K the positions are, (B, L); None says the last L of them.
        """
        if mask is None:
            mask = embeddings.new_ones((1,), dtype=torch.bool).expand(
                len(embeddings), 1, embeddings.shape[1], embeddings.shape[1] + (cache.get_seq_length() if cache else 0)
            )
        self.check_length(mask.shape[-1])
        return self.backbone.base_model(
            inputs_embeds=embeddings,
            attention_mask=masks.for_backbone(self.backbone.config.get_text_config(), mask, embeddings.dtype, places),
            position_ids=positions,
            past_key_values=cache,
            use_cache=cache is not None,
        ).last_hidden_state

    def draft(
        self, hidden: Tensor, tokens: Tensor, modality: Tensor, placed: Tensor, wanted: Tensor, around: Tensor
    ) -> Tensor:
        """States, (B, N, D), whose logits are guesses at the tokens of positions that the model has not come to.

        What they are made of learns nothing from them: the rest of the model is trained as if there were no guesses.

        Args:
            hidden: (B, L, D), of all positions.
            tokens: (B, L).
            modality: (B, L).
            placed: (B, L, D), `embedding.of_places`.
            wanted: (B, N), positions.
            around: (B, N, 2), the neighbours of each; -1 where it has none, and else one with a state and a token.
        """
        assert self.draft_head is not None, "this model has no draft head"
        sources = around.clamp_min(0).flatten(1)  # (B, 2 N)
        with torch.no_grad():
            read = self.embed_tokens(tokens.gather(1, sources).clamp_min(0), modality.gather(1, sources))
        pairs = (_at(hidden.detach(), sources), read)
        states, read = (vectors.unflatten(1, (-1, 2)) for vectors in pairs)  # (B, N, 2, D)
        return self.draft_head(states, read, around >= 0, _at(placed.detach(), wanted))

    def recompute_layers(self) -> None:
        """Keep only what enters each layer for the backward pass, and compute its inner values there again."""
        self.backbone.activation_checkpointing_enable({"use_reentrant": False, "preserve_rng_state": False})

    def compile_layers(self) -> None:
        """Have torch compile the layers at their first call, for rows of any length.

        Raises:
            ConfigError: There is no compiler.
        """
        on_cpu = next(self.parameters()).device.type == "cpu"
        # For a GPU torch compiles what starts its kernels, in C.
        usual, *others = (
            (os.environ.get("CXX", "g++"), "clang++", "cl") if on_cpu else (os.environ.get("CC", "gcc"), "clang")
        )
        if not any(map(shutil.which, (usual, *others))):
            raise ConfigError(
                f"language_model.compile=true needs a compiler, and there is none; install {usual}, or set it to false",
                code="extra_missing",
            )
        for layer in self.layers:
            layer.compile(dynamic=True)

    def logits(self, hidden: Tensor, start: int, stop: int) -> Tensor:
        """Logits over the ids in [start, stop), (..., stop - start), of hidden states (..., D)."""
        return self.head_shape(F.linear(hidden, *self._head(start, stop)))

    def loss(self, hidden: Tensor, tokens: Tensor, ranges: Tensor, *, head_learns: bool = True) -> Tensor:
        """Cross-entropy in nats, (N,) fp32, of tokens (N,) among the ids that `ranges` (N, 2) allows."""
        if not len(tokens):
            return hidden.new_zeros(0, dtype=torch.float32)
        size = len(self.head_weight) + 1
        kinds = ranges[:, 0] * size + ranges[:, 1]  # one number a range: finding equal pairs takes far longer
        starts_and_stops = [divmod(kind, size) for kind in kinds.unique().tolist()]
        if len(starts_and_stops) == 1:
            return self.loss_within(hidden, tokens, *starts_and_stops[0], head_learns=head_learns)
        losses = hidden.new_zeros(len(tokens), dtype=torch.float32)
        for start, stop in starts_and_stops:
            chosen = (kinds == start * size + stop).nonzero().flatten()
            values = self.loss_within(hidden[chosen], tokens[chosen], start, stop, head_learns=head_learns)
            losses = losses.index_put((chosen,), values)  # pyright: ignore[reportArgumentType]
        return losses

    def loss_within(
        self,
        hidden: Tensor,
        tokens: Tensor,
        start: int,
        stop: int,
        *,
        head_learns: bool = True,
        size: int | None = None,
    ) -> Tensor:
        """Cross-entropy in nats, (N,) fp32, of tokens (N,) among the ids in [start, stop).

        A chunk has `size` tokens; None leaves that to the device.
        """
        size = size or chunk_size(stop - start, hidden.device.type)
        chunks = list(zip(hidden.split(size), (tokens - start).split(size), strict=True))
        weight, bias = self._head(start, stop)
        if not head_learns:
            weight, bias = weight.detach(), None if bias is None else bias.detach()
        head = (weight, bias, self.head_shape)
        if len(chunks) == 1:
            return _cross_entropy(*chunks[0], *head)
        return torch.cat(
            [
                recompute(_cross_entropy, *chunk, *head, use_reentrant=False, preserve_rng_state=False)
                for chunk in chunks
            ]  # pyright: ignore
        )

    def _head(self, start: int, stop: int) -> tuple[Tensor, Tensor | None]:
        bias = self.head_bias
        return self.head_weight[start:stop], None if bias is None else bias[start:stop]


def chunk_size(num_ids: int, device: str) -> int:
    """How many tokens, each one of so many ids, are in a chunk of a loss on a device of this kind."""
    return max(1, MOST_LOGITS.get(device, MOST_LOGITS["cpu"]) // num_ids)


def _transformers_model(folder: Path, dtype: torch.dtype) -> Any:
    from transformers import AutoModelForCausalLM

    return pretrained.load_network(
        AutoModelForCausalLM,
        folder,
        "the language model",
        "the folder is broken or not a causal LM; restore it or save the model again",
        exactly=True,
        dtype=dtype,
    )


def _at(vectors: Tensor, positions: Tensor) -> Tensor:
    """Those, (B, N, D), of vectors (B, L, D) that stand at positions (B, N)."""
    return vectors.gather(1, positions[..., None].expand(-1, -1, vectors.shape[2]))


def _cross_entropy(hidden: Tensor, targets: Tensor, weight: Tensor, bias: Tensor | None, shape: HeadShape) -> Tensor:
    return F.cross_entropy(shape(F.linear(hidden, weight, bias)).float(), targets, reduction="none")
