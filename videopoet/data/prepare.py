"""A folder of footage becomes a dataset: `prepare`. Clips, pictures and sounds have a list each.

The sources are taken in parts of a few, each written to a folder of its own that is whole or absent and is named after
what went into it. So a run that was killed goes on where it was, a second run finds everything done, and new footage
costs only the parts it falls into. What concerns all parts comes at the end, from disk to disk: duplicates, the split
into training and validation, the lists of what is kept and of rejects, and last `dataset.json`: without it there is no
dataset.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

from videopoet import checkpoint, runtime
from videopoet.data.captioner import Captioner
from videopoet.data.clips import Clip, Config
from videopoet.data.cluster import Engine, run_on_ray
from videopoet.data.duplicates import Duplicates
from videopoet.data.manifest import KINDS, Kind, Listing, Source
from videopoet.data.pictures_and_sounds import opened
from videopoet.data.shards import Shards, ShardWriter, read_lines, write_lines
from videopoet.errors import CheckpointError, ConfigError, DataError
from videopoet.media.nursery import Nursery

FORMAT, VERSION = "videopoet dataset", 1
DATASET, CLIPS, REJECTS, SOURCES, PARTS = "dataset.json", "clips.jsonl", "rejects.jsonl", "sources.jsonl", "parts"
LISTS: dict[Kind, str] = {"clip": CLIPS, "picture": "pictures.jsonl", "sound": "sounds.jsonl"}
"""Of what is kept; one of pictures or sounds is there only if there are any."""
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
    kinds: Sequence[Kind] = KINDS,
    workers: int | None = None,
    engine: Engine = "local",
    progress: bool = False,
) -> dict[str, Any]:
    """Cut, check and store footage for training; returns the counts, which also stand in `dataset.json`.

    Args:
        footage: A folder of clips, pictures and sounds, or a manifest; see `manifest.Listing`.
        output: The folder of the dataset. What an earlier run finished there is used again.
        config: What clips are made.
        captions: Captions for them; see `manifest.Listing`.
        allow_outside: Take files outside the footage's folder.
        kinds: What is taken; other files are left alone.
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
    with Listing(footage, captions, allow_outside=allow_outside, kinds=kinds) as listing:
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
    if counts["sources"]["kept"] == 0:
        raise DataError(
            f"none of {total} sources gave anything to train on; '{output / REJECTS}' says why for each; correct them, "
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
            reader, found = opened(source, config, threads, nursery), Counter()
            for piece in reader:
                if stopped is not None and stopped.is_set():
                    raise KeyboardInterrupt
                if isinstance(piece, Clip):
                    writer.add(piece, _said(source, piece, config, captioner))
                else:
                    rejects.append({"source": source.id, **asdict(piece)})
                found[type(piece).__name__] += 1
            kind = {} if source.kind == "clip" else {"kind": source.kind}
            numbers = {"clips": found["Clip"], "rejects": found["Reject"]}
            read.append({"source": source.id, **kind, "seconds": reader.seconds, **numbers})
        writer.close()
        in_order = itemgetter("source", "start")
        for kind, rows in writer.rows.items():
            if rows or kind == "clip":
                write_lines(place / LISTS[kind], sorted(rows, key=in_order))
        write_lines(place / REJECTS, sorted(rejects, key=in_order))
        write_lines(place / SOURCES, read)


def _part(sources: list[Source], config: Config) -> Part:
    """A part, with a name that stands for all that its content depends on."""
    files = [[(os.stat(path).st_size, os.stat(path).st_mtime_ns) for path in source.files] for source in sources]
    settings = config.to_dict()
    del settings["validation"]  # The split comes at the end, and changes no part.
    told = [asdict(source) for source in sources]
    for values in told:
        if values["kind"] == "clip":  # Parts of clips alone keep the names that they had before there were other kinds.
            del values["kind"]
    text = json.dumps([VERSION, settings, told, files], sort_keys=True)
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
    """What is said of a clip, picture or sound in the lists; what it does not have is None."""
    caption, origin = source.caption, source.caption_from
    if caption is None and captioner is not None and clip.picture is not None:
        caption = captioner.describe(clip.picture)
        origin = caption and "captioner"
    return {
        "id": f"{source.id}#{clip.start:.3f}",
        "source": source.id,
        "start": clip.start,
        "seconds": None if clip.kind == "picture" else config.seconds,
        "caption": caption,
        "caption_from": origin,
        "height": None if clip.video is None else clip.video.shape[2],
        "width": None if clip.video is None else clip.video.shape[3],
        "heard": clip.heard,
        "motion": None if clip.motion is None else round(clip.motion, 5),
        "brightness": None if clip.brightness is None else round(clip.brightness, 4),
        "faults": list(clip.faults),
    }


def _combine(output: Path, names: list[str], config: Config, num_sources: int, num_others: int) -> dict[str, Any]:
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
