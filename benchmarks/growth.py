"""How do seconds and memory grow with a clip's frames, its size and the number of clips made together?

Each point is a process of its own: its peak memory is that of the whole process, and its seconds are those of the work
alone, without imports and without reading the model, of a first and only run, as with `videopoet generate`. The
processes are forked from one that has imported the libraries and computed nothing.

*frames*: a film in an .mp4, with sound. *batch*: clips made together, seconds of them all. *size*: one clip; sizes that
the model was not trained on show nothing, but their passes cost what those of a model of that size cost. *tokenizer*: a
clip of 17 frames encoded and decoded, in tiles where they are larger than `VideoTokenizer.tiling` says.

Points are added to a file of JSON lines, and all that are in it are drawn; of equal points the latest counts.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from report import report
from streaming import PROMPT, PeakMemory

from videopoet import VideoPoet, runtime
from videopoet.generation.request import Request

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "growth.jsonl"
PLOT = ROOT / "docs" / "samples" / "growth.svg"
SEED = 7


class Series(NamedTuple):
    """What grows, and where it is measured."""

    label: str
    points: tuple[int, ...]


SERIES = {
    "frames": Series("frames of a film, 64x64", (17, 33, 65, 97, 161)),
    "batch": Series("clips made together, 17 frames of 64x64", (1, 2, 4, 8, 16)),
    "size": Series("side of a clip in pixels, 17 frames", (64, 96, 128, 192, 256)),
    "tokenizer": Series("side of a clip in pixels, tokenizer alone", (64, 128, 256, 512, 1024)),
}


def work(series: str, value: int, model: str | None) -> Callable[[], Any]:
    """What is timed; all that comes before it is not."""
    poet = VideoPoet.from_pretrained(model)
    settings = poet.parts.settings
    if series == "frames":
        film = poet.film([{"prompt": PROMPT, "seconds": value / settings.frame_rate}], seed=SEED, progress=False)

        def save() -> None:
            with tempfile.TemporaryDirectory() as folder:
                film.save(Path(folder) / "film.mp4")

        return save
    if series == "batch":
        requests = [Request(task="text_to_video", prompt=PROMPT, seed=SEED + number) for number in range(value)]
        return lambda: poet.generate_batch(requests, progress=False)
    if series == "size":
        poet.parts = replace(poet.parts, settings=settings.model_copy(update={"height": value, "width": value}))
        return lambda: poet.generate("text_to_video", prompt=PROMPT, seed=SEED, progress=False)

    tokenizer, device = poet.parts.video_tokenizer, poet.parts.device
    shape = (1, 3, settings.num_frames, value, value)
    clip = (torch.rand(shape, generator=runtime.generator(SEED)) * 2 - 1).to(device)

    def see() -> None:
        with torch.no_grad(), runtime.autocast(device):
            tokenizer.decode(tokenizer.encode(clip))

    return see


def measure(series: str, value: int, model: str | None) -> str:
    """The figures of one point as a JSON line, measured in this process."""
    job = work(series, value, model)
    memory, began, began_processor = PeakMemory(), time.perf_counter(), time.process_time()
    job()
    seconds, processor_seconds = time.perf_counter() - began, time.process_time() - began_processor
    with contextlib.redirect_stdout(io.StringIO()) as answer:
        report(
            "growth",
            series=series,
            value=value,
            seconds=round(seconds, 3),
            processor_seconds=round(processor_seconds, 3),
            peak_mb=round((memory.before + memory.grown()) / 1e6, 1),
            before_mb=round(memory.before / 1e6, 1),
            model=model or "bundled",
            seed=SEED,
        )
    return answer.getvalue()


def latest(lines: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
    """The points of each series in order, of equal ones the last."""
    points = {(point["series"], point["value"]): point for point in map(json.loads, lines)}
    return {name: [points[key] for key in sorted(points) if key[0] == name] for name in SERIES}


WIDTH, HEIGHT, MARGIN = 360, 190, 48
FIGURES = {"processor_seconds": ("processor seconds", "#2563eb"), "peak_mb": ("peak memory, MB", "#dc2626")}


def panel(points: Sequence[dict[str, Any]], label: str, figure: str, left: int, top: int) -> str:
    """One figure against what grows, both from zero; each point has its value beside it."""
    name, colour = FIGURES[figure]
    most = max(1e-9, *(point[figure] for point in points))
    longest = max(point["value"] for point in points)
    bottom = top + HEIGHT - MARGIN
    places = [
        (
            left + MARGIN + (WIDTH - 2 * MARGIN) * point["value"] / longest,
            bottom - (HEIGHT - 2 * MARGIN) * point[figure] / most,
        )
        for point in points
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in places)
    values = "".join(
        f'<text x="{x:.1f}" y="{y - 7:.1f}" text-anchor="middle">{point[figure]:.4g}</text>'
        for (x, y), point in zip(places, points, strict=True)
    )
    apart = [True, *(after[0] - before[0] > 18 for before, after in pairwise(places))]  # narrower ticks would overlap
    ticks = "".join(
        f'<text x="{x:.1f}" y="{bottom + 14}" text-anchor="middle">{point["value"]}</text>'
        for (x, _), point, is_apart in zip(places, points, apart, strict=True)
        if is_apart
    )
    axis = f'<path d="M{left + MARGIN},{bottom}h{WIDTH - 2 * MARGIN}" stroke="#9ca3af"/>'
    return (
        f'<text x="{left + MARGIN}" y="{top + 18}" class="title">{name}: {label}</text>{axis}{ticks}'
        f'<polyline points="{line}" fill="none" stroke="{colour}"/><g fill="{colour}">{dots}</g>{values}'
    )


def drawn(series: dict[str, list[dict[str, Any]]]) -> str:
    """An SVG with a row for each series that has points: seconds on the left, memory on the right."""
    rows = [(SERIES[name].label, points) for name, points in series.items() if points]
    panels = [
        panel(points, label, figure, WIDTH * column, HEIGHT * row)
        for row, (label, points) in enumerate(rows)
        for column, figure in enumerate(FIGURES)
    ]
    size = f'width="{WIDTH * len(FIGURES)}" height="{HEIGHT * len(rows)}"'
    style = "<style>text{font:11px sans-serif}.title{font-size:12px}svg{background:white}</style>"
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{style}{"".join(panels)}</svg>\n'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", metavar="FOLDER", help="the model to measure; without it, the one that ships")
    parser.add_argument("--series", choices=list(SERIES), nargs="*", default=list(SERIES), help="what is measured")
    parser.add_argument("--points", type=int, nargs="+", help="where, instead of the usual places")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FILE", help="JSON lines to add the points to")
    parser.add_argument("--plot", type=Path, default=PLOT, metavar="FILE", help="the SVG of all points in that file")
    given = parser.parse_args()
    given.results.parent.mkdir(parents=True, exist_ok=True)
    given.plot.parent.mkdir(parents=True, exist_ok=True)
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["videopoet.generation.pipeline", "transformers.models.qwen3.modeling_qwen3"])
    with ProcessPoolExecutor(1, mp_context=processes, max_tasks_per_child=1) as own_process:
        for name in given.series:
            for value in given.points or SERIES[name].points:
                answer = own_process.submit(measure, name, value, given.model).result()
                print(answer, end="", flush=True)
                with given.results.open("a") as file:
                    file.write(answer)
    given.plot.write_text(drawn(latest(given.results.read_text().splitlines())))


if __name__ == "__main__":
    main()
