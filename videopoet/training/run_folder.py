"""A run's folder as the next command finds it: its config, what stages are finished, and what of that may change."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from videopoet import checkpoint, locks, ranks
from videopoet.data.combine import DATASET
from videopoet.errors import ConfigError, shown
from videopoet.training import checkpoints

if TYPE_CHECKING:
    from videopoet.training.run import RunConfig

StageName = Literal["video_tokenizer", "audio_tokenizer", "language_model", "super_resolution"]
STAGES: tuple[StageName, ...] = get_args(StageName)
LEARNED_BY: dict[StageName, tuple[StageName, ...]] = {
    "video_tokenizer": ("language_model", "super_resolution"),
    "audio_tokenizer": ("language_model",),
}
"""The stages that learn codes of another."""
DONE = "done.json"
CLIPS = "clips.json"
"""Which clips the run began with: the SHA-256 of each dataset's `dataset.json`, which has those of all its files."""


_DATASETS = ("data", "footage")
"""Settings that may name a dataset."""


def refuse_another(output: Path, resume: bool) -> None:
    """Refuse a folder that holds a run which is not to go on.

    Raises:
        ConfigError: It does.
    """
    if is_begun(output) and not resume:
        raise ConfigError(
            f"'{output}' already holds a run; training would overwrite it; pass --resume or another --output",
            code="output_exists",
        )


def is_begun(output: Path) -> bool:
    """Whether a folder holds a run, finished or not."""
    return (output / checkpoint.CONFIG).exists()


@contextmanager
def held(output: Path) -> Iterator[None]:
    """Keep other runs out of a folder, which is made if it is not there; the first process does it for all.

    Raises:
        ConfigError: Another run is in it.
    """
    if ranks.rank() != 0:
        yield
        return
    refusal = ConfigError(
        f"another process trains in '{output}'; one run at a time can; wait for it, end it, or choose another --output",
        code="run_in_use",
    )
    with locks.held(output, refusal):
        yield


def check(output: Path, config: RunConfig, resume: bool) -> None:
    """Refuse a folder that holds a run, or, where that is to go on, one that cannot go on with this config.

    Raises:
        ConfigError: It holds a run and `resume` is off, or one of another config or of other clips, or a stage that
            cannot have the number of steps that is asked for.
    """
    refuse_another(output, resume)
    if not is_begun(output):
        return
    held = _held(checkpoint.read_json(output / checkpoint.CONFIG), config)
    same_clips = _check_clips(output, config)
    allowed = None if held is None else _may_become(config, held, same_clips)
    if allowed != config:
        difference = "" if allowed is None else f": {_difference(allowed.to_dict(), config.to_dict())}"
        raise ConfigError(
            f"'{output}' holds a run of another config{difference}; a run resumes as it began; use its preset and "
            "settings, or another --output",
            code="config_changed",
        )
    assert held is not None
    for stage, num_steps in _changed(config, held).items():
        _check_length(output, stage, num_steps, getattr(config, stage).training.num_steps)


def keep(output: Path, config: RunConfig, resume: bool) -> None:
    """Write the config into a folder that suits it; a finished stage whose number of steps changed is so no longer.

    Raises:
        ConfigError: As `check`.
    """
    check(output, config, resume)
    path = output / checkpoint.CONFIG
    held = _held(checkpoint.read_json(path), config) if path.exists() else None
    for stage, before in _changed(config, held).items():
        now = getattr(config, stage).training.num_steps
        goes_on = "; the finished stage goes on" if is_finished(output, stage) else ""
        logging.getLogger(__name__).warning(
            "%s: num_steps was %d and is %d; the schedule of the learning rate now ends there%s",
            stage,
            before,
            now,
            goes_on,
        )
        # Before the config, so that a run that is killed in between still finds the number changed.
        (output / stage / DONE).unlink(missing_ok=True)
    checkpoint.write_json(output / CLIPS, _clips(config))
    checkpoint.write_json(path, config.to_dict())


def waiting(output: Path, config: RunConfig, stages: tuple[StageName, ...]) -> list[StageName]:
    """Those of the stages that are not finished, or are to go on."""
    path = output / checkpoint.CONFIG
    changed = _changed(config, _held(checkpoint.read_json(path), config) if path.exists() else None)
    return [stage for stage in stages if stage in changed or not is_finished(output, stage)]


def is_finished(output: Path, stage: StageName) -> bool:
    return (output / stage / DONE).exists()


