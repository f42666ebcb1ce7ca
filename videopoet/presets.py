"""Complete runs: everything that `videopoet train --preset NAME` needs, as Python."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Literal

from videopoet.data import toybox
from videopoet.data.mixture import MixtureConfig, Share
from videopoet.data.tokenizer_batches import Sounds, Stage
from videopoet.data.upscaling import PairsConfig
from videopoet.errors import ConfigError
from videopoet.models import language_model, super_resolution
from videopoet.sequence.tasks import TASKS
from videopoet.tokenizers import magvit_v2, soundstream
from videopoet.training import loop, optimizer, reconstruction
from videopoet.training.language_model import LanguageModelRun
from videopoet.training.run import RunConfig
from videopoet.training.super_resolution import SuperResolutionRun
from videopoet.training.tokenizers import AudioTokenizerRun, VideoTokenizerRun


def tiny() -> RunConfig:
    """Every stage in a minute on a laptop: shows that the chain works, makes nothing worth looking at."""
    return RunConfig(
        world=toybox.Config(height=32, width=32, num_frames=9),
        video_tokenizer=VideoTokenizerRun(
            model=magvit_v2.Config(
                num_bits=8,
                patch_size=4,
                channels=(16, 32),
                strides=((4, 2),),
                num_blocks=1,
                num_middle_blocks=0,
                spherical=True,
                entropy_group_bits=8,
                entropy_inverse_temperature=10.0,
            ),
            objective=reconstruction.VideoConfig(adversarial_weight=0.0, entropy_weight=0.02, entropy_extra_steps=0),
            stages=(
                Stage(num_batches=20, batch_size=8, num_frames=1, windows_per_clip=4),
                Stage(num_batches=40, batch_size=4, num_frames=9),
            ),
            training=_training(60, learning_rate=2e-3),
        ),
        audio_tokenizer=AudioTokenizerRun(
            model=soundstream.Config(patch=20, strides=(4, 4), channels=16, dim=32, codebook_size=64, num_quantizers=2),
            objective=reconstruction.AudioConfig(adversarial_weight=0.0, relative_weight=1.0),
            sounds=Sounds(batch_size=4),
            training=_training(40, learning_rate=1e-3),
        ),
        language_model=LanguageModelRun(
            model=language_model.Config(
                width=64, num_layers=2, num_heads=2, num_key_value_heads=2, head_width=32, hidden_width=128
            ),
            mixture=MixtureConfig(
                shares=tuple(Share(task=task, batch_size=4, weight=1.0) for task in TASKS),
                pool_clips=32,
                pool_batches=16,
            ),
            training=_training(60, learning_rate=2e-3),
        ),
        super_resolution=SuperResolutionRun(
            model=super_resolution.Shape(
                width=48,
                head_width=16,
                hidden_width=96,
                num_blocks=1,
                windows=((1, None, 4), (1, 4, None), (3, 4, 4)),
            ),
            pairs=PairsConfig(pool_clips=16, pool_batches=20),
            training=_training(40, name="muon", learning_rate=5e-3),
        ),
        validation_clips=8,
    )


def small() -> RunConfig:
    """The model that ships: 31 M parameters, 17 frames of 64x64 at 8 a second, with sound, trained on two cores."""
    return RunConfig(
        video_tokenizer=VideoTokenizerRun(
            model=magvit_v2.Config(
                num_bits=12,
                patch_size=4,
                channels=(64, 128, 176),
                strides=((2, 2), (2, 1)),
                num_blocks=2,
                num_middle_blocks=0,
                norm="place",
                num_flat_levels=1,
                spherical=True,
                entropy_group_bits=6,
                entropy_inverse_temperature=10.0,
            ),
            objective=reconstruction.VideoConfig(
                absolute_weight=0.5,
                subject_weight=8.0,
                entropy_weight=0.02,
                entropy_extra_steps=0,
                adversarial_weight=0.0,
            ),
            stages=(
                Stage(num_batches=850, batch_size=16, num_frames=1, windows_per_clip=8, crop_share=0.5),
                Stage(
                    num_batches=1,
                    batch_size=2,
                    num_frames=17,
                    scales=(1, 1, 1, 2),
                    image_share=0.4,
                    image_batch_size=16,
                    crop_share=0.5,
                ),
            ),
            training=_training(5600, name="muon", learning_rate=4e-3, warmup_steps=40, ema_decay=0.997),
        ),
        audio_tokenizer=AudioTokenizerRun(
            model=soundstream.Config(
                patch=8,
                strides=(5, 8),
                channels=48,
                dim=64,
                codebook_decay=0.98,
                dead_code_threshold=0.02,
                rate_weight=0.03,
                quantizer_dropout=False,
            ),
            objective=reconstruction.AudioConfig(
                mel_floor=3e-3, relative_weight=5.0, commitment_weight=0.1, adversarial_weight=0.0
            ),
            sounds=Sounds(batch_size=4, num_samples=8000, impact_share=0.5),
            training=_training(12_000, learning_rate=1e-3),
        ),
        language_model=LanguageModelRun(
            model=language_model.Config(
                width=256, num_layers=6, num_heads=4, num_key_value_heads=4, head_width=64, hidden_width=704
            ),
            mixture=MixtureConfig(
                shares=(
                    Share(task="text_to_video", batch_size=8, weight=32, early_weight=10),
                    Share(task="text_to_image", batch_size=32, weight=4, early_weight=90),
                    Share(task="image_to_video", batch_size=8, weight=8, early_weight=0),
                    Share(task="video_continuation", batch_size=8, weight=8, early_weight=0),
                    Share(task="unconditional", batch_size=8, weight=1, early_weight=0),
                    Share(task="inpainting", batch_size=6, weight=7, early_weight=0),
                    Share(task="outpainting", batch_size=6, weight=6, early_weight=0),
                    Share(task="stylization", batch_size=6, weight=7, early_weight=0),
                    Share(task="video_to_audio", batch_size=6, weight=10, early_weight=0),
                    Share(task="audio_to_video", batch_size=6, weight=2, early_weight=0),
                    Share(task="text_to_audio", batch_size=8, weight=2, early_weight=0),
                    Share(task="audio_video_continuation", batch_size=6, weight=3, early_weight=0),
                    Share(task="video_captioning", batch_size=8, weight=10, early_weight=0),
                ),
                impact_share=0.6,
                early_batches=180,
                sizes=((80, 48), (48, 80)),
                usual_pools=8,
                pool_clips=192,
                pool_batches=40,
            ),
            training=_training(7000, name="muon", learning_rate=2e-3, weight_decay=0.01, ema_decay=0.998),
        ),
        super_resolution=SuperResolutionRun(
            model=super_resolution.Shape(
                width=256,
                hidden_width=448,
                num_blocks=2,
                num_reading_blocks=1,
                windows=((1, None, 4), (1, 4, None), (5, 4, 4)),
            ),
            pairs=PairsConfig(pool_clips=256, pool_batches=320),
            training=_training(4000, name="muon", learning_rate=2e-3, weight_decay=0.01, ema_decay=0.998),
        ),
    )


def fine_tune() -> RunConfig:
    """The bundled language model goes on with footage, mostly on continuing clips; more steps learn a few by heart."""
    run = small()
    leading = {"video_continuation": 60.0, "image_to_video": 15.0}
    mixture = MixtureConfig(
        shares=tuple(Share(task=task, batch_size=8, weight=leading.get(task, 2.5)) for task in TASKS),
        pool_clips=32,
        pool_batches=10,
    )
    stage = run.language_model.model_copy(
        update={
            "mixture": mixture,
            "validation_tasks": ("video_continuation",),
            "training": _training(24, name="muon", learning_rate=5e-4, weight_decay=0.01, ema_decay=0.95),
        }
    )
    return run.model_copy(update={"init_from": "bundled", "stages": ("language_model",), "language_model": stage})


def paper() -> RunConfig:
    """The 300 M language model and full-size tokenizers at 128x128, trained as far as the paper says.

    For GPUs of 80 GB: a step of the language model and of super-resolution reads 32 clips, a few at a time.
    """
    shares = {
        "text_to_video": 20.0,
        "text_to_image": 20.0,
        "inpainting": 20.0,
        "outpainting": 20.0,
        "video_continuation": 20.0,
    }
    early = {"text_to_image": 90.0, "text_to_video": 10.0}
    return RunConfig(
        world=toybox.Config(height=128, width=128),
        video_tokenizer=VideoTokenizerRun(
            model=magvit_v2.Config(),
            objective=reconstruction.VideoConfig(),
            stages=(
                Stage(num_batches=100_000, batch_size=32, num_frames=1, windows_per_clip=4),
                Stage(num_batches=1, batch_size=8),
            ),
            training=_training(400_000, learning_rate=1e-4, betas=(0.0, 0.99)),
        ),
        audio_tokenizer=AudioTokenizerRun(
            model=soundstream.Config(),
            objective=reconstruction.AudioConfig(),
            sounds=Sounds(batch_size=32),
            training=_training(400_000, learning_rate=1e-4),
        ),
        language_model=LanguageModelRun(
            model=language_model.Config(),
            mixture=MixtureConfig(
                shares=tuple(
                    Share(
                        task=task,
                        batch_size=32 if task == "text_to_image" else 8,
                        weight=shares.get(task, 5.0),
                        early_weight=early.get(task, 0.0),
                    )
                    for task in TASKS
                ),
                early_batches=75_000,
            ),
            training=_training(300_000, learning_rate=1e-3, warmup_steps=5000, accumulation=4),
        ),
        super_resolution=SuperResolutionRun(
            model=super_resolution.Shape(),
            pairs=PairsConfig(batch_size=16, scales=(1, 2), pool_clips=1024, pool_batches=64),
            recompute=True,
            training=_training(300_000, learning_rate=1e-4, warmup_steps=5000, accumulation=2),
        ),
    )


def paper_1b() -> RunConfig:
    """The paper's 1 B language model, for the 37 billion tokens of its scaling study; see `paper_8b`."""
    model = language_model.Config(
        width=2048, num_layers=20, num_heads=16, num_key_value_heads=16, head_width=128, hidden_width=5440
    )
    return _scaled(model, num_steps=21_000, learning_rate=5e-4)


