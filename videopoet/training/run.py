"""A whole training run: both tokenizers, the language model, the poet that they make, and its super-resolution.

Each stage has a folder of its own in the run's folder, with its journal, samples and checkpoints; a stage that is
finished is read back, so a run that was killed goes on where it was.
"""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any, Self

import torch
import yaml
from pydantic import Field, model_validator

from videopoet import checkpoint, ranks, runtime
from videopoet.config import BaseConfig
from videopoet.data import toybox
from videopoet.data.token_batches import check_tokens
from videopoet.data.world import World, open_worlds
from videopoet.errors import CheckpointError, ConfigError, DataError
from videopoet.generation import poet_folder
from videopoet.generation.poet_folder import Parts
from videopoet.tokenizers.base import Published
from videopoet.training import journal, language_model, run_folder, super_resolution, tokenizers
from videopoet.training.ending import Ending
from videopoet.training.language_model import LanguageModelRun
from videopoet.training.run_folder import DONE, STAGES, StageName
from videopoet.training.super_resolution import SuperResolutionRun
from videopoet.training.surroundings import Surroundings
from videopoet.training.tokenizers import AudioTokenizerRun, VideoTokenizerRun

SHOWN_FOOTAGE: tuple[StageName, ...] = ("video_tokenizer", "super_resolution")


class RunConfig(BaseConfig):
    """Everything that a run depends on; the folder keeps a copy as `config.json`."""

    data: str = "toybox"
    """Where clips come from: the toy box, or a folder that `videopoet prepare` wrote. It is shown in `world`'s size."""
    footage: str | None = None
    """A folder that `videopoet prepare` wrote, whose clips the tokenizers and super-resolution see beside those of
    `data`, so that what is real survives them too."""
    footage_share: float = Field(default=1 / 3, gt=0, lt=1)
    """Share of their batches that are footage, by lot."""
    init_from: str | None = None
    """A poet whose weights every stage starts from, and whose tokenizers are used where their stage is not run:
    a folder, a hub id, or `bundled` for the one that ships. Its language model is taken as it is, of any architecture,
    with its words. None starts from fresh weights."""
    world: toybox.Config = toybox.Config()
    video_tokenizer: VideoTokenizerRun
    audio_tokenizer: AudioTokenizerRun
    language_model: LanguageModelRun
    super_resolution: SuperResolutionRun | None = None
    """None trains none; a run that was begun without it can be given one."""
    stages: tuple[StageName, ...] = Field(default=STAGES, min_length=1)
    """What is trained, where the call or the command does not say. A run may go on with others."""
    validation_clips: int = Field(default=32, ge=1)
    """Clips that each validation measures."""

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        model = self.video_tokenizer.model
        stride = model.patch_size * math.prod(space for _, space in model.strides)
        usual = (self.world.height, self.world.width)
        for height, width in self.language_model.mixture.sizes:
            if height % stride or width % stride:
                raise ValueError(f"the size {height}x{width} is off the grid; multiples of {stride} fit")
        if len({usual, *self.language_model.mixture.sizes}) <= len(self.language_model.mixture.sizes):
            raise ValueError(f"a size is named twice; {usual[0]}x{usual[1]} is the world's own")
        return self

    @model_validator(mode="after")
    def _plays_against_a_trained_model(self) -> Self:
        run = self.language_model
        if run.self_play is None:
            return self
        if self.init_from is None:
            raise ValueError(
                "language_model.self_play is set and init_from is not; self-play begins with a trained model; name one"
            )
        learned = {share.task for share in run.mixture.shares if share.weight}
        if idle := [task for task in run.self_play.tasks if task not in learned]:
            raise ValueError(
                f"language_model.self_play names {idle[0]}, which the mixture has no share of; give it a "
                "weight, or leave it out"
            )
        return self


