"""How a benchmark answers: one JSON line that can still be compared next year, and times that are worth reporting."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import torch

from videopoet import __version__
from videopoet.runtime import describe_machine

PEERS = ("transformers", "vector-quantize-pytorch", "phenaki-pytorch")
"""Packages that benchmarks compare with; a row names the version of each that is loaded."""


class Timing(NamedTuple):
    """Seconds a call takes.

    Attributes:
        seconds: The median over the repeats.
        spread: Slowest minus fastest.
        repeats: How many calls were timed, after the warm-up.
    """

    seconds: float
    spread: float
    repeats: int


def timed(function: Callable[[], Any], *, warmup: int = 1, repeats: int = 5) -> Timing:
    """Time `function` after `warmup` calls that do not count, waiting for the GPU where there is one."""
    durations = []
    for _ in range(warmup):
        function()
    for _ in range(repeats):
        _synchronize()
        start = time.perf_counter()
        function()
        _synchronize()
        durations.append(time.perf_counter() - start)
    return Timing(statistics.median(durations), max(durations) - min(durations), repeats)


def report(question: str, **figures: Any) -> None:
    """Print the answer to `question` as one JSON line, with the machine, the versions and the commit."""
    peers = {name: metadata.version(name) for name in PEERS if name.replace("-", "_") in sys.modules}
    found_on = {"machine": describe_machine(), "videopoet": __version__, **peers, "commit": _commit()}
    print(json.dumps({"question": question, **figures, **found_on}), flush=True)


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _commit() -> str | None:
    """The commit, with a plus sign when tracked files differ from it; None outside a repository."""
    command = ["git", "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"]
    described = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True)
    return described.stdout.strip() or None
