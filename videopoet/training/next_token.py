"""The language model's objective: predict each output token from the prefix and the outputs before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from videopoet import runtime
from videopoet.data.mixture import TaskBatch
from videopoet.models.language_model import LanguageModel
from videopoet.training.loop import Losses, Objective


class NextToken(Objective):
    """Cross-entropy over the outputs of task batches; the prefix is read, not predicted."""

    model: LanguageModel

    def __init__(
        self,
        model: LanguageModel,
        validation: Sequence[TaskBatch],
        write_samples: Callable[[Path], None] | None = None,
    ):
        self.model = model
        self.validation = validation
        self.write_samples = write_samples
        self.blocks = model.layers

    def __call__(self, batch: TaskBatch, step: int, generator: torch.Generator) -> Losses:
        loss = self.loss(batch)
        padding = batch.rows.num_padding
        tokens = batch.rows.tokens.numel() - padding
        return Losses(loss, {f"loss_{batch.task}": loss.detach()}, tokens=tokens, padding=padding)

    def loss(self, batch: TaskBatch) -> torch.Tensor:
        """Mean cross-entropy in nats of the tokens that the model chooses."""
        rows = batch.rows
        embeddings = self.model.embed(rows.tokens[:, :-1], rows.modality[:, :-1], rows.places[:, :-1])
        mask = rows.attention_mask(self.model.causal_prefix)[:, :, :-1, :-1]
        hidden = self.model(embeddings, mask, rows.positions[:, :-1])
        chosen = rows.targets[:, 1:]
        return self.model.loss(hidden[chosen], rows.tokens[:, 1:][chosen], rows.ranges[:, 1:][chosen]).mean()

    @torch.no_grad()
    def validate(self, folder: Path) -> dict[str, float]:
        """Loss by task on validation rows, and samples where a writer was given."""
        losses: dict[str, list[float]] = {}
        for batch in self.validation:
            with runtime.autocast(batch.rows.tokens.device):
                losses.setdefault(f"loss_{batch.task}", []).append(self.loss(batch).item())
        if self.write_samples:
            self.write_samples(folder)
        return {name: sum(values) / len(values) for name, values in losses.items()}