def train(
    config: RunConfig,
    output: str | Path,
    *,
    resume: bool = False,
    stages: tuple[StageName, ...] | None = None,
    device: torch.device | str | None = None,
    minutes: float | None = None,
    max_shard_size: int | str | None = None,
) -> Path:
    """Train the stages in order, without any named those of the config, and write the poet to `<output>/poet`.

    Args:
        device: Where to compute; without it, the best there is.
        minutes: How long the run may take before it ends after the step in hand; SIGINT and SIGTERM end it likewise.
        max_shard_size: The most that a file of finished weights may have, in bytes or as text such as "16MB"; also of
            those that were finished before. Checkpoints stay as they are.

    Returns:
        That folder.

    Raises:
        ConfigError: There is no such device; or the folder holds a run and `resume` is off, or holds one of another
            config or of other clips, or a stage that cannot have so many steps; or another process trains in it; or a
            stage is asked for that the config has not; or `max_shard_size` is no size, or one tensor alone is larger.
        CheckpointError: A stage needs one that is not finished.
        DataError: Training diverged.
        Ended: Time was up or a signal came; what was done is saved.
    """
    wanted = config.stages if stages is None else stages
    stages = tuple(stage for stage in STAGES if stage in wanted)
    if config.super_resolution is None and "super_resolution" in stages:
        if stages != STAGES:
            raise ConfigError(
                "the stage super_resolution is asked for and the config has none; a preset such as small has; use it, "
                "or leave the stage out",
                code="stage_unknown",
            )
        stages = STAGES[:-1]
    ending = Ending(minutes)
    max_bytes = None if max_shard_size is None else checkpoint.num_bytes(max_shard_size)
    with ranks.joined():
        _train_stages(config, Path(output), resume, stages, runtime.usable_device(device), ending, max_bytes)
    return Path(output) / "poet"


def _train_stages(
    config: RunConfig,
    output: Path,
    resume: bool,
    stages: tuple[StageName, ...],
    device: torch.device,
    ending: Ending,
    max_bytes: int | None,
) -> None:
    if ranks.rank() == 0:
        run_folder.check(output, config, resume)
    ranks.wait()
    runtime.keep_freed_memory()
    world, validation = open_worlds(config.data, config.world)
    footage = None if config.footage is None else open_worlds(config.footage, config.world)
    _check_sizes(config, world, stages)
    _check_kinds(config, config.data, (world, validation), stages)
    if footage is not None:
        shown_footage: tuple[StageName, ...] = tuple(stage for stage in stages if stage in SHOWN_FOOTAGE)
        _check_sizes(config, footage[0], shown_footage)
        _check_kinds(config, str(config.footage), footage, shown_footage)
    source = None
    if config.init_from is not None:
        source = poet_folder.load(None if config.init_from == "bundled" else config.init_from, "cpu", torch.float32)
        _check_source(config, source, stages)
    waiting = run_folder.waiting(output, config, stages)
    if "language_model" in waiting:
        if source is None:
            language_model.check_architecture(config.language_model.model)
        # None while one of them is still to be trained.
        finished = None if {"video_tokenizer", "audio_tokenizer"} & {*waiting} else tokenizers.trained(output, source)
        check_tokens(world, config.language_model.mixture, finished)
    ranks.wait()
    with run_folder.held(output):
        if ranks.rank() == 0:  # what is refused before this leaves no run that the next attempt would stumble over
            run_folder.keep(output, config, resume)
        around = Surroundings(
            output=output,
            world=world,
            validation=validation,
            num_validation=config.validation_clips,
            footage=footage,
            footage_share=config.footage_share,
            source=source,
            source_name=config.init_from,
            resume=resume,
            device=device,
            ending=ending,
        )
        for stage in stages:
            if stage in waiting:
                _train_stage(config, stage, around)
            if max_bytes is not None and ranks.rank() == 0:
                for folder in (output / stage / "final", output / "poet"):
                    _divide(folder, max_bytes)
            ranks.wait()


