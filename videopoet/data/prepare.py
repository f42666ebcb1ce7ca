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
import logging
import os
import shutil
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, as_completed, wait
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

from videopoet import checkpoint, locks, runtime
from videopoet.data.captioner import Captioner
from videopoet.data.clips import Clip, Config
from videopoet.data.cluster import Engine, run_on_ray
from videopoet.data.combine import DATASET, LISTS, PARTS, REJECTS, SOURCES, VERSION, combine
from videopoet.data.manifest import Listing
from videopoet.data.pictures_and_sounds import opened
from videopoet.data.shards import ShardWriter, read_lines, write_lines
from videopoet.data.sources import KINDS, Kind, Source
from videopoet.errors import CheckpointError, ConfigError, DataError
from videopoet.media.nursery import Nursery

MEAN_PART, LARGEST_PART = 16, 64
"""Sources in a part."""
MOST_THREADS = 4
"""Of one decoder."""
PASSING = frozenset({"media_unreadable", "media_missing", "media_timeout", "decoder_crashed", "library_missing"})
"""Codes of rejects for which the machine may be at fault, and not the file: the next run tries again."""


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
        ConfigError: The captioner cannot be loaded, there is no such cluster, or the output holds other clips or is
            being prepared by another process.
        OSError: The disk is full, or the output cannot be written.
    """
    config, output = config or Config(), Path(output)
    with (
        _held(output),
        Listing(footage, captions, allow_outside=allow_outside, kinds=kinds, leave_out=output) as listing,
    ):
        _check_kept(output, config, listing)
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
        counts = combine(output, names, config, total, listing.num_others)
        kept = set(names)
        for path in (output / PARTS).iterdir():
            if path.is_dir() and path.name not in kept:  # File managers leave files of their own there.
                shutil.rmtree(path)
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


@contextmanager
def _held(output: Path) -> Iterator[None]:
    """Keep other processes out of a folder, which is made if it is not there, and goes again if nothing came into it.

    Raises:
        ConfigError: Another process prepares into it.
    """
    is_new = not output.exists()
    refusal = ConfigError(
        f"another process prepares footage into '{output}'; one at a time can; wait for it, end it, or choose another "
        "--output",
        code="dataset_in_use",
    )
    with locks.held(output, refusal):
        try:
            yield
        finally:
            if is_new:
                with suppress(OSError):  # It holds something, as it should.
                    output.rmdir()


def _check_kept(output: Path, config: Config, listing: Listing) -> None:
    """Refuse to put clips of another shape, or of other footage, in the place of those of a finished dataset.

    How many files of it are gone is said.
    """
    if not (output / DATASET).exists():
        return
    try:
        described = checkpoint.read_json(output / DATASET)
        there, names = Config.from_dict(described["config"]), {Path(shard).parts[1] for shard in described["shards"]}
        lists = [path for name in names if (path := output / PARTS / name / SOURCES).is_file()]
        are_there = Counter(row["source"] in listing for path in lists for row in read_lines(path))
    except (CheckpointError, ConfigError, KeyError, TypeError, IndexError, ValueError):
        return  # broken, or of another version: it is made anew
    if there.in_words != config.in_words:
        raise ConfigError(
            f"'{output}' holds a dataset of {there.in_words}, asked is {config.in_words}, which would take its place; "
            "choose another --output, or remove that folder first",
            code="output_exists",
        )
    if are_there[False] and not are_there[True]:
        raise ConfigError(
            f"'{output}' holds a dataset of {are_there[False]} files, none of which is among those of "
            f"'{listing.footage}', whose clips would take its place; choose another --output, or remove that folder "
            "first",
            code="output_exists",
        )
    if are_there[False]:
        logging.getLogger(__name__).warning(
            "of %d files that '%s' was prepared from, %d are gone from '%s': their clips leave it",
            are_there.total(),
            output,
            are_there[False],
            listing.footage,
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
    """Prepare the sources of a part into a folder, unless it is there and whole, and nothing failed that may pass.

    `threads` are those of a decoder.
    """
    if folder.exists() and checkpoint.why_invalid(folder) is None and not _may_pass(folder):
        return
    with checkpoint.atomic_folder(folder) as place:
        writer, rejects, read = ShardWriter(place, config.num_samples), [], []
        for source in part.sources:
            reader, found = opened(source, config, threads, nursery), Counter()
            for piece in reader:
                if stopped is not None and stopped.is_set():
                    raise KeyboardInterrupt
                if isinstance(piece, Clip):
                    # Once it is described, the picture for the captioner would only wait with the clip to be written.
                    writer.add(replace(piece, picture=None), _said(source, piece, config, captioner))
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


def _may_pass(folder: Path) -> bool:
    """Whether a part has rejects that another try may keep."""
    return any(row["code"] in PASSING for row in read_lines(folder / REJECTS))


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
    """Prepare parts on this machine, several at a time, and give what the stage returns for each as it is done."""
    # Files that are decoded at a time share the processors; more threads than those cost more than they give.
    at_once = min(workers, -(-num_sources // MEAN_PART))
    stage = PreparePart(config, folder, min(MOST_THREADS, max(1, runtime.num_processors() // at_once)))
    running: set[Future[int]] = set()
    # Threads: the work is done by the decoders, each a process of its own.
    with ThreadPoolExecutor(workers) as pool:
        try:
            for part in waiting:
                running.add(pool.submit(stage, part))
                if len(running) > workers:  # A part waits for the first worker that is free.
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    yield from (one.result() for one in done)
            yield from (one.result() for one in as_completed(running))
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
