"""The language model's objective: predict each output token from the prefix and the outputs before it.

A draft head, where the model has one, learns beside it to guess the same tokens from their neighbours alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from videopoet import runtime
from videopoet.data.mixture import TaskBatch
from videopoet.models import backbone_attention
from videopoet.models.language_model import LanguageModel
from videopoet.sequence.layout import Batch
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
        backbone_attention.install(model.backbone)

    def __call__(self, batch: TaskBatch, step: int, generator: torch.Generator) -> Losses:
        losses = self.losses(batch)
        padding = batch.rows.num_padding
        tokens = batch.rows.tokens.numel() - padding
        figures: dict[str, float | Tensor] = {name: loss.detach() for name, loss in losses.items()}
        return Losses(torch.stack([*losses.values()]).sum(), figures, tokens=tokens, padding=padding)

    def loss(self, batch: TaskBatch) -> Tensor:
        """Mean cross-entropy in nats of the tokens that the model chooses."""
        return self.losses(batch)[f"loss_{batch.task}"]

    def losses(self, batch: TaskBatch) -> dict[str, Tensor]:
        """The same by the name that it has in the journal, and that of the draft head's guesses."""
        hidden = states(self.model, batch.rows)
        losses = {f"loss_{batch.task}": token_losses(self.model, batch.rows, hidden).mean()}
        if self.model.draft_head is not None:
            losses[f"draft_loss_{batch.task}"] = self.draft_loss(batch.rows, hidden)
        return losses

    def draft_loss(self, rows: Batch, hidden: Tensor) -> Tensor:
        """Mean cross-entropy of the draft head's guesses of rows whose `states` are `hidden`."""
        around = torch.tensor(rows.neighbours, device=hidden.device)  # (L, 2)
        wanted = (rows.targets[0] & (around >= 0).any(dim=1)).nonzero().flatten()  # the same in all rows
        every = wanted.expand(len(hidden), -1)
        placed = self.model.embedding.of_places(rows.modality, rows.places)
        states = self.model.draft(
            hidden, rows.tokens, rows.modality, placed, every, around[wanted].expand(len(hidden), -1, -1)
        )
        tokens, ranges = rows.tokens.gather(1, every).flatten(), rows.ranges[:, wanted].flatten(0, 1)
        losses = self.model.loss(states.flatten(0, 1), tokens, ranges, head_learns=False)
        # Text has no neighbours: then the loss is zero, and still one that a gradient can be taken of.
        return losses.sum() / max(1, len(losses)) + 0 * states.sum()

    @torch.no_grad()
    def validate(self, folder: Path) -> dict[str, float]:
        """Loss by task on validation rows, and samples where a writer was given."""
        losses: dict[str, list[float]] = {}
        with torch.compiler.set_stance("force_eager"):  # a few calls are not worth compiling for
            for batch in self.validation:
                with runtime.autocast(batch.rows.tokens.device):
                    for name, loss in self.losses(batch).items():
                        losses.setdefault(name, []).append(loss.item())
            if self.write_samples:
                self.write_samples(folder)
        return {name: sum(values) / len(values) for name, values in losses.items()}


def states(model: LanguageModel, rows: Batch) -> Tensor:
    """The model's last states at all positions but the last, (B, L - 1, D)."""
    embeddings = model.embed(rows.tokens[:, :-1], rows.modality[:, :-1], rows.places[:, :-1])
    mask = rows.attention_mask(model.causal_prefix)[:, :, :-1, :-1]
    return model(embeddings, mask, rows.positions[:, :-1])


def token_losses(model: LanguageModel, rows: Batch, hidden: Tensor | None = None) -> Tensor:
    """Cross-entropy in nats, (N,), of all tokens that the model chooses, row by row; `hidden` are the `states`."""
    hidden = states(model, rows) if hidden is None else hidden
    chosen = rows.targets[:, 1:]
    return model.loss(hidden[chosen], rows.tokens[:, 1:][chosen], rows.ranges[:, 1:][chosen])
