"""What commands share: the program they belong to, their common options, checks of outputs, and printing."""

from __future__ import annotations

import errno
import json
import os
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from videopoet.data import cluster
from videopoet.errors import ConfigError
from videopoet.media.size import parse_size

app = typer.Typer(
    name="videopoet",
    help="Make and edit video with sound by a language model.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "token_normalize_func": lambda token: token.replace("_", "-"),  # --top_k is --top-k
    },
)

Model = Annotated[
    str | None, typer.Option("--model", "-m", help="Folder or hub id of a model; without it, the one that ships.")
]
Device = Annotated[str | None, typer.Option(help="Where to compute, such as cpu; without it, the best there is.")]
Engine = Annotated[
    cluster.Engine, typer.Option(help="Work on this machine, or on a Ray cluster whose machines share storage.")
]
NegativePrompt = Annotated[str | None, typer.Option(help="What to stay away from.")]
Size = Annotated[
    str | None, typer.Option(metavar="WIDTHxHEIGHT", help="In pixels, such as 64x64; instead of --height and --width.")
]
Pixels = Annotated[int | None, typer.Option(help="Pixels.")]
Temperature = Annotated[float | None, typer.Option(help="Below 1 is safer, above 1 is wilder.")]
TopK = Annotated[int | None, typer.Option(help="Choose among so many likeliest tokens.")]
TopP = Annotated[float | None, typer.Option(help="Choose among the likeliest tokens of this probability.")]
GuidanceScale = Annotated[
    float | None, typer.Option("--guidance-scale", "--cfg-scale", help="How closely to follow the words; 1 is off.")
]
Start = Annotated[
    float | None, typer.Option(metavar="SECONDS", help="Where in the clip to begin; what comes before is left out.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def writable(kind: str) -> tuple[str, ...]:
    """The extensions that a kind of output can be written with, the usual one first."""
    from videopoet.media import files, types

    writers = {"video": types.Video, "image": types.Image, "audio": types.Audio}
    return tuple(files.WRITERS[writers[kind]]) if kind in writers else (".txt",)


def check_output(path: Path, suffixes: tuple[str, ...], name: str = "output", inputs: Iterable[Any] = ()) -> None:
    """Refuse an output that could not be written, or is an input, before any work is done for it.

    Args:
        path: The file to write.
        suffixes: The extensions that fit.
        name: What messages call it.
        inputs: As in `check_not_input`.
    """
    if path.is_dir():
        raise ConfigError(f"{name} '{path}' is a folder; a file is wanted; add a name", code="output_is_folder")
    if path.suffix.lower() not in suffixes:
        raise ConfigError(
            f"{name} '{path}' ends in '{path.suffix}'; {' and '.join(suffixes)} fit; change the extension",
            code="output_extension",
        )
    check_folder(path.parent)
    check_not_input(path, inputs, name)


def check_not_input(path: Path, inputs: Iterable[Any], name: str = "output") -> None:
    """Refuse an output that is the same file as an input; any other file that is there may be replaced.

    Args:
        path: The file to write.
        inputs: Files that are given; what is no path or not there is passed over.
        name: What messages call the output.
    """
    if not path.exists():
        return
    for given in inputs:
        if isinstance(given, str | Path) and os.path.exists(given) and path.samefile(given):
            raise ConfigError(
                f"{name} '{path}' is the input '{given}' too, which would be lost; a file of its own fits; choose "
                "another name",
                code="output_is_input",
            )


def check_folder(path: Path) -> None:
    """Refuse a folder that could not be made or written to, which a nameless file in it, or above it, finds out."""
    place = next(place for place in (path, *path.absolute().parents) if place.exists())
    if not place.is_dir():
        raise ConfigError(
            f"output folder '{path}' cannot be made; '{place}' is a file; choose another", code="output_not_folder"
        )
    try:
        tempfile.TemporaryFile(dir=place).close()
    except OSError as error:
        # The system's own folders, such as /proc, answer that the new file is not there.
        number = errno.EACCES if error.errno in (None, errno.ENOENT) else error.errno
        raise OSError(number, os.strerror(number), str(place)) from None


def sides(size: str | None, height: int | None, width: int | None) -> tuple[int | None, int | None]:
    """Height and width, of --size or of --height and --width."""
    if size is None:
        return height, width
    for name, side in (("--height", height), ("--width", width)):
        if side is not None:
            raise ConfigError(
                f"the size is given twice (--size {size}, {name} {side}); one says it; leave the other out",
                code="input_unexpected",
            )
    return parse_size(size)


def unheard(media: Any, output: Path | None) -> list[str]:
    """A warning, if `media` is a clip with sound and the output a .gif, which holds none."""
    from videopoet.media.types import Video

    if output is None or output.suffix.lower() != ".gif" or not isinstance(media, Video) or media.audio is None:
        return []
    return ["a .gif holds no sound, and that of the clip is left out; write an .mp4 to keep it"]


def print_json(value: Any) -> None:
    print(json.dumps(value))


def print_tree(value: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(value)
        return
    import yaml

    print(yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=120), end="")


def say(line: str) -> None:
    """One line on standard error, whatever is in it; a prompt or a file name cannot command the terminal."""
    printable = "".join(character if character.isprintable() else " " for character in line)
    print(f"videopoet: {' '.join(printable.split())}", file=sys.stderr)
