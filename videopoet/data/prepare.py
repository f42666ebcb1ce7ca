"""A folder of footage becomes a dataset: `prepare`.

The sources are taken in parts of a few, each written to a folder of its own that is whole or absent and is named after
what went into it. So a run that was killed goes on where it was, a second run finds everything done, and new footage
costs only the parts it falls into. What concerns all parts comes at the end, from disk to disk: duplicates, the split
into training and validation, the lists of clips and rejects, and last `dataset.json`: without it there is no dataset.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

from videopoet import checkpoint, runtime
from videopoet.data.captioner import Captioner
from videopoet.data.clips import Clip, Config, Cutter
from videopoet.data.cluster import Engine, run_on_ray
from videopoet.data.duplicates import Duplicates
from videopoet.data.manifest import Listing, Source
from videopoet.data.shards import Shards, ShardWriter, read_lines, write_lines
from videopoet.errors import CheckpointError, ConfigError, DataError
from videopoet.media.nursery import Nursery

FORMAT, VERSION = "videopoet dataset", 1
DATASET, CLIPS, REJECTS, SOURCES, PARTS = "dataset.json", "clips.jsonl", "rejects.jsonl", "sources.jsonl", "parts"
MEAN_PART, LARGEST_PART = 16, 64
"""Sources in a part."""
MOST_THREADS = 4
"""Of one decoder."""


@dataclass(frozen=True)
class Part:
    """A few sources that are prepared together."""

    name: str
    sources: tuple[Source, ...]


def prepare(
    footage: str | Path,
    output: str | Path,
    config: Config | None = None,
    *,
    captions: str | Path | None = None,
    allow_outside: bool = False,
    workers: int | None = None,
    engine: Engine = "local",
    progress: bool = False,
) -> dict[str, Any]:
    """Cut, check and store footage for training; returns the counts, which also stand in `dataset.json`.

    Args:
        footage: A folder of clips, or a manifest; see `manifest.Listing`.
        output: The folder of the dataset. What an earlier run finished there is used again.
        config: What clips are made.
        captions: Captions for the clips; see `manifest.Listing`.
        allow_outside: Take files outside the footage's folder.
        workers: Parts prepared at a time; None is one for each processor.
        engine: `local` is this machine, `ray` a cluster that shares storage; both write the same to the byte.
        progress: Show a bar on a terminal.

    Raises:
        DataError: The footage cannot be listed, or nothing of it can be trained on.
        ConfigError: The captioner cannot be loaded, there is no such cluster, or the output holds other clips.
        OSError: The disk is full, or the output cannot be written.
    """
    config, output = config or Config(), Path(output)
    _check_kept(output, config)
    with Listing(footage, captions, allow_outside=allow_outside) as listing:
        total = len(listing)
        names: list[str] = []

        def named() -> Iterator[Part]:
            for part in parts(listing, config):
                names.append(part.name)
                yield part

        if engine == "ray":
            done = _on_ray(config, output / PARTS, named(), next(iter(listing)), workers)
        else:
            done = _here(config, output / PARTS, named(), total, workers or runtime.num_processors())
        with runtime.progress(total, "footage", progress) as advance:
            for num_sources in done:
                advance(num_sources)
        counts = _combine(output, names, config, total, listing.num_others)
    for folder in (output / PARTS).iterdir():
        if folder.name not in names:
            shutil.rmtree(folder)
    if counts["clips"]["kept"] == 0:
        raise DataError(
            f"none of {total} sources gave a clip to train on; '{output / REJECTS}' says why for each; correct them, "
            "or ask for shorter clips with --seconds",
            code="data_empty",
        )
    return counts


def parts(sources: Iterable[Source], config: Config) -> Iterator[Part]:
    """Sources in parts of about sixteen; where a part ends depends on the names around it alone."""
    waiting: list[Source] = []
    for source in sources:
        waiting.append(source)
        ends = hashlib.sha256(source.id.encode()).digest()[0] % MEAN_PART == 0
        if ends or len(waiting) == LARGEST_PART:
            yield _part(waiting, config)
            waiting = []
    if waiting:
        yield _part(waiting, config)


def _check_kept(output: Path, config: Config) -> None:
    """Refuse to put clips of one shape in the place of a finished dataset of another."""
    if not (output / DATASET).exists():
        return
    try:
        there = Config.from_dict(checkpoint.read_json(output / DATASET)["config"])
    except (CheckpointError, ConfigError, KeyError, TypeError):
        return  # broken, or of another version: it is made anew
    if there.in_words != config.in_words:
        raise ConfigError(
            f"'{output}' holds a dataset of {there.in_words}, asked is {config.in_words}, which would take its place; "
            "choose another --output, or remove that folder first",
            code="output_exists",
        )


class PreparePart:
    """The stage of preparing: called with a part, it makes that part's folder and returns the number of its sources.

    Args:
        config: What clips are made.
        folder: Where the folders of parts are.
        threads: Of a decoder.

    Raises:
        ConfigError: The captioner cannot be loaded.
    """

    def __init__(self, config: Config, folder: Path, threads: int):
        self.config, self.folder, self.threads = config, folder, threads
        self.captioner = Captioner.load(config.captioner) if config.captioner else None
        self.stopped = threading.Event()
        """Once it is set, work that has begun ends."""
        self.nursery = Nursery()

    def __call__(self, part: Part) -> int:
        place = self.folder / part.name
        prepare_part(part, self.config, place, self.captioner, self.stopped, self.threads, self.nursery)
        return len(part.sources)


def prepare_part(
    part: Part,
    config: Config,
    folder: Path,
    captioner: Captioner | None = None,
    stopped: threading.Event | None = None,
    threads: int | None = None,
    nursery: Nursery | None = None,
) -> None:
    """Prepare the sources of a part into a folder, unless it is there and whole; `threads` are those of a decoder."""
    if folder.exists() and checkpoint.why_invalid(folder) is None:
        return
    with checkpoint.atomic_folder(folder) as place:
        writer, rejects, read = ShardWriter(place, config.num_samples), [], []
        for source in part.sources:
            cutter, found = Cutter(source, config, threads, nursery), Counter()
            for piece in cutter:
                if stopped is not None and stopped.is_set():
                    raise KeyboardInterrupt
                if isinstance(piece, Clip):
                    writer.add(piece, _said(source, piece, config, captioner))
                else:
                    rejects.append({"source": source.id, **asdict(piece)})
                found[type(piece).__name__] += 1
            read.append(
                {"source": source.id, "seconds": cutter.seconds, "clips": found["Clip"], "rejects": found["Reject"]}
            )
        writer.close()
        in_order = itemgetter("source", "start")
        write_lines(place / CLIPS, sorted(writer.rows, key=in_order))
        write_lines(place / REJECTS, sorted(rejects, key=in_order))
        write_lines(place / SOURCES, read)


def _part(sources: list[Source], config: Config) -> Part:
    """A part, with a name that stands for all that its content depends on."""
    files = [[(os.stat(path).st_size, os.stat(path).st_mtime_ns) for path in source.files] for source in sources]
    settings = config.to_dict()
    del settings["validation"]  # The split comes at the end, and changes no part.
    text = json.dumps([VERSION, settings, [asdict(source) for source in sources], files], sort_keys=True)
    return Part(hashlib.sha256(text.encode()).hexdigest()[:16], tuple(sources))


def _on_ray(config: Config, folder: Path, waiting: Iterator[Part], some: Source, workers: int | None) -> Iterator[int]:
    """Prepare parts on a cluster, and give what the stage returns for each."""
    # A worker has one processor, and so has its decoder.
    stage = partial(PreparePart, config, folder.absolute(), 1)
    on_gpus = config.captioner is not None
    return run_on_ray(stage, waiting, output=folder, source=Path(some.video), workers=workers, on_gpus=on_gpus)


def _here(config: Config, folder: Path, waiting: Iterator[Part], num_sources: int, workers: int) -> Iterator[int]:
    """Prepare parts on this machine, several at a time, and give what the stage returns for each, in order."""
    # Files that are decoded at a time share the processors; more threads than those cost more than they give.
    at_once = min(workers, -(-num_sources // MEAN_PART))
    stage = PreparePart(config, folder, min(MOST_THREADS, max(1, runtime.num_processors() // at_once)))
    running: deque[Future[int]] = deque()
    # Threads: the work is done by the decoders, each a process of its own.
    with ThreadPoolExecutor(workers) as pool:
        try:
            for part in waiting:
                running.append(pool.submit(stage, part))
                if len(running) > workers:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            stage.stopped.set()
            pool.shutdown(wait=True, cancel_futures=True)
            stage.nursery.close()


def _said(source: Source, clip: Clip, config: Config, captioner: Captioner | None) -> dict[str, Any]:
    """What is said of a clip in the lists."""
    caption, origin = source.caption, source.caption_from
    if caption is None and captioner is not None and clip.picture is not None:
        caption = captioner.describe(clip.picture)
        origin = caption and "captioner"
    return {
        "id": f"{source.id}#{clip.start:.3f}",
        "source": source.id,
        "start": clip.start,
        "seconds": config.seconds,
        "caption": caption,
        "caption_from": origin,
        "height": clip.video.shape[2],
        "width": clip.video.shape[3],
        "heard": clip.heard,
        "motion": round(clip.motion, 5),
        "brightness": round(clip.brightness, 4),
        "faults": list(clip.faults),
    }


def _combine(output: Path, names: list[str], config: Config, num_sources: int, num_others: int) -> dict[str, Any]:
    """Write the lists of the dataset from those of its parts, and `dataset.json`."""
    rejected: Counter[str] = Counter()
    found, read_seconds = Counter(), 0.0
    kept_path = output / f".{CLIPS}.partial"
    split = Split(config.validation)
    duplicates, shards = Duplicates(), {}

    def write_rejects(path: Path) -> None:
        nonlocal read_seconds
        with path.open("w", encoding="utf-8") as file, kept_path.open("w", encoding="utf-8") as kept:
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
                rows = list(read_lines(part / REJECTS))
                for row in _without_duplicates(part, name, config, duplicates, rows):
                    split.add(row)
                    kept.write(json.dumps(row, ensure_ascii=False) + "\n")
                for row in rows:
                    rejected[row["code"]] += 1
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")
                for row in read_lines(part / SOURCES):
                    found["sources"] += 1
                    found["stretches"] += row["clips"] + row["rejects"]
                    read_seconds += row["seconds"]

    def write_clips(path: Path) -> None:
        with path.open("w", encoding="utf-8") as file:
            for row in split.rows(read_lines(kept_path)):
                file.write(json.dumps(row, ensure_ascii=False) + "\n")

    try:
        checkpoint.write_atomically(output / REJECTS, write_rejects)
        checkpoint.write_atomically(output / CLIPS, write_clips)
    finally:
        kept_path.unlink(missing_ok=True)
        duplicates.close()
    kept = split.counts
    assert found["sources"] == num_sources, "a source was lost"
    assert found["stretches"] == kept["clips"] + rejected.total(), "a clip was lost"
    counts = {
        "sources": {"found": num_sources, "kept": kept["sources"], "rejected": num_sources - kept["sources"]},
        "clips": {"found": found["stretches"], "kept": kept["clips"], "rejected": rejected.total()},
        "rejects": dict(sorted(rejected.items())),
        "split": {name: kept[name] for name in ("train", "validation")},
        "sizes": {name: number for name, number in sorted(kept.items()) if name[0].isdigit()},
        "heard": {name: kept[name] for name in ("sound", "silence", "none")},
        "captioned": kept["captioned"],
        "seconds": {"found": round(read_seconds, 3), "kept": round(kept["clips"] * config.seconds, 3)},
        "other_files": num_others,
        "bytes": sum(entry["bytes"] for entry in shards.values()),
    }
    lists = {name: _entry(output / name) for name in (CLIPS, REJECTS)}
    described = {"format": FORMAT, "version": VERSION, "config": config.to_dict(), "counts": counts}
    checkpoint.write_json(output / DATASET, {**described, "lists": lists, "shards": shards})
    return counts


def _without_duplicates(
    part: Path, name: str, config: Config, duplicates: Duplicates, rejects: list[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """The clips of a part, in order, with the places of their shards; those seen before go to the rejects."""
    reader = Shards(part)
    for row in read_lines(part / CLIPS):
        signature = reader.row(row["shard"], "signature", row["row"])
        other = duplicates.find(signature)
        row["shard"] = f"{PARTS}/{name}/{row['shard']}"
        if other is None:
            duplicates.add(row["id"], signature)
        elif "duplicate" in config.keep:
            row["faults"].append("duplicate")
        else:
            message = f"it shows the same as '{other}'; each clip is learnt once; --keep duplicate keeps such clips"
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
