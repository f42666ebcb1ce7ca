"""What a person waits for: `videopoet generate` to a finished clip with sound, the import, and the help page.

Each is a process of its own, as a person starts it; peak memory is that of the largest process among it and its
children. The first run of each, which reads files from disk, does not count; it is reported beside the others.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

PROMPT = "a red ball bounces on the grass"


class Run(NamedTuple):
    """One process."""

    seconds: float
    peak_bytes: int


def run(command: list[str]) -> Run:
    """Run a command to its end.

    Raises:
        SystemExit: It failed; what it said is on standard error.
    """
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return Run(seconds, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024))


def measured(command: list[str], repeats: int) -> dict[str, Any]:
    """Figures of `repeats` runs after a first."""
    first, *runs = (run(command) for _ in range(1 + repeats))
    seconds = [each.seconds for each in runs]
    return {
        "seconds_best": round(min(seconds), 3),
        "seconds_median": round(statistics.median(seconds), 3),
        "seconds_spread": round(max(seconds) - min(seconds), 3),
        "seconds_first": round(first.seconds, 3),
        "peak_memory_gb": round(max(each.peak_bytes for each in (first, *runs)) / 1e9, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--model", metavar="FOLDER", help="the model to measure; without it, the one that ships")
    parser.add_argument("--count", type=int, default=3, help="how many clips, after a first")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--prompt", default=PROMPT)
    given = parser.parse_args()
    videopoet = str(Path(sys.executable).with_name("videopoet"))
    with tempfile.TemporaryDirectory() as folder:
        clip = str(Path(folder) / "clip.mp4")
        command = [videopoet, "generate", given.prompt, "--output", clip, "--seed", str(given.seed)]
        generated = measured([*command, *(["--model", given.model] if given.model else [])], given.count)
    figures = {
        "python_alone": measured([sys.executable, "-c", "pass"], 5),
        "import_videopoet": measured([sys.executable, "-c", "import videopoet"], 5),
        "videopoet_help": measured([videopoet, "--help"], 5),
    }
    # Not before: a child's peak memory counts that of the process that started it, which torch makes large.
    from report import report

    report("generate_cost", generate=generated, **figures, prompt=given.prompt, seed=given.seed)


if __name__ == "__main__":
    main()
