"""What making a clip takes: text to video from a caption, with guidance, gone through with tensors without values."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from videopoet.models.cached_pass import cached_pass
from videopoet.nn.attention import Grid
from videopoet.sequence.tasks import find_task
from videopoet.training import plan, rehearsal
from videopoet.training.run import RunConfig

ROWS = 2
"""With guidance each clip has a row with its prompt and one without."""
WINDOW = 16
"""Positions that a pass of the speculative decoder reads at most."""


@dataclass(frozen=True)
class GenerationPlan:
    """One clip."""

    weights: int
    """Bytes of the language model and both tokenizers, and of super-resolution where the run has it."""
    memory: int
    """Bytes at the worst moment, the weights included; not what the process itself takes."""
    memory_upscaled: int | None
    """The same where the clip is doubled in size; None without super-resolution."""


def generation(config: RunConfig, dtype: torch.dtype = torch.bfloat16) -> GenerationPlan:
    """Plan a clip in the size and length of the run's own.

    Args:
        config: The run.
        dtype: Of the language model's weights and of what is computed, as on a GPU; the other weights are float32.

    Raises:
        ConfigError: As `plan.plan`.
    """
    parts = plan.parts_of(config)
    world, model, vocabulary = config.world, parts.model.eval(), parts.vocabulary
    with rehearsal.without_values():
        for parameter in model.parameters():
            parameter.data = parameter.data.to(dtype)
    networks = nn.ModuleList([model, parts.video.eval(), parts.audio.eval()])
    if parts.super_resolution is not None:
        networks.append(parts.super_resolution.eval())
    grid: Grid = parts.video.grid(world.num_frames, world.height, world.width)
    sound = parts.audio.num_frames(round(world.num_frames / world.frame_rate * world.sample_rate))
    shapes = {
        "text": (plan.mean_text(config, parts.words),),
        "video": grid,
        "audio": (parts.audio.num_quantizers, sound),
    }
    row = plan.row_of(find_task("text_to_video"), vocabulary, shapes)
    length, given = len(row.tokens), int(row.targets.int().argmax())

    def write() -> None:
        passes = cached_pass(model, ROWS, length)
        for start, stop in ((0, given), (max(given, length - WINDOW), length)):
            count = stop - start
            hidden = passes(
                torch.zeros(ROWS, count, model.head_weight.shape[1], dtype=dtype),
                torch.ones(ROWS, 1, count, stop, dtype=torch.bool),
                torch.zeros(ROWS, count, dtype=torch.long),
                slice(start, stop),
            )
            passes.logits(hidden, *vocabulary.range("video"))

    def show(scale: int) -> None:
        with rehearsal.autocast(dtype == torch.bfloat16):
            parts.video.decode(torch.zeros(1, grid[0], scale * grid[1], scale * grid[2], dtype=torch.long))
            parts.audio.decode(torch.zeros(1, parts.audio.num_quantizers, sound, dtype=torch.long))

    def double() -> None:
        assert parts.super_resolution is not None
        t, h, w = grid
        with rehearsal.autocast(dtype == torch.bfloat16):
            hidden = parts.super_resolution(
                torch.zeros(1, t, 2 * h, 2 * w, dtype=torch.long),
                torch.zeros(1, t, h, w, dtype=torch.long),
                torch.zeros(1, shapes["text"][0], dtype=torch.long),
                torch.zeros(1),
            )
            parts.super_resolution.logits(hidden)

    with rehearsal.without_values(), torch.no_grad():
        peaks = [rehearsal.cost_of(step, networks).peak_bytes for step in (write, lambda: show(1))]
        larger = None
        if parts.super_resolution is not None:
            more = [rehearsal.cost_of(step, networks).peak_bytes for step in (double, lambda: show(2))]
            larger = max(*peaks, *more)
    weights = sum(tensor.numel() * tensor.element_size() for tensor in networks.parameters())
    return GenerationPlan(weights=weights, memory=max(peaks), memory_upscaled=larger)
