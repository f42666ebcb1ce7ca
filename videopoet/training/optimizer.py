"""Optimizers and the learning-rate schedule: AdamW, with states of 32 or 8 bits, and Muon for matrices."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import Annotated, Any, Literal

import torch
import torch.distributed as distributed
from pydantic import Field
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn import functional as F

from videopoet import ranks, runtime
from videopoet.config import BaseConfig
from videopoet.errors import ConfigError
from videopoet.training.sharding import first_row, local

MOST_TOGETHER = 2**22
"""Numbers in the matrices that Muon iterates in one batch."""
Decay = Annotated[float, Field(ge=0, lt=1)]


class Config(BaseConfig):
    """How parameters move."""

    name: Literal["adamw", "muon", "adamw_8bit"] = "adamw"
    """`muon` takes every matrix and convolution but embeddings and the head; the rest stays with AdamW. `adamw_8bit`
    keeps AdamW's moments in 8 bits, blocks of 256 with a scale each (arXiv 2110.02861): 2 bytes a weight for 8."""
    learning_rate: float = Field(default=3e-4, gt=0)
    """Peak learning rate. Muon's updates are scaled to AdamW's usual size, so one rate serves both."""
    betas: tuple[Decay, Decay] = (0.9, 0.99)
    """AdamW's decay of the first and second moment."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled decay, on tensors of two dimensions or more."""
    warmup_steps: int = Field(default=100, ge=0)
    """Steps of linear warm-up."""
    final_share: float = Field(default=0.05, ge=0, le=1)
    """Where the cosine ends, as a share of the peak."""
    gradient_clip: float = Field(default=1.0, gt=0)
    """Largest norm of the whole gradient."""
    skip_above: float | None = Field(default=None, gt=1)
    """Leave out a step whose gradient's norm is so many times the running mean of those before; None leaves out only
    steps whose gradient is not a number."""


