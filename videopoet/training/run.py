"""A whole training run: both tokenizers, the language model, the poet that they make, and its super-resolution.

Each stage has a folder of its own in the run's folder, with its journal, samples and checkpoints; a stage that is
finished is read back, so a run that was killed goes on where it was.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Self, TypeVar, get_args

import torch
from pydantic import Field, model_validator

from videopoet import checkpoint, runtime
from videopoet.config import BaseConfig
from videopoet.data import toybox
from videopoet.data.mixture import AudioBatches, Mixed, MixtureConfig, Sounds, Stage, TaskBatches, VideoBatches
from videopoet.data.token_batches import check_tokens, from_tokens
from videopoet.data.world import World, open_worlds
from videopoet.errors import CheckpointError, ConfigError
from videopoet.generation import poet_folder
from videopoet.generation.pipeline import VideoPoet
from videopoet.generation.poet_folder import Parts
from videopoet.generation.request import Settings
from videopoet.models import language_model
from videopoet.models.language_model import AUDIO_FRAMES, LanguageModel
from videopoet.nn import ranks
from videopoet.sequence import vocabulary as vocabularies
from videopoet.sequence.tasks import find_task
from videopoet.sequence.vocabulary import Vocabulary
from videopoet.text_encoders.base import TextEncoder
from videopoet.text_encoders.own_tokens import OwnTokens
from videopoet.text_encoders.t5 import T5
from videopoet.tokenizers import magvit_v2, soundstream
from videopoet.tokenizers.base import AudioTokenizer, Published, Tokenizer, VideoTokenizer
from videopoet.tokenizers.magvit_v2 import MagvitV2
from videopoet.tokenizers.soundstream import SoundStream
from videopoet.training import adaptation, journal, loop, next_token, reconstruction, super_resolution
from videopoet.training.adaptation import LoraConfig
from videopoet.training.streams import Streams
from videopoet.training.super_resolution import SuperResolutionRun

StageName = Literal["video_tokenizer", "audio_tokenizer", "language_model", "super_resolution"]
STAGES: tuple[StageName, ...] = get_args(StageName)
DONE = "done.json"
T = TypeVar("T", bound=Tokenizer)
B = TypeVar("B")


class VideoTokenizerRun(BaseConfig):
    """The stage of the video tokenizer."""

    model: magvit_v2.Config
    objective: reconstruction.VideoConfig
    stages: tuple[Stage, ...]
    training: loop.Config


class AudioTokenizerRun(BaseConfig):
    """The stage of the audio tokenizer."""

    model: soundstream.Config
    objective: reconstruction.AudioConfig
    sounds: Sounds
    training: loop.Config


class LanguageModelRun(BaseConfig):
    """The stage of the language model, which learns the codes of both tokenizers."""

    model: language_model.Config
    """Of a model from fresh weights; one that `init_from` brings stays what it is."""
    text_encoder: str | None = None
    """Folder or hub id of a T5 whose frozen features stand for prompts; None lets the model embed their ids itself. A
    poet that `init_from` brings has its own."""
    lora: LoraConfig | None = None
    """Train low-rank changes of the layers, and all of what is new to a text model; None trains every weight."""
    keep_text: bool = False
    """Leave the rows of text ids as they are, as LoRA always does."""
    recompute: bool = False
    """Compute each layer's inner values again in the backward pass: a third more work, for far less memory."""
    mixture: MixtureConfig
    training: loop.Config
    validation_tasks: tuple[str, ...] = ("text_to_video", "video_to_audio")
    """Tasks whose loss is measured on validation clips."""
    sample_prompts: tuple[str, ...] = ("a red ball bounces on the grass", "a blue star flies over the sea, pan left")
    """Prompts of the clips that are made at each validation."""