def paper_8b() -> RunConfig:
    """The paper's 8 B language model, for the 58 billion tokens of its scaling study.

    The paper gives parameters and tokens; depth, width and learning rate are ours. A step reads 32 clips on each GPU,
    so that 32 GPUs have the paper's 1,024. Weights are divided among them: one alone has no room for their states.
    """
    model = language_model.Config(
        width=4096, num_layers=40, num_heads=32, num_key_value_heads=32, head_width=128, hidden_width=10_944
    )
    return _scaled(model, num_steps=33_000, learning_rate=2e-4, sharding="full")


PRESETS: dict[str, Callable[[], RunConfig]] = {
    "tiny": tiny,
    "small": small,
    "fine_tune": fine_tune,
    "paper": paper,
    "paper_1b": paper_1b,
    "paper_8b": paper_8b,
}


def preset(name: str) -> RunConfig:
    """The run of that name.

    Raises:
        ConfigError: There is none; the message lists those there are.
    """
    if name not in PRESETS:
        close = difflib.get_close_matches(name, PRESETS, n=1)
        raise ConfigError(
            f"unknown preset '{name}'; there are {', '.join(PRESETS)}; "
            f"{f'did you mean {close[0]}?' if close else 'choose one'}",
            code="preset_unknown",
        )
    return PRESETS[name]()


