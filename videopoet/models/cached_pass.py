"""Passes over a few positions of rows whose earlier keys and values are kept: what decoding does all day.

`cached_pass` chooses. Stock decoders (Llama, Mistral, Qwen2, Qwen3) are computed from their weights on this page: a
small model spends most of a pass of `transformers` on everything but products. All other families go through
`transformers` (`other_pass`). Both keep keys and values in room for whole rows, made once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from videopoet.models import stock
from videopoet.models.language_model import LanguageModel

MOST_COPIED = 2**30
"""Bytes of weights up to which a model's are laid out anew for its passes; a larger model's are used as they are."""

Places = slice | Tensor
"""Where in their rows the positions of a pass lie: alike in all rows, or (B, F)."""


class CachedPass(ABC):
    """A language model that remembers what it has read.

    Weights are those of the moment it is made; whoever changes them makes another.
    """

    def __init__(self, model: LanguageModel):
        self.model = model
        self._heads: dict[tuple[int, int], _Linear] = {}

    def __call__(self, embeddings: Tensor, mask: Tensor, positions: Tensor, places: Places) -> Tensor:
        """Hidden states, (B, F, D); keys and values are kept at `places`, in place of those there.

        Args:
            embeddings: (B, F, D).
            mask: bool (B, 1, F, K), True where a position sees one of the first K places of its row.
            positions: (B, F), counted without padding.
            places: Of the positions; none is K or more.
        """
        return self._read(embeddings, mask, positions, places)

    @abstractmethod
    def _read(self, embeddings: Tensor, mask: Tensor, positions: Tensor, places: Places) -> Tensor:
        """Hidden states, (B, F, D)."""

    @property
    def head_is_affine(self) -> bool:
        """Whether the logits of a weighted mean are the weighted mean of the logits."""
        return self.model.head_shape.cap is None

    def logits(self, hidden: Tensor, start: int, stop: int) -> Tensor:
        """Logits over the ids in [start, stop), (..., stop - start), of hidden states (..., D)."""
        if (start, stop) not in self._heads:
            bias = self.model.head_bias
            self._heads[start, stop] = _Linear(
                [(self.model.head_weight[start:stop], None if bias is None else bias[start:stop])], copy=True
            )
        return self.model.head_shape(self._heads[start, stop](hidden))


def cached_pass(model: LanguageModel, num_rows: int, length: int) -> CachedPass:
    """Passes over `num_rows` rows of up to `length` positions."""
    if _is_stock(model.weights):
        return _Stock(model, num_rows, length)
    from videopoet.models.other_pass import OtherPass

    return OtherPass(model, length)


def keep(held: Tensor, states: Tensor, places: Places) -> None:
    """Write states, (B, H, F, D), into those held, (B, H, L, D)."""
    if isinstance(places, slice):
        held[:, :, places] = states
    else:
        held.scatter_(2, places[:, None, :, None].expand(-1, states.shape[1], -1, states.shape[3]), states)


def _is_stock(backbone: Any) -> bool:
    """Whether the layers are what `_Stock` computes, and nothing has been put between them."""
    if not stock.is_stock(backbone.config) or stock.rope_type(backbone.config) not in ("default", "linear", "llama3"):
        return False
    linears = (module for layer in backbone.base_model.layers for module in layer.modules() if hasattr(module, "bias"))
    return all(type(module) is nn.Linear for module in linears)


class _Stock(CachedPass):
    """By the weights of a stock decoder."""

    def __init__(self, model: LanguageModel, num_rows: int, length: int):
        super().__init__(model)
        stack = model.weights.base_model
        copied = sum(weight.numel() * weight.element_size() for weight in stack.layers.parameters()) <= MOST_COPIED
        self.layers = [_Block(layer, num_rows, length, copied) for layer in stack.layers]
        self.norm = stack.norm
        angles = torch.arange(length, device=stack.norm.weight.device)[:, None] * stack.rotary_emb.inv_freq.float()
        turns = torch.stack([angles.cos(), angles.sin()]) * stack.rotary_emb.attention_scaling  # (2, L, D / 2)
        self.cosine = torch.stack([turns[0], turns[0]], dim=1).to(stack.norm.weight.dtype)  # (L, 2, D / 2)
        self.sine = torch.stack([-turns[1], turns[1]], dim=1).to(stack.norm.weight.dtype)

    def _read(self, embeddings: Tensor, mask: Tensor, positions: Tensor, places: Places) -> Tensor:
        seen = torch.zeros_like(mask, dtype=embeddings.dtype).masked_fill_(~mask, float("-inf"))
        cosine, sine = self.cosine[positions].unsqueeze(2), self.sine[positions].unsqueeze(2)  # (B, F, 1, 2, D / 2)
        hidden = embeddings
        for layer in self.layers:
            hidden = layer(hidden, seen, cosine, sine, places)
        return _normalized(hidden, self.norm)


class _Block:
    """One layer, with room for its keys and values."""

    def __init__(self, layer: Any, num_rows: int, length: int, copied: bool):
        attention, mlp = layer.self_attn, layer.mlp
        self.width, self.scale = attention.head_dim, attention.scaling
        self.num_heads = attention.q_proj.out_features // self.width
        self.num_keys = attention.k_proj.out_features // self.width
        self.read_norm, self.think_norm = layer.input_layernorm, layer.post_attention_layernorm
        self.read = _Linear(
            [(p.weight, p.bias) for p in (attention.q_proj, attention.k_proj, attention.v_proj)], copied
        )
        self.say = _Linear([(attention.o_proj.weight, attention.o_proj.bias)], copied)
        self.rise = _Linear([(p.weight, p.bias) for p in (mlp.gate_proj, mlp.up_proj)], copied)
        self.fall = _Linear([(mlp.down_proj.weight, mlp.down_proj.bias)], copied)
        self.head_norm: Tensor | None = None
        if hasattr(attention, "q_norm"):
            norms = [attention.q_norm] * self.num_heads + [attention.k_norm] * self.num_keys
            self.head_norm, self.epsilon = torch.stack([norm.weight for norm in norms]), norms[0].variance_epsilon
        shape = (num_rows, self.num_keys, length, self.width)
        self.keys, self.values = (attention.k_proj.weight.new_zeros(shape) for _ in range(2))

    def __call__(self, hidden: Tensor, mask: Tensor, cosine: Tensor, sine: Tensor, places: Places) -> Tensor:
        heads = self.read(_normalized(hidden, self.read_norm)).unflatten(2, (-1, self.width))  # (B, F, H, D)
        turned, values = heads[:, :, : -self.num_keys], heads[:, :, -self.num_keys :]
        if self.head_norm is not None:
            turned = F.rms_norm(turned, (self.width,), None, self.epsilon) * self.head_norm
        halves = turned.unflatten(3, (2, -1))  # (B, F, H, 2, D / 2)
        turned = torch.addcmul(halves * cosine, halves.flip(3), sine).flatten(3).transpose(1, 2)
        keep(self.keys, turned[:, self.num_heads :], places)
        keep(self.values, values.transpose(1, 2), places)
        reach, length, sharing = mask.shape[3], mask.shape[2], self.num_heads // self.num_keys
        # Heads that share keys are further queries of theirs: GPUs have no fast attention for groups with a mask.
        found = F.scaled_dot_product_attention(
            turned[:, : self.num_heads].unflatten(1, (-1, sharing)).flatten(2, 3),
            self.keys[:, :, :reach],
            self.values[:, :, :reach],
            attn_mask=mask.repeat(1, 1, sharing, 1) if sharing > 1 else mask,
            scale=self.scale,
        ).unflatten(2, (sharing, length))  # (B, K, H / K, F, D)
        hidden = hidden + self.say(found.flatten(1, 2).transpose(1, 2).flatten(2))
        gate, up = self.rise(_normalized(hidden, self.think_norm)).chunk(2, dim=2)
        return hidden + self.fall(F.silu(gate) * up)


class _Linear:
    """Linear maps of one input, joined end to end.

    Args:
        parts: Weights (out, in) and biases (out,).
        copy: Lay the weights out anew: joined, and as the processor's kernels like them best.
    """

    def __init__(self, parts: Sequence[tuple[Tensor, Tensor | None]], copy: bool):
        self.parts, self.packed = parts, None
        weight = parts[0][0]
        if not copy:
            return
        if len(parts) > 1:
            biases = [part for _, part in parts if part is not None]
            weight = torch.cat([part for part, _ in parts])
            self.parts = [(weight, torch.cat(biases) if biases else None)]
        if weight.device.type == "cpu" and weight.dtype == torch.float32 and _CAN_PACK:
            self.packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), None)

    def __call__(self, inputs: Tensor) -> Tensor:
        if self.packed is not None:
            return torch.ops.mkldnn._linear_pointwise(inputs, self.packed, self.parts[0][1], "none", [], "")
        outputs = [F.linear(inputs, weight, bias) for weight, bias in self.parts]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=-1)


# What torch.compile calls on a CPU; for few rows it is up to twice as fast as F.linear.
_CAN_PACK = torch.backends.mkldnn.is_available() and all(
    hasattr(torch.ops.mkldnn, name) for name in ("_reorder_linear_weight", "_linear_pointwise")
)


def _normalized(hidden: Tensor, norm: Any) -> Tensor:
    return F.rms_norm(hidden, (hidden.shape[-1],), norm.weight, norm.variance_epsilon)
