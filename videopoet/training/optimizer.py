"""Optimizers and the learning-rate schedule: AdamW, and Muon for matrices and convolutions."""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from videopoet.config import BaseConfig


class Config(BaseConfig):
    """How parameters move."""

    name: Literal["adamw", "muon"] = "adamw"
    """`muon` takes every matrix and convolution but embeddings and the head; the rest stays with AdamW."""
    learning_rate: float = Field(default=3e-4, gt=0)
    """Peak learning rate. Muon's updates are scaled to AdamW's usual size, so one rate serves both."""
    betas: tuple[float, float] = (0.9, 0.99)
    """AdamW's decay of the first and second moment."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled decay, on tensors of two dimensions or more."""
    warmup_steps: int = Field(default=100, ge=0)
    """Steps of linear warm-up."""
    final_share: float = Field(default=0.05, ge=0, le=1)
    """Where the cosine ends, as a share of the peak."""
    gradient_clip: float = Field(default=1.0, gt=0)
    """Largest norm of the whole gradient."""


class Muon(torch.optim.Optimizer):
    """Momentum whose update is orthogonalized by a Newton-Schulz iteration, for weights of two dimensions or more."""

    def __init__(
        self, parameters: list[nn.Parameter], learning_rate: float, momentum: float = 0.95, weight_decay: float = 0.0
    ):
        super().__init__(parameters, {"lr": learning_rate, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                momentum = state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
                update = orthogonalize(parameter.grad.lerp(momentum, group["momentum"]).flatten(1)).view_as(parameter)
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                # An orthogonal (N, M) has RMS 1 / sqrt(max(N, M)); AdamW's updates have about 0.2.
                scale = 0.2 * max(len(parameter), parameter[0].numel()) ** 0.5
                parameter.add_(update.to(parameter.dtype), alpha=-group["lr"] * scale)


def orthogonalize(matrix: Tensor, iterations: int = 5) -> Tensor:
    """The nearest semi-orthogonal matrix, roughly: singular values of (N, M) end between 0.7 and 1.2."""
    # The quintic's coefficients climb fastest at zero and need no convergence to exactly one.
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix.bfloat16()
    tall = x.shape[0] > x.shape[1]
    if tall:
        x = x.T
    x = x / (x.norm() + 1e-7)
    for _ in range(iterations):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x


def build(module: nn.Module, config: Config) -> list[torch.optim.Optimizer]:
    """The optimizers that together move every trainable parameter of `module` once."""
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
    decays = {id(p): p.ndim >= 2 and not getattr(p, "keeps_rows", False) for p in rest}
    groups = [
        {"params": [p for p in rest if decays[id(p)]], "weight_decay": config.weight_decay},
        {"params": [p for p in rest if not decays[id(p)]], "weight_decay": 0.0},
    ]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW([g for g in groups if g["params"]], lr=config.learning_rate, betas=config.betas, eps=1e-8)
    ]
    if matrices:
        optimizers.append(Muon(matrices, config.learning_rate, weight_decay=config.weight_decay))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return optimizers


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
        for index, entry in optimizer.state_dict()["state"].items()
        for name, value in entry.items()
    }


def load_state_tensors(optimizers: list[torch.optim.Optimizer], tensors: dict[str, Tensor]) -> None:
    """Put back what `state_tensors` gave; learning rates are the schedule's and are not stored."""
    for number, optimizer in enumerate(optimizers):
        state: dict[int, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            owner, index, name = key.split(".", 2)
            if int(owner) == number:
                state.setdefault(int(index), {})[name] = tensor
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
