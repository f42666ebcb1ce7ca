"""The training loop: what happens in a step is on this page, in the order it happens.

Every random number of a step comes from (seed, step), so a run that was killed and resumed is bit for bit the run
that was not. A checkpoint folder is complete or absent; resuming takes the newest one that is intact.

Under `torchrun` every process computes on batches of its own, gradients are averaged, and the first process alone
writes the journal, samples and checkpoints.
"""

from __future__ import annotations

import math
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from videopoet import checkpoint, runtime
from videopoet.config import BaseConfig
from videopoet.errors import CheckpointError, ConfigError, DataError
from videopoet.nn import ranks
from videopoet.training import optimizer as optimizers
from videopoet.training.journal import Journal


class Config(BaseConfig):
    """How long and how a module is trained."""

    num_steps: int = Field(default=1000, ge=1)
    """Optimizer steps."""
    accumulation: int = Field(default=1, ge=1)
    """Batches whose gradients are averaged in one step."""
    frozen: tuple[str, ...] = ()
    """Parameters whose names begin with one of these stay as they are, such as a tokenizer's `encoder`: its decoder
    then learns to draw the same codes better, and a language model of these codes stays valid."""
    optimizer: optimizers.Config = optimizers.Config()
    adversary_learning_rate: float = Field(default=1e-4, gt=0)
    """Learning rate of the discriminator, where the objective has one."""
    ema_decay: float = Field(default=0.999, ge=0, lt=1)
    """Decay of the running mean of the weights, which is what is kept at the end."""
    bf16: bool = True
    """Compute under bf16 autocast; quantizers, norms' statistics and losses stay fp32."""
    seed: int = Field(default=0, ge=0)
    """The seed of data, initial weights and every random choice."""
    log_every: int = Field(default=20, ge=1)
    """Steps between entries in the journal."""
    validate_every: int = Field(default=500, ge=1)
    """Steps between validations, each with samples."""
    checkpoint_every: int = Field(default=500, ge=1)
    """Steps between checkpoints."""
    keep_checkpoints: int = Field(default=2, ge=1)
    """How many of the newest checkpoints stay on disk."""


class Losses(NamedTuple):
    """A scalar to minimise, figures for the journal, and what the model made, for the discriminator."""

    total: Tensor
    figures: dict[str, float | Tensor]
    made: Tensor | None = None


class Objective(ABC):
    """Computes losses over a model; never steps."""

    model: nn.Module
    adversary: nn.ModuleDict | None = None
    """A discriminator with an optimizer of its own, or None."""

    @abstractmethod
    def __call__(self, batch: Any, step: int, generator: torch.Generator) -> Losses:
        """The model's loss on a batch."""

    def adversary_loss(self, batch: Any, made: Tensor, step: int) -> Losses:
        """The discriminator's loss on the batch and what the model made of it; called only where there is one."""
        raise NotImplementedError

    @abstractmethod
    def validate(self, folder: Path) -> dict[str, float]:
        """Figures on validation data; may write samples into `folder`."""


