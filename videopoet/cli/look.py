"""What is in a prepared dataset: `look`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from videopoet.cli.base import AsJson, app, check_output, print_json, writable
from videopoet.cli.prepare import lines
from videopoet.media.size import parse_size

SHEET = "contact-sheet.png"


@app.command()
def look(
    data: Annotated[Path, typer.Argument(help="A folder written by `videopoet prepare`.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help=f"Picture of some clips and pictures; else {SHEET} in the folder."),
    ] = None,
    size: Annotated[
        str | None, typer.Option(metavar="WxH", help="That training shows clips in; else what was prepared.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, max=200, help="How many clips, and how many pictures, are shown.")] = 12,
    seed: Annotated[int, typer.Option(min=0, help="Which are shown.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Show what is in a dataset: counts, a sheet of clips and pictures, captions, what training sees after the crop."""
    wanted = None if size is None else parse_size(size)

    from videopoet.data import overview
    from videopoet.data.prepared import Dataset

    dataset = Dataset(data)
    path = output or data / SHEET
    check_output(path, writable("image"))
    wanted = wanted or (dataset.config.height, dataset.config.width)
    facts = overview.overview(dataset, wanted)
    drawn = [(one, overview.sample(one, count, seed)) for one in (dataset, dataset.pictures)]
    if sheets := [overview.sheet(one, numbers, wanted) for one, numbers in drawn if numbers]:
        overview.stacked(sheets).save(path)
    clips, pictures = ([one.row(number) for number in numbers] for one, numbers in drawn)
    if as_json:
        named = ("id", "split", "caption", "caption_from", "width", "height", "heard", "motion", "brightness", "faults")
        shown = {
            f"shown_{name}": [{column: row[column] for column in named} for row in rows]
            for name, rows in (("clips", clips), ("pictures", pictures))
        }
        print_json({**facts, **shown, "sheet": str(path) if sheets else None})
        return
    print("\n".join([*lines(dataset.counts), *_told(facts)]))
    for name, rows in (("clips", clips), ("pictures", pictures)):
        if rows:
            print(f"{name} on the sheet")
        for number, row in enumerate(rows, start=1):
            print(f"  {number:>3}  {row['id']}  {_shortened(row['caption'])}")
    print(path if sheets else "no sheet: there is only sound")


def _told(facts: dict[str, Any]) -> list[str]:
    """What the counts do not say, for people."""
    clip, training, tokens = facts["clip"], facts["training"], facts["tokens"]

    def seen(name: str, training: dict[str, Any]) -> str:
        shown = [f"{one[name]} of {one['size']} ({100 * one['seen']:.0f}% of the picture)" for one in training["shown"]]
        small = f"; {training['too_small']} are too small" if training["too_small"] else ""
        return f"{', '.join(shown) or 'none'}{small}"

    pictures = training["pictures"]
    beside = f"; of pictures {seen('pictures', pictures)}" if pictures["shown"] or pictures["too_small"] else ""
    told = [
        f"clip    {clip['seconds']:g} s: {clip['num_frames']} frames at {clip['frame_rate']:g} a second, sound at "
        f"{clip['sample_rate']} Hz; {facts['hours']:.2f} hours in all",
        f"seen    at {training['size']}: {seen('clips', training)}{beside}",
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
