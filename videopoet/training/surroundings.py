"""What every stage of a run is given beside its own settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from videopoet.data.world import World
from videopoet.generation.poet_folder import Parts
from videopoet.training import loop
from videopoet.training.ending import Ending


@dataclass(frozen=True, eq=False)
class Surroundings:
    """Where a stage writes, what it learns from, and what it starts from."""

    output: Path
    """The run's folder; a stage has one of its own in it."""
    world: World
    validation: World
    """The clips that are held out."""
    num_validation: int
    """How many of those a stage is measured on."""
    footage: tuple[World, World] | None
    """Clips, and those held out of them, that tokenizers and super-resolution see beside those of `world`."""
    footage_share: float
    """Share of their batches that are footage."""
    source: Parts | None
    """The poet whose weights a stage starts from; None lets it start from fresh ones."""
    source_name: str | None
    resume: bool
    device: torch.device
    ending: Ending
    """What may end the run early."""

    def train(
        self, stage: str, objective: loop.Objective, batches: Callable[[int], Any], training: loop.Config
    ) -> None:
        """Train a stage in its folder; see `loop.train`."""
        loop.train(
            objective,
            batches,
            training,
            self.output / stage,
            resume=self.resume,
            description=stage.replace("_", " "),
            ending=self.ending,
        )
