"""What the benchmarks share: their arguments, held-out clips of the toy box in batches, and shares with an interval."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor

from videopoet import runtime
from videopoet.data.toybox import Clips, Config, Scene, ToyBox

Split = Literal["test", "validation"]


def arguments(description: str | None, count: int) -> argparse.ArgumentParser:
    """A parser that knows what every benchmark on the toy box takes: count, seed and split."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--count", type=int, default=count, help="how many clips")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first scene; the next follow")
    parser.add_argument(
        "--split", choices=("test", "validation"), default="test", help="tune on validation, report on test"
    )
    return parser


def add_model(parser: argparse.ArgumentParser) -> None:
    """Let the user say which model is measured."""
    parser.add_argument("--model", metavar="FOLDER", help="the model to measure; without it, the one that ships")


def toy_box(split: Split) -> ToyBox:
    """The world that the bundled model was trained on, as seen by a split that it was not trained on."""
    return ToyBox(Config(split=split))


def clips(world: ToyBox, scenes: Sequence[Scene], *, audio: bool, batch_size: int = 8) -> Iterator[Clips]:
    """The scenes' clips, a batch at a time, with a progress bar."""
    device = runtime.best_device()
    with runtime.progress(len(scenes), "clips") as advance:
        for first in range(0, len(scenes), batch_size):
            some = scenes[first : first + batch_size]
            yield world.render(some, device, audio=audio)
            advance(len(some))


def percent(hits: Sequence[bool]) -> float | None:
    """How many of a hundred; None of nothing."""
    return round(100 * sum(hits) / len(hits), 2) if hits else None


def interval(hits: Sequence[bool], draws: int = 2000) -> tuple[float, float] | None:
    """Between which percentages 95 of 100 redraws of the same hits lie (bootstrap); None of nothing."""
    if not hits:
        return None
    chosen = torch.randint(len(hits), (draws, len(hits)), generator=runtime.generator("bootstrap"))
    means = 100 * Tensor(list(hits))[chosen].mean(dim=1)
    low, high = means.quantile(torch.tensor([0.025, 0.975])).tolist()
    return round(low, 2), round(high, 2)
