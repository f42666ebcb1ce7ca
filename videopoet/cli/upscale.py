"""Clips and pictures of one's own at twice or four times the size: `upscale`."""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from videopoet.cli.base import AsJson, Device, Model, Start, app, check_output, print_json, say, unheard, writable

if TYPE_CHECKING:
    from videopoet.media.types import Image


@app.command()
def upscale(
    media: Annotated[Path, typer.Argument(metavar="FILE", help="A clip or a picture.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The file to write; as .png, the picture of the first frame.")
    ],
    factor: Annotated[int, typer.Option(help="2 or 4: so many times the height and width.")] = 2,
    start: Start = None,
    prompt: Annotated[str | None, typer.Option(help="What is to be seen, in words.")] = None,
    model: Model = None,
    device: Device = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same result.")] = None,
    num_steps: Annotated[int | None, typer.Option(help="Passes over each window of frames.")] = None,
    temperature: Annotated[float | None, typer.Option(help="Below 1 is safer, above 1 is wilder.")] = None,
    text_guidance: Annotated[float | None, typer.Option(help="How closely to follow the words; 1 is off.")] = None,
    low_resolution_guidance: Annotated[
        float | None, typer.Option(help="How closely to follow the clip's own codes; 1 is off.")
    ] = None,
    faithfulness: Annotated[
        float | None, typer.Option(help="1, the default, keeps the clip and makes only what is finer; 0 makes it anew.")
    ] = None,
    metadata: Annotated[bool, typer.Option(help="Keep prompt, seed, model and settings in the file.")] = True,
    as_json: AsJson = False,
) -> None:
    """Make a clip or a picture larger; what is finer than its pixels comes from the model."""
    check_output(output, writable("video") + writable("image"), inputs=(media,))
    sampling = {
        "num_steps": num_steps,
        "temperature": temperature,
        "text_guidance": text_guidance,
        "low_resolution_guidance": low_resolution_guidance,
        "faithfulness": faithfulness,
    }
    sampling = {name: value for name, value in sampling.items() if value is not None}
    seed = secrets.randbelow(2**31) if seed is None else seed

    from videopoet import VideoPoet

    began = time.perf_counter()
    poet = VideoPoet.from_pretrained(model, device=device)
    if output.suffix.lower() in writable("image"):
        own, begin = _picture(media, start)
    else:
        own, begin = media, start
    result = poet.upscale(own, factor, prompt=prompt, start=begin, seed=seed, **sampling)
    result.save(output, metadata=metadata)
    for warning in unheard(result.media, output):
        say(f"warning: {warning}")
    if as_json:
        took = round(time.perf_counter() - began, 3)
        print_json({"seed": seed, "output": str(output), "metadata": result.metadata, "took_seconds": took})


def _picture(path: Path, start: float | None) -> tuple[Image, float | None]:
    """A picture, or the frame of a clip that is on screen at `start`; and what is left of `start` to be looked at."""
    from videopoet.generation.request import check_number
    from videopoet.media.files import probe, read_image, read_video
    from videopoet.media.types import Image

    if probe(path).kind == "image":
        return read_image(path), start
    if start is not None:
        check_number("start", start)
    return Image(read_video(path, max_frames=1, start=start).frames[:, 0]), None
