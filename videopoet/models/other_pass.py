"""Passes of language models of every family, by way of `transformers`."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from videopoet.models.cached_pass import CachedPass, Places, keep
from videopoet.models.language_model import LanguageModel


class OtherPass(CachedPass):
    def __init__(self, model: LanguageModel, length: int):
        super().__init__(model)
        self.layers = [_Layer(length) for _ in range(model.num_layers)]
        self.cache = Cache(layers=[*self.layers])

    def _read(self, embeddings: Tensor, mask: Tensor, positions: Tensor, places: Places) -> Tensor:
        for layer in self.layers:
            layer.places, layer.reach = places, mask.shape[3]
        return self.model(embeddings, mask, positions, self.cache, None if isinstance(places, slice) else places)


class _Layer(CacheLayerMixin):
    """Keys and values of one layer, written where the next pass says, again if it says so."""

    is_sliding = False

    def __init__(self, length: int):
        super().__init__()
        self.length, self.reach = length, 0
        self.places: Places = slice(0, 0)

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        # Not of whatever memory held: what is not yet written is weighed with zero, and zero times NaN is NaN.
        self.keys, self.values = (
            states.new_zeros(*states.shape[:2], self.length, states.shape[3]) for states in (key_states, value_states)
        )
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None and self.values is not None
        for held, states in ((self.keys, key_states), (self.values, value_states)):
            keep(held, states, self.places)
        return self.keys[:, :, : self.reach], self.values[:, :, : self.reach]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.reach, 0

    def get_seq_length(self) -> int:
        return self.reach

    def get_max_length(self) -> int:
        return self.length
