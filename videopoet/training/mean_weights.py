"""The running mean of a model's weights, which is what a run keeps at the end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from videopoet.training.sharding import local


class MeanWeights:
    """A running mean of a module's trainable parameters; of all else, the present value.

    Its decay grows from zero as (1 + step) / (10 + step) up to the set one, so that early means are not stale. Of
    divided parameters the mean is divided too.
    """

    def __init__(self, module: nn.Module, decay: float):
        self.module = module
        self.decay = decay
        self.tensors = {name: p.detach().clone() for name, p in module.named_parameters() if p.requires_grad}

    @torch.no_grad()
    def update(self, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        parameters = dict(self.module.named_parameters())
        means = [local(tensor) for tensor in self.tensors.values()]
        torch._foreach_lerp_(means, [local(parameters[name]) for name in self.tensors], 1 - decay)

    def copy_into_model(self) -> None:
        _copy(self.tensors, self.module)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The module holds the mean weights."""
        live = {name: p.detach().clone() for name, p in self.module.named_parameters() if name in self.tensors}
        self.copy_into_model()
        try:
            yield
        finally:
            _copy(live, self.module)


@torch.no_grad()
def _copy(tensors: dict[str, Tensor], module: nn.Module) -> None:
    for name, parameter in module.named_parameters():
        if name in tensors:
            local(parameter).copy_(local(tensors[name]))
