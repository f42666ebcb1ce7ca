"""Which files a folder or a manifest names, with what is said of each; every mistake in it is found before any work.

A `.txt` of the same name beside a file is its caption. A manifest is a JSONL or CSV file whose rows name files beside
it.
"""

from __future__ import annotations

import csv
import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn, TextIO

from videopoet.data.combine import DATASET, FORMAT
from videopoet.data.scratch import Scratch
from videopoet.data.sources import (
    EXTENSIONS,
    FILES,
    KINDS,
    LONGEST_CAPTION,
    OTHERS,
    Kind,
    Source,
    clean_caption,
    kind_of,
)
from videopoet.errors import DataError

COLUMNS = ("video", "audio", "caption", "reference_video", "video_mask")
ALIASES = {"media_path": "video", "ref_media_path": "reference_video"}


class Listing:
    """The sources of a folder or a manifest, in the order of their ids, kept on disk and not in memory.

    Args:
        footage: The folder, or the `.jsonl` or `.csv` file.
        captions: A `.csv` or `.jsonl` file with the columns `video` and `caption`, or a `.txt` file with one line for
            each file, in the order of their names. It goes before what stands in a manifest or beside a file.
        allow_outside: Take files that lie outside the folder, or outside the manifest's.
        kinds: What is taken; files of the other kinds are left alone.
        leave_out: A folder that is not looked into. Nor are those below the footage's that hold a dataset.

    Raises:
        DataError: There is nothing to read, or a row is wrong; the message says how many are, and names the first.
    """

    def __init__(
        self,
        footage: str | Path,
        captions: str | Path | None = None,
        *,
        allow_outside: bool = False,
        kinds: Sequence[Kind] = KINDS,
        leave_out: Path | None = None,
    ):
        self.leave_out = leave_out
        self.footage, self.allow_outside, self.kinds = Path(footage), allow_outside, kinds
        self.num_others = 0
        """Files of the folder or manifest that are left alone; texts do not count."""
        self._database = Scratch("CREATE TABLE sources (id TEXT PRIMARY KEY, source TEXT, captioned INT) WITHOUT ROWID")
        try:
            if not self.footage.exists():
                raise DataError(
                    f"there is no '{footage}'; a folder of footage, or a .jsonl or .csv that lists it, is needed; "
                    "check the path",
                    code="data_unreadable",
                )
            if self.footage.is_dir():
                self.root = self.footage.resolve()
                self._add_folder()
            else:
                self.root = self.footage.resolve().parent
                self._add_manifest()
            if captions is not None:
                self._add_captions(Path(captions))
        except BaseException:
            self.close()
            raise

    def __len__(self) -> int:
        return self._database.execute("SELECT COUNT(*) FROM sources").fetchone()[0]

    def __iter__(self) -> Iterator[Source]:
        for (text,) in self._database.execute("SELECT source FROM sources ORDER BY id"):
            yield Source(**json.loads(text))

    def __contains__(self, source_id: str) -> bool:
        return self._database.execute("SELECT 1 FROM sources WHERE id = ?", (source_id,)).fetchone() is not None

    def close(self) -> None:
        self._database.close()

    def __enter__(self) -> Listing:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _add_folder(self) -> None:
        problems = Problems(self.footage)
        for folder, names in self._walk(problems):
            for name in names:
                path = Path(folder, name)
                if path.is_symlink() and not path.exists() and path.suffix.lower() not in OTHERS:
                    problems.add("data_missing", f"'{self._id(path)}' is a link to nothing that is there")
                if not path.is_file():
                    continue
                kind = kind_of(path)
                if kind is None or kind not in self.kinds:
                    self.num_others += path.suffix.lower() != ".txt"
                    continue
                if path.is_symlink() and self._is_outside(path):
                    problems.add("data_outside", f"'{self._id(path)}' is a link to a file outside the folder")
                    continue
                if not _is_text(self._id(path)):
                    problems.add("data_encoding", f"the name '{self._id(path)}' is not UTF-8")
                    continue
                caption = self._sidecar(path, problems)
                self._insert(Source(self._id(path), str(path), None, caption, caption and "sidecar", kind=kind))
        problems.check("files")
        if len(self) == 0:
            looked_for = sorted(extension for extension, kind in EXTENSIONS.items() if kind in self.kinds)
            raise DataError(
                f"'{self.footage}' holds no {_either(self.kinds)} ({self.num_others} other files); "
                f"{', '.join(looked_for)} are looked for, in folders below it too; name the folder of your footage",
                code="data_empty",
            )

    def _walk(self, problems: Problems) -> Iterator[tuple[str, list[str]]]:
        """Folders with the names of what is in them, and is not hidden: those below the root, then those linked to."""
        tops, walked = [self.root], set()
        for top in tops:  # which grow on the way
            for folder, subfolders, names in os.walk(top, onerror=_unreadable):
                found = os.stat(folder)
                identity = found.st_dev, found.st_ino
                if top != self.root and identity in walked:
                    subfolders.clear()
                    continue
                walked.add(identity)
                below = [Path(folder, name) for name in sorted(subfolders) if not name.startswith(".")]
                below = [path for path in below if not self._is_left_out(path)]
                for path in filter(Path.is_symlink, below):
                    if self._is_outside(path):
                        problems.add("data_outside", f"'{self._id(path)}' is a link to a folder outside the folder")
                    else:
                        tops.append(path)
                subfolders[:] = [path.name for path in below if not path.is_symlink()]
                yield folder, [name for name in names if not name.startswith(".")]

    def _add_manifest(self) -> None:
        problems = Problems(self.footage)
        count = 0
        for number, values in rows(self.footage, COLUMNS, ALIASES):
            count += 1
            found: dict[str, Any] = {}
            for name in FILES:
                if values.get(name):
                    found[name] = self._resolve(values[name], number, name, problems)
            if not values.get("video"):
                problems.add("data_missing", f"row {number} has no video")
            if not found.get("video"):
                continue
            # What is like nothing known is read as a clip, and rejected with the reason.
            kind = kind_of(Path(found["video"])) or "clip"
            if kind not in self.kinds:
                self.num_others += 1
                continue
            if kind != "clip" and len(found) > 1:
                beside = " and ".join(name for name in found if name != "video")
                problems.add("data_columns", f"row {number} names {beside} for a {kind}, and only clips take that")
                continue
            caption = clean_caption(values.get("caption"))
            source = Source(
                self._id(Path(found["video"])), caption=caption, caption_from=caption and "manifest", kind=kind, **found
            )
            if not self._insert(source):
                problems.add("data_duplicate", f"row {number} names '{source.id}' again")
        problems.check("rows")
        if count == 0:
            raise DataError(
                f"'{self.footage.name}' has no rows; a row for each file is needed; write {', '.join(COLUMNS)} into it",
                code="data_empty",
            )
        if len(self) == 0:
            raise DataError(
                f"'{self.footage.name}' names no {_either(self.kinds)} ({self.num_others} other files); at least one "
                "is needed; take more with --kind",
                code="data_empty",
            )

    def _add_captions(self, path: Path) -> None:
        if path.suffix.lower() == ".txt":
            self._add_caption_lines(path)
            return
        problems = Problems(path)
        for number, values in rows(path, ("video", "caption"), ALIASES):
            name = str(values.get("video") or "").replace("\\", "/").removeprefix("./")
            if not _is_text(name):
                problems.add("data_encoding", f"row {number} names '{name}', which is not UTF-8")
                continue
            found = self._database.execute("SELECT source, captioned FROM sources WHERE id = ?", (name,)).fetchone()
            if found is None:
                problems.add("data_caption_unknown", f"row {number} is about '{name}', which is no file of the footage")
            elif found[1]:
                problems.add("data_duplicate", f"row {number} names '{name}' again")
            else:
                self._set_caption(found[0], values.get("caption"))
        (missing,) = self._database.execute("SELECT COUNT(*) FROM sources WHERE captioned = 0").fetchone()
        if missing:
            query = "SELECT id FROM sources WHERE captioned = 0 ORDER BY id LIMIT 3"
            names = ", ".join(f"'{name}'" for (name,) in self._database.execute(query))
            problems.add(
                "data_caption_missing",
                f"{missing} of {len(self)} files have no row (such as {names}); an empty caption leaves a file without",
            )
        problems.check("rows")

    def _add_caption_lines(self, path: Path) -> None:
        with _opened(path) as file:
            num_lines = sum(1 for _ in file)
        if num_lines != len(self):
            raise DataError(
                f"'{path.name}' has {num_lines} lines and the footage {len(self)} files; one line for each file, in "
                "the order of names, is needed; an empty line is no caption; --kind clip takes clips alone",
                code="data_caption_count",
            )
        self._database.execute("CREATE TEMP TABLE numbered AS SELECT id FROM sources ORDER BY id")
        query = "SELECT source FROM sources JOIN numbered USING (id) WHERE numbered.rowid = ?"
        with _opened(path) as file:
            for number, caption in enumerate(file, start=1):
                self._set_caption(self._database.execute(query, (number,)).fetchone()[0], caption)

    def _set_caption(self, text: str, caption: str | None) -> None:
        values = json.loads(text)
        values["caption"] = clean_caption(caption)
        values["caption_from"] = values["caption"] and "captions"
        self._database.execute(
            "UPDATE sources SET source = ?, captioned = 1 WHERE id = ?", (json.dumps(values), values["id"])
        )

    def _insert(self, source: Source) -> bool:
        try:
            self._database.execute("INSERT INTO sources VALUES (?, ?, 0)", (source.id, json.dumps(asdict(source))))
        except sqlite3.IntegrityError:
            return False
        return True

    def _resolve(self, name: Any, number: int, column: str, problems: Problems) -> str | None:
        if not isinstance(name, str) or "\0" in name or not _is_text(name):
            problems.add("data_columns", f"row {number} has a {column} that is no path")
            return None
        path = self.root / name
        if self._is_outside(path):
            problems.add("data_outside", f"row {number} names a {column} outside the manifest's folder")
            return None
        if not path.is_file():
            problems.add("data_missing", f"row {number} names '{name}' as {column}, and there is no such file")
            return None
        return os.path.abspath(path)

    def _is_outside(self, path: Path) -> bool:
        return not self.allow_outside and not path.resolve().is_relative_to(self.root)

    def _is_left_out(self, path: Path) -> bool:
        """Whether a folder holds a dataset, or is to: the sheets of pictures in it are no footage."""
        if self.leave_out is not None and self.leave_out.exists() and self.leave_out.samefile(path):
            return True
        try:
            with (path / DATASET).open(encoding="utf-8") as file:
                return FORMAT in file.read(100)
        except (OSError, ValueError):
            return False

    def _id(self, path: Path) -> str:
        return Path(os.path.relpath(path, self.root)).as_posix()

    def _sidecar(self, path: Path, problems: Problems) -> str | None:
        beside = path.with_suffix(".txt")
        if not beside.is_file():
            return None
        try:
            with _opened(beside) as file:
                return clean_caption(file.read(4 * LONGEST_CAPTION))
        except DataError:
            problems.add("data_encoding", f"'{self._id(beside)}' is not UTF-8 text")
            return None


