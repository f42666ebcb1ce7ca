"""Clips that show the same, though re-encoded or scaled: found by their thumbnails, on disk and not in memory."""

from __future__ import annotations

import sqlite3
import tempfile
from pathlib import Path

import torch
from torch import Tensor

LARGEST_DIFFERENCE = 8
"""How far, of 255, any of the 8x8 cells of two duplicates may be apart. The largest, not the mean: a small thing that
moves over the same background changes few cells, and makes another clip."""
NOT_LEVEL = 4
"""How much brighter than its neighbour a cell must be to count as brighter."""
MOST_CANDIDATES = 200
"""Clips that one is compared with for each band of its hash; plain pictures have many in common."""


class Duplicates:
    """Remembers the signatures of clips, uint8 (4, 16, 16), and finds the first that shows the same."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="videopoet-")
        self._database = sqlite3.connect(Path(self._folder.name) / "signatures.sqlite", isolation_level=None)
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.execute("CREATE TABLE clips (number INTEGER PRIMARY KEY, id TEXT, signature BLOB)")
        self._database.execute("CREATE TABLE bands (band INT, value INT, number INT)")
        self._database.execute("CREATE INDEX by_band ON bands (band, value)")
        self._database.execute("BEGIN")

    def find(self, signature: Tensor) -> str | None:
        """The id of a clip that shows the same, if one was added."""
        seen: set[int] = set()
        for band, value in enumerate(_bands(signature)):
            query = "SELECT number FROM bands WHERE band = ? AND value = ? LIMIT ?"
            for (number,) in self._database.execute(query, (band, value, MOST_CANDIDATES)).fetchall():
                if number in seen:
                    continue
                seen.add(number)
                query_clip = "SELECT id, signature FROM clips WHERE number = ?"
                name, data = self._database.execute(query_clip, (number,)).fetchone()
                other = torch.frombuffer(bytearray(data), dtype=torch.uint8).view_as(signature)
                if (_cells(other) - _cells(signature)).abs().max() <= LARGEST_DIFFERENCE:
                    return name
        return None

    def add(self, name: str, signature: Tensor) -> None:
        """Remember a clip."""
        row = (name, signature.contiguous().numpy().tobytes())
        number = self._database.execute("INSERT INTO clips (id, signature) VALUES (?, ?)", row).lastrowid
        bands = [(band, value, number) for band, value in enumerate(_bands(signature))]
        self._database.executemany("INSERT INTO bands VALUES (?, ?, ?)", bands)

    def close(self) -> None:
        self._database.close()
        self._folder.cleanup()


def _bands(signature: Tensor) -> list[int]:
    """A hash of the signature in 16 pieces of 16 bits: duplicates have at least one in common.

    Each bit says whether one of 8x8 cells is brighter than its neighbour on the right, as in a difference hash.
    """
    cells = _cells(signature)
    brighter = (cells - cells.roll(-1, dims=2) > NOT_LEVEL).view(16, 16).long()
    return (brighter << torch.arange(16)).sum(1).tolist()


def _cells(signature: Tensor) -> Tensor:
    """Halved once more, (4, 8, 8): what scaling and coding change averages out."""
    return signature.float().view(4, 8, 2, 8, 2).mean((2, 4))
