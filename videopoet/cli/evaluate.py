"""How good a model is: `evaluate`, by the oracle, and `compare`, by people."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from videopoet.cli.base import AsJson, Device, app, check_folder, print_json
from videopoet.errors import ConfigError


@app.command()
def evaluate(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the report.")],
    model: Annotated[str | None, typer.Argument(metavar="MODEL", help="A model; else the one that ships.")] = None,
    tasks: Annotated[
        str | None, typer.Option(metavar="NAME,NAME", help="Only these tasks, or `tokenizer`; without it, all.")
    ] = None,
    count: Annotated[int, typer.Option(min=2, help="Prompts of each task.")] = 50,
    split: Annotated[
        str,
        typer.Option(
            help="in: combinations that training has; combinations: those that it never has; outside: speeds and "
            "sizes out of its range."
        ),
    ] = "in",
    seed: Annotated[int, typer.Option(min=0, help="Number of the first prompt; those below 500 are frozen.")] = 0,
    per_prompt: Annotated[int, typer.Option(min=1, help="Answers to each prompt.")] = 1,
    metrics: Annotated[
        list[str] | None,
        typer.Option("--metric", metavar="NAME=WEIGHTS@SHA256", help="A metric that needs weights; repeatable."),
    ] = None,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Measure a model on every task: figures with intervals, ceilings, chance and baselines, as JSON and as a page.

    Answers are kept in the folder, and the same command goes on where it was interrupted.
    """
    check_folder(output)
    names = None if tasks is None else [name.strip().replace("-", "_") for name in tasks.split(",")]

    from videopoet import VideoPoet
    from videopoet.evaluation import evaluate as evaluation
    from videopoet.evaluation import plugins, report_page, suites

    if split not in suites.SPLITS:
        raise ConfigError(
            f"unknown split '{split}'; there are {', '.join(suites.SPLITS)}; choose one of them", code="split_unknown"
        )
    if names is not None:
        suites.suites_of(names)
    extra = [plugins.load(argument) for argument in metrics or []]
    report = evaluation.evaluate(
        VideoPoet.from_pretrained(model, device=device),
        output,
        tasks=names,
        count=count,
        split=split,
        seed=seed,
        per_prompt=per_prompt,
        metrics=extra,
    )
    if as_json:
        print_json({"report": str(output / evaluation.REPORT), **report})
        return
    print("\n".join(report_page.lines(report)))
    print(f"\n{output / evaluation.PAGE}")


@app.command()
def compare(
    models: Annotated[
        list[str] | None, typer.Argument(metavar="MODEL MODEL", help="Two models, to be compared.")
    ] = None,
    prompts: Annotated[Path | None, typer.Option(help="A text file with one prompt a line.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A new folder for the study.")] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Of the clips, and of which model is on which side; 0 without it.")
    ] = None,
    tally: Annotated[
        bool, typer.Option("--tally", help="Count the votes in the files that are given instead.")
    ] = False,
    key: Annotated[Path | None, typer.Option(help="With --tally: the study's key.json.")] = None,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Ask people which of two models is better: a blind page, and a count of the votes that they saved.

    Give raters the folder without key.json. `videopoet compare --tally votes*.json --key study/key.json` counts.
    """
    given = models or []
    if tally:
        unread = {"--prompts": prompts, "--output": output, "--seed": seed, "--device": device}
        why = "with --tally, which counts votes and makes no study; leave it out"
    else:
        unread, why = {"--key": key}, "without --tally, which alone reads it; leave it out, or count with --tally"
    for name, value in unread.items():
        if value is not None:
            raise ConfigError(f"{name} '{value}' is given {why}", code="input_unexpected")
    if tally:
        if not given or key is None:
            raise ConfigError(
                f"--tally was given {len(given)} files of votes and {'a' if key else 'no'} key; it needs both; write "
                "`videopoet compare --tally votes*.json --key study/key.json`",
                code="input_missing",
            )
        from videopoet.evaluation import compare as comparison

        counted = comparison.tally(given, key)
        if as_json:
            print_json(counted.to_dict())
        else:
            print("\n".join(comparison.lines(counted)))
        return
    if len(given) != 2 or prompts is None or output is None:
        named = (("--prompts", prompts), ("--output", output))
        without = "".join(f", without {name}" for name, value in named if value is None)
        raise ConfigError(
            f"{len(given)} models are given{without}; two models, --prompts and --output are needed; write `videopoet "
            "compare runs/a runs/b --prompts prompts.txt -o study`",
            code="input_missing",
        )
    check_folder(output)

    from videopoet import VideoPoet
    from videopoet.evaluation import compare as comparison

    words = comparison.read_prompts(prompts)
    first, second = (VideoPoet.from_pretrained(model, device=device) for model in given)
    page = comparison.study(first, second, words, output, seed or 0)
    if as_json:
        print_json({"page": str(page), "key": str(output / comparison.KEY), "prompts": len(words)})
    else:
        print(page)
