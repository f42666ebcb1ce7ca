"""What a run writes down: one JSON line per entry, the same figures for TensorBoard where it is installed."""

from __future__ import annotations

import importlib.util
import json
import math
import time
from pathlib import Path
from typing import Any

from videopoet import checkpoint


class Journal:
    """Appends to `journal.jsonl` in a run's folder. After a resume, entries of lost steps are dropped first."""

    def __init__(self, folder: str | Path, first_step: int):
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "journal.jsonl"
        if self.path.exists():
            kept = [line for line in self.path.read_text().splitlines() if _step(line) < first_step]
            checkpoint.write_atomically(self.path, lambda file: file.write_text("".join(line + "\n" for line in kept)))
        self._file = self.path.open("a", buffering=1)
        self._board = None
        if importlib.util.find_spec("tensorboard"):
            from torch.utils.tensorboard.writer import SummaryWriter

            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=first_step)

    def write(self, step: int, kind: str, **figures: float) -> None:
        """Write an entry of `kind` ("train", "validation") at `step`. A figure that is not finite becomes null."""
        entry: dict[str, Any] = {"step": step, "kind": kind, "time": round(time.time(), 2)}
        entry |= {name: float(f"{value:.6g}") if math.isfinite(value) else None for name, value in figures.items()}
        self._file.write(json.dumps(entry) + "\n")
        if self._board:
            for name, value in figures.items():
                self._board.add_scalar(f"{kind}/{name}", value, step)

    def close(self) -> None:
        self._file.close()
        if self._board:
            self._board.close()


def read(folder: str | Path) -> list[dict[str, Any]]:
    """All entries of a run, oldest first."""
    return [json.loads(line) for line in (Path(folder) / "journal.jsonl").read_text().splitlines()]


def _step(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError):
        return math.inf  # the last line of a killed run may be cut
