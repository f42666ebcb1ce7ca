"""What one step of each kind costs, gone through with tensors that have no values; see `rehearsal`."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from videopoet import runtime
from videopoet.models import language_model
from videopoet.models.language_model import LanguageModel
from videopoet.models.super_resolution import SuperResolution
from videopoet.tokenizers.magvit_v2 import MagvitV2
from videopoet.tokenizers.soundstream import SoundStream
from videopoet.training import rehearsal
from videopoet.training.rehearsal import Cost, Meter

MEAN_MASKED = 2 / math.pi
"""Share of codes that the cosine schedule of masked training hides on average."""
PLANNED_FOR = "cuda"
"""The kind of device whose chunks of a loss are counted."""
FEW_CHUNKS = 4
"""Chunks of a loss that are gone through; what more of them add is what a fifth adds."""

Step = Callable[[Meter], None]


def objective_cost(objective: Any, batch: Any, step: int, bf16: bool) -> Cost:
    """A tokenizer's step on a batch, of tensors without values like its weights, and its discriminator's."""
    objective.model.train()
    module = nn.ModuleList([objective.model, *([objective.adversary] if objective.adversary is not None else [])])
    with rehearsal.without_values():

        def compute() -> None:
            if objective.adversary is not None:
                objective.adversary.requires_grad_(False)
            with rehearsal.autocast(bf16):
                losses = objective(batch, step, runtime.generator("plan"))
            losses.total.backward()
            if objective.adversary is not None:
                objective.adversary.requires_grad_(True)
                with rehearsal.autocast(bf16):
                    against = objective.adversary_loss(batch, losses.made.detach(), step)
                against.total.backward()

        cost = rehearsal.cost_of(compute, module)
        module.zero_grad(set_to_none=True)
    return cost


def encoding_flops(codec: MagvitV2 | SoundStream, shape: tuple[int, ...]) -> int:
    """Operations of turning one clip's pixels or samples, of this shape, into codes."""
    with rehearsal.without_values(), torch.no_grad(), rehearsal.autocast():
        clip = torch.zeros(1, *shape)
        return rehearsal.cost_of(lambda: codec.encode(clip), codec.eval()).flops