def train(
    objective: Objective,
    batches: Callable[[int], Any],
    config: Config,
    folder: str | Path,
    *,
    resume: bool = False,
    description: str = "training",
) -> None:
    """Train `objective.model` in place on `batches(index)`, a pure function, and leave its mean weights in it.

    Raises:
        ConfigError: The folder holds a run and `resume` is off, or `frozen` names what the model has not.
        CheckpointError: `resume` is on and every checkpoint in the folder is broken.
        DataError: The loss stopped being a number; the last good checkpoint is named.
    """
    folder = Path(folder)
    device = next(objective.model.parameters()).device
    for module in (objective.model, objective.adversary):
        for tensor in module.state_dict().values() if module is not None else ():
            ranks.from_first_rank(tensor)
    _freeze(objective.model, config.frozen)
    model_optimizers = optimizers.build(objective.model, config.optimizer)
    adversary_optimizers = _adversary_optimizers(objective, config)
    mean = MeanWeights(objective.model, config.ema_decay)
    first_step = _restore(folder, objective, model_optimizers + adversary_optimizers, mean, config) if resume else 0
    if not resume and any(folder.glob("checkpoint-*")):
        raise ConfigError(
            f"'{folder}' already holds a run; training would overwrite it; pass --resume or another --output",
            code="output_exists",
        )
    first = ranks.rank() == 0
    journal = Journal(folder, first_step) if first else None
    began, seen = time.perf_counter(), first_step
    with runtime.progress(config.num_steps - first_step, description, enabled=first) as advance:
        for step in range(first_step, config.num_steps):
            share = optimizers.schedule(step, config.num_steps, config.optimizer)
            for each in model_optimizers + adversary_optimizers:
                for group in each.param_groups:
                    group["lr"] = group["peak"] * share

            objective.model.train()
            figures: dict[str, float | Tensor] = {}
            for part in range(config.accumulation):
                generator = runtime.generator(config.seed, "step", step, part, ranks.rank())
                batch = batches(step * config.accumulation + part)
                if objective.adversary is not None:
                    objective.adversary.requires_grad_(False)
                with runtime.autocast(device, config.bf16):
                    losses = objective(batch, step, generator)
                (losses.total / config.accumulation).backward()
                figures |= losses.figures | {"loss": losses.total.detach()}
                if objective.adversary is not None and losses.made is not None:
                    objective.adversary.requires_grad_(True)
                    with runtime.autocast(device, config.bf16):
                        losses = objective.adversary_loss(batch, losses.made.detach(), step)
                    (losses.total / config.accumulation).backward()
                    figures |= losses.figures
            ranks.average_gradients(objective.model.parameters())
            if objective.adversary is not None:
                ranks.average_gradients(objective.adversary.parameters())
            norm = nn.utils.clip_grad_norm_(objective.model.parameters(), config.optimizer.gradient_clip)
            if not math.isfinite(norm):
                raise DataError(
                    f"the gradient is not a number at step {step} of '{folder}'; weights were not touched; "
                    "resume from the last checkpoint with a lower learning rate",
                    code="diverged",
                )
            for each in model_optimizers + adversary_optimizers:
                each.step()
                each.zero_grad(set_to_none=True)
            mean.update(step)

            done = step + 1
            advance(loss=float(figures["loss"]))
            if journal is None:
                continue
            if done % config.log_every == 0 or done == config.num_steps:
                now = time.perf_counter()
                rate = (done - seen) / (now - began)
                began, seen = now, done
                numbers = {name: float(value) for name, value in figures.items()}
                journal.write(
                    step, "train", **numbers, gradient_norm=float(norm), rate_share=share, steps_per_second=rate
                )
            if done % config.validate_every == 0 or done == config.num_steps:
                with mean.in_place():
                    objective.model.eval()
                    journal.write(step, "validation", **objective.validate(folder / "samples" / f"step-{done:06d}"))
            if done % config.checkpoint_every == 0 or done == config.num_steps:
                _save(folder, done, objective, model_optimizers + adversary_optimizers, mean, config)
    if journal is not None:
        journal.close()
    mean.copy_into_model()
    objective.model.eval()