def _train_stage(config: RunConfig, stage: StageName, around: Surroundings) -> None:
    match stage:
        case "video_tokenizer":
            tokenizers.train_video(config.video_tokenizer, around)
        case "audio_tokenizer":
            tokenizers.train_audio(config.audio_tokenizer, around)
        case "language_model":
            language_model.train(config.language_model, around)
        case "super_resolution":
            assert config.super_resolution is not None
            super_resolution.train(config.super_resolution, around)
    if ranks.rank() == 0:
        checkpoint.write_json(around.output / stage / DONE, {"machine": runtime.describe_machine()})
    ranks.wait()


def _divide(folder: Path, max_bytes: int) -> None:
    """Divide the weights in a folder, if there is one, into files of at most `max_bytes`, whole or not at all."""
    if any(file.stat().st_size > max_bytes for file in folder.rglob("*.safetensors")):
        with checkpoint.atomic_folder(folder) as place:
            shutil.copytree(folder, place, dirs_exist_ok=True, ignore=shutil.ignore_patterns(checkpoint.MANIFEST))
            checkpoint.split_weights(place, max_bytes)


def read_config(path: str | Path) -> RunConfig:
    """The settings that a run keeps in its folder as `config.json`, or that `train --dry-run` printed as YAML.

    Raises:
        ConfigError: There is no such file, or it holds other things.
    """
    is_yaml = Path(path).suffix in (".yaml", ".yml")
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8")) if is_yaml else checkpoint.read_json(path)
    except (CheckpointError, OSError, UnicodeDecodeError, yaml.YAMLError):
        values = None
    if not isinstance(values, dict):
        raise ConfigError(
            f"'{path}' is missing or no {'YAML' if is_yaml else 'JSON'}; a run's config.json fits, or what "
            "`train --dry-run` prints as a .yaml; name one",
            code="config_invalid",
        )
    return RunConfig.from_dict(values)


def check_source(config: RunConfig) -> None:
    """Refuse, before any clip is looked at, a poet to start from that the run's stages or clips do not suit.

    Raises:
        ConfigError: Its tokenizers cannot be trained, or take sound of another rate.
        CheckpointError: It is missing or broken.
    """
    if config.init_from is not None:
        source = poet_folder.load(None if config.init_from == "bundled" else config.init_from, "cpu", torch.float32)
        _check_source(config, source, config.stages)


def _check_source(config: RunConfig, source: Parts, stages: tuple[StageName, ...]) -> None:
    for stage, tokenizer in (("video_tokenizer", source.video_tokenizer), ("audio_tokenizer", source.audio_tokenizer)):
        if stage in stages and isinstance(tokenizer, Published):
            raise ConfigError(
                f"the stage {stage} is asked for, and '{config.init_from}' has a published {tokenizer.family}, which "
                "is used as it is; leave the stage out, such as with --stages language_model",
                code="stage_unknown",
            )
    if config.language_model.text_encoder is not None:
        raise ConfigError(
            f"language_model.text_encoder is '{config.language_model.text_encoder}', and '{config.init_from}' brings "
            "the one that it was made with; leave the setting out, or convert with --text-encoder",
            code="config_invalid",
        )
    rate = source.audio_tokenizer.sample_rate
    if "audio_tokenizer" not in stages and "language_model" in stages and rate != config.world.sample_rate:
        raise ConfigError(
            f"the clips have {config.world.sample_rate} samples of sound a second, the audio tokenizer of "
            f"'{config.init_from}' takes {rate}; add --set world.sample_rate={rate}",
            code="config_invalid",
        )


def last_figures(output: str | Path) -> dict[str, dict[str, Any]]:
    """Of each stage in a run's folder, the last figures of its training and its validation."""
    figures = {}
    for stage in STAGES:
        if (Path(output) / stage / "journal.jsonl").exists():
            figures[stage] = {entry["kind"]: entry for entry in journal.read(Path(output) / stage)}
    return figures


