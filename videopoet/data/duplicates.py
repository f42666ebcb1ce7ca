"""Clips that show the same, though re-encoded or scaled: found by their thumbnails, on disk and not in memory."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from videopoet.data.scratch import Scratch

LARGEST_DIFFERENCE = 8
"""How far, of 255, any of the 8x8 cells of two duplicates may be apart. The largest, not the mean: a small thing that
moves over the same background changes few cells, and makes another clip."""
NOT_LEVEL = 4
"""How much brighter than its neighbour a cell must be to count as brighter."""
PER_CELL = 4
"""Cells of the signature in each of the 8x8."""
MOST_CANDIDATES = 200
"""Clips that one is compared with for each band of its hash; plain pictures have many in common."""


class Duplicates:
    """Remembers the signatures of clips, uint8 (4, 16, 16), and finds the first that shows the same."""

    def __init__(self) -> None:
        self._database = Scratch(
            "CREATE TABLE clips (number INTEGER PRIMARY KEY, id TEXT, cells BLOB)",
            "CREATE TABLE bands (band INT, value INT, number INT)",
            "CREATE INDEX by_band ON bands (band, value)",
        )

    def find(self, signature: Tensor) -> str | None:
        """The id of a clip that shows the same, if one was added."""
        cells = _cells(signature)
        seen: set[int] = set()
        query = "SELECT number, id, cells FROM bands JOIN clips USING (number) WHERE band = ? AND value = ? LIMIT ?"
        for band, value in enumerate(_bands(cells)):
            found = self._database.execute(query, (band, value, MOST_CANDIDATES)).fetchall()
            candidates = [row for row in found if row[0] not in seen]
            if not candidates:
                continue
            others = np.frombuffer(b"".join(data for _, _, data in candidates), np.int16)
            apart = abs(others.reshape(-1, cells.size) - cells.ravel()).max(1)
            near = np.flatnonzero(apart <= PER_CELL * LARGEST_DIFFERENCE)
            if len(near):
                return candidates[near[0]][1]
            seen.update(number for number, _, _ in candidates)
        return None

    def add(self, name: str, signature: Tensor) -> None:
        """Remember a clip."""
        cells = _cells(signature)
        row = (name, cells.tobytes())
        number = self._database.execute("INSERT INTO clips (id, cells) VALUES (?, ?)", row).lastrowid
        bands = [(band, value, number) for band, value in enumerate(_bands(cells))]
        self._database.executemany("INSERT INTO bands VALUES (?, ?, ?)", bands)

    def close(self) -> None:
        self._database.close()


def _bands(cells: NDArray[np.int16]) -> list[int]:
    """A hash of the cells in 16 pieces of 16 bits: duplicates have at least one in common.

    Each bit says whether one of 8x8 cells is brighter than its neighbour on the right, as in a difference hash.
    """
    brighter = cells - np.roll(cells, -1, axis=2) > PER_CELL * NOT_LEVEL
    return np.packbits(brighter.reshape(16, 16), axis=1, bitorder="little").view("<u2")[:, 0].tolist()


def _cells(signature: Tensor) -> NDArray[np.int16]:
    """Halved once more, (4, 8, 8): what scaling and coding change averages out. Sums of `PER_CELL` cells."""
    return signature.numpy().reshape(4, 8, 2, 8, 2).sum((2, 4), dtype=np.int16)