class RunConfig(BaseConfig):
    """Everything that a run depends on; the folder keeps a copy as `config.json`."""

    data: str = "toybox"
    """Where clips come from: the toy box, or a folder that `videopoet prepare` wrote. It is shown in `world`'s size."""
    footage: str | None = None
    """A folder that `videopoet prepare` wrote, whose clips the tokenizers see beside those of `data`, so that what is
    real survives them too."""
    footage_share: float = Field(default=1 / 3, gt=0, lt=1)
    """Share of the tokenizers' batches that are footage, by lot."""
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
    validation_clips: int = 32

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


def train(
    config: RunConfig,
    output: str | Path,
    *,
    resume: bool = False,
    stages: tuple[StageName, ...] = STAGES,
    device: torch.device | None = None,
) -> Path:
    """Train the stages in order and write the poet to `<output>/poet`; returns that folder.

    Raises:
        ConfigError: The folder holds a run and `resume` is off, or holds one of another config; or a stage is asked for
            that the config has not.
        CheckpointError: A stage needs one that is not finished.
        DataError: Training diverged.
    """
    if config.super_resolution is None and "super_resolution" in stages:
        if stages != STAGES:
            raise ConfigError(
                "the stage super_resolution is asked for and the config has none; a preset such as small has; use it, "
                "or leave the stage out",
                code="stage_unknown",
            )
        stages = STAGES[:-1]
    with ranks.joined():
        _train_stages(config, Path(output), resume, stages, device or runtime.best_device())
    return Path(output) / "poet"


def _train_stages(
    config: RunConfig, output: Path, resume: bool, stages: tuple[StageName, ...], device: torch.device
) -> None:
    if ranks.rank() == 0:
        _keep_config(output, config, resume)
    ranks.wait()
    runtime.keep_freed_memory()
    world, validation = open_worlds(config.data, config.world)
    footage = None if config.footage is None else open_worlds(config.footage, config.world)
    _check_sizes(config, world, stages)
    if footage is not None and "video_tokenizer" in stages:
        _check_sizes(config, footage[0], ("video_tokenizer",))
    source = None
    if config.init_from is not None:
        source = poet_folder.load(None if config.init_from == "bundled" else config.init_from, "cpu", torch.float32)
        _check_source(config, source, stages)
    waiting: list[StageName] = [stage for stage in stages if not (output / stage / DONE).exists()]
    if "language_model" in waiting:
        check_tokens(world, config.language_model.mixture, _tokenizers(output, source, waiting))
    for stage in waiting:
        if stage == "video_tokenizer":
            _train_video_tokenizer(config, output, world, validation, footage, resume, device, source)
        elif stage == "audio_tokenizer":
            _train_audio_tokenizer(config, output, world, validation, footage, resume, device, source)
        elif stage == "super_resolution":
            run = config.super_resolution
            assert run is not None
            clips, name = config.validation_clips, config.init_from
            super_resolution.train(run, output, world, validation, clips, resume, device, source, name)
        else:
            _train_language_model(config, output, world, validation, resume, device, source)
        if ranks.rank() == 0:
            checkpoint.write_json(output / stage / DONE, {"machine": runtime.describe_machine()})
        ranks.wait()


def check_source(config: RunConfig, stages: tuple[StageName, ...]) -> None:
    """Refuse, before any clip is looked at, a poet to start from that these stages or clips do not suit.

    Raises:
        ConfigError: Its tokenizers cannot be trained, or take sound of another rate.
        CheckpointError: It is missing or broken.
    """
    if config.init_from is not None:
        source = poet_folder.load(None if config.init_from == "bundled" else config.init_from, "cpu", torch.float32)
        _check_source(config, source, stages)


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


def stage_names(text: str | None) -> tuple[StageName, ...]:
    """The stages in a comma-separated list, in the order in which they run; all of them for None.

    Raises:
        ConfigError: There is no such stage.
    """
    asked = STAGES if text is None else tuple(name.strip() for name in text.split(","))
    for name in asked:
        if name not in STAGES:
            raise ConfigError(
                f"unknown stage '{name}'; there are {', '.join(STAGES)}; correct the name", code="stage_unknown"
            )
    return tuple(stage for stage in STAGES if stage in asked)


