"""The training loop: what happens in a step is on this page, in the order it happens.

Every random number of a step comes from (seed, step), so a run that was killed and resumed is bit for bit the run
that was not. A checkpoint folder is complete or absent; resuming takes the newest one that is intact.

Under `torchrun` every process computes on batches of its own, gradients are averaged, and the first process alone
writes the journal and samples. With `sharding` weights and states are divided among the processes, else each has all.
A step of two processes is that of one with twice the accumulation: the same batches, the same random numbers.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from videopoet import checkpoint, ranks, runtime
from videopoet.config import BaseConfig
from videopoet.errors import CheckpointError, ConfigError, DataError
from videopoet.training import checkpoints, sharding
from videopoet.training import optimizer as optimizers
from videopoet.training.ending import Ending
from videopoet.training.journal import Journal
from videopoet.training.mean_weights import MeanWeights
from videopoet.training.pace import Pace

MOST_SKIPPED = 10
"""Steps in a row that may be left out before a run stops."""


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
    sharding: Literal["none", "full"] = "none"
    """Under `torchrun`, `full` divides weights, gradients and the optimizer's states among all processes (FSDP2), and
    `none` gives each process all of them. A process alone has all. A run may go on with another number of processes."""
    bf16: bool = True
    """Compute under bf16 autocast where the device is fast in it; quantizers, norms' statistics, losses stay fp32."""
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

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        if self.sharding == "full" and self.optimizer.name == "adamw_8bit":
            raise ValueError(
                "optimizer.name=adamw_8bit keeps states that cannot be divided; set sharding=none or "
                "optimizer.name=adamw"
            )
        return self


class Losses(NamedTuple):
    """A scalar to minimise, figures for the journal, and what the model made, for the discriminator."""

    total: Tensor
    figures: dict[str, float | Tensor]
    made: Tensor | None = None
    tokens: int = 0
    """Positions of the batch that hold something."""
    padding: int = 0
    """Positions that hold nothing."""


