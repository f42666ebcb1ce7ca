"""Is `videopoet plan` right about memory? Each stage of a preset trained for some steps, and a clip made, beside it.

A stage takes steps on batches of random values in all shapes of its preset, and what is measured is the most memory
that the process has above what it had before; what libraries keep for themselves is taken before, in a first step. The
language model takes batches of text to video of a chosen size. A clip is made by the poet with random weights, its
language model in bf16 as the plan has it, and is not upscaled. Where the processor has no fast bf16, all is fp32, the
plan too.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from report import report
from streaming import PeakMemory

from videopoet import VideoPoet, presets, runtime
from videopoet.data.mixture import TaskBatch
from videopoet.data.tokenizer_batches import Windows
from videopoet.data.upscaling import Pairs
from videopoet.generation.request import Settings
from videopoet.models import super_resolution
from videopoet.models.super_resolution import SuperResolution
from videopoet.sequence import layout
from videopoet.sequence.tasks import find_task
from videopoet.tokenizers.magvit_v2 import MagvitV2
from videopoet.tokenizers.soundstream import SoundStream
from videopoet.training import generation_plan, loop, plan, reconstruction
from videopoet.training.language_model import fresh
from videopoet.training.masked_token import MaskedToken
from videopoet.training.next_token import NextToken
from videopoet.training.run import RunConfig


def video_tokenizer(config: RunConfig) -> tuple[loop.Objective, list[Any]]:
    """The stage's objective, and a batch of each kind."""
    run, world = config.video_tokenizer, config.world
    shapes = {
        (kind.num_windows, 3, kind.num_frames, kind.scale * world.height, kind.scale * world.width)
        for stage in run.stages
        for kind in stage.kinds
    }
    return reconstruction.VideoReconstruction(MagvitV2(run.model), run.objective), [
        Windows(torch.rand(*shape)) for shape in shapes
    ]


def audio_tokenizer(config: RunConfig) -> tuple[loop.Objective, list[Any]]:
    """Likewise."""
    run, world = config.audio_tokenizer, config.world
    num_samples = run.sounds.num_samples or round(world.num_frames / world.frame_rate * world.sample_rate)
    objective = reconstruction.AudioReconstruction(SoundStream(run.model), run.objective)
    return objective, [torch.rand(run.sounds.batch_size, 1, num_samples)]


def language_model(config: RunConfig) -> tuple[loop.Objective, list[Any]]:
    """Likewise, of one size."""
    parts, world = plan.parts_of(config), config.world
    vocabulary = parts.vocabulary
    model = fresh(config.language_model.model, vocabulary)
    shapes = {
        "text": (plan.mean_text(config, parts.words),),
        "video": parts.video.grid(world.num_frames, world.height, world.width),
    }
    row = plan.row_of(find_task("text_to_video"), vocabulary, shapes)
    (share,) = config.language_model.mixture.shares
    rows = layout.batch_rows([row] * share.batch_size, vocabulary.special("<pad>"))
    return NextToken(model, []), [TaskBatch("text_to_video", rows)]


