"""Draws a run's journal as an SVG: one panel for each figure asked for, training as a line, validation as dots."""

from __future__ import annotations

import argparse
from html import escape
from pathlib import Path

from videopoet.training import journal

WIDTH, HEIGHT, MARGIN = 640, 200, 48


def panel(entries: list[dict], figure: str, top: int, smooth: int) -> str:
    """A panel of one figure over steps, its top edge at `top`; training values are means over `smooth` entries."""
    points = {
        kind: [(e["step"], e[figure]) for e in entries if e["kind"] == kind and e.get(figure) is not None]
        for kind in ("train", "validation")
    }
    values = [value for series in points.values() for _, value in series]
    if not values:
        raise SystemExit(f"no entry has the figure '{figure}'")
    low, high, last = min(values), max(values), max(e["step"] for e in entries)

    def place(step: float, value: float) -> tuple[float, float]:
        x = MARGIN + (WIDTH - 2 * MARGIN) * step / max(1, last)
        return x, top + HEIGHT - MARGIN / 2 - (HEIGHT - MARGIN) * (value - low) / max(1e-9, high - low)

    series = points["train"]
    means = [
        (step, sum(v for _, v in series[max(0, i + 1 - smooth) : i + 1]) / min(smooth, i + 1))
        for i, (step, _) in enumerate(series)
    ]
    line = " ".join("{:.1f},{:.1f}".format(*place(*point)) for point in means)
    dots = "".join('<circle cx="{:.1f}" cy="{:.1f}" r="3"/>'.format(*place(*point)) for point in points["validation"])
    label = f"{escape(figure)}: {low:.4g} to {high:.4g}, {last + 1} steps"
    return (
        f'<text x="{MARGIN}" y="{top + 16}">{label}</text>'
        f'<polyline points="{line}" fill="none" stroke="#2563eb"/><g fill="#dc2626">{dots}</g>'
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="folder with a journal.jsonl")
    parser.add_argument("figures", nargs="+", help="names of figures in the journal, such as loss or psnr")
    parser.add_argument("-o", "--output", type=Path, required=True, help="where to write the SVG")
    parser.add_argument("--smooth", type=int, default=10, help="entries averaged in the training line")
    given = parser.parse_args()
    entries = journal.read(given.run)
    panels = [panel(entries, figure, HEIGHT * i, given.smooth) for i, figure in enumerate(given.figures)]
    size = f'width="{WIDTH}" height="{HEIGHT * len(panels)}"'
    style = "<style>text{font:13px sans-serif}svg{background:white}</style>"
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text(f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{style}{"".join(panels)}</svg>\n')


if __name__ == "__main__":
    main()