class MeanWeights:
    """A running mean of a module's trainable parameters; of all else, the present value.

    Its decay grows from zero as (1 + step) / (10 + step) up to the set one, so that early means are not stale.
    """

    def __init__(self, module: nn.Module, decay: float):
        self.module = module
        self.decay = decay
        self.tensors = {name: p.detach().clone() for name, p in module.named_parameters() if p.requires_grad}

    @torch.no_grad()
    def update(self, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        parameters = dict(self.module.named_parameters())
        torch._foreach_lerp_(list(self.tensors.values()), [parameters[name] for name in self.tensors], 1 - decay)

    @torch.no_grad()
    def copy_into_model(self) -> None:
        for name, parameter in self.module.named_parameters():
            if name in self.tensors:
                parameter.copy_(self.tensors[name])

    def in_place(self) -> _Swapped:
        """A context in which the module holds the mean weights."""
        return _Swapped(self)


class _Swapped:
    def __init__(self, mean: MeanWeights):
        self.mean = mean

    @torch.no_grad()
    def __enter__(self) -> None:
        parameters = dict(self.mean.module.named_parameters())
        self.live = {name: parameters[name].detach().clone() for name in self.mean.tensors}
        self.mean.copy_into_model()

    @torch.no_grad()
    def __exit__(self, *_: object) -> None:
        for name, parameter in self.mean.module.named_parameters():
            if name in self.live:
                parameter.copy_(self.live[name])


def _freeze(module: nn.Module, prefixes: tuple[str, ...]) -> None:
    names = [name for name, _ in module.named_parameters()]
    for prefix in prefixes:
        if not any(name.startswith(prefix) for name in names):
            parts = ", ".join(dict.fromkeys(name.partition(".")[0] for name in names))
            raise ConfigError(
                f"frozen names '{prefix}', with which no parameter begins; they begin with {parts}; correct it",
                code="config_unknown_key",
            )
    for name, parameter in module.named_parameters():
        if name.startswith(prefixes):
            parameter.requires_grad_(False)


def _adversary_optimizers(objective: Objective, config: Config) -> list[torch.optim.Optimizer]:
    if objective.adversary is None:
        return []
    settings = optimizers.Config(
        learning_rate=config.adversary_learning_rate, betas=(0.0, 0.99), warmup_steps=config.optimizer.warmup_steps
    )
    return optimizers.build(objective.adversary, settings)


def _save(
    folder: Path,
    step: int,
    objective: Objective,
    all_optimizers: list[torch.optim.Optimizer],
    mean: MeanWeights,
    config: Config,
) -> None:
    with checkpoint.atomic_folder(folder / f"checkpoint-{step:07d}") as target:
        checkpoint.save_tensors(target / "model.safetensors", objective.model.state_dict())
        checkpoint.save_tensors(target / "mean.safetensors", mean.tensors)
        checkpoint.save_tensors(target / "optimizer.safetensors", optimizers.state_tensors(all_optimizers))
        if objective.adversary is not None:
            checkpoint.save_tensors(target / "adversary.safetensors", objective.adversary.state_dict())
        checkpoint.write_json(target / "state.json", {"step": step, "config": config.to_dict()})
    for old in sorted(folder.glob("checkpoint-*"))[: -config.keep_checkpoints]:
        shutil.rmtree(old)


def _restore(
    folder: Path,
    objective: Objective,
    all_optimizers: list[torch.optim.Optimizer],
    mean: MeanWeights,
    config: Config,
) -> int:
    """Load the newest intact checkpoint and return its step; 0 when the folder holds none at all."""
    skipped = []
    for source in sorted(folder.glob("checkpoint-*"), reverse=True):
        if reason := checkpoint.why_invalid(source):
            skipped.append(f"{source.name}: {reason}")
            continue
        state = checkpoint.read_json(source / "state.json")
        if state["config"]["seed"] != config.seed:
            raise CheckpointError(
                f"'{source}' was trained with seed {state['config']['seed']}, asked is {config.seed}; resume needs the "
                "same seed; set it back",
                code="checkpoint_mismatch",
            )
        checkpoint.load_weights(objective.model, checkpoint.load_tensors(source / "model.safetensors"), source)
        if objective.adversary is not None:
            tensors = checkpoint.load_tensors(source / "adversary.safetensors")
            checkpoint.load_weights(objective.adversary, tensors, source)
        for name, tensor in checkpoint.load_tensors(source / "mean.safetensors").items():
            if name in mean.tensors:
                mean.tensors[name].copy_(tensor)
        optimizers.load_state_tensors(all_optimizers, checkpoint.load_tensors(source / "optimizer.safetensors"))
        return state["step"]
    if skipped:
        raise CheckpointError(
            f"no intact checkpoint in '{folder}' ({'; '.join(skipped)}); none can be resumed; start again elsewhere",
            code="checkpoint_corrupt",
        )
    return 0
