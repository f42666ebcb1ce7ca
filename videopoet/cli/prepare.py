"""Footage made ready to train on: `prepare`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from videopoet.cli.base import AsJson, Engine, app, check_folder, print_json
from videopoet.errors import ConfigError
from videopoet.media.size import parse_size


@app.command()
def prepare(
    footage: Annotated[
        Path, typer.Argument(help="A folder of clips, pictures and sounds, or a manifest: .jsonl or .csv.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the dataset.")],
    captions: Annotated[
        Path | None, typer.Option(help="A .csv or .jsonl of video and caption, or a .txt with a line for each file.")
    ] = None,
    captioner: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Describes clips and pictures without a caption: a folder or a hub id."),
    ] = None,
    size: Annotated[
        str,
        typer.Option(
            metavar="WxH",
            help="Multiples of 8. A square is for square clips, its side the short side of others; else of all clips.",
        ),
    ] = "64x64",
    fps: Annotated[float, typer.Option(help="Frames per second.")] = 8.0,
    seconds: Annotated[float, typer.Option(help="Length of a clip, and of a sound.")] = 2.125,
    sample_rate: Annotated[int, typer.Option(help="Samples of sound per second.")] = 16_000,
    validation: Annotated[float, typer.Option(help="Share of the files that training never sees.")] = 0.1,
    keep: Annotated[
        list[str] | None, typer.Option(metavar="FAULT", help="Keep static, black or duplicate clips; repeatable.")
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND", help="Take only clips, pictures or sounds: clip, picture, sound; repeatable."),
    ] = None,
    allow_outside: Annotated[bool, typer.Option("--allow-outside", help="Take files outside the folder too.")] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Files read at a time, or workers on Ray; else one a processor.")
    ] = None,
    engine: Engine = "local",
    as_json: AsJson = False,
) -> None:
    """Turn a folder of raw clips, pictures and sounds into a dataset: cut into shots, checked, resized, split.

    The same command goes on where it was interrupted, and takes in what was added to the folder.
    """
    check_folder(output)
    height, width = parse_size(size)
    for name, value in (("--fps", fps), ("--seconds", seconds)):
        if not (math.isfinite(value) and value > 0):
            raise ConfigError(
                f"{name} is {value:g}; a number above 0 fits, such as {8 if name == '--fps' else 2.125}; correct it",
                code="range",
            )
    num_frames = round(seconds * fps)
    if num_frames < 1 or abs(num_frames - seconds * fps) > 1e-6:
        raise ConfigError(
            f"{seconds:g} s at {fps:g} frames a second are {seconds * fps:g} frames; a whole number is needed; "
            f"{max(1, num_frames) / fps:g} s are {max(1, num_frames)}",
            code="num_frames_invalid",
        )

    from videopoet.data import prepare as preparation
    from videopoet.data.clips import Config
    from videopoet.data.sources import KINDS, Kind

    kinds: tuple[Kind, ...] = tuple(known for known in KINDS if known in (kind or KINDS))
    for name in kind or ():
        if name not in KINDS:
            raise ConfigError(f"--kind is '{name}'; {', '.join(KINDS)} fit; correct it", code="kind_unknown")
    config = Config.from_dict(
        {
            "height": height,
            "width": width,
            "num_frames": num_frames,
            "frame_rate": fps,
            "sample_rate": sample_rate,
            "validation": validation,
            "keep": keep or [],
            "captioner": captioner,
        }
    )

    counts = preparation.prepare(
        footage,
        output,
        config,
        captions=captions,
        allow_outside=allow_outside,
        kinds=kinds,
        workers=workers,
        engine=engine,
        progress=True,
    )
    if as_json:
        print_json({"dataset": str(output), **counts})
    else:
        print("\n".join(lines(counts)))
        print(output)


def lines(counts: dict[str, Any]) -> list[str]:
    """The counts for people: what came in, what was kept, what was rejected and why."""
    from videopoet.data.prepare import PASSING

    def listed(named: dict[str, int]) -> str:
        return ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in named.items() if number)

    def told(of: dict[str, int], why: dict[str, int]) -> str:
        reasons = f": {listed(dict(sorted(why.items(), key=lambda item: -item[1])))}" if why else ""
        return f"{of['found']} = {of['kept']} kept + {of['rejected']} rejected{reasons}"

    sources = counts["sources"]
    others = f" ({counts['other_files']} other files left alone)" if counts["other_files"] else ""
    rows = [f"files   {sources['found']} = {sources['kept']} kept + {sources['rejected']} rejected{others}"]
    rows += [f"clips   {told(counts['clips'], counts['rejects'])}"]
    if counts["clips"]["kept"]:
        seconds = counts["seconds"]
        rows += [
            f"kept    {seconds['kept'] / 60:.1f} of {seconds['found'] / 60:.1f} minutes; "
            f"sizes {listed(counts['sizes'])}",
            f"sound   {counts['heard']['sound']} with, {counts['heard']['silence']} silent, "
            f"{counts['heard']['none']} without a track; {counts['captioned']} with a caption",
            f"split   {listed(counts['split'])}",
        ]
    for name in ("pictures", "sounds"):  # which datasets of before do not count
        if (of := counts.get(name, {"found": 0}))["found"]:
            rows.append(f"{name:7} {told(of, of['rejects'])}")
            rows.append(f"        {of['captioned']} with a caption; split {listed(of['split']) or 'none'}")
    of_all = [counts, *(counts.get(name, {}) for name in ("pictures", "sounds"))]
    passing = sum(number for of in of_all for code, number in of.get("rejects", {}).items() if code in PASSING)
    if passing:
        rows.append(f"again   {passing} of the rejects may be the machine's fault; the same command tries them again")
    return [*rows, f"bytes   {counts['bytes'] / 1e6:.1f} MB"]
