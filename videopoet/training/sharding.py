"""Weights, gradients and states divided among the processes of a run: FSDP2, `torch.distributed.fsdp.fully_shard`.

Every process holds a part of each tensor, cut along its first dimension. A block is put together shortly before it
computes and let go after; what is in no block, tables first of all, is together for a whole step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from videopoet import ranks


class _Step(nn.Module):
    """An objective as the forward pass of a module: everything that reads weights happens inside of it."""

    def __init__(self, objective: Any):
        super().__init__()
        self.model = objective.model
        self.compute = objective

    def forward(self, *arguments: Any) -> Any:
        return self.compute(*arguments)


def divide(objective: Any, device: torch.device, bf16: bool = False) -> Callable[..., Any]:
    """Divide an objective's model among all processes, in place; what is returned is called in the objective's stead.

    Optimizers are built after this: the parameters are new ones.

    Args:
        bf16: Send the weights of blocks in bf16. Else autocast would keep a copy of all blocks in it for the backward
            pass. Gradients are added up in fp32 in any case.
    """
    kept = {name: rows for name, p in objective.model.named_parameters() if (rows := getattr(p, "kept_rows", 0))}
    mesh = init_device_mesh(device.type, (ranks.count(),))
    precision = MixedPrecisionPolicy(torch.bfloat16 if bf16 else None, torch.float32, cast_forward_inputs=False)
    for block in objective.blocks:
        fully_shard(block, mesh=mesh, mp_policy=precision)
    step = _Step(objective)
    fully_shard(step, mesh=mesh)
    if hasattr(step, "set_reduce_scatter_unused_params"):  # torch from 2.13 on
        for module in step.modules():
            if isinstance(module, FSDPModule):
                module.set_reduce_scatter_unused_params(True)
    for name, parameter in objective.model.named_parameters():
        if name in kept:
            parameter.kept_rows = kept[name]  # pyright: ignore[reportAttributeAccessIssue]
    return step


def is_divided(module: nn.Module) -> bool:
    """Whether `divide` has divided it."""
    return any(isinstance(parameter, DTensor) for parameter in module.parameters())


@contextmanager
def whole_on_first(module: nn.Module) -> Iterator[None]:
    """The first process alone holds whole weights and may compute, without the others; they wait where they next meet.

    A module that is not divided stays as it is.
    """
    if not is_divided(module):
        yield
        return
    parts = _put_together(module, keep=ranks.rank() == 0)
    hooks = [
        (hooked, dict(hooked._forward_pre_hooks), dict(hooked._forward_hooks))
        for hooked in module.modules()
        if isinstance(hooked, FSDPModule)
    ]
    _unhook(module)
    try:
        yield
    finally:
        for hooked, before, after in hooks:
            hooked._forward_pre_hooks.update(before)
            hooked._forward_hooks.update(after)
        for owner, name, part in parts:
            owner._parameters[name] = part


def make_whole(module: nn.Module) -> None:
    """Undo `divide` for good: plain weights and plain modules, on every process."""
    if not is_divided(module):
        return
    _put_together(module, keep=True)
    _unhook(module)
    for part in module.modules():
        if isinstance(part, FSDPModule):
            part.__class__ = type(part).__mro__[2]  # FSDPX, FSDPModule, X
            for key in [key for key in part.__dict__ if "composable_api" in key]:  # what `fully_shard` keeps there
                del part.__dict__[key]


def local(tensor: Tensor) -> Tensor:
    """The part of a tensor that this process holds, of one that is not divided all of it; they share memory."""
    with torch.no_grad():
        return tensor.to_local() if isinstance(tensor, DTensor) else tensor.detach()


def first_row(tensor: Tensor) -> int:
    """The number of the first row of a tensor that this process holds."""
    return -(-len(tensor) // ranks.count()) * ranks.rank() if isinstance(tensor, DTensor) else 0


def _put_together(module: nn.Module, keep: bool) -> list[tuple[nn.Module, str, nn.Parameter]]:
    """Replace divided parameters by whole ones, which all processes do together, or by empty ones; returns the former.

    What is tied stays tied.
    """
    replaced: dict[int, nn.Parameter] = {}
    parts = []
    for owner in module.modules():
        for name, part in owner._parameters.items():
            if not isinstance(part, DTensor):
                continue
            if id(part) not in replaced:
                with torch.no_grad():
                    values = part.full_tensor()
                values = values if keep else values.new_empty(0)
                replaced[id(part)] = nn.Parameter(values, requires_grad=part.requires_grad)
            parts.append((owner, name, part))
    for owner, name, part in parts:
        owner._parameters[name] = replaced[id(part)]
    return parts


def _unhook(module: nn.Module) -> None:
    for hooked in module.modules():
        if isinstance(hooked, FSDPModule):
            # Nothing else hooks these modules' forward passes: they are blocks, and the step around them.
            hooked._forward_pre_hooks.clear()
            hooked._forward_hooks.clear()
