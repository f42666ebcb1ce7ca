"""Long clips, written while they are made: `film`."""

from __future__ import annotations

import hashlib
import secrets
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from videopoet.cli.base import (
    AsJson,
    Device,
    GuidanceScale,
    Model,
    NegativePrompt,
    Pixels,
    Size,
    Temperature,
    TopK,
    TopP,
    app,
    check_output,
    print_json,
    say,
    sides,
)
from videopoet.errors import ConfigError


@app.command()
def film(
    words: Annotated[str, typer.Argument(metavar="PROMPT|STORY.json", help="What it shows first, or a story's file.")],
    then: Annotated[list[str] | None, typer.Option("--then", help="What it shows next; repeatable.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Length; scenes share it evenly. Default: 8 for each.")] = None,
    camera: Annotated[str | None, typer.Option(help="How the camera moves in every scene, such as 'zoom in'.")] = None,
    image: Annotated[Path | None, typer.Option(help="A picture to begin with.")] = None,
    video: Annotated[Path | None, typer.Option(help="A clip to begin with and go on from.")] = None,
    start: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="Where in --video to begin; what comes before is left out."),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", "--output-path", help="The .mp4 to write.")] = None,
    model: Model = None,
    device: Device = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same film.")] = None,
    negative_prompt: NegativePrompt = None,
    size: Size = None,
    height: Pixels = None,
    width: Pixels = None,
    temperature: Temperature = None,
    top_k: TopK = None,
    top_p: TopP = None,
    guidance_scale: GuidanceScale = None,
    sound: Annotated[bool, typer.Option(help="Make its sound too.")] = True,
    metadata: Annotated[bool, typer.Option(help="Keep story, seed, model and settings in the file.")] = True,
    as_json: AsJson = False,
) -> None:
    """Make a film of any length whose story changes on the way.

    A story's file is a list such as [{"prompt": "a red ball bounces", "seconds": 4, "camera": "zoom in"}, ...].
    Memory does not grow with the length, and the file is whole or absent. What is made is kept beside it until then: if
    the work is interrupted, the same command goes on with it.
    """
    height, width = sides(size, height, width)
    story: Any
    if words.lower().endswith(".json"):
        given = {"--then": then, "--seconds": seconds, "--camera": camera}
        if named := [name for name, value in given.items() if value]:
            raise ConfigError(
                f"the story is in '{words}' and {named[0]} is given too; the file says it all; leave {named[0]} out",
                code="input_unexpected",
            )
        from videopoet.generation.story import read_story

        story = read_story(words)
    else:
        prompts = [words, *(then or [])]
        each = (8.0 * len(prompts) if seconds is None else seconds) / len(prompts)
        story = [{"prompt": prompt, "seconds": each, "camera": camera} for prompt in prompts]
    inputs = {
        "image": image,
        "video": video,
        "start": start,
        "negative_prompt": negative_prompt,
        "height": height,
        "width": width,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "guidance_scale": guidance_scale,
    }
    inputs = {name: value for name, value in inputs.items() if value is not None}
    named_output = output is not None
    if output is not None:
        check_output(output, (".mp4",), inputs=(image, video))
        keep = output.with_suffix(".parts")
    else:
        # Without a seed its film is found again by all else that is asked for.
        asked = repr((story, inputs, sound, model, device)).encode()
        name = hashlib.sha256(asked).hexdigest()[:12] if seed is None else seed
        keep = Path("outputs") / f"film-{name}.parts"

    from videopoet import VideoPoet
    from videopoet.generation.film_folder import kept_seed

    begun_seed = kept_seed(keep)
    if begun_seed is not None:
        say(f"'{keep}' holds an unfinished film, which is gone on with if it is the same one")
    if seed is None:
        seed = secrets.randbelow(2**31) if begun_seed is None else begun_seed
    if output is None:
        output = keep.with_name(f"film-{seed}.mp4")
        check_output(output, (".mp4",), inputs=(image, video))

    began = time.perf_counter()
    poet = VideoPoet.from_pretrained(model, device=device)
    made = poet.film(story, seed=seed, sound=sound, **inputs)
    for warning in made.warnings:
        say(f"warning: {warning}")
    try:
        made.save(output, metadata=metadata, keep=keep)
    except KeyboardInterrupt:
        if kept_seed(keep) is not None:
            say(f"stopped; what is made is kept in '{keep}', and the same command goes on with it")
        raise
    if as_json:
        print_json(
            {
                "output": str(output),
                "seed": seed,
                "warnings": made.warnings,
                "metadata": made.metadata,
                "took_seconds": round(time.perf_counter() - began, 3),
            }
        )
    elif not named_output:
        print(output)