class Objective(ABC):
    """Computes losses over a model; never steps."""

    model: nn.Module
    adversary: nn.ModuleDict | None = None
    """A discriminator with an optimizer of its own, or None."""
    blocks: Sequence[nn.Module] = ()
    """Parts of the model that compute one after another, each of which is put together by itself where weights are
    divided; the rest of the model is together for a whole step."""

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
    ending: Ending | None = None,
) -> None:
    """Train `objective.model` in place on `batches(index)`, a pure function, and leave its mean weights in it.

    A step takes `accumulation` batches for each process, in order. Where the gradient is not a number, or larger than
    `optimizer.skip_above` allows, a step changes nothing, and is counted as `skipped` in the journal.

    Raises:
        ConfigError: The folder holds a run and `resume` is off, or `frozen` names what the model has not.
        CheckpointError: `resume` is on, and every checkpoint in the folder is broken or the newest intact one is of
            another seed or model.
        DataError: Ten steps in a row were left out; the last good checkpoint is named.
        Ended: SIGINT or SIGTERM came, or `ending` was due, before the last step; what was done is saved.
    """
    folder = Path(folder)
    device = next(objective.model.parameters()).device
    for module in (objective.model, objective.adversary):
        for tensor in module.state_dict().values() if module is not None else ():
            ranks.from_first_rank(tensor)
    freeze(objective.model, config.frozen)
    is_divided = config.sharding == "full" and ranks.count() > 1
    bf16 = config.bf16 and runtime.bf16_is_fast(device.type)
    compute = sharding.divide(objective, device, bf16) if is_divided else objective
    state = _State(objective, config)
    if not resume and any(folder.glob("checkpoint-*")):
        raise ConfigError(
            f"'{folder}' already holds a run; training would overwrite it; pass --resume or another --output",
            code="output_exists",
        )
    first_step = state.restore(folder) if resume else 0
    checkpoints.clear_remains(folder)
    first, per_step = ranks.rank() == 0, config.accumulation * ranks.count()
    journal = Journal(folder, first_step) if first else None
    pace = Pace(device, config.bf16)
    skipped_in_a_row, shown = 0, {}
    ending = ending or Ending()
    with (
        runtime.progress(config.num_steps - first_step, description, enabled=first) as advance,
        ending.told_by_signals(),
    ):
        for step in range(first_step, config.num_steps):
            pace.begin()
            share = optimizers.schedule(step, config.num_steps, config.optimizer)
            for each in state.optimizers:
                for group in each.param_groups:
                    group["lr"] = group["peak"] * share

            objective.model.train()
            before = state.buffers()
            figures: dict[str, float | Tensor] = {}
            loss = torch.zeros((), device=device)
            for part in range(config.accumulation):
                stream = part * ranks.count() + ranks.rank()
                generator = runtime.generator(config.seed, "step", step, stream, 0)
                batch = pace.wait(batches, step * per_step + stream)
                if objective.adversary is not None:
                    objective.adversary.requires_grad_(False)
                with runtime.autocast(device, config.bf16):
                    losses = pace.counted(compute, batch, step, generator)
                (losses.total / config.accumulation).backward()
                loss += losses.total.detach() / config.accumulation
                figures |= losses.figures
                pace.read(losses.tokens, losses.padding)
                if objective.adversary is not None and losses.made is not None:
                    objective.adversary.requires_grad_(True)
                    made = losses.made.detach()
                    with runtime.autocast(device, config.bf16):
                        losses = pace.counted(objective.adversary_loss, batch, made, step)
                    (losses.total / config.accumulation).backward()
                    figures |= losses.figures
            if not is_divided:  # else they were averaged on the way
                ranks.average_gradients(objective.model.parameters())
            if objective.adversary is not None:
                ranks.average_gradients(objective.adversary.parameters())
            optimizers.keep_rows(objective.model)
            norm = _clip(objective.model, config.optimizer.gradient_clip)
            if state.may_step(norm):
                for each in state.optimizers:
                    each.step()
                state.mean.update(step)
                skipped_in_a_row = 0
            else:
                state.put_back(before)
                skipped_in_a_row += 1
            for each in state.optimizers:
                each.zero_grad(set_to_none=True)
            pace.end()
            if skipped_in_a_row == MOST_SKIPPED:
                raise _diverged(folder, step, norm)

            done = step + 1
            if done % config.log_every == 0 or done == config.num_steps:
                numbers = {name: float(value) for name, value in figures.items()}
                numbers |= {"loss": float(ranks.mean_over_ranks(loss)), "gradient_norm": norm, "rate_share": share}
                numbers |= pace.figures()
                shown = {name: numbers[name] for name in ("loss", "tokens_per_second", "mfu") if name in numbers}
                if journal is not None:
                    journal.write(step, "train", **numbers, skipped=state.skipped)
            advance(**shown)
            if done % config.validate_every == 0 or done == config.num_steps:
                with state.mean.in_place(), sharding.whole_on_first(objective.model):
                    if journal is not None:
                        objective.model.eval()
                        journal.write(step, "validation", **objective.validate(folder / "samples" / f"step-{done:06d}"))
            ends = done < config.num_steps and ending.is_due()
            if done % config.checkpoint_every == 0 or done == config.num_steps or ends:
                state.save(folder, done)
            if ends:
                raise ending.error(done, config.num_steps)
    if journal is not None:
        journal.close()
    state.mean.copy_into_model()
    sharding.make_whole(objective.model)
    objective.model.eval()


