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
from torch.utils.flop_counter import flop_registry, register_flop_formula, sdpa_backward_flop_count, sdpa_flop_count


# Torch has no formulas for its own attention on a CPU. They are those of other devices, and of the products that a
# language model in training attends by.
@register_flop_formula(torch.ops.aten._scaled_dot_product_flash_attention_for_cpu)
def _attention(queries: Any, keys: Any, values: Any, *_: Any, **__: Any) -> int:
    return sdpa_flop_count(queries, keys, values)


@register_flop_formula(torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward)
def _attention_backward(gradient: Any, queries: Any, keys: Any, values: Any, *_: Any, **__: Any) -> int:
    return sdpa_backward_flop_count(gradient, queries, keys, values)


@dataclass(frozen=True)
class Cost:
    """Of one computation."""

    flops: int
    """Multiplications and additions of matrix products, convolutions and attention."""
    peaks: tuple[int, ...]
    """The most bytes that tensors took at once in each of its phases, those that were there before included."""
    peaks_divided: tuple[int, ...]
    """The same where only a part is kept of what `Meter.keep_part` names."""

    @property
    def peak_bytes(self) -> int:
        return max(self.peaks)

    @property
    def divided_bytes(self) -> int:
        return max(self.peaks_divided)

    def extended(self, times: float, fewer: Cost, more: Cost) -> Cost:
        """With `times` as much again of what makes the difference between two others, phase by phase.

        The most of two phases grows with the phase that grows faster, which need not be the larger one of two small
        computations; so each is followed by itself.
        """

        def longer(own: tuple[int, ...], low: tuple[int, ...], high: tuple[int, ...]) -> tuple[int, ...]:
            return tuple(round(a + times * (c - b)) for a, b, c in zip(own, low, high, strict=True))

        (flops,) = longer((self.flops,), (fewer.flops,), (more.flops,))
        divided = longer(self.peaks_divided, fewer.peaks_divided, more.peaks_divided)
        return Cost(flops, longer(self.peaks, fewer.peaks, more.peaks), divided)


@cache
def without_values() -> FakeTensorMode:
    """A context, always the same, in which tensors are made without memory, so that any model fits."""
    return FakeTensorMode(allow_non_fake_inputs=True)


def autocast(bf16: bool = True) -> torch.autocast:
    """As `runtime.autocast` on a device that is fast in bf16, which this one need not be."""
    return torch.autocast("cpu", torch.bfloat16, enabled=bf16)


def cost_of(compute: Callable[[], Any], module: torch.nn.Module) -> Cost:
    """What `compute` costs; `module`, all of whose tensors count as there before, and it were made `without_values`."""
    return metered(lambda meter: compute(), module)


def metered(compute: Callable[[Meter], Any], module: torch.nn.Module) -> Cost:
    """The same of what tells its meter more than can be seen."""
    meter = Meter()
    for tensor in (*module.parameters(), *module.buffers()):
        meter.note(tensor)
    with meter:
        compute(meter)
    meter.next_phase()
    return Cost(meter.flops, tuple(meter.peaks), tuple(meter.peaks_divided))


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


class Meter(Operations):
    """Also follows the bytes of every storage to the end of its life."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.spared = 0
        self.peak = self.peak_divided = 0
        """Of the phase that goes on."""
        self.peaks: list[int] = []
        self.peaks_divided: list[int] = []
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
        self._look()
        weakref.finalize(storage, self._forget, key, size)

    def next_phase(self) -> None:
        """A phase ends here."""
        self.peaks.append(self.peak)
        self.peaks_divided.append(self.peak_divided)
        self.peak = self.peak_divided = 0
        self._look()

    def keep_part(self, tensor: torch.Tensor, shares: int) -> None:
        """Count from now on only one of `shares` parts of a tensor that stays to the end, once that part is copied."""
        part = -(-tensor.numel() // shares) * tensor.element_size()
        self.peak_divided = max(self.peak_divided, self.now - self.spared + part)
        self.spared += tensor.untyped_storage().nbytes() - part

    def _look(self) -> None:
        self.peak = max(self.peak, self.now)
        self.peak_divided = max(self.peak_divided, self.now - self.spared)

    def _forget(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.now -= size

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = super().__torch_dispatch__(func, types, args, kwargs)
        for value in tree_iter(result):
            self.note(value)
        return result
