"""How fast footage is prepared, beside bare decoding of the same files by the same library.

Bare decoding reads every frame of the first track of video and of sound with PyAV and drops it. Preparing does all that
`videopoet prepare` does: a confined process for each file, shots, checks, sizes, sound, shards with hashes, duplicates.
Both use the same processors and as many threads for each decoder, and take turns. `speed` is the time of bare decoding
over that of preparing: by the clock, and in seconds of processor time, which other programs disturb less.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import torch
from report import report

from videopoet.data.clips import Config
from videopoet.data.prepare import prepare
from videopoet.data.sources import kind_of
from videopoet.runtime import num_processors

MEDIA = Path(__file__).resolve().parents[1].parent / "shared" / "media" / "video"


def decode(files: list[Path], threads: int) -> tuple[int, float]:
    """Decode files; returns how many frames they have, and how many seconds they last."""
    num_frames, seconds = 0, 0.0
    for file in files:
        with av.open(str(file)) as container:
            video = container.streams.video[0]
            video.codec_context.thread_count = threads
            for frame in container.decode([video, *container.streams.audio[:1]]):  # pyright: ignore
                num_frames += isinstance(frame, av.VideoFrame)
            seconds += (container.duration or 0) / av.time_base
    return num_frames, seconds


def measured(work: Callable[[], Any]) -> tuple[float, float]:
    """Seconds by the clock and of processor time, with those of child processes."""
    began, used = time.perf_counter(), processor_seconds()
    work()
    return time.perf_counter() - began, processor_seconds() - used


def processor_seconds() -> float:
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--media", type=Path, default=MEDIA, help="folder of clips that decode without errors")
    parser.add_argument("--repeats", type=int, default=3, help="turns, of which the median counts")
    parser.add_argument("--workers", type=int, default=1, help="files prepared at a time")
    given = parser.parse_args()
    if not given.media.is_dir():
        report("prepare_speed", skipped=f"no folder '{given.media.name}' of clips; name one with --media")
        return
    torch.set_num_threads(1)
    files = sorted(file for file in given.media.rglob("*") if file.is_file() and kind_of(file) == "clip")
    threads = max(1, min(4, num_processors() // given.workers))

    def prepare_all() -> None:
        with tempfile.TemporaryDirectory() as folder:
            settings = Config(keep=("static", "black", "duplicate"))
            prepare(given.media, folder, settings, kinds=("clip",), workers=given.workers)

    num_frames, seconds = decode(files, threads)
    prepare_all()
    turns = [(measured(lambda: decode(files, threads)), measured(prepare_all)) for _ in range(given.repeats)]
    bare, prepared = ([statistics.median(turn[side][k] for turn in turns) for k in (0, 1)] for side in (0, 1))
    report(
        "prepare_speed",
        files=len(files),
        frames=num_frames,
        footage_seconds=round(seconds, 1),
        workers=given.workers,
        decoder_threads=threads,
        repeats=given.repeats,
        bare_seconds=round(bare[0], 3),
        prepare_seconds=round(prepared[0], 3),
        bare_processor_seconds=round(bare[1], 3),
        prepare_processor_seconds=round(prepared[1], 3),
        speed=round(bare[0] / prepared[0], 3),
        speed_in_processor_time=round(bare[1] / prepared[1], 3),
    )


if __name__ == "__main__":
    main()