class _State:
    """All that a checkpoint keeps."""

    def __init__(self, objective: Objective, config: Config):
        self.objective, self.config = objective, config
        self.model_optimizers = optimizers.build(objective.model, config.optimizer)
        self.optimizers = self.model_optimizers + _adversary_optimizers(objective, config)
        self.mean = MeanWeights(objective.model, config.ema_decay)
        self.skipped = 0
        self.usual_norm: float | None = None
        """The running mean of the gradient's norm."""

    def may_step(self, norm: float) -> bool:
        """Whether a gradient of this norm may change the weights; it is counted either way."""
        limit = self.config.optimizer.skip_above
        fits = math.isfinite(norm) and (self.usual_norm is None or limit is None or norm <= limit * self.usual_norm)
        if self.objective.adversary is not None:
            gradients = [p.grad for p in self.objective.adversary.parameters() if p.grad is not None]
            fits = fits and bool(torch.stack([gradient.isfinite().all() for gradient in gradients]).all())
        if fits:
            self.usual_norm = norm if self.usual_norm is None else 0.95 * self.usual_norm + 0.05 * norm
        else:
            self.skipped += 1
        return fits

    def buffers(self) -> list[Tensor]:
        """Copies of all buffers, such as codebooks that move in the forward pass."""
        return [buffer.clone() for buffer in self._buffers()]

    @torch.no_grad()
    def put_back(self, buffers: list[Tensor]) -> None:
        for buffer, before in zip(self._buffers(), buffers, strict=True):
            buffer.copy_(before)

    def _buffers(self) -> list[Tensor]:
        modules = (self.objective.model, self.objective.adversary)
        return [buffer for module in modules if module is not None for buffer in module.buffers()]

    def save(self, folder: Path, step: int) -> None:
        parts = {
            "model": checkpoints.of_module(self.objective.model),
            "mean": self.mean.tensors,
            "optimizer": optimizers.state_tensors(self.optimizers),
        }
        if self.objective.adversary is not None:
            parts["adversary"] = checkpoints.of_module(self.objective.adversary)
        state = {"config": self.config.to_dict(), "skipped": self.skipped, "usual_norm": self.usual_norm}
        checkpoints.save(folder, step, parts, state, self.config.keep_checkpoints)

    def restore(self, folder: Path) -> int:
        """Load the newest intact checkpoint and return its step; 0 when the folder holds none at all."""
        source = checkpoints.newest(folder)
        if source is None:
            return 0
        kept = checkpoint.read_json(source / checkpoints.STATE)
        if kept["config"]["seed"] != self.config.seed:
            raise CheckpointError(
                f"'{source}' was trained with seed {kept['config']['seed']}, asked is {self.config.seed}; resume needs "
                "the same seed; set it back",
                code="checkpoint_mismatch",
            )
        checkpoints.into_module(self.objective.model, source, "model")
        if self.objective.adversary is not None:
            checkpoints.into_module(self.objective.adversary, source, "adversary")
        checkpoints.read(source, "mean", self.mean.tensors)
        moments = optimizers.empty_state(self.optimizers, checkpoints.described(source, "optimizer"))
        checkpoints.read(source, "optimizer", moments)
        optimizers.load_state_tensors(self.optimizers, moments)
        # Checkpoints of older versions know neither.
        self.skipped, self.usual_norm = kept.get("skipped", 0), kept.get("usual_norm")
        return kept["step"]


def _clip(module: nn.Module, most: float) -> float:
    """Scale the gradient down to a norm of at most `most`, and return the norm that it had."""
    norm = nn.utils.clip_grad_norm_(module.parameters(), most)
    return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)


def _diverged(folder: Path, step: int, norm: float) -> DataError:
    last = max((path.name for path in folder.glob("checkpoint-*")), default=None)
    remedy = f"the last good checkpoint is {last}" if last else "there is no checkpoint yet"
    reason = "is not a number" if not math.isfinite(norm) else "is far larger than usual"
    error = DataError(
        f"the gradient {reason} for {MOST_SKIPPED} steps in a row, to step {step} of '{folder}'; weights were not "
        f"touched; {remedy}; resume with a lower learning rate or begin again",
        code="diverged",
    )
    error.exit_code = 5
    return error


def freeze(module: nn.Module, prefixes: tuple[str, ...]) -> None:
    """Leave parameters whose names begin with one of these out of training.

    Raises:
        ConfigError: No name begins with one.
    """
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
