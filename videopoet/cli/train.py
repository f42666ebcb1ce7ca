"""Models and their data: `train` and `toybox`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from videopoet.cli.base import AsJson, Device, app, check_folder, print_json, say
from videopoet.errors import ConfigError

if TYPE_CHECKING:
    from videopoet.training.run import RunConfig


@app.command()
def train(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the run.")],
    preset: Annotated[
        str | None,
        typer.Option(
            help="The settings to start from: tiny, small, fine_tune, paper, paper_1b or paper_8b; without it "
            "fine_tune for footage, else tiny."
        ),
    ] = None,
    config_file: Annotated[
        Path | None,
        typer.Option(
            "--config",
            metavar="FILE",
            help="The config.json of another run, or what --dry-run printed as .yaml, in place of a preset.",
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="Footage, raw or prepared, or `toybox`; else what the preset says."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change a setting that `train --dry-run` lists, such as language_model.model.width=320; repeatable.",
        ),
    ] = None,
    init_from: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Start from a model's weights: a folder, a hub id or `bundled`.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint in the folder.")] = False,
    minutes: Annotated[
        float | None,
        typer.Option(min=0, help="End after so many, with a checkpoint that --resume goes on from."),
    ] = None,
    max_shard_size: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Leave finished weights in files of at most so much, such as 16MB."),
    ] = None,
    stages: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,NAME",
            help="Only these of video_tokenizer, audio_tokenizer, language_model and super_resolution.",
        ),
    ] = None,
    device: Device = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check and print the settings, each explained, and stop.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Train the tokenizers and the model of a preset on clips; without a preset, footage tunes the bundled model."""
    check_folder(output)

    from videopoet import checkpoint, presets
    from videopoet.config import override

    flags = {"data": data, "init_from": init_from}
    assignments = [*(settings or []), *(f"{name}={value}" for name, value in flags.items() if value is not None)]
    usual = "tiny" if data in (None, "toybox") else "fine_tune"
    max_bytes = None if max_shard_size is None else checkpoint.num_bytes(max_shard_size)

    from videopoet.training import ending, footage, run, run_folder

    begun = presets.preset(preset or usual) if config_file is None else run.read_config(config_file)
    if config_file is not None and preset is not None:
        raise ConfigError(
            f"--config '{config_file}' and --preset {preset} both say what to begin with; leave one of them out",
            code="config_invalid",
        )
    config = override(begun, assignments)

    if stages is not None:
        config = config.model_copy(update={"stages": run.stage_names(stages)})
    if dry_run:
        if as_json:
            print_json(config.to_dict())
        else:
            print(config.explained(), end="")
        return
    run_folder.refuse_another(output, resume)  # before footage takes the place of what is trained on
    if footage.is_raw(config.data):
        run.check_source(config)
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise ConfigError(
                f"'{config.data}' holds files that are not prepared yet, and one process alone can do that; run "
                f"`videopoet prepare {config.data} -o DATA` first, and train on DATA",
                code="data_unprepared",
            )
        config = _prepared(config, output)
    config, notes = footage.fitted(config)
    speaks = os.environ.get("RANK", "0") == "0"  # of several processes that torchrun started, the first one
    for note in notes if speaks else []:
        say(f"warning: {note}")
    try:
        poet = run.train(config, output, resume=resume, device=device, minutes=minutes, max_shard_size=max_bytes)
    except ending.Ended as ended:
        say(str(ended))
        if as_json:
            print_json({"poet": None, "figures": run.last_figures(output)})
        raise typer.Exit(0 if ended.signal is None else 128 + ended.signal) from None
    if not speaks:
        return
    for stage, figures in run.last_figures(output).items():
        if "train" in figures:
            say(f"{stage.replace('_', ' ')}: {_pace(figures['train'])}")
    if as_json:
        print_json({"poet": str(poet), "figures": run.last_figures(output)})
    elif poet.exists():
        print(poet)


def _pace(figures: dict[str, Any]) -> str:
    """How fast a stage went at its end, in words."""
    said = [f"{figures['steps_per_second']:.3g} steps/s"] if "steps_per_second" in figures else []
    if "tokens_per_second" in figures:
        said.append(f"{figures['tokens_per_second']:,.0f} tokens/s, {figures['padding']:.1%} padding")
    if "mfu" in figures:
        said += [
            f"{figures['mfu']:.1%} of the processor's peak (MFU)",
            f"{figures['loader_wait']:.1%} waiting for data",
        ]
    if figures.get("skipped"):
        said.append(f"{figures['skipped']:g} steps left out")
    return ", ".join(said)


def _prepared(config: RunConfig, output: Path) -> RunConfig:
    """Prepare the footage that a run is given, beside what is trained on it; a run that has begun keeps its clips."""
    from videopoet.cli.prepare import lines
    from videopoet.data import combine, prepare
    from videopoet.training import footage, run_folder

    place = output / "data"
    if run_folder.is_begun(output) and (place / combine.DATASET).exists():
        say(f"the run goes on with the clips in '{place}'; '{config.data}' is not looked at again")
    else:
        counts = prepare.prepare(config.data, place, footage.clips_for(config), progress=True)
        for line in lines(counts):
            say(line)
    return config.model_copy(update={"data": str(place)})


@app.command()
def toybox(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the clips.")],
    count: Annotated[int, typer.Option(min=1, help="How many clips.")] = 16,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first; the next follow.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Write clips of the synthetic world, each with its caption beside it."""
    check_folder(output)

    from videopoet import runtime
    from videopoet.data.toybox import ToyBox
    from videopoet.media.types import Audio, Video

    world = ToyBox()
    written = []
    with runtime.progress(count, "toy box") as advance:
        for number in range(seed, seed + count):
            clips = world.render([world.scene(number)])
            sound = None if clips.audio is None else Audio(clips.audio[0], clips.sample_rate)
            clip = Video.from_pixels(clips.video[0], clips.frame_rate, sound)
            file, caption = output / f"{number:06d}.mp4", clips.captions[0]
            clip.save(file)
            file.with_suffix(".txt").write_text(caption + "\n", encoding="utf-8")
            written.append({"video": str(file), "caption": caption})
            advance()
    if as_json:
        print_json(written)
