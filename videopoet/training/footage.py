"""A run on footage: what of its config the clips can serve, said before anything is trained."""

from __future__ import annotations

from pathlib import Path

from videopoet.data import clips, combine
from videopoet.data.mixture import beside
from videopoet.data.prepared import Dataset, PreparedClips
from videopoet.errors import DataError
from videopoet.sequence.tasks import Task, find_task
from videopoet.training.run import RunConfig


def is_raw(data: str) -> bool:
    """Whether this is a folder of footage, or a manifest, that was not prepared yet."""
    path = Path(data)
    return data != "toybox" and (path.is_file() or (path.is_dir() and not (path / combine.DATASET).exists()))


def clips_for(config: RunConfig) -> clips.Config:
    """The clips that footage is prepared as for a run: large enough for its super-resolution, if it has one."""
    world = config.world
    scale = 1
    if config.super_resolution is not None and "super_resolution" in config.stages:
        scale = 2 * min(config.super_resolution.pairs.scales)
    side = scale * min(world.height, world.width)
    height, width = (side, side) if world.height == world.width else (scale * world.height, scale * world.width)
    return clips.Config(
        height=height,
        width=width,
        num_frames=world.num_frames,
        frame_rate=world.frame_rate,
        sample_rate=world.sample_rate,
    )


def fitted(config: RunConfig) -> tuple[RunConfig, list[str]]:
    """The config without what these clips cannot serve, and a line about each thing that its stages go without.

    Raises:
        DataError: The data are no dataset, or their clips do not fit the run's world at all.
    """
    if config.data == "toybox":
        return config, []
    dataset, world = Dataset(config.data), config.world
    train = PreparedClips(dataset, world)
    PreparedClips(dataset, world.model_copy(update={"split": "validation"}))
    if not train.has_clips:  # the run says which of its stages can do without
        return config, []

    def has(height: int, width: int) -> bool:
        try:
            for split in ("train", "validation"):
                PreparedClips(dataset, world.model_copy(update={"height": height, "width": width, "split": split}))
        except DataError:
            return False
        return True

    def scales(wanted: tuple[int, ...], times: int = 1) -> tuple[int, ...]:
        return tuple(scale for scale in wanted if has(times * scale * world.height, times * scale * world.width))

    values, notes = config.to_dict(), []
    for number, stage in enumerate(config.video_tokenizer.stages):
        if kept := scales(stage.scales):
            values["video_tokenizer"]["stages"][number]["scales"] = kept
            if kept != stage.scales and "video_tokenizer" in config.stages:
                left_out = _left_out(stage.scales, kept)
                notes.append(f"the clips are too small for scales {left_out} of the video tokenizer")
    sizes = config.language_model.mixture.sizes
    kept_sizes = tuple(size for size in sizes if has(*size))
    values["language_model"]["mixture"]["sizes"] = kept_sizes
    if "language_model" in config.stages:
        notes += [f"the clips are too small for rows of {w}x{h} pixels" for h, w in sizes if (h, w) not in kept_sizes]
    if config.super_resolution is not None and "super_resolution" in config.stages:
        wanted = config.super_resolution.pairs.scales
        if kept := scales(wanted, times=2):
            values["super_resolution"]["pairs"]["scales"] = kept
            if kept != wanted:
                notes.append(f"the clips are too small for super-resolution at scales {_left_out(wanted, kept)}")
        else:
            values["super_resolution"] = None
            side = 2 * world.height
            notes.append(f"the clips are too small for super-resolution; prepare them with --size {side}x{side}")

    tasks = [find_task(share.task) for share in config.language_model.mixture.shares]
    if not train.has_sound and {"audio_tokenizer", "language_model"} & set(config.stages):
        silent = [task.name for task in tasks if _uses(task, "audio") and beside(train, task) is None]
        left_out = f": {', '.join(silent)} cannot be trained" if silent else ""
        notes.append(f"no training clip has sound{left_out}")
    if not dataset.num_captioned and "language_model" in config.stages:
        told = [task.name for task in tasks if any(view.modality == "text" for view in task.predict)]
        left_out = f", and {', '.join(told)} cannot be trained" if told else ""
        others = dataset.pictures.num_captioned + dataset.sounds.num_captioned
        means = "mean nothing" if not others else "mean what pictures and sounds taught alone"
        notes.append(f"no clip has a caption: the words of a prompt will {means}{left_out}")
    return RunConfig.from_dict(values), notes


def _uses(task: Task, modality: str) -> bool:
    return any(view.modality == modality for view in (*task.given, *task.predict))


def _left_out(wanted: tuple[int, ...], kept: tuple[int, ...]) -> str:
    return ", ".join(str(scale) for scale in wanted if scale not in kept)