def has_begun(output: Path, stage: StageName) -> bool:
    """Whether a stage has steps behind it that were kept."""
    return is_finished(output, stage) or any((output / stage).glob("checkpoint-*"))


def _check_length(output: Path, stage: StageName, before: int, now: int) -> None:
    """Refuse a number of steps that a stage has passed, or that it cannot go on to."""
    setting, poet = f"{stage}.training.num_steps", output / "poet"
    learners = [learner for learner in LEARNED_BY.get(stage, ()) if has_begun(output, learner)]
    step = checkpoints.last_step(output / stage)
    if is_finished(output, stage):
        if step is None:
            why = "there is no intact checkpoint left to go on from"
        elif now > before and learners:
            why = f"its codes, which more steps would change, are what {learners[0]} learns"
        else:
            why = None
        if why is not None:
            onward = f"train on in another --output with --init-from '{poet}'"
            elsewhere = onward if poet.exists() else "begin again in another --output"
            raise ConfigError(
                f"{setting} is {now}, and the stage was finished after {before} steps: {why}; set it back to {before}, "
                f"or {elsewhere}",
                code="config_changed",
            )
    if step is not None and step > now:
        raise ConfigError(
            f"{setting} is {now}, and the stage has passed it, at step {step}; set it to {step} or more, or begin "
            "again in another --output",
            code="config_changed",
        )


def _held(values: dict[str, Any], config: RunConfig) -> RunConfig | None:
    """The config that a run was begun with; what it lacks, being older, has its default. None if it is none."""
    try:
        return type(config).from_dict(values)
    except ConfigError:
        return None


def _clips(config: RunConfig) -> dict[str, str]:
    """What `CLIPS` says; nothing of the toy box, and of a dataset that is not there."""
    folders = {name: folder for name in _DATASETS if (folder := getattr(config, name)) not in (None, "toybox")}
    files = {name: Path(folder) / DATASET for name, folder in folders.items()}
    return {name: checkpoint.sha256(file) for name, file in files.items() if file.is_file()}


def _check_clips(output: Path, config: RunConfig) -> list[str]:
    """Refuse other clips than those that the run began with; the settings that name the same ones, wherever they are.

    A run of an older version does not know which they were.
    """
    path = output / CLIPS
    before, now = checkpoint.read_json(path) if path.exists() else {}, _clips(config)
    same = [name for name in before if name in now]
    for name in same:
        if before[name] != now[name]:
            raise ConfigError(
                f"'{getattr(config, name)}' holds other clips than the run in '{output}' began with (SHA-256 of "
                f"{DATASET} {now[name][:12]}, then {before[name][:12]}); a run goes on with the same ones; put them "
                "back, or begin another --output",
                code="clips_changed",
            )
    return same


def _may_become(config: RunConfig, held: RunConfig, same_clips: Sequence[str]) -> RunConfig:
    """A held config with all of another's that may change in a run.

    These are the stages that are trained, a stage more, how steps are divided among processes, how many there are, and
    where clips lie that are the same ones.
    """
    changes: dict[str, Any] = {"stages": config.stages, **{name: getattr(config, name) for name in same_clips}}
    if held.super_resolution is None:  # a stage more leaves the others as they are
        changes["super_resolution"] = config.super_resolution
    for stage in STAGES:
        run, asked = getattr(held, stage), getattr(config, stage)
        if run is not None and asked is not None:
            free = {name: getattr(asked.training, name) for name in ("accumulation", "sharding", "num_steps")}
            changes[stage] = run.model_copy(update={"training": run.training.model_copy(update=free)})
    return held.model_copy(update=changes)


def _difference(before: Any, now: Any, name: str = "") -> str:
    """The first setting in which two configs differ, in words."""
    if isinstance(before, dict) and isinstance(now, dict) and before.keys() == now.keys():
        key = next(key for key in before if before[key] != now[key])
        return _difference(before[key], now[key], f"{name}.{key}" if name else key)
    return f"{name} was {shown(before)} and is {shown(now)}"


def _changed(config: RunConfig, held: RunConfig | None) -> dict[StageName, int]:
    """The stages whose number of steps is another, each with the number that it was."""
    changed: dict[StageName, int] = {}
    for stage in STAGES:
        run, asked = getattr(held, stage, None), getattr(config, stage)
        if run is not None and asked is not None and run.training.num_steps != asked.training.num_steps:
            changed[stage] = run.training.num_steps
    return changed
