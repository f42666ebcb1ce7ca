"""A language model made a poet: `convert`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from videopoet.cli.base import AsJson, app, check_folder, print_tree, say


@app.command()
def convert(
    source: Annotated[str, typer.Argument(metavar="MODEL", help="A causal LM of transformers: a folder or a hub id.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the poet.")],
    video_tokenizer: Annotated[
        str | None,
        typer.Option(
            help="Folder of a tokenizer or a poet, or the hub id of a published one; without it, the one that ships."
        ),
    ] = None,
    audio_tokenizer: Annotated[str | None, typer.Option(help="The same for sound.")] = None,
    audio_levels: Annotated[
        int | None, typer.Option(min=1, help="How many levels of a published codec to use; 4 without it.")
    ] = None,
    text_encoder: Annotated[
        str | None,
        typer.Option(help="Folder or hub id of a T5 whose frozen features stand for prompts; without it, their ids."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Chooses the starting values of the new tokens.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Give a language model a vocabulary of video and sound, ready for training.

    Its text ids and what it says of text stay as they are.
    """
    check_folder(output)

    from videopoet import presets
    from videopoet.generation import convert as conversion

    made = conversion.convert(
        source,
        output,
        video_tokenizer=video_tokenizer,
        audio_tokenizer=audio_tokenizer,
        audio_levels=audio_levels,
        text_encoder=text_encoder,
        seed=seed,
    )
    if made.causal_prefix:
        say(
            f"warning: models of the family '{made.family}' ignore a mask that is bidirectional over the prefix; this "
            "one is trained and used with a causal prefix"
        )
    usual = presets.small().world.sample_rate
    rate = "" if made.sample_rate == usual else f" --set world.sample_rate={made.sample_rate}"
    train = f"videopoet train --preset small --init-from {made.folder} --stages language_model{rate} --output FOLDER"
    described = {
        "poet": str(made.folder),
        "family": made.family,
        "parameters": made.parameters,
        "added": made.added,
        "vocabulary": {
            "text": made.vocabulary.text_size,
            "special": made.vocabulary.num_special,
            "video": made.vocabulary.visual_codes,
            "audio": made.vocabulary.audio_codebook_size * made.vocabulary.audio_quantizers,
        },
        "longest_row": made.longest,
        "prefix": "causal" if made.causal_prefix else "bidirectional",
        "next": train,
    }
    print_tree(described, as_json)
