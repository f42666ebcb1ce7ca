"""The report as tables: a page that opens from disk without a network, and lines for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

TEMPLATE = Path(__file__).with_suffix(".html")
ARROWS = {"higher": "↑", "lower": "↓", "neither": ""}
HEADLINE = (
    ("text_to_video", "all_correct", "all_correct"),
    ("minimal_pairs", "minimal_pairs", "controlled"),
    ("video_continuation", "physics", "position_8"),
    ("text_to_video", "temporal_consistency", "identity"),
    ("text_to_video", "trajectory_frechet", "tfd"),
    ("video_to_audio", "sound_sync", "f1_50ms"),
    ("stylization", "stylization", "both"),
    ("inpainting", "painting", "reappears"),
    ("tokenizer", "reconstruction", "survival"),
)
"""(suite, metric, figure) of the line that sums a model up."""


def page(report: dict[str, Any]) -> str:
    """The report as one HTML page; clips are files beside it."""
    links = "".join(f'<a href="#{suite}">{_words(suite)}</a>' for suite in report["measured"])
    headline = _headline(report)
    body = f"<h2>Headline</h2>{_table(headline, with_suite=True)}" if headline else ""
    for suite, measured in report["measured"].items():
        body += f'<h2 id="{suite}">{_words(suite)}</h2>'
        body += f"<p>{escape(measured['description'] or '')}</p>" if measured["description"] else ""
        body += _table(measured["figures"])
        body += _gallery([answer for answer in report["answers"] if answer["suite"] == suite])
    skipped = "".join(f"<li>{escape(_words(name))}: {escape(why)}</li>" for name, why in report["not_measured"].items())
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=escape(f"{report['model']}, measured"),
        facts="".join(f"<span>{escape(fact)}</span>" for fact in facts(report)),
        links=links,
        body=body,
        skipped=f"<ul>{skipped}</ul>" if skipped else "<p>Nothing was left out.</p>",
    )


def facts(report: dict[str, Any]) -> list[str]:
    """What the figures depend on, in short lines."""
    frames, height, width = report["size"]
    machine = report["machine"]
    return [
        f"{report['count']} prompts a suite, {report['per_prompt']} answers each",
        f"split {report['split']}, seed {report['seed']}",
        f"{frames} frames of {width}x{height} at {report['frame_rate']:g} a second",
        f"{report['codes']['video_bits_per_pixel']} bits a pixel, {report['codes']['audio_kbit_per_second']} kbit/s",
        f"{sum(report['parameters'].values()) / 1e6:.1f} M parameters",
        f"date {report['date']}",
        f"videopoet {report['videopoet']}, commit {report['commit'] or 'unknown'}",
        f"model {report['model_sha256'][:12]}",
        f"prompts {report['prompts_sha256'][:12]}",
        f"oracle {report['oracle_sha256'][:12]}",
        f"{machine.get('gpu') or machine['processor']}, {report['peak_memory_mb']:.0f} MB at most",
    ]


def lines(report: dict[str, Any]) -> list[str]:
    """The report for a terminal."""
    printed = [*facts(report)]
    for suite, measured in report["measured"].items():
        header = ("", "value", "95% interval", "N", "tokenizer", "truth", "chance", "baselines")
        rows = [header, *(_cells(figure) for figure in measured["figures"])]
        widths = [max(len(row[column]) for row in rows) for column in range(len(header) - 1)]
        printed += ["", suite]
        for row in rows:
            first = row[0].ljust(widths[0])
            rest = [cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:], strict=True)]
            printed.append("  ".join([f"  {first}", *rest, row[-1]]).rstrip())
    if report["not_measured"]:
        printed += ["", "not measured", *(f"  {name}: {why}" for name, why in report["not_measured"].items())]
    return printed


def shown(value: float | None, unit: str) -> str:
    """A value as it is printed: shares in percent."""
    if value is None:
        return "-"
    if unit == "%":
        return f"{round(100 * value, 1) + 0.0:.1f}%"  # what rounds to -0 is 0
    digits = 1 if abs(value) >= 100 else 2 if abs(value) >= 1 else 3
    return f"{value:.{digits}f}{f' {unit}' if unit else ''}"


def _cells(figure: dict[str, Any]) -> tuple[str, ...]:
    unit, interval = figure["unit"], figure["interval"]
    between = f"{shown(interval[0], unit)} to {shown(interval[1], unit)}" if interval else "-"
    others = ", ".join(f"{name} {shown(value, unit)}" for name, value in figure["baselines"].items())
    return (
        f"{figure['number']} {figure['figure']} {ARROWS[figure['better']]}".rstrip(),
        shown(figure["value"], unit),
        between,
        str(figure["prompts"]),
        *(shown(figure[name], unit) for name in ("tokenizer", "truth", "chance")),
        others,
    )


def _headline(report: dict[str, Any]) -> list[dict[str, Any]]:
    found = []
    for suite, metric, name in HEADLINE:
        for figure in report["measured"].get(suite, {}).get("figures", []):
            if (figure["metric"], figure["figure"]) == (metric, name):
                found.append({**figure, "suite": suite})
    return found


def _table(figures: Sequence[dict[str, Any]], with_suite: bool = False) -> str:
    if not figures:
        return "<p>No prompt of these asks for a figure.</p>"
    suite_head = '<th class="name">suite</th>' if with_suite else ""
    head = (
        f'<tr>{suite_head}<th class="name">figure</th><th>value</th><th>95% interval</th><th>N</th><th>tokenizer</th>'
        '<th>truth</th><th>chance</th><th>normalised</th><th class="name">baselines</th>'
        '<th class="words">what it is</th></tr>'
    )
    rows = []
    for figure in figures:
        name, value, between, prompts, tokens, truth, chance, others = map(escape, _cells(figure))
        warning = f'<small class="warning">{escape(figure["warning"])}</small>' if figure["warning"] else ""
        suite = f'<td class="name">{escape(_words(figure["suite"]))}</td>' if with_suite else ""
        cells = "".join(f"<td>{cell}</td>" for cell in (between, prompts, tokens, truth, chance))
        rows.append(
            f'<tr>{suite}<td class="name">{name}</td><td class="value">{value}</td>{cells}'
            f"<td>{shown(figure['normalised'], '%')}</td>"
            f'<td class="name">{others.replace(", ", "<br>") or "-"}</td>'
            f'<td class="words">{escape(figure["meaning"])}{warning}</td></tr>'
        )
    return f'<div class="scroll"><table>{head}{"".join(rows)}</table></div>'


def _gallery(answers: Sequence[dict[str, Any]]) -> str:
    if not answers:
        return ""
    judged_by = " or ".join(dict.fromkeys(_words(answer["figure"]) for answer in answers))
    sides = ""
    for success, title in ((True, "Successes"), (False, "Failures")):
        chosen = [answer for answer in answers if answer["success"] == success]
        cards = "".join(map(_card, chosen)) or "<p>None.</p>"
        sides += f'<section class="{title.lower()}"><h3>{title}, by {judged_by}</h3>{cards}</section>'
    return f'<div class="sides">{sides}</div>'


def _card(answer: dict[str, Any]) -> str:
    prompt = f'<p class="prompt">{escape(answer["prompt"])}</p>' if answer["prompt"] else ""
    given = ", ".join(answer["given"]) + (f" ({answer['mask']})" if answer["mask"] else "")
    return (
        f'<div class="answer">{prompt}'
        + (f"<p>Given: {escape(given)}</p>" if given else "")
        + f"<p>Read: {escape(answer['read'])}</p>"
        f'<div class="pair"><figure>{_player(answer["file"], answer.get("text"))}answer {answer["number"]}</figure>'
        f"<figure>{_player(answer['truth'], answer.get('true_text'))}truth</figure></div></div>"
    )


def _player(file: str, text: str | None) -> str:
    source = escape(file)
    if file.endswith(".mp4"):
        return f'<video src="{source}" controls loop muted preload="metadata"></video>'
    if file.endswith(".wav"):
        return f'<audio src="{source}" controls preload="metadata"></audio>'
    if file.endswith(".png"):
        return f'<img src="{source}" alt="">'
    return f"<pre>{escape(text or '')}</pre>"


def _words(name: str) -> str:
    return name.replace("_", " ")
