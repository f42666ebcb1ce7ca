"""A film in the making on disk, so that one that was interrupted is gone on with.

What is kept are rows of tokens: they take most of the time, and a minute of film is less than a megabyte of them.
Pictures and sound come of them again, a window at a time, and so does the film's file, whose encoders cannot begin in
the middle of it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from videopoet import checkpoint, locks
from videopoet.errors import CheckpointError, TaskError, shown
from videopoet.generation.decoders.base import Decoder
from videopoet.generation.sampling import Sampling
from videopoet.models.language_model import LanguageModel
from videopoet.sequence.layout import Row
from videopoet.sequence.vocabulary import Vocabulary

FILM = "film.json"
_ROWS = re.compile(r"\d{6}\.safetensors")
_PARTIAL = re.compile(r"\..*\.partial\.\w+")
_FINISHED = re.compile(r"film\.\w+")
"""The film's file before it is moved to its place; `FILM` is such a name too."""


class FilmFolder:
    """Where a film in the making is kept, for as long as a `with` block: one process at a time has it.

    At the block's end the folder is removed, if the film is `done` or nothing of it was made.

    Args:
        path: The folder; made if it is not there.
        decides: All that decides the film's tokens, as values of JSON.

    Raises:
        TaskError: The folder holds another film or something else, or another process has it.
        OSError: It cannot be written.
    """

    def __init__(self, path: str | Path, decides: dict[str, Any]):
        self.path, self.done = Path(path), False
        self.decides: dict[str, Any] = json.loads(json.dumps(decides))

    def __enter__(self) -> FilmFolder:
        self.path.mkdir(parents=True, exist_ok=True)
        self._handle = _held(self.path)
        try:
            self._begin()
        except BaseException:
            os.close(self._handle)
            raise
        return self

    def __exit__(self, *error: Any) -> None:
        try:
            if self.done or not self._found(_ROWS):
                # The file that says whose the rows are goes last: a removal may be interrupted too.
                files = [*self._found(_PARTIAL), *self._found(_ROWS), *self._found(_FINISHED)]
                for file in [*(file for file in files if file.name != FILM), self.path / FILM]:
                    file.unlink(missing_ok=True)
                with contextlib.suppress(OSError):  # somebody has put something else there
                    self.path.rmdir()
        finally:
            os.close(self._handle)

    def filling(self, decoder: Decoder) -> Decoder:
        """The decoder, which from now on fills rows as it did before where those are kept, and keeps the others."""
        return _KeptRows(decoder, self.path)

    def _begin(self) -> None:
        """Refuse what is not ours, put away what was half written, and say whose the folder is."""
        ours = {file for pattern in (_ROWS, _PARTIAL, _FINISHED) for file in self._found(pattern)}
        if other := sorted(set(self.path.iterdir()) - ours):
            raise TaskError(
                f"'{self.path}' is where this film would be kept while it is made, and holds '{other[0].name}', which "
                "is no part of a film; an empty or new folder fits; move it away, or choose another output",
                code="film_folder_used",
            )
        if self._found(_ROWS) and (difference := self._difference()):
            raise TaskError(
                f"'{self.path}' holds an unfinished film and another one is asked for: {difference}; ask for the same "
                "one to go on with it, or remove that folder to begin anew",
                code="film_changed",
            )
        for file in self._found(_PARTIAL):
            file.unlink()
        checkpoint.write_json(self.path / FILM, self.decides)

    def _difference(self) -> str | None:
        """What of the film that is kept here is not as asked for, in words; None where it is the same one."""
        kept = _read(self.path)
        for name in [*self.decides, *kept]:
            before, now = kept.get(name), self.decides.get(name)
            if before != now:
                return f"{name} was {_quoted(before)} and is {_quoted(now)}"
        return None

    def _found(self, pattern: re.Pattern[str]) -> list[Path]:
        return sorted(file for file in self.path.iterdir() if pattern.fullmatch(file.name))


def kept_seed(path: str | Path) -> int | None:
    """The seed of the unfinished film that a folder holds, or None where there is none."""
    seed = _read(Path(path)).get("seed")
    return seed if isinstance(seed, int) else None


class _KeptRows(Decoder):
    """Rows in the order in which a film asks for them: as they are kept, or filled in by a decoder and then kept."""

    def __init__(self, decoder: Decoder, folder: Path):
        self.decoder, self.folder, self.exact = decoder, folder, decoder.exact
        self._num_asked = 0

    def decode(
        self,
        model: LanguageModel,
        vocabulary: Vocabulary,
        rows: Sequence[Row],
        against: Sequence[Row],
        sampling: Sampling,
        generators: Sequence[Generator],
        on_step: Callable[[], None] = lambda: None,
        on_settled: Callable[[Tensor, Sequence[int]], None] | None = None,
    ) -> list[Row]:
        file = self.folder / f"{self._num_asked:06}.safetensors"
        self._num_asked += 1
        if (kept := _rows_of(file, rows)) is not None:
            for _ in range(int(rows[0].to_generate.sum())):
                on_step()
            return kept
        made = self.decoder.decode(model, vocabulary, rows, against, sampling, generators, on_step, on_settled)
        checkpoint.save_tensors(file, {str(number): row.tokens.int() for number, row in enumerate(made)})
        return made


def _rows_of(file: Path, rows: Sequence[Row]) -> list[Row] | None:
    """The rows with the tokens that are kept of them, or None where there are none that fit."""
    if not file.is_file():
        return None
    try:
        kept = checkpoint.load_tensors(file)
    except CheckpointError:
        return None  # broken since it was written: the rows are made again, and take its place
    filled = []
    for number, row in enumerate(rows):
        tokens = kept.get(str(number), torch.empty(0)).long()
        if tokens.shape != row.tokens.shape:
            return None
        allowed = torch.where(row.to_generate[:, None], row.ranges, torch.stack([row.tokens, row.tokens + 1], dim=1))
        if not ((allowed[:, 0] <= tokens) & (tokens < allowed[:, 1])).all():
            return None
        filled.append(row.filled(tokens.to(row.tokens.device)))
    return filled


def _held(folder: Path) -> int:
    """A handle that holds the folder until it is closed."""
    try:
        return locks.hold(folder)
    except (BlockingIOError, FileNotFoundError):
        raise TaskError(
            f"another process makes the film that is kept in '{folder}'; one at a time can; wait for it, or choose "
            "another output or seed",
            code="film_in_use",
        ) from None


def _read(folder: Path) -> dict[str, Any]:
    """What is said of the film in a folder; nothing, where that cannot be read."""
    try:
        values = checkpoint.read_json(folder / FILM)
    except CheckpointError:
        return {}
    return values if isinstance(values, dict) else {}


def _quoted(value: Any) -> str:
    return "not given" if value is None else shown(value)