def upscaler(config: RunConfig) -> tuple[loop.Objective, list[Any]]:
    """Likewise, of super-resolution."""
    run, world, parts = config.super_resolution, config.world, plan.parts_of(config)
    assert run is not None
    shape = super_resolution.Config(
        **run.model.to_dict(),
        num_bits=(parts.video.num_codes - 1).bit_length(),
        text_size=parts.words.size,
        longest_text=parts.words.longest,
    )
    batches = []
    for scale in run.pairs.scales:
        size = max(1, run.pairs.batch_size // scale**2)
        t, h, w = parts.video.grid(world.num_frames, scale * world.height, scale * world.width)
        large, low = (torch.zeros(size, t, side * h, side * w, dtype=torch.long) for side in (2, 1))
        batches.append(Pairs(large, low, torch.zeros(size, plan.mean_text(config, parts.words), dtype=torch.long)))
    return MaskedToken(SuperResolution(shape), run.objective), batches


MAKERS = {
    "video_tokenizer": video_tokenizer,
    "audio_tokenizer": audio_tokenizer,
    "language_model": language_model,
    "super_resolution": upscaler,
}


def trained(made: Callable[[], tuple[loop.Objective, list[Any]]], training: loop.Config) -> None:
    """Some steps on each kind of batch."""
    objective, batches = made()
    with tempfile.TemporaryDirectory() as folder:
        loop.train(objective, lambda index: batches[index % len(batches)], training, Path(folder))


def generated(config: RunConfig) -> None:
    """A clip from a poet of random weights."""
    parts, world = plan.parts_of(config), config.world
    vocabulary = parts.vocabulary
    model = fresh(config.language_model.model, vocabulary)
    settings = Settings(
        height=world.height, width=world.width, num_frames=world.num_frames, frame_rate=world.frame_rate,
        guidance_scale=2.0,
    )  # fmt: skip
    tokenizers = MagvitV2(config.video_tokenizer.model).eval(), SoundStream(config.audio_tokenizer.model).eval()
    poet = VideoPoet(*tokenizers, parts.words, model.to(runtime.compute_dtype("cpu")).eval(), vocabulary, settings)
    with torch.no_grad():
        poet.generate("text_to_video", prompt="a red ball bounces on the grass", seed=0, progress=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--preset", default="small")
    parser.add_argument("--stages", nargs="+", choices=(*MAKERS, "generation"), default=(*MAKERS, "generation"))
    parser.add_argument("--batch-size", type=int, default=8, help="of the language model")
    parser.add_argument("--steps", type=int, default=2, help="on each kind of batch")
    given = parser.parse_args()
    give_memory_back()
    config = presets.preset(given.preset)
    mixture = config.language_model.mixture
    shares = tuple(
        share.model_copy(update={"batch_size": given.batch_size})
        for share in mixture.shares
        if share.task == "text_to_video"
    )
    mixture = mixture.model_copy(update={"shares": shares, "sizes": ()})
    stage = config.language_model.model_copy(update={"mixture": mixture})
    config = config.model_copy(update={"language_model": stage})
    if not runtime.bf16_is_fast("cpu"):
        config = in_fp32(config)
    planned = {stage.stage: stage.memory for stage in plan.plan(config)} if {*given.stages} - {"generation"} else {}
    planned["generation"] = generation_plan.generation(
        config.model_copy(update={"super_resolution": None}), runtime.compute_dtype("cpu")
    ).memory
    for name in given.stages:
        measured = grown(name, config, given.steps)
        report(
            "plan_accuracy",
            preset=given.preset,
            stage=name,
            batch_size=given.batch_size if name == "language_model" else None,
            planned_mb=round(planned[name] / 1e6, 1),
            measured_mb=round(measured / 1e6, 1),
            ratio=round(planned[name] / measured, 3),
        )


def in_fp32(config: RunConfig) -> RunConfig:
    """The run without bf16, as this processor computes it whatever the run says."""
    stages = {
        name: stage.model_copy(update={"training": stage.training.model_copy(update={"bf16": False})})
        for name in MAKERS
        if (stage := getattr(config, name)) is not None
    }
    return config.model_copy(update=stages)


def grown(name: str, config: RunConfig, steps: int) -> int:
    """The most bytes that the work of a stage had above those before it, once libraries have what they keep."""

    def work(number: int) -> None:
        if name == "generation":
            generated(config)
            return
        training = getattr(config, name).training.model_copy(
            update={"num_steps": number, "validate_every": 10**6, "checkpoint_every": 10**6}
        )
        trained(lambda: MAKERS[name](config), training)

    work(1)
    gc.collect()
    peak = PeakMemory()
    work(steps * kinds(name, config))
    return peak.grown()


def kinds(name: str, config: RunConfig) -> int:
    """How many kinds of batches a stage has."""
    if name == "video_tokenizer":
        return len({kind[1:4] for stage in config.video_tokenizer.stages for kind in stage.kinds})
    return 1 if name != "super_resolution" else len(config.super_resolution.pairs.scales)  # pyright: ignore


def give_memory_back() -> None:
    """Let glibc return what is freed at once: what it keeps, or cannot use again, is no tensor's."""
    trim_threshold, mmap_threshold, mmap_max = -1, -3, -4
    libc = ctypes.CDLL(None)
    for option, value in ((mmap_threshold, 2**16), (trim_threshold, 0), (mmap_max, 2**20)):
        libc.mallopt(option, value)


if __name__ == "__main__":
    main()
