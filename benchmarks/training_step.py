"""How many tokens a second a language model trains on, beside the `Trainer` of `transformers`: same model, same batch.

Ours is the loop that `videopoet train` runs, with everything it does in a step: embeddings that know their place, the
two-way prefix, the mean of the weights. `Trainer` trains the plain backbone on the same ids, with a causal mask and its
own optimizer defaults. Both run under bf16 autocast where the device has it, clip gradients and follow a schedule, in
turns in one process that keeps freed memory, as `videopoet train` does and `Trainer` does not. With `--compile` ours
runs once more with compiled layers. The first two steps of each turn, which compile, do not count.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch
from held_out import add_model, toy_box
from report import report
from torch.utils.data import Dataset
from transformers import Trainer, TrainerCallback, TrainingArguments

from videopoet import VideoPoet, runtime
from videopoet.data.mixture import TaskBatch
from videopoet.generation.window import Window
from videopoet.models.language_model import LanguageModel
from videopoet.sequence import layout
from videopoet.sequence.tasks import find_task
from videopoet.training import loop, next_token

TASK = find_task("text_to_video")


def make_batch(poet: VideoPoet, num_rows: int) -> layout.Batch:
    """Rows of captions and random video codes."""
    parts, world = poet.parts, toy_box("test")
    window, generator = Window(parts), runtime.generator("training_step")
    codes = parts.vocabulary.config.visual_codes
    rows = [
        layout.build(
            TASK,
            parts.vocabulary,
            {
                "text_in": torch.tensor(parts.text_encoder.encode(world.scene(number).caption)),
                "video_out": torch.randint(codes, window.grid, generator=generator),
            },
        )
        for number in range(num_rows)
    ]
    return layout.batch_rows(rows, parts.vocabulary.special("<pad>"))


class Laps:
    """When each step began."""

    def __init__(self) -> None:
        self.clock: list[float] = []
        self.processor: list[float] = []

    def __call__(self) -> None:
        self.clock.append(time.perf_counter())
        self.processor.append(time.process_time())

    def durations(self) -> list[tuple[float, float]]:
        """Seconds of the clock and of the processor, of every whole step but the first two."""
        clock, processor = (
            [after - before for before, after in zip(times, times[1:], strict=False)][2:]
            for times in (self.clock, self.processor)
        )
        return list(zip(clock, processor, strict=True))


def train_ours(model: LanguageModel, batch: layout.Batch, num_steps: int, learning_rate: float) -> Laps:
    """Some steps of `videopoet.training.loop`."""
    laps = Laps()

    def batches(index: int) -> TaskBatch:
        laps()
        return TaskBatch(TASK.name, batch)

    config = loop.Config(num_steps=num_steps, log_every=num_steps, optimizer={"learning_rate": learning_rate})  # pyright: ignore[reportArgumentType]
    with tempfile.TemporaryDirectory() as folder:
        loop.train(next_token.NextToken(model, []), batches, config, folder)
    return laps


class SameRows(Dataset[dict[str, torch.Tensor]]):
    """One batch, again and again."""

    def __init__(self, batch: layout.Batch, num_steps: int):
        self.length = num_steps * len(batch.tokens)
        columns = torch.arange(batch.tokens.shape[1])
        self.tokens = batch.tokens
        self.labels = batch.tokens.masked_fill(~batch.targets, -100)
        self.seen = (columns >= batch.padding[:, None]).long()

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        row = index % len(self.tokens)
        return {"input_ids": self.tokens[row], "labels": self.labels[row], "attention_mask": self.seen[row]}


class Watch(TrainerCallback):
    """Notes when steps begin."""

    def __init__(self, laps: Laps):
        self.laps = laps

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.laps()


def train_theirs(backbone: Any, batch: layout.Batch, num_steps: int, learning_rate: float) -> Laps:
    """Some steps of `transformers.Trainer`."""
    laps = Laps()
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            max_steps=num_steps,
            per_device_train_batch_size=len(batch.tokens),
            learning_rate=learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=100,
            bf16=runtime.bf16_is_fast(runtime.best_device().type),
            use_cpu=not torch.cuda.is_available(),
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
        )
        Trainer(backbone, arguments, train_dataset=SameRows(batch, num_steps), callbacks=[Watch(laps)]).train()
    return laps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add_model(parser)
    parser.add_argument("--rows", type=int, default=8, help="in a batch")
    parser.add_argument("--steps", type=int, default=3, help="in a turn, after the first two")
    parser.add_argument("--compile", action="store_true", help="train ours with compiled layers too")
    parser.add_argument("--turns", type=int, default=3, help="of each")
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    given = parser.parse_args()
    runtime.keep_freed_memory()
    poet = VideoPoet.from_pretrained(given.model)
    batch = make_batch(poet, given.rows).to(poet.parts.device)
    num_steps = given.steps + 3
    everyone: dict[str, Callable[[], Laps]] = {
        "ours": lambda: train_ours(trained(poet), batch, num_steps, given.learning_rate),
        "transformers.Trainer": lambda: train_theirs(
            trained(poet).backbone.train(), batch, num_steps, given.learning_rate
        ),
    }
    if given.compile:
        everyone["ours, compiled"] = lambda: train_ours(compiled(poet), batch, num_steps, given.learning_rate)
    durations: dict[str, list[tuple[float, float]]] = {name: [] for name in everyone}
    for _ in range(given.turns):
        for name, train in everyone.items():
            durations[name] += train().durations()
    medians = {
        name: [statistics.median(column) for column in zip(*steps, strict=True)] for name, steps in durations.items()
    }
    tokens = batch.tokens.numel() - batch.num_padding
    for name, (clock, processor) in medians.items():
        busy = [each for _, each in durations[name]]
        report(
            "training_step",
            trainer=name,
            tokens_per_second=round(tokens / clock, 1),
            tokens_per_processor_second=round(tokens / processor, 1),
            processor_seconds_per_step=round(processor, 3),
            spread=round(max(busy) - min(busy), 3),
            times_tokens_of_trainer=round(medians["transformers.Trainer"][1] / processor, 2),
            steps=len(busy),
            rows=given.rows,
            tokens=tokens,
            model=poet.parts.settings.name,
        )


def trained(poet: VideoPoet) -> LanguageModel:
    """The language model as a run begins with it: fp32 weights of its own."""
    return copy.deepcopy(poet.parts.language_model).float().requires_grad_(True)


def compiled(poet: VideoPoet) -> LanguageModel:
    """The same with layers that are compiled at their first call."""
    model = trained(poet)
    model.compile_layers()
    return model


if __name__ == "__main__":
    main()