class Muon(torch.optim.Optimizer):
    """Momentum whose update is orthogonalized by a Newton-Schulz iteration, for weights of two dimensions or more."""

    def __init__(
        self, parameters: list[nn.Parameter], learning_rate: float, momentum: float = 0.95, weight_decay: float = 0.0
    ):
        super().__init__(parameters, {"lr": learning_rate, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        for group in self.param_groups:
            moved = [parameter for parameter in group["params"] if parameter.grad is not None]
            divided = any(isinstance(parameter, DTensor) for parameter in moved)
            for parameters in _parts(moved, ranks.count()) if divided else _alike(moved):
                self._move(parameters, group)

    def _move(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> None:
        directions = []
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["momentum"] = torch.zeros_like(parameter)
            gradient = local(parameter.grad)  # pyright: ignore[reportArgumentType]
            momentum = local(state["momentum"]).lerp_(gradient, 1 - group["momentum"])
            directions.append(gradient.lerp(momentum, group["momentum"]).flatten(1))
        if isinstance(parameters[0], DTensor):
            updates = _orthogonalized_together(directions, [len(parameter) for parameter in parameters])
        else:
            updates = orthogonalize(torch.stack(directions))
        for parameter, update in zip(parameters, updates, strict=True):
            own = local(parameter)
            own.mul_(1 - group["lr"] * group["weight_decay"])
            # An orthogonal (N, M) has RMS 1 / sqrt(max(N, M)); AdamW's updates have about 0.2.
            scale = 0.2 * max(len(parameter), math.prod(parameter.shape[1:])) ** 0.5
            own.add_(update.reshape(own.shape).to(own.dtype), alpha=-group["lr"] * scale)


def _alike(parameters: list[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """Those of one shape together, as many as are MOST_TOGETHER numbers: one product of many costs less than many."""
    shapes: dict[torch.Size, list[nn.Parameter]] = {}
    for parameter in parameters:
        shapes.setdefault(parameter.shape, []).append(parameter)
    for shape, of_shape in shapes.items():
        yield from _parts(of_shape, max(1, MOST_TOGETHER // shape.numel()))


def _parts(parameters: list[nn.Parameter], size: int) -> Iterator[list[nn.Parameter]]:
    for first in range(0, len(parameters), size):
        yield parameters[first : first + size]


def orthogonalize(matrices: Tensor, iterations: int = 5) -> Tensor:
    """The nearest semi-orthogonal matrices, (B, N, M), roughly: singular values end between 0.7 and 1.2."""
    # The quintic's coefficients climb fastest at zero and need no convergence to exactly one.
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrices.to(runtime.compute_dtype(matrices.device))
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.mT
    x = x / (x.flatten(1).norm(dim=1)[:, None, None] + 1e-7)
    if x.dtype == torch.float32:
        # Every iterate is a polynomial of the first gram times x, so that only small squares need iterating. Fewer
        # digits than these do not bear that.
        gram, factor = x @ x.mT, torch.eye(x.shape[1], dtype=x.dtype, device=x.device).expand(len(x), -1, -1)
        for iteration in range(iterations):
            step = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
            step.diagonal(dim1=1, dim2=2).add_(a)
            factor = step @ factor if iteration else step
            if iteration < iterations - 1:
                gram = step @ gram @ step
        x = factor @ x
    else:
        for _ in range(iterations):
            gram = x @ x.mT
            x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


def _orthogonalized_together(parts: list[Tensor], rows: list[int]) -> list[Tensor]:
    """Orthogonalize at most as many matrices as there are processes, each by a process that puts it together.

    Args:
        parts: Of each matrix the rows that this process holds.
        rows: How many rows each has in all.

    Returns:
        Of each result the rows that this process holds.
    """
    own, count = ranks.rank(), ranks.count()
    dtype = runtime.compute_dtype(parts[0].device)
    matrix, heights = None, [-(-number // count) for number in rows]
    for owner, (part, number, height) in enumerate(zip(parts, rows, heights, strict=True)):
        # The last processes may hold fewer rows than the others, or none.
        sent = F.pad(part.to(dtype), (0, 0, 0, height - len(part)))
        received = [torch.empty_like(sent) for _ in range(count)] if owner == own else None
        distributed.gather(sent, received, dst=owner)
        if received is not None:
            whole = torch.cat(received)[:number]
            matrix = orthogonalize(whole[None])[0].contiguous()  # what is sent is memory, in its order
    updates = []
    for owner, (part, number, height) in enumerate(zip(parts, rows, heights, strict=True)):
        given = torch.empty(height, part.shape[1], dtype=dtype, device=part.device)
        sent = None
        if owner == own:
            assert matrix is not None
            sent = list(F.pad(matrix, (0, 0, 0, count * height - number)).split(height))
        distributed.scatter(given, sent, src=owner)
        updates.append(given[: len(part)])
    return updates


def build(module: nn.Module, config: Config) -> list[torch.optim.Optimizer]:
    """The optimizers that together move every trainable parameter of `module` once.

    Raises:
        ConfigError: `adamw_8bit` is asked for and `bitsandbytes` is not installed.
    """
    parameters = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    is_table = ("embed", "head")
    tables = {id(p) for m in module.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
    matrices = [
        p
        for name, p in parameters
        if p.ndim >= 2 and id(p) not in tables and not any(part in name for part in is_table)
    ]
    if config.name != "muon":
        matrices = []
    chosen = {id(p) for p in matrices}
    rest = [p for _, p in parameters if id(p) not in chosen]
    # Decay would move rows that are to stay as they are.
    decays = {id(p): p.ndim >= 2 and not getattr(p, "kept_rows", 0) for p in rest}
    groups = [
        {"params": [p for p in rest if decays[id(p)]], "weight_decay": config.weight_decay},
        {"params": [p for p in rest if not decays[id(p)]], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    # Fused: each weight, gradient and moment is read once.
    kind = _adamw_8bit() if config.name == "adamw_8bit" else partial(torch.optim.AdamW, fused=True)
    optimizers: list[torch.optim.Optimizer] = []
    if groups:
        optimizers.append(kind(groups, lr=config.learning_rate, betas=config.betas, eps=1e-8))
    if matrices:
        optimizers.append(Muon(matrices, config.learning_rate, weight_decay=config.weight_decay))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return optimizers


def _adamw_8bit() -> Any:
    try:
        import bitsandbytes  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ConfigError(
            "optimizer.name is adamw_8bit, and bitsandbytes, which it needs, is not installed; install "
            "videopoet[eight-bit] or set optimizer.name=adamw",
            code="extra_missing",
        ) from None
    return bitsandbytes.optim.AdamW8bit


def keep_rows(module: nn.Module) -> None:
    """Take the gradient from the first rows of tables that stay as they are; see `adaptation.keep_text_rows`."""
    for parameter in module.parameters():
        kept = getattr(parameter, "kept_rows", 0)
        if kept and parameter.grad is not None:
            local(parameter.grad)[: max(0, kept - first_row(parameter))] = 0


def schedule(step: int, num_steps: int, config: Config) -> float:
    """The learning rate at `step` as a share of its peak: linear warm-up, then a cosine down to `final_share`."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, num_steps - config.warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return config.final_share + (1 - config.final_share) * cosine


def state_tensors(optimizers: list[torch.optim.Optimizer]) -> dict[str, Tensor]:
    """Every tensor of the optimizers' state under a flat name, for safetensors."""
    return {
        f"{number}.{index}.{name}": torch.as_tensor(value)
        for number, optimizer in enumerate(optimizers)
        for index, parameter in enumerate(_parameters(optimizer))
        for name, value in optimizer.state.get(parameter, {}).items()
    }


def empty_state(optimizers: list[torch.optim.Optimizer], described: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors to read `described` into, under the names of `state_tensors`; divided where their parameter is."""
    empty = {}
    for key, tensor in described.items():
        owner, index, _ = key.split(".", 2)
        parameter = _parameters(optimizers[int(owner)])[int(index)]
        if isinstance(parameter, DTensor) and parameter.shape == tensor.shape:
            empty[key] = torch.empty_like(parameter, dtype=tensor.dtype, requires_grad=False)
        else:
            empty[key] = torch.empty(tensor.shape, dtype=tensor.dtype)
    return empty


def load_state_tensors(optimizers: list[torch.optim.Optimizer], tensors: dict[str, Tensor]) -> None:
    """Put back what `state_tensors` gave; learning rates are the schedule's and are not stored."""
    for number, optimizer in enumerate(optimizers):
        state: dict[int, dict[str, Any]] = {}
        for key, tensor in tensors.items():
            owner, index, name = key.split(".", 2)
            if int(owner) == number:
                # Bitsandbytes counts steps in a plain number, torch in a tensor of floats.
                counts = tensor.ndim == 0 and not tensor.is_floating_point()
                state.setdefault(int(index), {})[name] = tensor.item() if counts else tensor
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _parameters(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
