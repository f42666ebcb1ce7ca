"""What a run will take: `plan`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from videopoet.cli.base import AsJson, app, print_json


@app.command()
def plan(
    config: Annotated[
        str,
        typer.Argument(metavar="PRESET", help="tiny, small, paper, paper_1b ..., as in `train --preset`."),
    ],
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change a setting that `train --dry-run` lists, such as language_model.model.width=320; repeatable.",
        ),
    ] = None,
    init_from: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Start from this model, as in `train`.")
    ] = None,
    gpus: Annotated[int, typer.Option(min=1, help="How many GPUs; each sees batches of its own.")] = 1,
    memory: Annotated[float, typer.Option(min=0.001, help="Memory of each, in GB.")] = 80.0,
    teraflops: Annotated[
        float, typer.Option(min=0.001, help="What each keeps up, in 10^12 operations a second.")
    ] = 400.0,
    as_json: AsJson = False,
) -> None:
    """Say what a run will take before it is started: parameters, memory, operations, tokens and days.

    Every kind of step is gone through with tensors that have no values. Rendering, reading, saving and validation are
    not counted. The last line is the memory that a clip will take from the finished model.
    """
    from videopoet import presets
    from videopoet.config import override

    assignments = [*(settings or []), *([f"init_from={init_from}"] if init_from is not None else [])]
    run = override(presets.preset(config), assignments)

    from videopoet.training import generation_plan
    from videopoet.training import plan as planning

    stages = planning.plan(run, gpus, teraflops)
    clip = generation_plan.generation(run)
    if as_json:
        totals = {"gpus": gpus, "memory": memory * 1e9, "teraflops": teraflops}
        described = [asdict(stage) | {"fits": stage.memory <= memory * 1e9} for stage in stages]
        days = sum(stage.days for stage in stages)
        print_json({**totals, "stages": described, "days": days, "generation": asdict(clip)})
        return
    for stage in stages:
        parts = ", ".join(f"{name} {_short(count)}" for name, count in stage.parameters.items())
        print(f"{stage.stage.replace('_', ' ')}: {_short(sum(stage.parameters.values()))} parameters ({parts})")
        print(f"  {_short(stage.steps)} steps of {stage.flops_per_step:.3g} FLOP, {_short(stage.tokens)} tokens in all")
        recomputes = getattr(getattr(run, stage.stage), "recompute", True)  # tokenizers cannot
        print(f"  {_size(stage.memory)} on each GPU, {_verdict(stage, memory, gpus, recomputes)}")
        print(f"  {stage.flops:.3g} FLOP, {_time(stage.days)}")
    print(
        f"in all: {_time(sum(stage.days for stage in stages))} on {gpus} {'GPUs' if gpus > 1 else 'GPU'} at "
        f"{teraflops:g} TFLOP/s"
    )
    upscaled = "" if clip.memory_upscaled is None else f", {_size(clip.memory_upscaled)} where it is upscaled"
    print(f"a clip from the finished model: {_size(clip.memory)}{upscaled}; {_size(clip.weights)} of it are weights")


def _verdict(stage: Any, limit: float, gpus: int, recomputes: bool) -> str:
    if stage.memory <= limit * 1e9:
        return f"which fits {limit:g} GB"
    divide = stage.memory_sharded < stage.memory
    shards = (
        f"; with {stage.stage}.training.sharding=full, weights and states divided among {gpus}, it would be "
        f"{_size(stage.memory_sharded)}"
    )
    recompute = "" if recomputes else f" or set {stage.stage}.recompute=true"
    return (
        f"which does not fit {limit:g} GB{shards if divide else ''}; lower batch_size and raise "
        f"training.accumulation{recompute}"
    )


def _short(number: float) -> str:
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g} {letter}"
    return f"{number:g}"


def _size(number: int) -> str:
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.0f} MB"


def _time(days: float) -> str:
    for size, unit in ((1, "days"), (1 / 24, "hours"), (1 / 1440, "minutes")):
        if days >= size:
            return f"{days / size:.1f} {unit}"
    return f"{days * 86400:.2g} seconds"
