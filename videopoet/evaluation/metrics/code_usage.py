"""The video tokenizer's codes: how many of them are used, and how evenly."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from videopoet.evaluation.cases import Case, Take
from videopoet.evaluation.metrics.base import Figure, OverAll
from videopoet.evaluation.statistics import Floats


class CodeUsage(OverAll):
    """Share of all codes that occur, and perplexity: how many codes, used evenly, would say as much.

    Both grow with the number of codes looked at, which is printed.
    """

    number = "M14"
    suites = ("tokenizer",)
    figures = {
        "usage": Figure("codes that occur, of all that there are"),
        "perplexity": Figure("codes that, used evenly, would say as much", "", better="neither"),
        "codes_seen": Figure("codes looked at", "", better="neither"),
    }
    draws = 100

    def collect(self, case: Case, take: Take) -> tuple[Floats, int] | None:
        if take.codes is None or take.num_codes is None:
            return None
        return take.codes.flatten().double().numpy(), take.num_codes

    def summarize(
        self, collected: Sequence[tuple[Floats, int]], reference: Sequence[object]
    ) -> dict[str, float | None]:
        codes = np.concatenate([own for own, _ in collected])
        _, counts = np.unique(codes, return_counts=True)
        shares = counts / counts.sum()
        return {
            "usage": len(counts) / collected[0][1],
            "perplexity": math.exp(-(shares * np.log(shares)).sum()),
            "codes_seen": float(len(codes)),
        }
