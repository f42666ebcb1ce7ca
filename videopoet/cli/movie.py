"""Movies of several scenes, from an idea or from a storyboard: `movie`."""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from videopoet.cli.base import AsJson, Device, Model, app, check_folder, check_output, print_json, say
from videopoet.errors import ConfigError

if TYPE_CHECKING:
    from videopoet import Storyboard, VideoPoet
    from videopoet.generation.movie import Movie
    from videopoet.writers.base import Writer

KEY_VARIABLE = "VIDEOPOET_WRITER_KEY"


@app.command()
def movie(
    words: Annotated[str, typer.Argument(metavar="IDEA|STORYBOARD.json", help="A sentence, or a storyboard's file.")],
    scenes: Annotated[int | None, typer.Option(min=1, max=100, help="How many there are to be. Default: 5.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Length; scenes share it evenly. Default: 2 for each.")] = None,
    title: Annotated[
        str | None, typer.Option(help="Shown first; '' for none. Default: what the writer calls it.")
    ] = None,
    shape: Annotated[str | None, typer.Option(help="portrait (the default), square or landscape.")] = None,
    fit: Annotated[
        str | None,
        typer.Option(help="Where the model makes no such shape: pad shows each picture whole, crop cuts it."),
    ] = None,
    transition: Annotated[
        str | None, typer.Option(help="fade (the default), cut, or continue: scenes go on from one another.")
    ] = None,
    writer_url: Annotated[
        str | None, typer.Option(metavar="URL", help="Let a server of OpenAI's chat completions write, such as …/v1.")
    ] = None,
    writer_model: Annotated[
        str | None,
        typer.Option(help="That server's model; without --writer-url a folder or hub id of a Hugging Face chat model."),
    ] = None,
    writer_key_variable: Annotated[
        str | None,
        typer.Option(metavar="NAME", help=f"The environment variable with that server's key. Default: {KEY_VARIABLE}."),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", "--output-path", help="The .mp4 to write.")] = None,
    draft: Annotated[bool, typer.Option("--draft", help="Write the storyboard and stop, to edit it first.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Write anew over another storyboard beside the output.")
    ] = False,
    keep: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where scenes are kept; by default beside the output.")
    ] = None,
    font: Annotated[Path | None, typer.Option(help="A font file for the title.")] = None,
    model: Model = None,
    device: Device = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same movie.")] = None,
    sound: Annotated[bool, typer.Option(help="Make its sound too.")] = True,
    metadata: Annotated[bool, typer.Option(help="Keep storyboard, model and settings in the file.")] = True,
    as_json: AsJson = False,
) -> None:
    """Make a movie of several scenes with a title: an idea becomes a storyboard, and that a movie.

    The storyboard is a JSON file beside the movie. Edit it and give its name instead of an idea: scenes that stay as
    they are are not made again.
    """
    from_file = words.lower().endswith(".json")
    if from_file:
        given = {
            "--scenes": scenes,
            "--seconds": seconds,
            "--title": title,
            "--shape": shape,
            "--fit": fit,
            "--transition": transition,
            "--writer-url": writer_url,
            "--writer-model": writer_model,
            "--writer-key-variable": writer_key_variable,
            "--seed": seed,
            "--no-sound": None if sound else True,
            "--draft": draft or None,
        }
        if named := [name for name, value in given.items() if value is not None]:
            raise ConfigError(
                f"the storyboard is in '{words}' and {named[0]} is given too; the file says it all; leave {named[0]} "
                "out, or change the file",
                code="input_unexpected",
            )
    elif writer_key_variable is not None and not writer_url:
        raise ConfigError(
            f"--writer-key-variable is '{writer_key_variable}' and there is no server to send a key to; it goes with "
            "--writer-url; leave it out",
            code="input_unexpected",
        )
    seed = secrets.randbelow(2**31) if seed is None else seed
    named_output = output is not None
    output = output or Path("outputs") / f"movie-{Path(words).stem if from_file else seed}.mp4"
    check_output(output, (".mp4",))
    file = output.with_suffix(".json")
    takes = keep or output.with_suffix(".scenes")
    check_folder(takes)
    if font is not None and not font.is_file():
        raise ConfigError(f"the font '{font}' is no file; a TrueType or OpenType file fits; check it", code="font_none")
    began = time.perf_counter()

    from videopoet import Storyboard, VideoPoet, write_storyboard
    from videopoet.writers.toybox import Toybox

    poet: VideoPoet | None = None
    writer: Writer | None = None
    if from_file:
        board = Storyboard.read(words)
    else:
        fields = {"title": title, "shape": shape, "fit": fit, "transition": transition, "seed": seed, "sound": sound}
        fields = {name: value for name, value in fields.items() if value is not None}
        if writer_url or writer_model:
            poet = VideoPoet.from_pretrained(model, device=device)
            writer = _writer(poet, writer_url, writer_model, writer_key_variable or KEY_VARIABLE, device)
        writer = writer or Toybox()
        board = write_storyboard(words, writer, scenes=5 if scenes is None else scenes, seconds=seconds, **fields)
        for warning in writer.warnings:
            say(f"warning: {warning}")
    _save_beside(board, file, Path(words) if from_file else None, overwrite)
    if draft:
        _report(None, board, None, file, began, as_json)
        return
    poet = poet or VideoPoet.from_pretrained(model, device=device)
    made = poet.movie(board, takes=takes, font=font)
    for warning in made.warnings:
        say(f"warning: {warning}")
    made.save(output, metadata=metadata)
    if as_json or not named_output:
        _report(made, made.storyboard, output, file, began, as_json)


