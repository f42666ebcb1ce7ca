"""The metric contract: what a metric says of itself, and how its figures come about.

A metric is one file; the name in a config is the file's name. It says which suites it is printed for and which cheap
baselines it is compared with, and looks at one (case, take) at a time. `evaluate` shows it the takes of the model, of
the truth, of the truth through the tokenizers and of the baselines, and for chance those of the model with the cases
of other prompts. Nothing that cannot be read is left out: it counts as wrong.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from videopoet.evaluation.cases import Case, Take
from videopoet.evaluation.statistics import Floats

Score = bool | float | tuple[float, float] | None
"""A share or a value; or its numerator and denominator, which are pooled over prompts; None where it was not asked."""


@dataclass(frozen=True)
class Figure:
    """One number of a metric."""

    meaning: str
    """What is printed beside it, in a few words."""
    unit: Literal["%", "px", "dB", "ms", "s", "MB", "tokens/s", ""] = "%"
    """Shares are kept from 0 to 1 and printed as %."""
    better: Literal["higher", "lower", "neither"] = "higher"
    median: bool = False
    """Whether prompts are summed up by their median; else by the ratio of their sums."""
    has_chance: bool = True
    """Whether other prompts say what chance would reach: of what is seen in the answer alone, they repeat the value."""


class Metric(ABC):
    """One question about what a model makes. Subclass `PerPrompt` or `OverAll`."""

    number: ClassVar[str]
    """As evaluation.md numbers it, such as M2."""
    suites: ClassVar[tuple[str, ...]]
    """The suites that it is measured on."""
    figures: ClassVar[dict[str, Figure]]
    baselines: ClassVar[tuple[str, ...]] = ()
    """Functions of `baselines` whose takes are measured too."""
    has_chance: ClassVar[bool] = True
    """Whether other prompts' cases say what chance would reach."""
    least: ClassVar[int] = 1
    """Prompts below which the metric says too little to be printed."""


class PerPrompt(Metric):
    """A metric whose figures are means, ratios or medians over prompts."""

    verdict: ClassVar[dict[str, tuple[str, ...]]] = {}
    """Which figure says whether a single answer is a success, for the samples that a report shows: by suite, the first
    that was asked. No other metric judges these suites."""

    @abstractmethod
    def score(self, case: Case, take: Take) -> dict[str, Score]:
        """The metric's figures for one answer; what is missing or None was not asked."""

    def by_chance(self, case: Case, take: Take, own: Take) -> dict[str, Score]:
        """The same for the answer to another prompt, where parts of an answer are compared with those of `own`, which
        answers this one: with themselves they would repeat the value."""
        return self.score(case, take)


class OverAll(Metric):
    """A metric of a set of answers as a whole."""

    has_chance: ClassVar[bool] = False
    has_reference: ClassVar[bool] = False
    """Whether as many true clips of other prompts are looked at too."""
    draws: ClassVar[int] = 200
    """Redraws behind the interval."""

    @abstractmethod
    def collect(self, case: Case, take: Take) -> Any:
        """What is kept of one answer; None leaves it out, where it was not asked."""

    def enters(self, item: Any, figure: str) -> bool:
        """Whether what was kept of an answer is a part of a figure; N counts those."""
        return True

    @abstractmethod
    def summarize(self, collected: Sequence[Any], reference: Sequence[Any]) -> dict[str, float | None]:
        """The figures of all answers, beside what was kept of as many true clips of other prompts."""


class Distance(OverAll):
    """A distance between the features of a set of clips and those of as many true clips of other prompts."""

    has_reference = True

    @abstractmethod
    def collect(self, case: Case, take: Take) -> Floats | None:
        """Features, (D,), of one answer."""


class Weighty(OverAll):
    """A published metric: it is computed by its published protocol with its own network, or not at all.

    Its name stands for the network as much as for the formula, so that there is no substitute for the weights.
    """

    number = "P"
    what_to_get: ClassVar[str]
    """What the weights are, and where they were published."""

    def __init__(self, weights: Path):
        """Take weights whose hash has been checked: a file, or a folder."""
        self.weights = weights
