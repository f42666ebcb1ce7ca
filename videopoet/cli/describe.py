"""What there is: `tasks` and `info`."""

from __future__ import annotations

from typing import Annotated

import typer

from videopoet import __version__
from videopoet.cli.base import AsJson, app, print_json, print_tree


@app.command()
def tasks(as_json: AsJson = False) -> None:
    """List every task: what it takes, what it gives."""
    from videopoet.sequence.tasks import TASKS

    if as_json:
        described = [
            {
                "name": task.name,
                "description": task.description,
                "requires": task.requires,
                "optional": task.optional,
                "gives": task.gives,
            }
            for task in TASKS.values()
        ]
        print_json(described)
        return
    rows = [("TASK", "TAKES [OPTIONAL]", "GIVES", "")]
    for task in TASKS.values():
        takes = [*task.requires, *(f"[{name}]" for name in task.optional)]
        rows.append((task.name, " ".join(takes) or "nothing", " ".join(task.gives), task.description))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        print("  ".join([*(cell.ljust(width) for cell, width in zip(row[:3], widths, strict=True)), row[3]]).rstrip())


@app.command()
def info(
    model: Annotated[str | None, typer.Argument(metavar="FOLDER", help="A model; else the one that ships.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say what a model consists of and what this machine can do."""
    from videopoet import VideoPoet, runtime

    described = VideoPoet.from_pretrained(model).describe()
    print_tree({"videopoet": __version__, "model": described, "machine": runtime.describe_machine()}, as_json)
