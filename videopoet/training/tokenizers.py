"""The stages of both tokenizers, each of which learns to give back what it is shown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

from videopoet import checkpoint, ranks
from videopoet.config import BaseConfig
from videopoet.data.mixed import mixed
from videopoet.data.tokenizer_batches import AudioBatches, Sounds, Stage, VideoBatches, hears
from videopoet.data.world import World, open_worlds
from videopoet.errors import CheckpointError
from videopoet.generation.poet_folder import Parts
from videopoet.tokenizers import magvit_v2, soundstream
from videopoet.tokenizers.base import AudioTokenizer, Tokenizer, VideoTokenizer
from videopoet.tokenizers.magvit_v2 import MagvitV2
from videopoet.tokenizers.soundstream import SoundStream
from videopoet.training import loop, reconstruction, run_folder
from videopoet.training.run_folder import StageName
from videopoet.training.streams import Streams
from videopoet.training.surroundings import Surroundings

T = TypeVar("T", bound=Tokenizer)


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


def train_video(run: VideoTokenizerRun, around: Surroundings) -> None:
    """Train a video tokenizer and write it to `video_tokenizer/final` in the run's folder."""
    device = around.device
    torch.manual_seed(run.training.seed)
    tokenizer = MagvitV2(run.model).to(device)
    if around.source is not None:
        assert isinstance(around.source.video_tokenizer, MagvitV2), "published tokenizers are not trained"
        tokenizer.begin_from(around.source.video_tokenizer, str(around.source_name))
    held_out = [around.validation] if around.footage is None else [around.validation, around.footage[1]]
    held_out = [shown if shown.has_clips else (shown.pictures or shown) for shown in held_out]
    clips = [
        shown.render(shown.spread(around.num_validation), device, audio=False).video.split(8) for shown in held_out
    ]
    objective = reconstruction.VideoReconstruction(tokenizer, run.objective, *clips)

    def batches_of(shown: World, seed: int | str) -> VideoBatches:
        return VideoBatches(shown, run.stages, seed, device, with_subjects=run.objective.subject_weight > 1)

    footage = None if around.footage is None else around.footage[0]
    source = mixed(batches_of, around.world, footage, around.footage_share)
    _train("video_tokenizer", tokenizer, objective, source, run.training, around)


def train_audio(run: AudioTokenizerRun, around: Surroundings) -> None:
    """Train an audio tokenizer and write it to `audio_tokenizer/final` in the run's folder."""
    device = around.device
    torch.manual_seed(run.training.seed)
    tokenizer = SoundStream(run.model).to(device)
    if around.source is not None:
        checkpoint.load_weights(tokenizer, around.source.audio_tokenizer.state_dict(), str(around.source_name))
    world, validation = around.world, around.validation
    if not (hears(world) and hears(validation)):  # silent footage: any sound teaches a codec
        world, validation = open_worlds("toybox", world.config)
    if not validation.has_sound:
        validation = validation.sounds or validation
    sounds = validation.sound(validation.spread(around.num_validation, heard=True), device)
    objective = reconstruction.AudioReconstruction(tokenizer, run.objective, sounds.split(8))

    def batches_of(shown: World, seed: int | str) -> AudioBatches:
        return AudioBatches(shown, run.sounds, seed, device)

    footage = around.footage[0] if around.footage is not None and hears(around.footage[0]) else None
    source = mixed(batches_of, world, footage, around.footage_share)
    _train("audio_tokenizer", tokenizer, objective, source, run.training, around)


def trained(output: Path, source: Parts | None) -> tuple[VideoTokenizer, AudioTokenizer]:
    """The tokenizers of the run in a folder, or else those of the poet that it starts from.

    Raises:
        CheckpointError: One is not finished, and there is no such poet.
    """
    return (
        _finished(output, "video_tokenizer", MagvitV2, source and source.video_tokenizer),
        _finished(output, "audio_tokenizer", SoundStream, source and source.audio_tokenizer),
    )


def _train(
    stage: str,
    tokenizer: Tokenizer,
    objective: loop.Objective,
    source: Callable[[int | str], Callable[[int], object]],
    training: loop.Config,
    around: Surroundings,
) -> None:
    batches = Streams(source, training.seed, training.accumulation)
    around.train(stage, objective, batches, training)
    if ranks.rank() == 0:
        with checkpoint.atomic_folder(around.output / stage / "final") as place:
            tokenizer.save(place)


def _finished(output: Path, stage: StageName, own: type[T], source: T | None) -> T:
    place = output / stage / "final"
    goes_on = run_folder.has_begun(output, stage) and not run_folder.is_finished(output, stage)
    if place.exists() and not goes_on:
        return own.load(place).requires_grad_(False)
    if source is not None and not place.exists():
        return source
    raise CheckpointError(
        f"'{output}' has no finished {stage.replace('_', ' ')}; the language model is trained on its codes; "
        "train that stage first, or take a model's with --init-from",
        code="checkpoint_missing",
    )