def rows_cost(
    model: LanguageModel,
    batch_size: int,
    length: int,
    choices: tuple[tuple[int, int, int], ...],
    bf16: bool,
    shares: int = 1,
    drafted: tuple[tuple[int, int, int], ...] = (),
) -> Cost:
    """A step on rows of `length` positions, of which so many choose among the ids of each range.

    `drafted` are those whose tokens the model's draft head guesses too. In `divided_bytes`, of the layers' gradients
    only one of `shares` parts is kept, from when a layer has its own.
    """
    counts = [batch_size * count for _, _, count in choices]
    sizes = [language_model.chunk_size(stop - start, PLANNED_FOR) for start, stop, _ in choices]
    # Over many ids a loss goes through chunk after chunk, all of one cost: a few of them say what the others add.
    number = max(range(len(choices)), key=lambda each: counts[each] / sizes[each])
    further = max(0, -(-counts[number] // sizes[number]) - FEW_CHUNKS)

    def step(num_chunks: int) -> Step:
        def compute(meter: Meter) -> None:
            tokens = torch.zeros(batch_size, length - 1, dtype=torch.long)
            mask = torch.ones(batch_size, 1, length - 1, length - 1, dtype=torch.bool)
            with rehearsal.autocast(bf16):
                embeddings = model.embed(tokens, tokens, torch.zeros(*tokens.shape, 3, dtype=torch.long))
                states = model(embeddings, mask, tokens)
                hidden = states.flatten(0, 1)
                # When the loss has its gradients, the layers' backward pass begins.
                if hidden.requires_grad:
                    hidden.register_hook(lambda gradient: meter.next_phase())
                losses = []
                for each, (start, stop, _) in enumerate(choices):
                    count = counts[each] - (further - num_chunks) * sizes[each] * (each == number)
                    chosen = hidden[torch.zeros(count, dtype=torch.long)]
                    targets = chosen.new_zeros(len(chosen), dtype=torch.long)
                    losses.append(model.loss_within(chosen, targets, start, stop, size=sizes[each]))
                if model.draft_head is not None:
                    losses += _draft_losses(model, states, drafted)
                loss = torch.cat(losses).mean()
            loss.backward()

        return compute

    @cache
    def at(num_layers: int, num_chunks: int) -> Cost:
        return _with_layers(model, model.num_layers, num_layers, step(num_chunks), shares)

    cost = _by_layers(model.num_layers, 1, lambda num_layers: at(num_layers, 0))
    return cost.extended(further, at(1, 0), at(1, 1)) if further else cost


def _draft_losses(model: LanguageModel, states: Tensor, drafted: tuple[tuple[int, int, int], ...]) -> list[Tensor]:
    """Losses of the guesses that the draft head makes from hidden states (B, L, D)."""
    size, count = len(states), sum(number for _, _, number in drafted)
    tokens, wanted = torch.zeros(states.shape[:2], dtype=torch.long), torch.zeros(size, count, dtype=torch.long)
    placed = model.embedding.of_places(tokens, torch.zeros(*tokens.shape, 3, dtype=torch.long))
    around = torch.zeros(size, count, 2, dtype=torch.long)
    guesses = model.draft(states, tokens, tokens, placed, wanted, around).flatten(0, 1)
    losses = []
    for start, stop, number in drafted:
        chosen = guesses if number == count else guesses[torch.zeros(size * number, dtype=torch.long)]
        targets = chosen.new_zeros(len(chosen), dtype=torch.long)
        chunk = language_model.chunk_size(stop - start, PLANNED_FOR)
        losses.append(model.loss_within(chosen, targets, start, stop, head_learns=False, size=chunk))
    return losses


def pairs_cost(
    model: SuperResolution, size: int, grid: tuple[int, ...], num_text: int, bf16: bool, shares: int = 1
) -> Cost:
    """A step of super-resolution from codes of this grid; `shares` as above."""
    t, h, w = grid

    def compute(meter: Meter) -> None:
        codes = torch.zeros(size, t, 2 * h, 2 * w, dtype=torch.long)
        low, text = torch.zeros(size, t, h, w, dtype=torch.long), torch.zeros(size, num_text, dtype=torch.long)
        with rehearsal.autocast(bf16):
            hidden = model(codes, low, text, torch.zeros(size)).flatten(0, 3)
            masked = torch.zeros(round(MEAN_MASKED * len(hidden)), dtype=torch.long)
            logits = model.logits(hidden[masked]).float().flatten(0, 1)
            loss = nn.functional.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long))
        loss.backward()

    num_layers = len(model.layers)
    return _by_layers(
        num_layers, len(model.config.windows), lambda few: _with_layers(model, num_layers, few, compute, shares)
    )


def _by_layers(num_layers: int, period: int, at: Callable[[int], Cost]) -> Cost:
    """The cost of a deep stack from two shallow ones, since its layers, or its blocks of `period` layers, are alike."""
    if num_layers <= 2 * period:
        return at(num_layers)
    one, two = at(period), at(2 * period)
    return one.extended(num_layers / period - 1, one, two)


def _with_layers(model: nn.Module, num_layers: int, count: int, compute: Step, shares: int) -> Cost:
    """The cost with only so many of the layers."""
    parent, name, layers = _stack(model, num_layers)
    setattr(parent, name, layers[:count])
    trained = [parameter for parameter in layers.parameters() if parameter.requires_grad and shares > 1]

    def divided(meter: Meter) -> None:
        def divide(parameter: Tensor) -> None:
            assert parameter.grad is not None
            meter.keep_part(parameter.grad, shares)

        hooks = [parameter.register_post_accumulate_grad_hook(divide) for parameter in trained]
        try:
            compute(meter)
        finally:
            for hook in hooks:
                hook.remove()

    try:
        with rehearsal.without_values():
            return rehearsal.metered(divided, model)
    finally:
        setattr(parent, name, layers)
        model.zero_grad(set_to_none=True)


def _stack(model: nn.Module, num_layers: int) -> tuple[nn.Module, str, nn.ModuleList]:
    for parent in model.modules():
        for name, child in parent.named_children():
            if isinstance(child, nn.ModuleList) and name in ("layers", "h", "blocks") and len(child) == num_layers:
                return parent, name, child
    raise AssertionError(f"no stack of {num_layers} layers")