def _train_video_tokenizer(
    config: RunConfig,
    output: Path,
    world: World,
    validation: World,
    footage: tuple[World, World] | None,
    resume: bool,
    device: torch.device,
    source: Parts | None,
) -> None:
    run = config.video_tokenizer
    torch.manual_seed(run.training.seed)
    tokenizer = MagvitV2(run.model).to(device)
    if source is not None:
        checkpoint.load_weights(tokenizer, source.video_tokenizer.state_dict(), str(config.init_from))
    worlds, held_out = _beside(world, validation, footage)
    clips = [
        shown.render([shown.scene(seed) for seed in range(config.validation_clips)], device, audio=False).video.split(8)
        for shown in held_out
    ]
    objective = reconstruction.VideoReconstruction(tokenizer, run.objective, *clips)

    def batches_of(shown: World, seed: int | str) -> VideoBatches:
        return VideoBatches(shown, run.stages, seed, device)

    sources = _sources(batches_of, worlds, config.footage_share)
    batches = Streams(sources, run.training.seed, run.training.accumulation)
    loop.train(
        objective, batches, run.training, output / "video_tokenizer", resume=resume, description="video tokenizer"
    )
    if ranks.rank() == 0:
        tokenizer.save(output / "video_tokenizer" / "final")


def _train_audio_tokenizer(
    config: RunConfig,
    output: Path,
    world: World,
    validation: World,
    footage: tuple[World, World] | None,
    resume: bool,
    device: torch.device,
    source: Parts | None,
) -> None:
    run = config.audio_tokenizer
    torch.manual_seed(run.training.seed)
    tokenizer = SoundStream(run.model).to(device)
    if source is not None:
        checkpoint.load_weights(tokenizer, source.audio_tokenizer.state_dict(), str(config.init_from))
    if not (world.has_sound and validation.has_sound):  # silent footage: any sound teaches a codec
        world, validation = open_worlds("toybox", config.world)
    scenes = [validation.scene(seed) for seed in range(20 * config.validation_clips)]
    heard = [scene for scene in scenes if validation.is_heard(scene)][: config.validation_clips]
    sounds = validation.sound(heard, device)
    objective = reconstruction.AudioReconstruction(tokenizer, run.objective, sounds.split(8))

    def batches_of(shown: World, seed: int | str) -> AudioBatches:
        return AudioBatches(shown, run.sounds, seed, device)

    worlds, _ = _beside(world, validation, footage if footage is not None and footage[0].has_sound else None)
    sources = _sources(batches_of, worlds, config.footage_share)
    batches = Streams(sources, run.training.seed, run.training.accumulation)
    loop.train(
        objective, batches, run.training, output / "audio_tokenizer", resume=resume, description="audio tokenizer"
    )
    if ranks.rank() == 0:
        tokenizer.save(output / "audio_tokenizer" / "final")


def _beside(world: World, validation: World, footage: tuple[World, World] | None) -> tuple[list[World], list[World]]:
    """The worlds that a tokenizer sees, and those held out of them."""
    return ([world], [validation]) if footage is None else ([world, footage[0]], [validation, footage[1]])


def _sources(
    batches_of: Callable[[World, int | str], Callable[[int], B]], worlds: list[World], share: float
) -> Callable[[int | str], Callable[[int], B]]:
    """For a seed, the batches of the first world, mixed with those of the second where there is one."""

    def source(seed: int | str) -> Callable[[int], B]:
        own, *others = [batches_of(world, seed) for world in worlds]
        return Mixed(own, others[0], share, seed) if others else own

    return source


