"""A preference study: clips of two models side by side, blind, and what people's votes say.

    study(a, b, prompts, "study")          # study/index.html for raters, study/key.json for nobody until the end
    tally([votes_1, votes_2], key)

The page holds no name: which model is left is drawn for each prompt, clips have neutral names, and the key is a file of
its own. Raters save their votes as a file, as the page needs no server.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import torch

from videopoet import checkpoint, runtime
from videopoet.errors import ConfigError, DataError
from videopoet.evaluation.evaluate import answer_seed
from videopoet.evaluation.provenance import model_hash
from videopoet.evaluation.statistics import Interval, fleiss_kappa, krippendorff_alpha, share_interval
from videopoet.generation.pipeline import VideoPoet
from videopoet.generation.request import Request
from videopoet.media.files import write

PAGE, KEY = "index.html", "key.json"
TEMPLATE = Path(__file__).with_name("preferences.html")
QUESTIONS = {
    "text_fidelity": "Which follows the words better?",
    "motion_interest": "Which moves more interestingly?",
    "quality": "Which looks better?",
    "realism": "Which moves more realistically?",
    "consistency": "Which stays more consistent from start to end?",
}
"""VideoPoet's five axes (5.3)."""
CHOICES = ("left", "right", "none")
ORIGINS = {"key": "`videopoet compare` writes one as key.json", "votes": "raters save them from the page"}
AT_ONCE = 16


@dataclass(frozen=True)
class Outcome:
    """What the votes on one question say."""

    question: str
    wins: int
    """Votes for the first model."""
    ties: int
    losses: int
    win_share: float
    """Of the votes with a preference, those for the first model; NaN where there is none."""
    interval: Interval
    """95%, of that share, by Wilson."""
    kappa: float | None
    """Fleiss' kappa; None unless every prompt has the same number of votes, two or more."""
    alpha: float
    """Krippendorff's alpha, nominal; NaN where no prompt has two votes or all votes are one."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; what is not a number is None."""
        values = {**vars(self), "interval": list(self.interval)}
        return {
            name: None if isinstance(value, float) and math.isnan(value) else value for name, value in values.items()
        }


