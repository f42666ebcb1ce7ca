"""Prepared footage as training reads it: clips by number, as pixels and samples with their words."""

from __future__ import annotations

import hashlib
import json
import re
from array import array
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from videopoet.data import prepare
from videopoet.data.clips import Config
from videopoet.data.shards import Shards
from videopoet.errors import ConfigError, DataError

MOST_WORDS = 8000
"""Words that a vocabulary made of captions has; the rarer ones are unknown to it."""
_PIECE = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True)
class Scene:
    """A stretch of a prepared clip."""

    number: int
    """Of the clip, in the lists of its dataset."""
    first_frame: int
    caption: str
    """Empty if there is none."""
    heard: str
    """sound, silence or none"""


@dataclass(frozen=True)
class Footage:
    """A batch of clips."""

    scenes: tuple[Scene, ...]
    video: Tensor
    """(B, 3, T, H, W) in [-1, 1]"""
    audio: Tensor | None
    """(B, 1, S) in [-1, 1]"""
    masks: list[Tensor | None]
    """bool (T, H, W) of each clip: what may be hidden; None where nothing is said"""
    references: list[Tensor | None]
    """(3, T, H, W) in [-1, 1] of each clip: its structure"""


class Dataset:
    """A folder written by `prepare`, opened for reading.

    Raises:
        DataError: It is none, it is unfinished, or a file of it is missing or of another size.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        path = self.folder / prepare.DATASET
        if not path.is_file():
            what = "its preparation was not finished" if (self.folder / prepare.PARTS).is_dir() else "it is none"
            raise DataError(
                f"'{folder}' holds no {prepare.DATASET}, so {what}; a folder written by `videopoet prepare` is needed; "
                "run it to the end",
                code="data_unprepared",
            )
        try:
            described = json.loads(path.read_text(encoding="utf-8"))
            if (described["format"], described["version"]) != (prepare.FORMAT, prepare.VERSION):
                raise DataError(
                    f"'{path}' is of version {described['version']} of '{described['format']}'; this program reads "
                    f"version {prepare.VERSION} of '{prepare.FORMAT}'; prepare the footage again",
                    code="data_version",
                )
            self.config, self.counts = Config.from_dict(described["config"]), described["counts"]
            lists, shards = described["lists"], described["shards"]
        except (ValueError, KeyError, TypeError, ConfigError) as error:
            raise DataError(
                f"'{path}' is not what `videopoet prepare` writes ({type(error).__name__}); prepare the footage again",
                code="data_corrupt",
            ) from None
        self.shards = Shards(self.folder, shards)
        self.shards.check_sizes()
        self._index(lists[prepare.CLIPS]["sha256"])

    def _index(self, expected: str) -> None:
        """Remember where the row of each clip begins, eight bytes a clip, and which clips are for what."""
        self._path = self.folder / prepare.CLIPS
        self._offsets = array("Q")
        self.numbers: dict[str, array[int]] = {"train": array("L"), "validation": array("L")}
        """Of the clips of each split."""
        digest, offset = hashlib.sha256(), 0
        try:
            with self._path.open("rb") as file:
                for number, line in enumerate(file):
                    digest.update(line)
                    self._offsets.append(offset)
                    offset += len(line)
                    self.numbers[json.loads(line)["split"]].append(number)
        except (OSError, ValueError, KeyError, TypeError):
            expected = "readable"
        if digest.hexdigest() != expected:
            raise DataError(
                f"'{self._path.name}' is not the list that was written with {prepare.DATASET}; preparation was "
                "interrupted, or the list was changed; run `videopoet prepare` again",
                code="data_corrupt",
            )

    def __len__(self) -> int:
        return len(self._offsets)

    def row(self, number: int) -> dict[str, Any]:
        """What the list says of a clip."""
        with self._path.open("rb") as file:
            file.seek(self._offsets[number])
            return json.loads(file.readline())

    def tensor(self, row: dict[str, Any], name: str) -> Tensor:
        """`video`, `audio`, `reference` or `mask` of the clip of a row."""
        return self.shards.row(row["shard"], name, row["row"])

    def words(self) -> list[str]:
        """The words of the captions that are trained on, most frequent first, at most `MOST_WORDS`."""
        counts: Counter[str] = Counter()
        for number in self.numbers["train"]:
            counts.update(_PIECE.findall((self.row(number)["caption"] or "").lower()))
        return [word for word, _ in counts.most_common(MOST_WORDS)]
