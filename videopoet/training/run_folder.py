"""A run's folder as the next command finds it: its config, what stages are finished, and what of that may change."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from videopoet import checkpoint
from videopoet.errors import ConfigError
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


def check(output: Path, config: RunConfig, resume: bool) -> None:
    """Refuse a folder that holds a run, or, where that is to go on, one that cannot go on with this config.

    Raises:
        ConfigError: It holds a run and `resume` is off, or one of another config, or a stage that cannot have the
            number of steps that is asked for.
    """
    path = output / "config.json"
    if path.exists() and not resume:
        raise ConfigError(
            f"'{output}' already holds a run; training would overwrite it; pass --resume or another --output",
            code="output_exists",
        )
    if not path.exists():
        return
    held = _held(checkpoint.read_json(path), config)
    if held is None or _may_become(config, held) != config:
        raise ConfigError(
            f"'{output}' holds a run of another config; a run resumes as it began; use its preset and settings, or "
            "another --output",
            code="config_changed",
        )
    for stage, num_steps in _changed(config, held).items():
        _check_length(output, stage, num_steps, getattr(config, stage).training.num_steps)


def keep(output: Path, config: RunConfig, resume: bool) -> None:
    """Write the config into a folder that suits it; a finished stage whose number of steps changed is so no longer.

    Raises:
        ConfigError: As `check`.
    """
    check(output, config, resume)
    path = output / "config.json"
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
    checkpoint.write_json(path, config.to_dict())


def waiting(output: Path, config: RunConfig, stages: tuple[StageName, ...]) -> list[StageName]:
    """Those of the stages that are not finished, or are to go on."""
    path = output / "config.json"
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


def _may_become(config: RunConfig, held: RunConfig) -> RunConfig:
    """A held config with all of another's that may change in a run.

    These are the stages that are trained, a stage more, how steps are divided among processes, and how many there are.
    """
    changes: dict[str, Any] = {"stages": config.stages}
    if held.super_resolution is None:  # a stage more leaves the others as they are
        changes["super_resolution"] = config.super_resolution
    for stage in STAGES:
        run, asked = getattr(held, stage), getattr(config, stage)
        if run is not None and asked is not None:
            free = {name: getattr(asked.training, name) for name in ("accumulation", "sharding", "num_steps")}
            changes[stage] = run.model_copy(update={"training": run.training.model_copy(update=free)})
    return held.model_copy(update=changes)


def _changed(config: RunConfig, held: RunConfig | None) -> dict[StageName, int]:
    """The stages whose number of steps is another, each with the number that it was."""
    changed: dict[StageName, int] = {}
    for stage in STAGES:
        run, asked = getattr(held, stage, None), getattr(config, stage)
        if run is not None and asked is not None and run.training.num_steps != asked.training.num_steps:
            changed[stage] = run.training.num_steps
    return changed
