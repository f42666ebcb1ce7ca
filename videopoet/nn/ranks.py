"""Agreement between the processes of one training run; alone, every function returns what it was given."""

from __future__ import annotations

import torch.distributed as distributed
from torch import Tensor


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """Add up a tensor over all processes, in place."""
    if _several():
        distributed.all_reduce(tensor)
    return tensor


def mean_over_ranks(tensor: Tensor) -> Tensor:
    """Average a tensor over all processes, in place."""
    return sum_over_ranks(tensor).div_(distributed.get_world_size()) if _several() else tensor


def from_first_rank(tensor: Tensor) -> Tensor:
    """Overwrite a tensor with that of the first process, so that all processes hold the same."""
    if _several():
        distributed.broadcast(tensor, src=0)
    return tensor


def _several() -> bool:
    return distributed.is_available() and distributed.is_initialized()
