"""The lists of a dataset, from those of its parts: duplicates, the split into training and validation, `dataset.json`.

All of it goes from disk to disk, in memory that does not grow with the footage.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from videopoet import checkpoint
from videopoet.data.clips import Config
from videopoet.data.duplicates import Duplicates
from videopoet.data.shards import Shards, read_lines
from videopoet.data.sources import KINDS, Kind

FORMAT, VERSION = "videopoet dataset", 1
DATASET, CLIPS, REJECTS, SOURCES, PARTS = "dataset.json", "clips.jsonl", "rejects.jsonl", "sources.jsonl", "parts"
LISTS: dict[Kind, str] = {"clip": CLIPS, "picture": "pictures.jsonl", "sound": "sounds.jsonl"}
"""Of what is kept; one of pictures or sounds is there only if there are any."""


def combine(output: Path, names: list[str], config: Config, num_sources: int, num_others: int) -> dict[str, Any]:
    """Write the lists of the dataset from those of its parts, and `dataset.json`."""
    found: dict[Kind, Found] = {kind: Found(config.validation) for kind in KINDS}
    kept_paths = {kind: output / f".{LISTS[kind]}.partial" for kind in KINDS}
    shards: dict[str, Any] = {}

    def write_rejects(path: Path) -> None:
        with ExitStack() as stack:
            file = stack.enter_context(path.open("w", encoding="utf-8"))
            kept = {kind: stack.enter_context(kept_paths[kind].open("w", encoding="utf-8")) for kind in KINDS}
            for name in names:
                part = output / PARTS / name
                written = checkpoint.read_json(part / checkpoint.MANIFEST)
                shards.update(
                    {
                        f"{PARTS}/{name}/{shard}": entry
                        for shard, entry in written.items()
                        if shard.endswith(".safetensors")
                    }
                )
                rows, kinds = list(read_lines(part / REJECTS)), {}
                for row in read_lines(part / SOURCES):
                    kinds[row["source"]] = row.get("kind", "clip")
                    found[kinds[row["source"]]].read(row)
                for kind in KINDS:
                    for row in _without_duplicates(part, name, kind, config, found[kind].duplicates, rows):
                        found[kind].split.add(row)
                        kept[kind].write(json.dumps(row, ensure_ascii=False) + "\n")
                for row in rows:
                    found[kinds[row["source"]]].rejected[row["code"]] += 1
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def write_kept(kind: Kind, path: Path) -> None:
        with path.open("w", encoding="utf-8") as file:
            for row in found[kind].split.rows(read_lines(kept_paths[kind])):
                file.write(json.dumps(row, ensure_ascii=False) + "\n")

    listed = [REJECTS]
    try:
        checkpoint.write_atomically(output / REJECTS, write_rejects)
        for kind, name in LISTS.items():
            if kind == "clip" or found[kind].split.counts["clips"]:
                listed.append(name)
                checkpoint.write_atomically(output / name, partial(write_kept, kind))
            else:
                (output / name).unlink(missing_ok=True)
    finally:
        for kind in KINDS:
            kept_paths[kind].unlink(missing_ok=True)
            found[kind].duplicates.close()
    counts = _counts(found, config, num_sources)
    counts |= {"other_files": num_others, "bytes": sum(entry["bytes"] for entry in shards.values())}
    lists = {name: _entry(output / name) for name in listed}
    described = {"format": FORMAT, "version": VERSION, "config": config.to_dict(), "counts": counts}
    checkpoint.write_json(output / DATASET, {**described, "lists": lists, "shards": shards})
    return counts


class Found:
    """What is found of one kind, while the parts are put together."""

    def __init__(self, validation: float):
        self.split, self.duplicates = Split(validation), Duplicates()
        self.rejected: Counter[str] = Counter()
        self.num_sources, self.num_stretches, self.seconds = 0, 0, 0.0

    def read(self, row: dict[str, Any]) -> None:
        """Take notice of a source that was read."""
        self.num_sources += 1
        self.num_stretches += row["clips"] + row["rejects"]
        self.seconds += row["seconds"]

    @property
    def counts(self) -> dict[str, int]:
        kept = self.split.counts["clips"]
        assert self.num_stretches == kept + self.rejected.total(), "a clip was lost"
        return {"found": self.num_stretches, "kept": kept, "rejected": self.rejected.total()}


def _counts(found: dict[Kind, Found], config: Config, num_sources: int) -> dict[str, Any]:
    """The counts of a dataset: those of its clips, and of pictures and sounds apart."""
    assert sum(one.num_sources for one in found.values()) == num_sources, "a source was lost"
    kept_sources = sum(one.split.counts["sources"] for one in found.values())
    clips, kept = found["clip"], found["clip"].split.counts
    counts: dict[str, Any] = {
        "sources": {"found": num_sources, "kept": kept_sources, "rejected": num_sources - kept_sources},
        "clips": clips.counts,
        "rejects": dict(sorted(clips.rejected.items())),
        "split": _side_counts(clips),
        "sizes": {name: number for name, number in sorted(kept.items()) if name[0].isdigit()},
        "heard": {name: kept[name] for name in ("sound", "silence", "none")},
        "captioned": kept["captioned"],
        "seconds": {"found": round(clips.seconds, 3), "kept": round(kept["clips"] * config.seconds, 3)},
    }
    for name, one in (("pictures", found["picture"]), ("sounds", found["sound"])):
        counts[name] = {
            **one.counts,
            "rejects": dict(sorted(one.rejected.items())),
            "split": _side_counts(one),
            "captioned": one.split.counts["captioned"],
        }
    heard = round(counts["sounds"]["kept"] * config.seconds, 3)
    counts["sounds"]["seconds"] = {"found": round(found["sound"].seconds, 3), "kept": heard}
    return counts


def _side_counts(found: Found) -> dict[str, int]:
    return {name: found.split.counts[name] for name in ("train", "validation")}


def _without_duplicates(
    part: Path, name: str, kind: Kind, config: Config, duplicates: Duplicates, rejects: list[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """What a part has of a kind, in order, with the places of the shards; what was seen before goes to the rejects."""
    reader = Shards(part)
    if not (part / LISTS[kind]).exists():
        return
    for row in read_lines(part / LISTS[kind]):
        signature = reader.row(row["shard"], "signature", row["row"])
        other = duplicates.find(signature)
        row["shard"] = f"{PARTS}/{name}/{row['shard']}"
        if other is None:
            duplicates.add(row["id"], signature)
        elif "duplicate" in config.keep:
            row["faults"].append("duplicate")
        else:
            does = "sounds" if kind == "sound" else "shows"
            message = (
                f"it {does} the same as '{other}'; each {kind} is learnt once; --keep duplicate keeps such {kind}s"
            )
            stretch = {"start": row["start"], "seconds": row["seconds"]}
            rejects.append({"source": row["source"], "code": "duplicate", "message": message, **stretch})
            continue
        yield row


class Split:
    """Which clips are held out: those of a share of the sources, so that no source is on both sides.

    A source's side depends on its name alone, so that new footage does not move it; but where chance leaves a side
    without any, the nearest source goes there. Of a single source, the last clips in time are held out.
    """

    def __init__(self, share: float):
        self.share = share
        self.counts: Counter[str] = Counter()
        self._least: tuple[float, str] | None = None
        self._most: tuple[float, str] | None = None
        self._last: str | None = None

    def add(self, row: dict[str, Any]) -> None:
        """Take notice of a clip."""
        source, counts = row["source"], self.counts
        counts["clips"] += 1
        counts[f"{row['height']}x{row['width']}"] += 1
        counts[row["heard"]] += 1
        counts["captioned"] += row["caption"] is not None
        if source != self._last:
            self._last = source
            counts["sources"] += 1
            place = (_fraction(source), source)
            self._least = min(self._least or place, place)
            self._most = max(self._most or place, place)

    def rows(self, rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """The clips with their `split`, once all were noticed."""
        held_out = max(1, round(self.counts["clips"] * self.share)) if self.counts["clips"] > 1 else 0
        for number, row in enumerate(rows):
            if self.counts["sources"] > 1:
                is_validation = _fraction(row["source"]) < self.share
                if self._least is not None and row["source"] == self._least[1]:
                    is_validation = True
                elif self._most is not None and row["source"] == self._most[1]:
                    is_validation = False
            else:
                is_validation = number >= self.counts["clips"] - held_out
            row["split"] = "validation" if is_validation else "train"
            self.counts[row["split"]] += 1
            yield row


def _fraction(source: str) -> float:
    """A number in [0, 1) that is a source's own."""
    return int.from_bytes(hashlib.sha256(f"split {source}".encode()).digest()[:7], "big") / 2**56


def _entry(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
