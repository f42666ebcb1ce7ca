"""Agreement between the processes of one training run; alone, every function returns what it was given."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as distributed
from torch import Tensor, nn

T = TypeVar("T")

MOST_SENT = 2**26
"""Numbers of gradients in one message, which are copied for it; a larger gradient is one by itself."""

LONGEST_WAIT = timedelta(hours=3)
"""Processes wait for each other so long at most: the first validates and writes checkpoints by itself."""


@contextlib.contextmanager
def joined() -> Iterator[None]:
    """Join the other processes that `torchrun` started, or what sets its variables; else a process stays alone."""
    if not {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys() or _several():
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    # What is on the CPU, such as whether to go on, goes around the GPUs and does not wait for them.
    distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=LONGEST_WAIT)
    yield
    # Only where all is well: it waits for the others, who after an error may be waiting for this process. That it ends
    # is what `torchrun` looks for.
    distributed.destroy_process_group()


def rank() -> int:
    """The number of this process, from 0 on; the first one writes files."""
    return distributed.get_rank() if _several() else 0


def count() -> int:
    """How many processes there are."""
    return distributed.get_world_size() if _several() else 1


def as_first_rank(value: T) -> T:
    """What the first process has for this value, which may be anything small."""
    if not _several():
        return value
    held = [value]
    distributed.broadcast_object_list(held, src=0)
    return held[0]


def wait() -> None:
    """Go on when all processes are here."""
    if _several():
        distributed.barrier()


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Average gradients over all processes, in few messages; what only some have counts as zero elsewhere."""
    if not _several():
        return
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    for parameter in trained:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    messages: list[list[Tensor]] = [[]]
    for gradient in [parameter.grad for parameter in trained if parameter.grad is not None]:
        if sum(each.numel() for each in messages[-1]) + gradient.numel() > MOST_SENT and messages[-1]:
            messages.append([])
        messages[-1].append(gradient)
    for gradients in messages:
        mean = mean_over_ranks(torch.cat([gradient.flatten() for gradient in gradients]))
        parts = mean.split([gradient.numel() for gradient in gradients])
        pairs = zip(parts, gradients, strict=True)
        torch._foreach_copy_(gradients, [part.view_as(gradient) for part, gradient in pairs])


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