class Problems:
    """What is wrong with a list of files: all are counted, the first few are told."""

    def __init__(self, path: Path):
        self.path = path
        self.count = 0
        self.code = ""
        self.first: list[str] = []

    def add(self, code: str, text: str) -> None:
        text = text if _is_text(text) else ascii(text)[1:-1]
        self.count += 1
        self.code = self.code or code
        if len(self.first) < 3:
            self.first.append(text)

    def check(self, what: str) -> None:
        """Raise what was found, if anything was."""
        if not self.count:
            return
        remedy = "; files from elsewhere take --allow-outside" if self.code == "data_outside" else ""
        more = f" and {self.count - len(self.first)} more" if self.count > len(self.first) else ""
        raise DataError(
            f"'{self.path.name}' has {self.count} {what} that cannot be used: {'; '.join(self.first)}{more}; correct "
            f"them{remedy}",
            code=self.code,
        )


def rows(path: Path, columns: tuple[str, ...], aliases: dict[str, str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a JSONL or CSV file with their numbers, counted from 1 without a header.

    Raises:
        DataError: The file is missing or of another kind, has a column that is not known, or no column `video`.
    """
    if path.suffix.lower() not in (".jsonl", ".csv"):
        raise DataError(
            f"'{path.name}' is no folder, and '{path.suffix}' no kind of list that is read; a folder, .jsonl or .csv "
            "fits; check the path",
            code="data_type",
        )
    number = 0
    try:
        for number, values in enumerate(_read_rows(path), start=1):
            named = {aliases.get(name, name): value for name, value in values.items() if name}
            unknown = [name for name in named if name not in columns]
            if unknown or "video" not in named:
                what = f"an unknown column '{unknown[0]}'" if unknown else "no column 'video'"
                raise DataError(
                    f"'{path.name}' has {what} (row {number}); the columns are {', '.join(columns)}; rename or "
                    "remove it",
                    code="data_columns",
                )
            yield number, named
    except (ValueError, csv.Error, RecursionError) as error:
        raise DataError(
            f"'{path.name}' cannot be read after row {number} ({error}); each row is one JSON object or one line of "
            "CSV; correct it",
            code="data_syntax",
        ) from None


def _read_rows(path: Path) -> Iterator[dict[str, Any]]:
    with _opened(path) as file:
        if path.suffix.lower() == ".csv":
            yield from csv.DictReader(file, restkey="more values than columns")
            return
        for line in filter(str.strip, file):
            values = json.loads(line)
            if not isinstance(values, dict):
                raise ValueError("a line that is no object")
            yield values


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    """A file of text, whose faults become ours."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield file
    except UnicodeDecodeError:
        raise DataError(f"'{path.name}' is not UTF-8 text; save it as UTF-8", code="data_encoding") from None
    except OSError as error:
        _unreadable(error)


def _is_text(name: str) -> bool:
    """Whether a name of a file is text; on Linux it may be any bytes."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _either(kinds: Sequence[Kind]) -> str:
    """The kinds in words, such as "clip, picture or sound"."""
    *others, last = kinds
    return f"{', '.join(others)} or {last}" if others else last


def _unreadable(error: OSError) -> NoReturn:
    name = Path(error.filename).name if error.filename else "the footage"
    raise DataError(
        f"'{name}' cannot be read ({(error.strerror or str(error)).lower()}); a readable folder or list is needed; "
        "check its path and its rights",
        code="data_unreadable",
    ) from None