def stage_names(text: str) -> tuple[StageName, ...]:
    """The stages in a comma-separated list, in the order in which they run.

    Raises:
        ConfigError: There is no such stage.
    """
    asked = tuple(name.strip() for name in text.split(","))
    for name in asked:
        if name not in STAGES:
            raise ConfigError(
                f"unknown stage '{name}'; there are {', '.join(STAGES)}; correct the name", code="stage_unknown"
            )
    return tuple(stage for stage in STAGES if stage in asked)


def _check_sizes(config: RunConfig, world: World, stages: tuple[StageName, ...]) -> None:
    """Refuse, before any training, sizes and lengths that the clips do not have; the toy box has every size."""
    shown = config.world
    if "video_tokenizer" in stages:
        longest = max(stage.num_frames for stage in config.video_tokenizer.stages)
        if longest > shown.num_frames:
            raise ConfigError(
                f"a stage of the video tokenizer shows {longest} frames, the clips have {shown.num_frames}; lower "
                "num_frames in video_tokenizer.stages or raise world.num_frames",
                code="config_invalid",
            )
        for stage in config.video_tokenizer.stages:
            side, stride = min(shown.height, shown.width), config.video_tokenizer.model.space_stride
            if stage.crop_share and (stage.crop_size > side or stage.crop_size % stride):
                raise ConfigError(
                    f"a stage of the video tokenizer shows crops of {stage.crop_size} pixels; they are at most the "
                    f"clips' shorter side, {side}, and a multiple of the tokenizer's stride, {stride}; set another",
                    code="config_invalid",
                )
        for scale in {scale for stage in config.video_tokenizer.stages for scale in stage.scales}:
            world.at_scale(scale)
    if "audio_tokenizer" in stages:
        heard = round(shown.num_frames / shown.frame_rate * shown.sample_rate)
        wanted = config.audio_tokenizer.sounds.num_samples or 0
        if wanted > heard:
            raise ConfigError(
                f"the audio tokenizer hears {wanted} samples at a time, the clips have {heard}; lower "
                "audio_tokenizer.sounds.num_samples or raise world.num_frames",
                code="config_invalid",
            )
    if "language_model" in stages:
        for size in config.language_model.mixture.sizes:
            world.of_size(*size)
    if "super_resolution" in stages and config.super_resolution is not None:
        for scale in config.super_resolution.pairs.scales:
            world.at_scale(2 * scale)


def _check_kinds(config: RunConfig, data: str, worlds: tuple[World, World], stages: tuple[StageName, ...]) -> None:
    """Refuse, before any training, stages that footage without clips, of pictures or sounds alone, cannot teach."""
    if all(world.has_clips for world in worlds):
        return
    shown, why = config.video_tokenizer.stages, None
    longest = max(stage.num_frames for stage in shown)
    sides = tuple(zip(worlds, ("to train on", "held out"), strict=True))
    if "video_tokenizer" in stages and longest > 1:
        why = f"a stage of the video tokenizer shows {longest} frames; add some"
        if all(world.pictures is not None for world in worlds):
            one_frame = "video_tokenizer.stages=[{num_batches: 1, batch_size: 8, num_frames: 1}]"
            why = f'{why}, or show single frames with --set "{one_frame}"'
    elif "video_tokenizer" in stages:
        for world, side in sides:
            for scale in {scale for stage in shown for scale in stage.scales}:
                size = f"{scale * config.world.width}x{scale * config.world.height}"
                if world.at_scale(scale).pictures is None:
                    why = f"no picture {side} of {size}, which the video tokenizer is shown; add some of that size"
    if "audio_tokenizer" in stages:
        for world, side in sides:
            if world.sounds is None:
                why = why or f"no sound {side}, which the audio tokenizer learns from; add some"
    for stage in stages:
        if stage in ("language_model", "super_resolution"):
            why = why or f"the stage {stage} learns from clips; add some"
    if why is not None:
        raise DataError(
            f"'{data}' has no clips, and {why}; prepare again then, or train only what it suffices for with --stages",
            code="data_unsuited",
        )
