"""Self-play: the model learns to tell what is true from what it would answer itself (SPIN, arXiv 2401.01335).

A pair is a row of a task batch, and the same row with the outputs that the model gave before the run, chosen as users
have them chosen: with its guidance, temperature and top-p. The loss is that of DPO (arXiv 2305.18290), for which the
true output is the one to prefer. No judge is asked: what the model does wrong is what makes its answers known.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from pydantic import Field, field_validator
from torch import Generator, Tensor
from torch.nn import functional as F

from videopoet import runtime
from videopoet.config import BaseConfig
from videopoet.data.mixture import TaskBatch
from videopoet.generation.decoders.autoregressive import Autoregressive
from videopoet.generation.request import Settings
from videopoet.models import backbone_attention
from videopoet.models.language_model import LanguageModel
from videopoet.sequence import layout
from videopoet.sequence.layout import UNKNOWN, Batch, Row
from videopoet.sequence.tasks import TASKS, find_task
from videopoet.sequence.vocabulary import Vocabulary
from videopoet.training.loop import Losses
from videopoet.training.next_token import NextToken, states, token_losses


class SelfPlayConfig(BaseConfig):
    """What is learned by self-play, and how far the model may go from what it was."""

    tasks: tuple[str, ...] = Field(default=("text_to_video",), min_length=1)
    """Tasks whose answers are compared with what is true; the mixture's others are learned as ever."""
    beta: float = Field(default=0.1, gt=0)
    """How much a nat counts by which the model favours what is true more than it did before the run. The larger, the
    nearer to that model it stays."""
    likelihood_weight: float = Field(default=0.2, ge=0)
    """Of the cross-entropy of what is true, beside the preference for it."""

    @field_validator("tasks")
    @classmethod
    def _are_shown(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in TASKS:
                raise ValueError(f"there is no task '{name}'; there are {', '.join(TASKS)}")
            if any(view.modality == "text" for view in find_task(name).predict):
                raise ValueError(f"'{name}' answers with a text, whose length differs; name tasks that make media")
        return names


@dataclass(frozen=True, eq=False)
class Pairs:
    """Rows of a task, and where they are learned by self-play the model's own answers to them."""

    true: TaskBatch
    both: Batch | None = None
    """The true rows, and after them the same ones with own answers."""
    before: Tensor | None = None
    """(2 B,): log-probability of their outputs by the model before the run."""


class PairBatches:
    """Batches with own answers of a model, which stays as it is.

    Args:
        batches: The true rows of batch number `index`.
        model: Answers.
        vocabulary: What the rows are written in.
        settings: How tokens are chosen.
        config: Which tasks have own answers.
        seed: Of the answers.
        bf16: Whether the run computes in bf16 where the device is fast in it.
    """

    def __init__(
        self,
        batches: Callable[[int], TaskBatch],
        model: LanguageModel,
        vocabulary: Vocabulary,
        settings: Settings,
        config: SelfPlayConfig,
        seed: int,
        bf16: bool = True,
    ):
        self.batches, self.model, self.vocabulary = batches, model, vocabulary
        self.settings, self.config, self.seed, self.bf16 = settings, config, seed, bf16
        backbone_attention.install(model.backbone)

    def __call__(self, index: int) -> Pairs:
        true = self.batches(index)
        if true.task not in self.config.tasks:
            return Pairs(true)
        twice = {field.name: torch.cat([getattr(true.rows, field.name)] * 2) for field in fields(Batch)}
        twice["tokens"] = torch.cat([true.rows.tokens, self._answers(true, index)])
        both = Batch(**twice)
        with torch.no_grad(), runtime.autocast(both.tokens.device, self.bf16):
            before = log_probabilities(token_losses(self.model, both), both)
        return Pairs(true, both, before)

    def _answers(self, true: TaskBatch, index: int) -> Tensor:
        """Tokens (B, L) with the model's own outputs."""
        planned = [row.filled(row.tokens.masked_fill(row.targets, UNKNOWN)) for row in true.rows.unpadded()]
        against = [without_prompt(row, self.vocabulary) for row in planned]
        sampling = self.settings.sampling_of(true.task)
        is_guided = sampling.guidance_scale != 1 and len(against[0].tokens) < len(planned[0].tokens)
        answered = Autoregressive().decode(
            self.model,
            self.vocabulary,
            planned,
            against if is_guided else [],
            sampling,
            [runtime.generator(self.seed, "own answer", index, number) for number in range(len(planned))],
        )
        return layout.batch_rows(answered, self.vocabulary.special("<pad>")).tokens


class SelfPlay(NextToken):
    """Preference for what is true over own answers, with the cross-entropy of what is true; without own answers that
    alone.

    Args:
        config: Their weights.
        others: As in `NextToken`.
    """

    def __init__(self, config: SelfPlayConfig, *others):
        super().__init__(*others)
        self.config = config

    def __call__(self, batch: Pairs, step: int, generator: Generator) -> Losses:
        if batch.both is None or batch.before is None:
            return super().__call__(batch.true, step, generator)
        # Once for both: where weights are divided, processes wait for each other as often as other tasks have them do.
        hidden = states(self.model, batch.both)
        now = log_probabilities(token_losses(self.model, batch.both, hidden), batch.both)
        true, own = (now - batch.before).chunk(2)
        preference = -F.logsigmoid(self.config.beta * (true - own)).mean()
        task, rows = batch.true.task, batch.true.rows
        likelihood = -now.chunk(2)[0].sum() / rows.targets.sum()
        figures: dict[str, float | Tensor] = {
            f"loss_{task}": likelihood.detach(),
            f"preference_loss_{task}": preference.detach(),
            f"preferred_{task}": (true > own).float().mean(),
        }
        total = preference + self.config.likelihood_weight * likelihood
        if self.model.draft_head is not None:
            drafting = self.draft_loss(rows, hidden[: len(rows.tokens)])
            figures[f"draft_loss_{task}"], total = drafting.detach(), total + drafting
        padding = batch.both.num_padding
        return Losses(total, figures, tokens=batch.both.tokens.numel() - padding, padding=padding)


def log_probabilities(losses: Tensor, rows: Batch) -> Tensor:
    """Log-probability in nats, (B,), of the outputs of rows that have as many tokens each, whose `losses` are (N,)."""
    return -losses.view(len(rows.tokens), -1).sum(dim=1)


def without_prompt(row: Row, vocabulary: Vocabulary) -> Row:
    """A row without its given text and the markers around it, such as guidance compares with."""
    marks = [(row.tokens == vocabulary.special(mark)).nonzero().flatten().tolist() for mark in ("<bot_i>", "<eot_i>")]
    if not marks[0]:
        return row
    start, stop = marks[0][0], marks[1][0] + 1
    columns = ("tokens", "modality", "places", "ranges", "targets")
    kept = {name: torch.cat([getattr(row, name)[:start], getattr(row, name)[stop:]]) for name in columns}
    return replace(row, **kept, prefix_length=row.prefix_length - (stop - start), spans={})
