"""What sums a model up? A line for each headline figure of reports that `videopoet evaluate` wrote.

    videopoet evaluate runs/base --count 500 -o report/
    python benchmarks/headline.py report/

A task that has no headline figure is summed up by the figure that its answers are judged by. The ceiling is the truth
through the tokenizers, and the truth itself where the tokenizers are what is measured. The share of the ceiling is
value / ceiling, and ceiling / value where less is better.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from videopoet.evaluation.evaluate import REPORT
from videopoet.evaluation.figures import metrics_of
from videopoet.evaluation.metrics.base import PerPrompt
from videopoet.evaluation.report_page import HEADLINE, shown

KEPT = ("suite", "number", "figure", "unit", "better", "value", "interval", "ceiling", "share", "chance", "prompts")


def wanted(suite: str) -> list[tuple[str, str]]:
    """The (metric, figure) pairs that sum a suite up."""
    found = [(metric, figure) for name, metric, figure in HEADLINE if name == suite]
    judges = [
        (name, metric.verdict[suite][0])
        for name, metric in metrics_of(suite)
        if isinstance(metric, PerPrompt) and suite in metric.verdict
    ]
    return found or judges


def rows(report: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The headline figures of a report, in its order; of one that is not there, why."""
    about = {name: report[name] for name in ("model", "split", "commit", "date")}
    for suite, measured in report["measured"].items():
        figures = {(one["metric"], one["figure"]): one for one in measured["figures"]}
        for metric, name in wanted(suite):
            found = figures.get((metric, name))
            if found is None:
                why = report["not_measured"].get(f"{suite}: {metric}", "no prompt asked for it")
                yield about | {"suite": suite, "figure": name, "not_measured": why}
                continue
            ceiling = found["truth"] if suite == "tokenizer" else found["tokenizer"]
            share = share_of(found["value"], ceiling, found["better"])
            row = found | {"suite": suite, "ceiling": ceiling, "share": share}
            yield about | {key: row[key] for key in KEPT}
    for suite in report["suites"]:
        if suite not in report["measured"]:
            yield about | {"suite": suite, "not_measured": report["not_measured"].get(suite, "it is not in the report")}


def share_of(value: float, ceiling: float | None, better: str) -> float | None:
    """How much of what its ceiling allows a figure reaches; None where there is no ceiling or it is 0."""
    part, whole = (ceiling, value) if better == "lower" else (value, ceiling)
    return None if part is None or not whole else part / whole


def line(row: dict[str, Any]) -> str:
    """A row for people."""
    named = f"{row['split']:13}{row['suite']:26}"
    if "not_measured" in row:
        return f"{named}{row.get('figure', ''):19}not measured: {row['not_measured']}"
    unit = row["unit"]
    low, high = (shown(end, unit) for end in row["interval"] or (None, None))
    ends = f"({low} to {high})"
    return (
        f"{named}{row['number'] + ' ' + row['figure']:19}{shown(row['value'], unit):>9} {ends:24} "
        f"ceiling {shown(row['ceiling'], unit):>9}, share {shown(row['share'], '%'):>7}, "
        f"chance {shown(row['chance'], unit):>9}, N {row['prompts']}"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reports", nargs="+", type=Path, metavar="FOLDER", help="what `videopoet evaluate -o` wrote")
    parser.add_argument("--json", action="store_true", help="print JSON lines, for programs")
    given = parser.parse_args(arguments)
    for folder in given.reports:
        try:
            report = json.loads((folder / REPORT).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            parser.error(f"no report can be read in '{folder}' ({error}); `videopoet evaluate -o {folder}` writes one")
        if not given.json:
            commit = report["commit"] or "unknown"
            print(f"{report['model']}, {report['model_sha256'][:12]}, commit {commit}, {report['date']}")
        for row in rows(report):
            print(json.dumps(row) if given.json else line(row))


if __name__ == "__main__":
    main()
