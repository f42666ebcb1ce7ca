"""Measure a model: make its answers to every suite, read them back, and write the report.

    report = evaluate(VideoPoet.from_pretrained("runs/base"), "report", count=100)

Answers are kept under `samples/`. Asked again for the same evaluation, what is there is not made again; an evaluation
of another kind is refused, so that no report mixes two.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from videopoet import __version__, checkpoint, runtime
from videopoet.data.toybox import ToyBox
from videopoet.errors import CheckpointError, ConfigError, shortened
from videopoet.evaluation import baselines, figures, plugins, prompts, provenance, report_page, samples, world_network
from videopoet.evaluation.cases import Case, Take
from videopoet.evaluation.figures import MODEL, REFERENCE, TOKENS, TRUTH, Tally
from videopoet.evaluation.metrics.base import Metric, OverAll, PerPrompt, Weighty
from videopoet.evaluation.prompts import Split
from videopoet.evaluation.reading import oracle_hash
from videopoet.evaluation.suites import (
    REFERENCE_PROMPTS,
    cases,
    fingerprint,
    left_out,
    num_frozen,
    num_prompts,
    suites_of,
    task_of,
    world_of,
)
from videopoet.generation.pipeline import VideoPoet
from videopoet.generation.window import Window
from videopoet.sequence.tasks import TASKS

SETTINGS, REPORT, PAGE = "evaluation.json", "report.json", "index.html"
AT_ONCE = 16
"""Prompts, at the most, whose answers are in memory together; they are drawn by lot, and chance is taken among them."""
MOST_SHARED = 600
"""True answers that are kept for later suites: less than a megabyte each at 64x64."""
SHOWN = 6
"""Successes, and failures, of each suite that the page shows."""


def evaluate(
    poet: VideoPoet,
    output: str | Path,
    *,
    tasks: Sequence[str] | None = None,
    count: int = 50,
    split: Split = "in",
    seed: int = 0,
    per_prompt: int = 1,
    metrics: Iterable[tuple[str, Metric]] = (),
    progress: bool = True,
) -> dict[str, Any]:
    """Write `report.json`, `index.html` and `samples/` into a folder, and return what the first holds.

    Args:
        poet: The model.
        output: The folder; it must be new, or of this very evaluation.
        tasks: Of the table, or `tokenizer`; None is all that the model was trained for, and the tokenizer.
        count: Prompts of each suite; of minimal pairs 200 at most.
        split: `in` has combinations of shape, colour and motion that training has, `combinations` those that it has
            not, `outside` speeds and sizes out of the range of training.
        seed: Number of the first prompt; the next follow. Those below 500 are the frozen prompts.
        per_prompt: Answers to each prompt, from seeds of their own.
        metrics: More of them, by name: those that need weights.
        progress: Show a bar, if standard error is a terminal.

    Raises:
        ConfigError: A task or split that there is not, a metric twice, or a folder that holds something else.
        DataError: Samples in the folder that cannot be scored, or the file of frozen prompts has been changed.
        MediaError: The model's clips are too small for the oracle.
    """
    output, extra = Path(output), list(metrics)
    if count < 2 or per_prompt < 1:
        raise ConfigError(
            f"{count} prompts with {per_prompt} answers each are asked for; 2 prompts and 1 answer are the least; "
            "raise them",
            code="config_invalid",
        )
    trained = poet.parts.settings.tasks
    chosen = suites_of([*trained, "tokenizer"] if tasks is None else list(tasks))
    names = [name for name, _ in extra]
    if doubled := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError(
            f"{doubled} is asked for {names.count(doubled)} times; a report holds the figures and the weights of one; "
            "measure with other weights into another folder",
            code="metric_doubled",
        )
    for name, metric in extra:
        _check_asked(name, metric, chosen, count)
    window = Window(poet.parts)
    world = world_of(window, split)
    settings = {
        "model": poet.parts.settings.name,
        "model_sha256": provenance.model_hash(poet),
        "suites": chosen,
        "count": count,
        "per_prompt": per_prompt,
        "split": split,
        "seed": seed,
        "frozen_prompts_sha256": prompts.SHA256,
        "size": [window.num_frames, window.height, window.width],
        "frame_rate": window.frame_rate,
        "sampling": {task: asdict(poet.parts.settings.sampling_of(task)) for task in map(task_of, chosen)},
        "weights_sha256": {
            name: plugins.fingerprint(metric.weights) for name, metric in extra if isinstance(metric, Weighty)
        },
    }
    _open(output, settings)
    began = time.perf_counter()
    measured: dict[str, Any] = {}
    truths = _Truths()
    answers: list[dict[str, Any]] = []
    skipped: dict[str, str] = {}
    for suite in chosen:
        if suite != "tokenizer" and task_of(suite) not in trained:
            skipped[suite] = f"this model was not trained for {task_of(suite)}"
            continue
        if (reason := left_out(suite, split)) is not None:
            skipped[suite] = reason
            continue
        work = _Suite(poet, window, world, suite, output / "samples" / suite, settings, extra, truths)
        measured[suite] = work.measure(progress)
        answers += work.shown
        skipped |= {f"{suite}: {name}": reason for name, reason in work.skipped.items()}
    report = {
        "videopoet": __version__,
        "commit": provenance.commit(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        **settings,
        "prompts_sha256": hashlib.sha256(
            "".join(one["prompts_sha256"] for one in measured.values()).encode()
        ).hexdigest(),
        "oracle_sha256": oracle_hash(),
        "world_network_sha256": world_network.SHA256,
        "codes": provenance.code_facts(poet, window),
        "parameters": poet.describe()["parameters"],
        "machine": runtime.describe_machine(poet.parts.device),
        "peak_memory_mb": provenance.peak_memory(poet.parts.device),
        "took_seconds": round(time.perf_counter() - began, 1),
        "measured": measured,
        "not_measured": skipped,
        "answers": answers,
    }
    checkpoint.write_json(output / REPORT, report)
    page = report_page.page(report)
    checkpoint.write_atomically(output / PAGE, lambda path: path.write_text(page, encoding="utf-8"))
    return report


class _Truths:
    """True answers and what the tokenizers keep of them. Many tasks have the same, which are read once."""

    def __init__(self) -> None:
        self.known: dict[tuple[bytes, str | None, bool], tuple[Take, Take]] = {}

    def share(self, case: Case) -> None:
        """Give a case those that an earlier one had."""
        right = case.right
        digest = hashlib.sha256()
        for tensor in (right.video and right.video.frames, right.audio and right.audio.samples):
            digest.update(b"" if tensor is None else tensor.contiguous().numpy().tobytes())
        key = (digest.digest(), right.text, case.task.gives == ("audio",))
        if key in self.known:
            vars(case)["right"], vars(case)["through_tokens"] = self.known[key]
        elif case.suite in TASKS and case.style is None and len(self.known) < MOST_SHARED:
            self.known[key] = right, case.through_tokens


class _Suite:
    """One suite in the making."""

    def __init__(
        self,
        poet: VideoPoet,
        window: Window,
        world: ToyBox,
        suite: str,
        folder: Path,
        settings: dict[str, Any],
        extra: Sequence[tuple[str, Metric]],
        truths: _Truths,
    ):
        self.poet, self.window, self.world, self.suite, self.folder = poet, window, world, suite, folder
        self.count = num_prompts(suite, settings["count"])
        # Tokenizers draw no lots: the same clip gives the same codes, and a second answer would be the first again.
        self.per_prompt = 1 if suite == "tokenizer" else settings["per_prompt"]
        self.seed, self.split = settings["seed"], settings["split"]
        self.truths, self.skipped = truths, dict[str, str]()
        self.tallies = []
        for name, metric in figures.metrics_of(suite, extra):
            if self.count < metric.least:
                self.skipped[name] = f"it needs {metric.least} prompts, there are {self.count}"
            else:
                self.tallies.append(Tally(name, metric))
        per_prompt = [tally.metric for tally in self.tallies if isinstance(tally.metric, PerPrompt)]
        self.judge = next((metric for metric in per_prompt if suite in metric.verdict), None)
        self.shown: list[dict[str, Any]] = []
        self._seen: dict[str, int] = {}

    def measure(self, progress: bool) -> dict[str, Any]:
        """All figures of the suite."""
        wanted = {name for tally in self.tallies for name in tally.metric.baselines}
        fingerprints: dict[int, str] = {}
        with runtime.progress(self.count, self.suite.replace("_", " "), enabled=progress) as advance:
            for numbers in figures.groups(self.count, AT_ONCE):
                own = list(cases(self.suite, self.world, self.window, numbers, self.seed, self.split))
                for case in own:
                    fingerprints[case.number] = fingerprint(case)
                    self.truths.share(case)
                    self._add(TRUTH, case, replace_other(case.right, case, TRUTH))
                    self._add(TOKENS, case, replace_other(case.through_tokens, case, TOKENS))
                    for name in sorted(wanted):
                        if (take := getattr(baselines, name)(case, self.world)) is not None:
                            for tally in self.tallies:
                                if name in tally.metric.baselines:
                                    tally.add(name, case.number, case, take)
                self._add_reference(numbers)
                made = self._answers(own)
                for repeat in range(self.per_prompt):
                    takes = made[repeat]
                    samples.check_takes(own, takes, self._seen)
                    for case, take in zip(own, takes, strict=True):
                        self._add_answer(case, take, repeat)
                        self._note(case, take, repeat)
                    for tally in self.tallies:
                        tally.add_chance(own, takes)
                advance(len(own))
        self.shown.sort(key=lambda one: (one["number"], one["repeat"]))
        asked = "".join(fingerprints[number] for number in range(self.count))
        return {
            "task": task_of(self.suite),
            "description": TASKS[task_of(self.suite)].description if self.suite in TASKS else None,
            "prompts": self.count,
            "frozen": num_frozen(self.suite, self.count, self.seed),
            "per_prompt": self.per_prompt,
            "prompts_sha256": hashlib.sha256(asked.encode()).hexdigest(),
            "figures": [asdict(result) for tally in self.tallies for result in tally.results()],
        }

    def _add(self, variant: str, case: Case, take: Take) -> None:
        for tally in self.tallies:
            tally.add(variant, case.number, case, take)

    def _add_answer(self, case: Case, take: Take, repeat: int) -> None:
        for tally in self.tallies:
            # Figures of sets depend on their size: one answer to a prompt, as there is one truth.
            if not repeat or isinstance(tally.metric, PerPrompt):
                tally.add(MODEL, case.number, case, take)

    def _add_reference(self, numbers: Sequence[int]) -> None:
        """True clips of other prompts, for metrics of sets."""
        tallies = [tally for tally in self.tallies if isinstance(tally.metric, OverAll) and tally.metric.has_reference]
        if tallies:
            others = self.seed + REFERENCE_PROMPTS
            for case in cases(self.suite, self.world, self.window, numbers, others, self.split):
                for tally in tallies:
                    tally.add(REFERENCE, case.number, case, case.right)

    def _answers(self, own: Sequence[Case]) -> list[list[Take]]:
        """The model's answers to some cases, `per_prompt` lists of them; those on disk are read, the others made."""
        if self.suite == "tokenizer":
            for case in own:
                name = samples.name_of(case.number, 0)
                if not (self.folder / f"{name}.npz").exists():
                    samples.save(self.folder, name, case.through_tokens, fingerprint(case))
            return [[case.through_tokens for case in own]]
        wanted = [
            (case if not other else case.other, samples.name_of(case.number, repeat, other), case.number, repeat)
            for case in own
            for repeat in range(self.per_prompt)
            for other in ((False, True) if case.other is not None else (False,))
        ]
        missing = [one for one in wanted if not (self.folder / f"{one[1]}.npz").exists()]
        requests = [
            case.request(answer_seed(self.suite, self.seed, number, repeat))
            for case, _, number, repeat in missing
            if case is not None
        ]
        if requests:
            began = time.perf_counter()
            results = self.poet.generate_batch(requests, progress=False)
            seconds = (time.perf_counter() - began) / len(requests)
            for result, (case, name, _, _) in zip(results, missing, strict=True):
                assert case is not None
                samples.save(self.folder, name, Take.of(result.media, seconds=seconds), fingerprint(case))
        takes = [[self._load(case, repeat) for case in own] for repeat in range(self.per_prompt)]
        return takes

    def _load(self, case: Case, repeat: int) -> Take:
        take = case.looked_at(samples.load(self.folder, samples.name_of(case.number, repeat), fingerprint(case)))
        if case.other is None:
            return take
        other = samples.load(self.folder, samples.name_of(case.number, repeat, other=True), fingerprint(case.other))
        return replace(take, other=other)

    def _note(self, case: Case, take: Take, repeat: int) -> None:
        """Keep what the page shows: a few successes and failures, beside the truth."""
        if self.judge is None:
            return
        scores = {name: figures.mean_of(score) for name, score in self.judge.score(case, take).items()}
        asked = ((name, scores.get(name)) for name in self.judge.verdict[self.suite])
        figure, score = next(((name, score) for name, score in asked if score is not None), (None, None))
        if score is None:
            return
        success = score >= 0.5
        if sum(one["success"] == success for one in self.shown) >= SHOWN:
            return
        name, truth = samples.name_of(case.number, repeat), f"{case.number:05d}-truth"
        shown_truth = samples.playable(self.folder, truth) or samples.show(self.folder, truth, case.right)
        self.shown.append(
            {
                "suite": self.suite,
                "number": case.number,
                "repeat": repeat,
                "prompt": case.prompt,
                "given": sorted(set(case.given) - {"sound"}),
                "mask": case.given.get("mask"),
                "success": success,
                "figure": figure,
                "scores": {name: value for name, value in scores.items() if value is not None},
                "read": _read(take),
                "text": take.text,
                "true_text": case.right.text,
                "file": f"samples/{self.suite}/{samples.playable(self.folder, name)}",
                "truth": f"samples/{self.suite}/{shown_truth}",
            }
        )