@dataclass(frozen=True)
class Counted:
    """What the votes of a study say."""

    models: tuple[str, str]
    """The first, whose wins are counted, and the second, with the beginnings of their hashes, or settings that differ
    where the weights are the same."""
    raters: dict[str, int]
    """How many prompts each rater answered, in part or whole."""
    num_prompts: int
    outcomes: list[Outcome]
    """One for each question."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**vars(self), "models": list(self.models), "outcomes": [one.to_dict() for one in self.outcomes]}


def read_prompts(path: str | Path) -> list[str]:
    """One prompt a line; empty lines are passed over.

    Raises:
        DataError: The file is missing or no text, or holds no prompt, or one of them twice.
    """
    try:
        prompts = [line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"prompts '{path}' cannot be read ({error}); a text file with one prompt a line fits; check the path",
            code="prompts_missing",
        ) from None
    if not prompts:
        raise DataError(f"'{path}' holds no prompt; one a line is wanted; write some", code="prompts_missing")
    doubled = next((prompt for i, prompt in enumerate(prompts) if prompt in prompts[:i]), None)
    if doubled is not None:
        raise DataError(f"'{path}' holds '{doubled}' twice; each prompt once fits; delete one", code="prompts_doubled")
    return prompts


def study(first: VideoPoet, second: VideoPoet, prompts: Sequence[str], output: str | Path, seed: int = 0) -> Path:
    """Make both models' clips for every prompt, from equal seeds, and a page that asks which is better.

    Returns:
        The page; the key stands beside it and is not part of what raters are given.

    Raises:
        ConfigError: The folder is not empty, or both models have the same weights and settings.
        TaskError: A prompt cannot be read.
    """
    output = Path(output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ConfigError(f"'{output}' is not a new folder; a study needs one; choose another", code="output_exists")
    hashes = [model_hash(poet) for poet in (first, second)]
    settings = [poet.parts.settings.model_dump(mode="json", exclude={"name", "tasks"}) for poet in (first, second)]
    if hashes[0] == hashes[1] and settings[0] == settings[1]:
        raise ConfigError(
            f"both models have the same weights (sha256 {hashes[0][:12]}) and settings; a study compares two; name "
            "another",
            code="models_equal",
        )
    name = hashlib.sha256(json.dumps([*hashes, *settings, *prompts, seed]).encode()).hexdigest()[:16]
    first_is_left = sides(len(prompts), seed)
    with checkpoint.atomic_folder(output) as place:
        (place / "clips").mkdir()
        for poet, is_first in ((first, True), (second, False)):
            for start in range(0, len(prompts), AT_ONCE):
                numbers = range(start, min(start + AT_ONCE, len(prompts)))
                requests = [
                    Request(task="text_to_video", prompt=prompts[n], seed=answer_seed("study", seed, n, 0))
                    for n in numbers
                ]
                for number, result in zip(numbers, poet.generate_batch(requests), strict=True):
                    side = "left" if first_is_left[number] == is_first else "right"
                    assert not isinstance(result.media, str)
                    # Without metadata: it would say which model made the clip.
                    write(result.media, place / "clips" / f"{number:04d}-{side}.mp4")
        pairs = [
            {
                "id": f"{number:04d}",
                "prompt": prompt,
                "left": f"clips/{number:04d}-left.mp4",
                "right": f"clips/{number:04d}-right.mp4",
            }
            for number, prompt in enumerate(prompts)
        ]
        (place / PAGE).write_text(page({"id": name, "questions": QUESTIONS, "pairs": pairs}), encoding="utf-8")
        key = {
            "study": name,
            "models": [poet.parts.settings.name for poet in (first, second)],
            "model_sha256": hashes,
            "settings": settings,
            "seed": seed,
            "first_is": {
                pair["id"]: "left" if left else "right" for pair, left in zip(pairs, first_is_left, strict=True)
            },
        }
        checkpoint.write_json(place / KEY, key)
    return output / PAGE


def sides(count: int, seed: int) -> list[bool]:
    """Whether the first model is on the left, by lot, prompt by prompt."""
    return torch.randint(2, (count,), generator=runtime.generator("sides", seed)).bool().tolist()


def tally(votes: Sequence[str | Path], key: str | Path) -> Counted:
    """What votes say, question by question, seen from the first model.

    Raises:
        DataError: A file cannot be read, belongs to another study, comes twice, or answers what was not asked.
    """
    facts = _read(key, "key")
    places = facts.get("first_is")
    if not isinstance(places, dict) or not places or not isinstance(facts.get("study"), str):
        raise _foreign(key, "key")
    names, hashes = (facts.get(name) for name in ("models", "model_sha256"))
    if not (isinstance(names, list) and isinstance(hashes, list) and len(names) == len(hashes) == 2):
        raise _foreign(key, "key")
    if any(side not in ("left", "right") for side in places.values()):
        raise _foreign(key, "key")
    ballots: dict[str, dict[str, Any]] = {}
    for path in votes:
        ballot = _read(path, "votes")
        if ballot.get("study") != facts.get("study"):
            raise DataError(
                f"the votes in '{path}' are of study {ballot.get('study')}, the key is of {facts.get('study')}; leave "
                "them out or give their own key",
                code="votes_mismatch",
            )
        rater = str(ballot.get("rater") or path)
        if rater in ballots:
            raise DataError(
                f"rater '{rater}' has voted twice, last in '{path}'; each counts once; leave one file out",
                code="votes_doubled",
            )
        ballots[rater] = _checked(ballot.get("answers"), places, path)
    outcomes = []
    for question in QUESTIONS:
        items = [
            [
                _seen(answer, places[pair])
                for answers in ballots.values()
                if (answer := answers.get(pair, {}).get(question))
            ]
            for pair in places
        ]
        outcomes.append(_outcome(question, [item for item in items if item]))
    apart = _apart(facts.get("settings")) if hashes[0] == hashes[1] else ("", "")
    first, second = (f"{name} ({str(sha)[:12]}{own})" for name, sha, own in zip(names, hashes, apart, strict=True))
    answered = {rater: sum(map(bool, answers.values())) for rater, answers in ballots.items()}
    return Counted((first, second), answered, len(places), outcomes)


def lines(counted: Counted) -> list[str]:
    """The outcomes for a terminal."""
    first, second = counted.models
    raters = ", ".join(f"{rater} ({count})" for rater, count in counted.raters.items())
    printed = [
        _printable(f"wins are those of {first}, losses those of {second}"),
        _printable(f"{len(counted.raters)} raters, of {counted.num_prompts} prompts each: {raters}"),
        "",
        f"{'':16} wins  ties  losses  win share of preferences      kappa  alpha",
    ]
    for one in counted.outcomes:
        share = "-" if math.isnan(one.win_share) else f"{100 * one.win_share:.1f}%"
        between = f"({100 * one.interval.low:.1f}% to {100 * one.interval.high:.1f}%)" if share != "-" else ""
        kappa = "-" if one.kappa is None or math.isnan(one.kappa) else f"{one.kappa:.2f}"
        alpha = "-" if math.isnan(one.alpha) else f"{one.alpha:.2f}"
        words = one.question.replace("_", " ")
        printed.append(
            f"{words:16} {one.wins:4}  {one.ties:4}  {one.losses:6}  {share:>6} {between:20}  {kappa:>5}  {alpha:>5}"
        )
    return printed


def _apart(settings: Any) -> tuple[str, str]:
    """What the settings of each of two models of the same weights say in another way than the other's."""
    if not (isinstance(settings, list) and len(settings) == 2 and all(isinstance(one, dict) for one in settings)):
        return "", ""
    first, second = settings
    differing = [
        (f", {name} {own}", f", {name} {second.get(name)}") for name, own in first.items() if own != second.get(name)
    ]
    return "".join(one for one, _ in differing), "".join(other for _, other in differing)


