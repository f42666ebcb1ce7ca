"""A run to injure: a small model that trains in a process of its own, and what tells two finished runs apart.

Every run is made by a fork. It trains with a discriminator, Muon, running mean and accumulation over several epochs of
its data.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as distributed
from torch import Tensor, nn

from videopoet import checkpoint
from videopoet.errors import VideoPoetError
from videopoet.runtime import generator
from videopoet.training import checkpoints, journal, loop, optimizer
from videopoet.training.loop import Losses, Objective

NUM_STEPS, NUM_SAMPLES, BATCH = 12, 37, 5
PATIENCE = datetime.timedelta(seconds=120)
Spoil = Callable[[str, int, Tensor], Tensor]


class Small(Objective):
    """Learns a map of four numbers, judged by a discriminator; a buffer moves in the forward pass."""

    def __init__(self, spoil: Spoil | None = None):
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(4, 9), nn.Tanh(), nn.Linear(9, 16), nn.Tanh(), nn.Linear(16, 2))
        self.model.register_buffer("seen", torch.zeros(4))
        self.adversary = nn.ModuleDict({"judge": nn.Linear(2, 1)})
        self.blocks = (self.model[0], self.model[2])
        self.spoil = spoil or (lambda place, step, tensor: tensor)

    def __call__(self, batch: tuple[Tensor, Tensor], step: int, generator: torch.Generator) -> Losses:
        ids, samples = batch
        samples = self.spoil("input", step, samples)
        self.model.seen.lerp_(samples.mean(dim=0), 0.1)  # pyright: ignore
        made = self.model(samples + 0.1 * torch.randn(samples.shape, generator=generator))
        if self.spoil("gradient", step, torch.ones(())) != 1:
            made.register_hook(lambda gradient: gradient.index_fill(0, torch.tensor(0), float("nan")))
        total = self.spoil("loss", step, (made - samples[:, :2]).square().mean())
        return Losses(total, {"samples": float((ids * torch.arange(1, 1 + len(ids))).sum())}, made=made)

    def adversary_loss(self, batch: object, made: Tensor, step: int) -> Losses:
        assert self.adversary is not None
        return Losses((self.adversary["judge"](made) - 1).square().mean(), {})

    def validate(self, folder: Path) -> dict[str, float]:
        return {"norm": float(sum(tensor.square().sum() for tensor in self.model.state_dict().values()))}


def batches(index: int) -> tuple[Tensor, Tensor]:
    """Batch `index` of an endless sequence that goes through all samples in an order drawn anew each time."""
    places = range(index * BATCH, (index + 1) * BATCH)
    orders = {place // NUM_SAMPLES for place in places}
    order = {epoch: torch.randperm(NUM_SAMPLES, generator=generator("order", epoch)) for epoch in orders}
    ids = torch.stack([order[place // NUM_SAMPLES][place % NUM_SAMPLES] for place in places])
    samples = torch.randn(NUM_SAMPLES, 4, generator=generator("samples"))
    return ids, samples[ids]


def settings(**values: Any) -> loop.Config:
    usual: dict[str, Any] = {
        "num_steps": NUM_STEPS,
        "accumulation": 2,
        "optimizer": optimizer.Config(name="muon", learning_rate=1e-2, warmup_steps=2, skip_above=10.0),
        "bf16": False,
        "log_every": 1,
        "validate_every": 5,
        "checkpoint_every": 2,
    }
    return loop.Config(**(usual | values))


class Runs:
    """Starts runs in processes of their own and looks at what they leave."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.numbers = random.Random(0)
        self.count = 0
        loop.train(Small(), batches, settings(), self.new())  # what is imported on the way, forks have

    def new(self) -> Path:
        self.count += 1
        return self.folder / f"run-{self.count}"

    def train(
        self,
        place: Path,
        config: loop.Config,
        num_processes: int = 1,
        resume: bool = True,
        read: Callable[[int], tuple[Tensor, Tensor]] = batches,
        spoil: Spoil | None = None,
        before: Callable[[int], object] | None = None,
        kill_after: float | None = None,
    ) -> list[int]:
        """Train to the end or to a kill; returns how each process ended: 0, an exit code, or minus a signal.

        Args:
            read: Gives the batches.
            spoil: Changes numbers in a step.
            before: Called first in each process, with its number.
            kill_after: Seconds until all processes are killed.
        """
        self.count += 1
        rendezvous = self.folder / f"rendezvous-{self.count}"
        children = []
        sys.stdout.flush()
        for rank in range(num_processes):
            if not (child := os.fork()):
                code = 1
                try:
                    if before is not None:
                        before(rank)
                    if num_processes > 1:
                        method = f"file://{rendezvous}"
                        distributed.init_process_group(
                            "gloo", init_method=method, rank=rank, world_size=num_processes, timeout=PATIENCE
                        )
                    loop.train(Small(spoil), read, config, place, resume=resume)
                    code = 0
                except VideoPoetError as error:
                    code = error.exit_code
                except BaseException:
                    # Where one of several was killed, the others lose their connection.
                    if num_processes == 1:
                        traceback.print_exc()
                finally:
                    os._exit(code)
            children.append(child)
        if kill_after is not None:
            time.sleep(kill_after)
            for child in children:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
        ends = {}
        while len(ends) < num_processes:
            child, status = os.wait()
            ends[child] = os.waitstatus_to_exitcode(status)
            if ends[child]:
                for other in children:
                    if other not in ends:
                        os.kill(other, signal.SIGKILL)
        rendezvous.unlink(missing_ok=True)
        return [ends[child] for child in children]


def difference(place: Path, whole: Path) -> str | None:
    """How a finished run differs from another, or None."""
    last = f"checkpoint-{NUM_STEPS:07d}"
    if (reason := checkpoint.why_invalid(place / last)) is not None:
        return f"{last}: {reason}"
    for name in ("model", "mean", "optimizer", "adversary"):
        tensors = [read_part(folder / last, name) for folder in (place, whole)]
        if tensors[0].keys() != tensors[1].keys():
            return f"{name} holds other tensors"
        for key, tensor in tensors[0].items():
            if not torch.equal(tensor, tensors[1][key]):
                return f"{name} differs in {key}"
    if entries(place) != entries(whole):
        return "the journals differ"
    if remains := [path.name for path in place.iterdir() if path.name.startswith(".")]:
        return f"{remains[0]} was left behind"
    return None


def read_part(source: Path, name: str) -> dict[str, Tensor]:
    described = checkpoints.described(source, name)
    tensors = {key: torch.empty_like(tensor, device="cpu") for key, tensor in described.items()}
    checkpoints.read(source, name, tensors)
    return tensors


def entries(place: Path) -> list[tuple[object, ...]]:
    """What a journal says of steps, times aside."""
    names = ("step", "kind", "loss", "samples", "gradient_norm", "rate_share", "skipped", "norm")
    return [tuple(entry.get(name) for name in names) for entry in journal.read(place)]