def replace_other(take: Take, case: Case, variant: str) -> Take:
    """A true answer to a pair of prompts holds the true answer to the second."""
    if case.other is None:
        return take
    return replace(take, other=case.other.right if variant == TRUTH else case.other.through_tokens)


def answer_seed(suite: str, seed: int, number: int, repeat: int) -> int:
    """The seed of an answer; both prompts of a pair have the same."""
    digest = hashlib.sha256(f"{suite} {seed} {number} {repeat}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def _check_asked(name: str, metric: Metric, chosen: Sequence[str], count: int) -> None:
    """Refuse, before anything is made, a metric that would say nothing."""
    carrying = [suite for suite in chosen if suite in metric.suites]
    if not carrying:
        raise ConfigError(
            f"{name} is asked for, and measured on none of {', '.join(chosen)}; it is on {', '.join(metric.suites)}; "
            "name one of these tasks",
            code="metric_unfit",
        )
    if max(num_prompts(suite, count) for suite in carrying) < metric.least:
        raise ConfigError(
            f"{name} is asked for with {count} prompts; it needs {metric.least}; raise the count", code="metric_unfit"
        )


def _open(output: Path, settings: dict[str, Any]) -> None:
    """Begin in a folder, or go on in it."""
    if output.exists() and not output.is_dir():
        raise ConfigError(f"'{output}' is a file; a folder is wanted; choose another", code="output_not_folder")
    if not output.exists() or not any(output.iterdir()):
        checkpoint.write_json(output / SETTINGS, settings)
        return
    try:
        found = checkpoint.read_json(output / SETTINGS)
    except CheckpointError:
        raise ConfigError(
            f"'{output}' is not empty and holds no evaluation; a new folder is needed; choose another",
            code="output_exists",
        ) from None
    for name, value in settings.items():
        if not isinstance(found, dict) or found.get(name) != value:
            was = found.get(name) if isinstance(found, dict) else None
            raise ConfigError(
                f"'{output}' holds another evaluation: its {name} is {_short(was)}, not {_short(value)}; choose "
                "another folder, or ask for the same again to go on with it",
                code="output_exists",
            )


def _short(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return shortened(text)


def _read(take: Take) -> str:
    """What the oracle reads, in a few words."""
    if take.text is not None:
        return take.text
    reading = take.reading
    if reading is None:
        heard = take.heard or ()
        return ", ".join(f"{one.material or 'onset'} at {one.seconds:.2f} s" for one in heard) or "no onset"
    if not reading.valid:
        return f"invalid: {reading.reason}"
    said = [
        f"{one.size or '?'} {one.colour or '?'} {one.shape or '?'}: {one.motion or '?'}" for one in reading.subjects
    ]
    return "; ".join([*said, f"{reading.scenery or '?'}", f"camera {reading.camera or '?'}"])
