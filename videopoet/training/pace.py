"""How fast a run goes: tokens a second, use of the processor, shares of padding and of waiting for batches.

Operations are those of the model, as PaLM (arXiv 2204.02311) counts them: three times the matrix products, convolutions
and attention of the forward pass, which torch's formulas count once for each shape of batch, lengths of rows rounded.
What is computed again in the backward pass does not count.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from videopoet import ranks, runtime
from videopoet.training.rehearsal import Operations

PEAK_TERAFLOPS = {
    "B200": 2250.0,
    "H200": 989.0,
    "H100 PCIe": 756.0,
    "H100": 989.0,
    "A100": 312.0,
    "L40S": 362.0,
    "L4": 121.0,
    "A10G": 70.0,
    "RTX 4090": 165.0,
    "RTX 3090": 71.0,
}
"""Dense bf16 with fp32 sums, by makers' data sheets; the first name that is in a GPU's counts."""


class Pace:
    """Adds up what steps take and get through, until `figures` is asked for."""

    def __init__(self, device: torch.device, bf16: bool):
        self.device, self.bf16 = device, bf16 and runtime.bf16_is_fast(device.type)
        self._costs: dict[Hashable, int] = {}
        self._clear()

    def wait(self, batches: Callable[[int], Any], index: int) -> Any:
        """The batch of that number, and note how long it took."""
        began = time.perf_counter()
        batch = batches(index)
        self.waited += time.perf_counter() - began
        return batch

    def counted(self, compute: Callable[..., Any], batch: Any, *arguments: Any) -> Any:
        """What `compute` returns for a batch; its operations are those of an earlier one of its shapes, or counted."""
        key = (getattr(compute, "__name__", ""), _shapes(batch))
        if key not in self._costs:
            # Not compiled here: torch compiles nothing while operations are counted, and what it once left it leaves.
            with torch.compiler.set_stance("force_eager"), Operations() as operations:
                result = compute(batch, *arguments)
            self._costs[key] = operations.flops
        else:
            result = compute(batch, *arguments)
        self.flops += 3.0 * self._costs[key]
        return result

    def read(self, tokens: int, padding: int) -> None:
        """Note positions of a batch: those that hold something, and those that hold nothing."""
        self.tokens += tokens
        self.padding += padding

    def begin(self) -> None:
        """A step begins."""
        self._began = time.perf_counter()

    def end(self) -> None:
        """A step is over."""
        self.seconds += time.perf_counter() - self._began
        self.steps += 1

    def figures(self) -> dict[str, float]:
        """Figures over all processes since the last time, for which all of them ask together.

        `mfu` is the share of what the processors could do at most; see `peak_flops`.
        """
        mine = torch.tensor([self.tokens, self.padding, self.flops, self.waited], dtype=torch.float64)
        if self.device.type == "cuda":
            mine = mine.to(self.device)
        tokens, padding, flops, waited = ranks.sum_over_ranks(mine).tolist()
        seconds, count = max(self.seconds, 1e-9), ranks.count()
        figures = {
            "steps_per_second": self.steps / seconds,
            "mfu": flops / (seconds * count * peak_flops(self.device, self.bf16)),
            "loader_wait": waited / (seconds * count),
        }
        if tokens:
            figures |= {"tokens_per_second": tokens / seconds, "padding": padding / (tokens + padding)}
        self._clear()
        return figures

    def _clear(self) -> None:
        self.steps = self.tokens = self.padding = 0
        self.seconds = self.waited = self.flops = 0.0


@cache
def peak_flops(device: torch.device, bf16: bool) -> float:
    """The most operations a second: a known GPU's by its data sheet, else what a large matrix product reaches here."""
    if device.type == "cuda" and bf16:
        name = torch.cuda.get_device_name(device)
        for known, teraflops in PEAK_TERAFLOPS.items():
            if known in name:
                return teraflops * 1e12
    size = 1024 if device.type == "cpu" else 8192
    matrix = torch.zeros(size, size, device=device, dtype=torch.bfloat16 if bf16 else torch.float32)
    best = 0.0
    for _ in range(4):  # the first is a warm-up
        began = time.perf_counter()
        product = matrix @ matrix
        float(product[0, 0])  # waits for the device
        best = max(best, 2 * size**3 / (time.perf_counter() - began))
    return best


def _shapes(value: Any) -> Hashable:
    """What the cost of a computation on a value depends on: the shapes of its tensors, wherever they are.

    Rows come in hundreds of lengths, and what is counted is not compiled; those within a 16th of each other are one.
    """
    if isinstance(value, Tensor):
        return tuple(_rounded(size) for size in value.shape)
    if isinstance(value, (list, tuple)):
        return tuple(_shapes(each) for each in value)
    if isinstance(value, dict):
        return tuple((name, _shapes(each)) for name, each in value.items())
    if hasattr(value, "__dataclass_fields__"):
        return tuple(_shapes(getattr(value, name)) for name in value.__dataclass_fields__)
    return value if isinstance(value, str) else None


def _rounded(size: int) -> int:
    """The size down to its five first binary digits."""
    digits = max(0, size.bit_length() - 5)
    return size >> digits << digits