def _scaled(
    model: language_model.Config, num_steps: int, learning_rate: float, sharding: Literal["none", "full"] = "none"
) -> RunConfig:
    """The paper's run with another language model, trained for so many steps, of which a quarter are mostly images."""
    run = paper()
    training = _training(num_steps, learning_rate=learning_rate, warmup_steps=2000, accumulation=4)
    stage = run.language_model.model_copy(
        update={
            "model": model,
            "recompute": True,
            "mixture": run.language_model.mixture.model_copy(update={"early_batches": num_steps // 4}),
            "training": training.model_copy(update={"sharding": sharding}),
        }
    )
    return run.model_copy(update={"language_model": stage})


def _training(
    num_steps: int, ema_decay: float = 0.999, warmup_steps: int | None = None, accumulation: int = 1, **settings
) -> loop.Config:
    """A loop of so many steps, with a few entries, validations and checkpoints on the way."""
    warmup = min(100, num_steps // 10) if warmup_steps is None else warmup_steps
    every = max(10, min(1000, num_steps // 12))
    return loop.Config(
        num_steps=num_steps,
        accumulation=accumulation,
        ema_decay=ema_decay,
        optimizer=optimizer.Config(warmup_steps=warmup, **settings),
        log_every=min(20, every),
        validate_every=every,
        checkpoint_every=every,
    )
