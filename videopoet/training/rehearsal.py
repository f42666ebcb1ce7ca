"""What a computation would cost, found by going through it with tensors that have shapes and no values."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.flop_counter import flop_registry


@dataclass(frozen=True)
class Cost:
    """Of one computation."""

    flops: int
    """Multiplications and additions of matrix products, convolutions and attention."""
    peak_bytes: int
    """The most memory that tensors took at once, those that were there before included."""


@cache
def without_values() -> FakeTensorMode:
    """A context, always the same, in which tensors are made without memory, so that any model fits."""
    return FakeTensorMode(allow_non_fake_inputs=True)


def autocast(bf16: bool = True) -> torch.autocast:
    """As `runtime.autocast` on a device that is fast in bf16, which this one need not be."""
    return torch.autocast("cpu", torch.bfloat16, enabled=bf16)


def cost_of(compute: Callable[[], Any], module: torch.nn.Module) -> Cost:
    """What `compute` costs; `module`, all of whose tensors count as there before, and it were made `without_values`."""
    meter = _Meter()
    for tensor in (*module.parameters(), *module.buffers()):
        meter.note(tensor)
    with meter:
        compute()
    return Cost(meter.flops, meter.peak)


class Operations(TorchDispatchMode):
    """A context that adds up operations, `flops`, by torch's own formulas.

    Torch's `FlopCounterMode` also follows modules, and for that puts hooks where a gradient's gradient cannot pass.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if (formula := flop_registry.get(func._overloadpacket)) is not None:
            self.flops += formula(*args, **kwargs, out_val=result)
        return result


class _Meter(Operations):
    """Also follows the bytes of every storage to the end of its life."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.known: set[int] = set()

    def note(self, value: Any) -> None:
        if not isinstance(value, torch.Tensor):
            return
        storage = value.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self.known:
            return
        self.known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.now -= size

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = super().__torch_dispatch__(func, types, args, kwargs)
        for value in tree_iter(result):
            self.note(value)
        return result
