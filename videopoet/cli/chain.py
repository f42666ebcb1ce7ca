"""Tasks in a row, each on the other's result: `chain`."""

from __future__ import annotations

import secrets
import shlex
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from videopoet.cli.base import (
    AsJson,
    Device,
    Model,
    app,
    check_folder,
    check_not_input,
    check_output,
    print_json,
    say,
    unheard,
    writable,
)
from videopoet.errors import ConfigError

_WHOLE = ("seed", "num_frames", "height", "width", "top_k", "upscale")
_NUMBERS = ("start", "seconds", "temperature", "top_p", "guidance_scale")
_FILES = ("image", "video", "audio", "mask", "depth")
_KEPT = (".mp4", ".png", ".wav", ".txt")


@app.command()
def chain(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[CHAIN.json]", help="A list of steps, each with its task, prompt and so on."),
    ] = None,
    step: Annotated[
        list[str] | None,
        typer.Option("--step", metavar="'TASK NAME=VALUE ...'", help="A step instead of the file; repeatable."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", "--output-path", help="The file for the last result.")
    ] = None,
    keep: Annotated[Path | None, typer.Option(help="A folder for the results of all steps.")] = None,
    model: Model = None,
    device: Device = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same results.")] = None,
    metadata: Annotated[bool, typer.Option(help="Keep seeds, model and settings of all steps in the files.")] = True,
    as_json: AsJson = False,
) -> None:
    """Run tasks in a row, each on what those before it made.

    videopoet chain --step "text_to_video prompt='a red ball'" --step outpainting --step video_to_audio -o out.mp4
    """
    from videopoet.sequence.tasks import find_task

    if (file is None) == (not step):
        raise ConfigError(
            "the steps are given twice, in a file and as --step; one is taken; leave the other out"
            if step
            else "no steps are given; a file or --step says them; give one",
            code="chain_missing",
        )
    if file is not None:
        from videopoet.generation.chain import read_chain

        steps: Any = read_chain(file)
    else:
        steps = [_step(words) for words in step or []]
    seed = secrets.randbelow(2**31) if seed is None else seed
    named = output is not None
    # What else steps may be is refused by the poet.
    known = [one for one in steps if isinstance(one, dict)] if isinstance(steps, list) else []
    inputs = [file, *(one.get(name) for one in known for name in _FILES)]
    last = steps[-1] if known else None
    if isinstance(last, dict) and isinstance(last.get("task"), str):
        row = find_task(last["task"].replace("-", "_"))
        hears = row.gives == ("audio",) and "video" in row.takes
        suffixes = (writable("video")[:1] if hears else ()) + writable(row.gives[0])
        if output is None and row.gives != ("text",):
            output = Path("outputs") / f"chain-{seed}{suffixes[0]}"
        if output is not None:
            check_output(output, suffixes, inputs=inputs)
    if keep is not None:
        check_folder(keep)
        for index, one in enumerate(known):
            task = str(one.get("task")).replace("-", "_")
            for suffix in _KEPT:
                check_not_input(_place(keep, index, task, suffix), inputs, "kept result")

    from videopoet import VideoPoet
    from videopoet.media.types import Audio, Image

    kept: list[str] = []

    def save(index: int, result: Any) -> None:
        """Keep a result as soon as it is there, so that what fails later does not take it along."""
        if keep is None:
            return
        media = result.media
        suffix = ".txt" if isinstance(media, str) else {Image: ".png", Audio: ".wav"}.get(type(media), ".mp4")
        place = _place(keep, index, result.metadata["task"], suffix)
        result.save(place, metadata=metadata)
        kept.append(str(place))

    began = time.perf_counter()
    poet = VideoPoet.from_pretrained(model, device=device)
    results = poet.chain(steps, seed=seed, on_result=save)
    for number, result in enumerate(results, start=1):
        for warning in result.warnings:
            say(f"warning: step {number}: {warning}")
    end = results[-1]
    if output is not None:
        end.save(output, metadata=metadata)
        for warning in unheard(end.media, output):
            say(f"warning: {warning}")
    text = end.media if isinstance(end.media, str) else None
    if as_json:
        print_json(
            {
                "output": output and str(output),
                "text": text,
                "kept": kept,
                "seed": seed,
                "metadata": end.metadata,
                "took_seconds": round(time.perf_counter() - began, 3),
            }
        )
    elif text is not None and output is None:
        print(text)
    elif not named:
        print(output)


def _place(keep: Path, index: int, task: str, suffix: str) -> Path:
    """Where the result of a step is kept."""
    return keep / f"{index + 1}-{task}{suffix}"


def _step(words: str) -> dict[str, Any]:
    """A step from one text: the task, then name=value, values with spaces in quotes."""
    try:
        task, *rest = shlex.split(words) or [""]
    except ValueError as error:
        raise ConfigError(
            f"the step '{words}' cannot be read ({str(error).lower()}); a task and name=value fit; correct the quotes",
            code="step_invalid",
        ) from None
    values: dict[str, Any] = {"task": task}
    for word in rest:
        name, equals, value = word.partition("=")
        if not (name and equals):
            raise ConfigError(
                f"'{word}' in the step '{words}' is no name=value; such as prompt='a red ball' fits; correct it",
                code="step_invalid",
            )
        name = name.removeprefix("--").replace("-", "_")
        values[name] = _value(name, value)
    return values


def _value(name: str, value: str) -> Any:
    kind = int if name in _WHOLE else float if name in _NUMBERS else None
    try:
        if kind is not None:
            return kind(value)
        if name == "box":
            return tuple(float(number) for number in value.split(","))
    except ValueError:
        return value  # which the request refuses by its name
    if name == "sound" and value.lower() in ("true", "false"):
        return value.lower() == "true"
    return value
