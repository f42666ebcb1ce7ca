"""Does the memory of a long film stay flat? Resident memory after each part, of a poet of random or trained weights.

The first parts warm up: allocators, caches and encoders take what they will keep. After them, the growth is that of the
highest of the last quarter over the highest of the first quarter of what remains.
"""

from __future__ import annotations

import argparse
import itertools
import os
import tempfile
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

from report import report

from videopoet import Video, VideoPoet
from videopoet.generation.film import Film
from videopoet.media.files import write_parts

PROMPTS = ("a red ball bounces on the grass", "a blue star flies over the sea", "a big raccoon in the forest")
PAGE = os.sysconf("SC_PAGE_SIZE")


class Watched:
    """A film whose memory is noted after each part."""

    def __init__(self, film: Film):
        self.film = film
        self.resident: list[int] = []
        self.traced: list[int] = []

    def __iter__(self) -> Iterator[Video]:
        for part in self.film:
            self.resident.append(int(Path("/proc/self/statm").read_text().split()[1]) * PAGE)
            self.traced.append(tracemalloc.get_traced_memory()[0])
            yield part


def growth(values: list[int], warm_up: int) -> float:
    """How much higher the last quarter of the values after the warm-up reaches than the first, as a share."""
    rest = values[warm_up:]
    quarter = max(1, len(rest) // 4)
    return max(rest[-quarter:]) / max(rest[:quarter]) - 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--model", metavar="FOLDER", help="the poet; without it, the one that ships")
    parser.add_argument("--stretches", type=int, default=80, help="parts after the warm-up")
    parser.add_argument("--warm-up", type=int, default=32, help="parts that do not count: two batches of sound")
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()

    poet = VideoPoet.from_pretrained(given.model)
    prompts = itertools.islice(itertools.cycle(PROMPTS), -(-(given.warm_up + given.stretches) // 10))
    film = Watched(poet.film([{"prompt": prompt, "seconds": 10.0} for prompt in prompts], seed=given.seed))
    tracemalloc.start()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        write_parts(film, Path(folder) / "film.mp4")
        seconds = time.perf_counter() - began
        size = (Path(folder) / "film.mp4").stat().st_size
    report(
        "long_video",
        model=poet.parts.settings.name,
        stretches=len(film.resident),
        warm_up=given.warm_up,
        resident_growth=round(growth(film.resident, given.warm_up), 4),
        traced_growth=round(growth(film.traced, given.warm_up), 4),
        resident_mb=[round(value / 1e6, 1) for value in film.resident[:: max(1, len(film.resident) // 12)]],
        resident_mb_most=round(max(film.resident) / 1e6, 1),
        seconds_per_second_of_film=round(seconds / (10.0 * len(film.film.story)), 2),
        file_mb=round(size / 1e6, 2),
        seed=given.seed,
    )


if __name__ == "__main__":
    main()