def _train_language_model(
    config: RunConfig,
    output: Path,
    world: World,
    validation: World,
    resume: bool,
    device: torch.device,
    source: Parts | None,
) -> None:
    run = config.language_model
    video_tokenizer = _finished(output, "video_tokenizer", MagvitV2, source and source.video_tokenizer).to(device)
    audio_tokenizer = _finished(output, "audio_tokenizer", SoundStream, source and source.audio_tokenizer).to(device)
    torch.manual_seed(run.training.seed)
    if source is None:
        own = OwnTokens.from_words(world.words())
        text_encoder = own if run.text_encoder is None else T5.open(run.text_encoder, own)
        vocabulary = vocabulary_of(text_encoder, video_tokenizer, audio_tokenizer, run.mixture.sizes)
        model = LanguageModel.from_scratch(
            run.model,
            vocabulary.size,
            vocabulary.range("video"),
            (audio_tokenizer.num_quantizers, AUDIO_FRAMES),
            vocabulary.special("<pad>"),
            text_encoder.num_features,
        )
    else:
        text_encoder = source.text_encoder
        vocabulary = Vocabulary(source.vocabulary.config.with_resolutions(run.mixture.sizes))
        model = source.language_model.requires_grad_(True)
    model = model.to(device)
    settings = Settings(
        height=config.world.height,
        width=config.world.width,
        num_frames=config.world.num_frames,
        frame_rate=config.world.frame_rate,
    )
    poet = VideoPoet(video_tokenizer, audio_tokenizer, text_encoder, model, vocabulary, settings)

    prompts = _sample_prompts(config, validation, text_encoder)

    def write_samples(folder: Path) -> None:
        for number, prompt in enumerate(prompts):
            poet.generate("text_to_video", prompt=prompt, seed=number, progress=False).save(folder / f"{number}.mp4")

    if run.recompute:
        model.recompute_layers()
    if run.keep_text:
        adaptation.keep_text_rows(model, vocabulary.config.text_size)
    adapted = run.lora and adaptation.add_lora(model, run.lora, vocabulary.config.text_size)
    parts = (video_tokenizer, audio_tokenizer, text_encoder, vocabulary)
    known = TaskBatches(validation, run.mixture, *parts, run.training.seed, device)
    pool = known.pool(0, config.validation_clips)
    for size in dict.fromkeys(run.mixture.turns):  # a clip or row that is too long is found before any training
        few = known.pool(run.mixture.turns.index(size), 1 if config.data == "toybox" else config.validation_clips)
        t, h, w = few.codes["video"].shape[1:]
        model.embedding.check((t, h, w))
        for share in run.mixture.shares:
            if not (share.weight or share.early_weight) or not few.suited(find_task(share.task)):
                continue
            row = known.batch(find_task(share.task), 1, few, runtime.generator("length", share.task)).rows
            model.check_length(row.tokens.shape[1])
    objective = next_token.NextToken(
        model,
        [
            known.batch(
                find_task(task), min(8, config.validation_clips), pool, runtime.generator("validation", task, number)
            )
            for task in run.validation_tasks
            if pool.suited(find_task(task))
            for number in range(-(-config.validation_clips // 8))
        ],
        write_samples,
    )

    def made(seed: int | str) -> TaskBatches:
        return TaskBatches(world, run.mixture, *parts, seed, device)

    training = run.training
    num_batches = training.num_steps * training.accumulation * ranks.count()
    with from_tokens(made(training.seed), num_batches, output / "tokens") as read:
        batches = read or Streams(made, training.seed, training.accumulation)
        loop.train(objective, batches, training, output / "language_model", resume=resume, description="language model")
    if adapted is not None:
        adaptation.merge(adapted)
    if ranks.rank() == 0:
        poet.save_pretrained(output / "poet")


def _check_sizes(config: RunConfig, world: World, stages: tuple[StageName, ...]) -> None:
    """Refuse, before any training, sizes that the clips do not have; the toy box has every size."""
    if "video_tokenizer" in stages:
        for scale in {scale for stage in config.video_tokenizer.stages for scale in stage.scales}:
            world.at_scale(scale)
    if "language_model" in stages:
        for size in config.language_model.mixture.sizes:
            world.of_size(*size)
    if "super_resolution" in stages and config.super_resolution is not None:
        for scale in config.super_resolution.pairs.scales:
            world.at_scale(2 * scale)


def _sample_prompts(config: RunConfig, validation: World, text_encoder: TextEncoder) -> tuple[str, ...]:
    """What samples are made of: the config's prompts, or for footage the captions of the first clips held out."""
    prompts = config.language_model.sample_prompts
    if config.data == "toybox":
        return prompts
    captions = dict.fromkeys(validation.scene(seed).caption for seed in range(config.validation_clips))
    texts = [beginning for caption in captions if (beginning := text_encoder.beginning(caption))]
    return tuple(texts[: len(prompts)]) or prompts


def vocabulary_of(
    text: TextEncoder, video: VideoTokenizer, audio: AudioTokenizer, sizes: tuple[tuple[int, int], ...] = ()
) -> Vocabulary:
    """The vocabulary that these make, beside the special tokens; rows can name the sizes, heights and widths."""
    return Vocabulary(
        vocabularies.Config(
            text_size=text.answer_size,
            prompt_ids=text.size if text.num_features else 0,
            visual_codes=video.num_codes,
            audio_codebook_size=audio.codebook_size,
            audio_quantizers=audio.num_quantizers,
            resolutions=sizes,
        )
    )


def _tokenizers(
    output: Path, source: Parts | None, waiting: list[StageName]
) -> tuple[VideoTokenizer, AudioTokenizer] | None:
    """Those that the language model will be trained with; None while one is still to be trained."""
    if "video_tokenizer" in waiting or "audio_tokenizer" in waiting:
        return None
    return (
        _finished(output, "video_tokenizer", MagvitV2, source and source.video_tokenizer),
        _finished(output, "audio_tokenizer", SoundStream, source and source.audio_tokenizer),
    )


def _finished(output: Path, stage: StageName, own: type[T], source: T | None) -> T:
    """The run's own tokenizer, or else the one of the poet that the run starts from."""
    if (output / stage / "final").exists():
        return own.load(output / stage / "final").requires_grad_(False)
    if source is not None:
        return source
    raise CheckpointError(
        f"'{output}' has no finished {stage.replace('_', ' ')}; the language model is trained on its codes; "
        "train that stage first, or take a model's with --init-from",
        code="checkpoint_missing",
    )


def _keep_config(output: Path, config: RunConfig, resume: bool) -> None:
    path = output / "config.json"
    if path.exists() and not resume:
        raise ConfigError(
            f"'{output}' already holds a run; training would overwrite it; pass --resume or another --output",
            code="output_exists",
        )
    if path.exists() and not _is_same(checkpoint.read_json(path), config):
        raise ConfigError(
            f"'{output}' holds a run of another config; a run resumes as it began; use its preset and settings, or "
            "another --output",
            code="config_changed",
        )
    checkpoint.write_json(path, config.to_dict())


def _is_same(values: dict[str, Any], config: RunConfig) -> bool:
    """Whether the `config.json` of a run says the same; what it lacks, being older, has its default."""
    try:
        held = RunConfig.from_dict(values)
    except ConfigError:
        return False
    if held.super_resolution is None:  # a stage more leaves the others as they are
        held = held.model_copy(update={"super_resolution": config.super_resolution})
    return _divided_as(config, held) == config


def _divided_as(config: RunConfig, held: RunConfig) -> RunConfig:
    """A config whose steps are divided among processes as those of another: a run may go on with more or fewer."""
    changes = {}
    for stage in STAGES:
        run, asked = getattr(held, stage), getattr(config, stage)
        if run is not None and asked is not None:
            division = {name: getattr(asked.training, name) for name in ("accumulation", "sharding")}
            changes[stage] = run.model_copy(update={"training": run.training.model_copy(update=division)})
    return held.model_copy(update=changes)