def _writer(poet: VideoPoet, url: str | None, name: str | None, key_variable: str, device: str | None) -> Writer:
    """The chat model that is asked for, which hears what words the poet knows."""
    encoder = poet.parts.text_encoder
    how: dict[str, Any] = {"unknown_words": encoder.unknown_words, "vocabulary": encoder.known_words()}
    if url is None:
        from videopoet.writers.chat_model import ChatModel

        return ChatModel(name or "", device=device, **how)
    if name is None:
        raise ConfigError(
            f"--writer-url is '{url}' and --writer-model is missing; the server must be told which of its models is "
            "to write; name it",
            code="input_missing",
        )
    from videopoet.writers.endpoint import Endpoint

    return Endpoint(url, name, key_variable=key_variable, **how)


def _save_beside(board: Storyboard, file: Path, source: Path | None, overwrite: bool) -> None:
    """Write the storyboard beside the movie; never over one that a person may have edited."""
    from videopoet import Storyboard, VideoPoetError

    if source is not None and file.exists() and file.samefile(source):
        return
    if file.exists() and not overwrite:
        try:
            same = Storyboard.read(file).completed() == board.completed()
        except VideoPoetError:
            same = False
        if not same:
            raise ConfigError(
                f"'{file}' is there already and is another storyboard; it would be lost; make the movie of it with "
                f"`videopoet movie {file}`, choose another --output, or give --overwrite",
                code="output_exists",
            )
    board.completed().save(file)


def _report(
    made: Movie | None, board: Storyboard, output: Path | None, file: Path, began: float, as_json: bool
) -> None:
    if not as_json:
        print(output or file)
        return
    values: dict[str, Any] = {
        "output": output and str(output),
        "storyboard": str(file),
        "title": board.title,
        "scenes": board.to_dict()["scenes"],
        "seed": board.seed,
        "writer": board.writer,
    }
    if made is not None:
        values |= {
            "seconds": round(made.seconds, 3),
            "size": [made.width, made.height],
            "fps": made.frame_rate,
            "framing": made.framing,
            "takes_made": sum(made.made),
            "takes_kept": len(made.made) - sum(made.made),
            "warnings": list(made.warnings),
        }
    print_json({**values, "took_seconds": round(time.perf_counter() - began, 3)})
