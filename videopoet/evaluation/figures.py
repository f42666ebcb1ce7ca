"""From answers to figures: every metric on every variant of an answer, with interval, ceilings, chance and baselines.

Variants are the model's answers, the truth, the truth through the tokenizers, the baselines, and `chance`: the model's
answers with the cases of other prompts.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from videopoet import registry, runtime
from videopoet.evaluation.cases import Case, Take
from videopoet.evaluation.metrics.base import Figure, Metric, OverAll, PerPrompt, Score, Weighty
from videopoet.evaluation.statistics import (
    Floats,
    Interval,
    bootstrap_median,
    bootstrap_ratio,
    interval_around,
    median,
    ratio,
)

MODEL, TRUTH, TOKENS, CHANCE, REFERENCE = "model", "truth", "tokenizer", "chance", "reference"
TRUSTED = 0.99
"""Of a share, what the truth must reach at least for the figure to be trusted."""


@dataclass
class Result:
    """One figure, as it stands in the report."""

    metric: str
    number: str
    figure: str
    meaning: str
    unit: str
    better: str
    value: float | None
    interval: Interval | None
    prompts: int
    """How many prompts asked for it; of a set, whose answers are in it."""
    tokenizer: float | None
    """The truth through the tokenizers: the ceiling."""
    truth: float | None
    """The truth itself: 100%, or the floor of a distance."""
    chance: float | None
    baselines: dict[str, float | None]
    normalised: float | None
    """(value - chance) / (tokenizer - chance)."""
    warning: str | None = None
    """Why the figure is not to be trusted, where it is not."""


class Tally:
    """Scores of one metric on one suite, gathered answer by answer."""

    def __init__(self, name: str, metric: Metric):
        self.name, self.metric = name, metric
        self._parts: dict[str, dict[str, dict[int, list[tuple[float, float]]]]] = defaultdict(
            lambda: defaultdict(lambda: defaultdict(list))
        )
        self._collected: dict[str, dict[int, list[Any]]] = defaultdict(lambda: defaultdict(list))

    def add(self, variant: str, number: int, case: Case, take: Take) -> None:
        """Score an answer, which belongs to prompt `number`, by a case."""
        if isinstance(self.metric, PerPrompt):
            self._note(variant, number, self.metric.score(case, take))
        elif isinstance(self.metric, OverAll) and (item := self.metric.collect(case, take)) is not None:
            self._collected[variant][number].append(item)

    def add_chance(self, cases: Sequence[Case], takes: Sequence[Take]) -> None:
        """Score each answer by the cases of all other prompts of a group that was drawn by lot."""
        if not isinstance(self.metric, PerPrompt) or not self.metric.has_chance:
            return
        for answered, take in zip(cases, takes, strict=True):
            for case, own in zip(cases, takes, strict=True):
                if case is not answered:
                    self._note(CHANCE, answered.number, self.metric.by_chance(case, take, own))

    def _note(self, variant: str, number: int, scores: Mapping[str, Score]) -> None:
        for figure, score in scores.items():
            if (pair := _pair(score)) is not None:
                self._parts[figure][variant][number].append(pair)

    def results(self) -> list[Result]:
        """Every figure of the metric that at least one prompt asked for."""
        if isinstance(self.metric, PerPrompt):
            found = {name: self._of_prompts(name, figure) for name, figure in self.metric.figures.items()}
        else:
            assert isinstance(self.metric, OverAll)
            found = self._over_all(self.metric)
        return [self._result(name, *values) for name, values in found.items() if values is not None]

    def _of_prompts(self, name: str, figure: Figure) -> tuple[dict[str, float | None], Interval | None, int] | None:
        variants = self._parts[name]
        rows = {
            variant: _rows(prompts, figure.median, variant == CHANCE)
            for variant, prompts in variants.items()
            if figure.has_chance or variant != CHANCE
        }
        if MODEL not in rows:
            return None
        statistic = median if figure.median else ratio
        values = {variant: _finite(statistic(parts)) for variant, parts in rows.items()}
        if values[MODEL] is None:  # nothing was asked, such as the steps of subjects that are not there
            return None
        own = rows[MODEL]
        interval = bootstrap_median(own) if figure.median else bootstrap_ratio(own, is_share=figure.unit == "%")
        return values, interval, len(own)

    def _over_all(self, metric: OverAll) -> dict[str, tuple[dict[str, float | None], Interval | None, int]]:
        reference = [item for items in self._collected.get(REFERENCE, {}).values() for item in items]
        groups = {
            variant: [items for _, items in sorted(prompts.items())]
            for variant, prompts in self._collected.items()
            if variant != REFERENCE
        }
        if MODEL not in groups:
            return {}
        values = {
            variant: metric.summarize([item for items in prompts for item in items], reference)
            for variant, prompts in groups.items()
            if variant == MODEL or len(prompts) > 1
        }
        own, random = groups[MODEL], np.random.default_rng(0)
        redraws: dict[str, list[float]] = defaultdict(list)
        for _ in range(metric.draws if len(own) > 1 else 0):
            drawn = random.integers(len(own), size=len(own))
            for name, value in metric.summarize([item for i in drawn for item in own[i]], reference).items():
                if value is not None and math.isfinite(value):
                    redraws[name].append(value)
        found = {}
        for name, figure in metric.figures.items():
            each = {variant: figures.get(name) for variant, figures in values.items()}
            if (value := each[MODEL]) is None:
                continue
            interval = interval_around(value, redraws[name])
            if interval is not None and figure.unit == "%":
                interval = Interval(max(0.0, interval.low), min(1.0, interval.high))
            entered = sum(any(metric.enters(item, name) for item in items) for items in own)
            found[name] = each, interval, entered
        return found

    def _result(self, name: str, values: Mapping[str, float | None], interval: Interval | None, prompts: int) -> Result:
        figure = self.metric.figures[name]
        value, tokens, chance = values.get(MODEL), values.get(TOKENS), values.get(CHANCE)
        normalised = None
        if None not in (value, tokens, chance) and abs(tokens - chance) > 1e-9:  # pyright: ignore
            normalised = (value - chance) / (tokens - chance)  # pyright: ignore
        baselines = {name: values.get(name) for name in self.metric.baselines if values.get(name) is not None}
        truth = values.get(TRUTH)
        return Result(
            metric=self.name,
            number=self.metric.number,
            figure=name,
            meaning=figure.meaning,
            unit=figure.unit,
            better=figure.better,
            value=value,
            interval=interval,
            prompts=prompts,
            tokenizer=tokens,
            truth=truth,
            chance=chance,
            baselines=baselines,
            normalised=normalised,
            warning=_warning(figure, truth),
        )


def metrics_of(suite: str, extra: Iterable[tuple[str, Metric]] = ()) -> list[tuple[str, Metric]]:
    """The metrics of a suite that need nothing but the package, by the names of their files, and those of `extra`."""
    found = [
        (name, kind())
        for name in registry.names("evaluation.metrics")
        if not issubclass(kind := registry.component("evaluation.metrics", name), Weighty)
    ]
    chosen = [(name, metric) for name, metric in (*found, *extra) if suite in metric.suites]
    return sorted(chosen, key=lambda pair: (int(pair[1].number.strip("MP").rstrip("abcdefgh") or 0), pair[0]))


def groups(count: int, size: int) -> list[list[int]]:
    """The numbers below `count` dealt out by lot, evenly, `size` at most together; the same on every machine.

    Prompts in a row differ by design, so that their cases say less than chance does of each other's answers.
    """
    order = torch.randperm(count, generator=runtime.generator("groups", count))
    return [sorted(group.tolist()) for group in order.tensor_split(math.ceil(count / size))]


def mean_of(score: Score) -> float | None:
    """One answer's score as a number; None where it was not asked."""
    pair = _pair(score)
    return pair[0] / pair[1] if pair is not None and pair[1] else None


def _pair(score: Score) -> tuple[float, float] | None:
    if score is None:
        return None
    if isinstance(score, tuple):
        return float(score[0]), float(score[1])
    return (float(score), 1.0) if math.isfinite(score) else None


def _rows(prompts: Mapping[int, list[tuple[float, float]]], by_median: bool, by_chance: bool) -> Floats:
    """One row per prompt, (N, 2): the sum of its answers' parts, or their mean value where medians are taken.

    By chance a median is of all pairs of an answer and a prompt: means over many prompts lie closer than answers do.
    """
    ordered = [parts for _, parts in sorted(prompts.items())]
    if by_median and by_chance:
        return np.concatenate(ordered)
    if by_median:
        return np.array([[np.mean([part[0] for part in parts]), 1.0] for parts in ordered])
    return np.array([np.sum(parts, axis=0) for parts in ordered])


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _warning(figure: Figure, truth: float | None) -> str | None:
    if truth is None or figure.unit != "%" or figure.better == "neither":
        return None
    reached = truth if figure.better == "higher" else 1 - truth
    if reached >= TRUSTED:
        return None
    return f"the truth itself has {100 * truth:.1f}%"