def _printable(line: str) -> str:
    """Names come from files of others; none commands the terminal."""
    return "".join(character if character.isprintable() else " " for character in line)


def _outcome(question: str, items: list[list[str]]) -> Outcome:
    counts = {choice: sum(item.count(choice) for item in items) for choice in ("first", "none", "second")}
    preferences = counts["first"] + counts["second"]
    raters = {len(item) for item in items}
    kappa = None
    if len(raters) == 1 and min(raters) > 1:
        kappa = fleiss_kappa(
            torch.tensor([[item.count(choice) for choice in counts] for item in items]).double().numpy()
        )
    return Outcome(
        question=question,
        wins=counts["first"],
        ties=counts["none"],
        losses=counts["second"],
        win_share=counts["first"] / preferences if preferences else math.nan,
        interval=share_interval(counts["first"], preferences),
        kappa=kappa,
        alpha=krippendorff_alpha(items),
    )


def _seen(answer: str, first_is: str) -> str:
    return "none" if answer == "none" else "first" if answer == first_is else "second"


def _checked(answers: Any, places: dict[str, str], path: str | Path) -> dict[str, dict[str, str]]:
    known = isinstance(answers, dict) and all(isinstance(given, dict) for given in answers.values())
    wrong = None
    if known:
        wrong = next(
            (
                f"{pair}: {question} {choice}"
                for pair, given in answers.items()
                for question, choice in given.items()
                if pair not in places or question not in QUESTIONS or choice not in CHOICES
            ),
            None,
        )
    if not known or wrong is not None:
        raise DataError(
            f"'{path}' holds what is no vote ({wrong or 'no answers'}); votes are left, right or none on the page's "
            "questions; save them again from the page",
            code="votes_invalid",
        )
    return answers


def _read(path: str | Path, what: str) -> dict[str, Any]:
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(
            f"the {what} in '{path}' cannot be read ({error.strerror}); {ORIGINS[what]}; check the path",
            code=f"{what}_missing",
        ) from None
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise _foreign(path, what)
    return values


def _foreign(path: str | Path, what: str) -> DataError:
    return DataError(
        f"'{path}' is broken or holds no {what} of a study; {ORIGINS[what]}; check the path", code=f"{what}_invalid"
    )


def page(values: dict[str, Any]) -> str:
    """The study as one HTML page that needs no server."""
    # "</" would end the script that the values stand in.
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(study=json.dumps(values).replace("</", "<\\/"))
