"""What is in a prepared dataset: `look`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from videopoet.cli.base import AsJson, app, check_output, print_json, writable
from videopoet.cli.prepare import lines, parse_size

SHEET = "contact-sheet.png"


@app.command()
def look(
    data: Annotated[Path, typer.Argument(help="A folder written by `videopoet prepare`.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help=f"Picture of some clips; else {SHEET} in the folder.")
    ] = None,
    size: Annotated[
        str | None, typer.Option(metavar="WxH", help="That training shows clips in; else what was prepared.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, max=200, help="How many clips are shown.")] = 12,
    seed: Annotated[int, typer.Option(min=0, help="Which clips are shown.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Show what is in a dataset: counts, a sheet of clips, captions, and what training will see after the crop."""
    wanted = None if size is None else parse_size(size)

    from videopoet.data import overview
    from videopoet.data.prepared import Dataset

    dataset = Dataset(data)
    path = output or data / SHEET
    check_output(path, writable("image"))
    wanted = wanted or (dataset.config.height, dataset.config.width)
    facts = overview.overview(dataset, wanted)
    numbers = overview.sample(dataset, count, seed)
    overview.sheet(dataset, numbers, wanted).save(path)
    rows = [dataset.row(number) for number in numbers]
    if as_json:
        named = ("id", "split", "caption", "caption_from", "width", "height", "heard", "motion", "brightness", "faults")
        clips = [{name: row[name] for name in named} for row in rows]
        print_json({**facts, "shown_clips": clips, "sheet": str(path)})
        return
    print("\n".join([*lines(dataset.counts), *_told(facts)]))
    print("clips on the sheet")
    for number, row in enumerate(rows, start=1):
        print(f"  {number:>3}  {row['id']}  {_shortened(row['caption'])}")
    print(path)


def _told(facts: dict[str, Any]) -> list[str]:
    """What the counts do not say, for people."""
    clip, training, tokens = facts["clip"], facts["training"], facts["tokens"]
    shown = [f"{one['clips']} of {one['size']} ({100 * one['seen']:.0f}% of the picture)" for one in training["shown"]]
    small = f"; {training['too_small']} are too small" if training["too_small"] else ""
    told = [
        f"clip    {clip['seconds']:g} s: {clip['num_frames']} frames at {clip['frame_rate']:g} a second, sound at "
        f"{clip['sample_rate']} Hz; {facts['hours']:.2f} hours in all",
        f"seen    at {training['size']}: {', '.join(shown) or 'none'}{small}",
    ]
    if tokens is None:
        told.append("tokens  none; training makes them as it needs them")
    elif not tokens["usable"]:
        told.append(f"tokens  cannot be read: {tokens['why']}")
    else:
        told.append(f"tokens  {tokens['clips']} clips, {tokens['tokens']} tokens, {tokens['bytes'] / 1e6:.1f} MB")
    return told


def _shortened(caption: str | None) -> str:
    if not caption:
        return "(no caption)"
    return caption if len(caption) <= 80 else f"{caption[:77]}..."
