"""Prepared footage turned into codes once, for training to read: `tokenize`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from videopoet.cli.base import AsJson, Device, Engine, Model, app, check_folder, print_json
from videopoet.errors import ConfigError
from videopoet.media.size import parse_size

if TYPE_CHECKING:
    from videopoet.data.prepared import Dataset


@app.command()
def tokenize(
    data: Annotated[Path, typer.Argument(help="A folder written by `videopoet prepare`.")],
    model: Model = None,
    size: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WxH", help="A size that training will show clips in; else the model's sizes. Repeatable."
        ),
    ] = None,
    structure: Annotated[
        bool, typer.Option("--structure", help="Also the motion that stylization is given; needs OpenCV.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the codes of another model.")] = False,
    device: Device = None,
    engine: Engine = "local",
    workers: Annotated[
        int | None, typer.Option(min=1, help="With --engine ray: how many; else one a GPU, or one a processor.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Turn the clips of a dataset into codes of a model's tokenizers, which training then reads.

    The same command goes on where it was interrupted, and takes in what was prepared since. Under `torchrun`, processes
    divide the clips.
    """
    if workers is not None and engine != "ray":
        raise ConfigError(
            f"--workers is {workers} and --engine is {engine}, which is this process alone; it goes with --engine ray; "
            "leave it out, or divide the clips with torchrun",
            code="input_unexpected",
        )
    check_folder(data)
    sizes = [parse_size(one) for one in size or []]

    from videopoet import ranks
    from videopoet.data import token_cache
    from videopoet.data import tokenize as writing
    from videopoet.data.prepared import Dataset
    from videopoet.generation import poet_folder

    dataset = Dataset(data)
    where = {"engine": engine, "workers": workers, "device": device}
    with ranks.joined():  # before the model is loaded: each process has a GPU of its own from here on
        parts = poet_folder.load(None if model is None else str(model), "cpu" if engine == "ray" else device, None)
        settings = parts.settings
        if not sizes:
            others = [one for one in parts.vocabulary.config.resolutions if _has(dataset, one)]
            sizes = [(settings.height, settings.width), *others]
        views = token_cache.Views(
            sizes=tuple(dict.fromkeys(sizes)),
            num_frames=settings.num_frames,
            frame_rate=settings.frame_rate,
            sample_rate=parts.audio_tokenizer.sample_rate,
            structure=structure,
        )
        tokenizers = parts.video_tokenizer, parts.audio_tokenizer
        here = {"rank": ranks.rank(), "num_ranks": ranks.count()}
        writing.tokenize(dataset, views, *tokenizers, overwrite=overwrite, **here, **where, progress=True)
        ranks.wait()
        counts = writing.finish(dataset, views) if ranks.rank() == 0 else None
    if counts is None:
        return
    if as_json:
        print_json({"tokens": str(data / token_cache.TOKENS), "views": views.to_dict(), **counts})
        return
    shown = ", ".join(f"{width}x{height}" for height, width in views.sizes)
    print(f"clips   {counts['clips']}, {views.num_frames} frames at {views.frame_rate:g} a second in {shown}")
    print(f"tokens  {counts['tokens']} in {counts['shards']} shards, {counts['bytes'] / 1e6:.1f} MB")
    print(data / token_cache.TOKENS)


def _has(dataset: Dataset, size: tuple[int, int]) -> bool:
    """Whether there are clips that are so large to train on."""
    sizes = dataset.sizes
    return any(sizes[2 * number] >= size[0] and sizes[2 * number + 1] >= size[1] for number in dataset.numbers["train"])
