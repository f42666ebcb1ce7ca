"""Is `videopoet plan` right about memory? Plans one task's steps of a preset's language model, and takes them."""

from __future__ import annotations

import argparse
import ctypes
import resource
import tempfile
from pathlib import Path

import torch
from report import report

from videopoet import presets
from videopoet.data import toybox
from videopoet.data.mixture import TaskBatch
from videopoet.models.language_model import AUDIO_FRAMES, LanguageModel
from videopoet.sequence import layout
from videopoet.sequence.tasks import find_task
from videopoet.text_encoders.own_tokens import OwnTokens
from videopoet.tokenizers.magvit_v2 import MagvitV2
from videopoet.tokenizers.soundstream import SoundStream
from videopoet.training import loop, plan, rehearsal
from videopoet.training.language_model import vocabulary_of
from videopoet.training.next_token import NextToken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="small")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--steps", type=int, default=2)
    arguments = parser.parse_args()
    give_memory_back()
    config = presets.preset(arguments.preset)
    stage = config.language_model
    shares = tuple(
        share.model_copy(update={"batch_size": arguments.batch_size})
        for share in stage.mixture.shares
        if share.task == "text_to_video"
    )
    training = stage.training.model_copy(
        update={"num_steps": arguments.steps, "validate_every": 10**6, "checkpoint_every": 10**6}
    )
    mixture = stage.mixture.model_copy(update={"shares": shares, "sizes": ()})
    config = config.model_copy(
        update={"language_model": stage.model_copy(update={"mixture": mixture, "training": training})}
    )
    with rehearsal.without_values():
        video, audio = MagvitV2(config.video_tokenizer.model), SoundStream(config.audio_tokenizer.model)
    words = OwnTokens.from_words(toybox.words())
    planned = plan._language_model(config, video, audio, words, 1, 400.0)
    vocabulary = vocabulary_of(words, video, audio)
    grid = video.grid(config.world.num_frames, config.world.height, config.world.width)
    length = plan._mean_text(config, words)

    take_steps(config, vocabulary, grid, length, 1)  # what libraries keep for themselves is taken now
    before = resident()
    peak = take_steps(config, vocabulary, grid, length, arguments.batch_size)
    measured = peak - before
    report(
        "plan_accuracy",
        preset=arguments.preset,
        batch_size=arguments.batch_size,
        planned_mb=planned.memory / 1e6,
        measured_mb=measured / 1e6,
        ratio=planned.memory / measured,
    )


def take_steps(config, vocabulary, grid: tuple[int, int, int], length: int, batch_size: int) -> int:
    """Train on random codes and return the most memory that the process has had by then, in bytes."""
    run = config.language_model
    model = LanguageModel.from_scratch(
        run.model, vocabulary.size, vocabulary.range("video"), (4, AUDIO_FRAMES), vocabulary.special("<pad>")
    )
    pieces = {"text_in": torch.zeros(length, dtype=torch.long), "video_out": torch.zeros(grid, dtype=torch.long)}
    row = layout.build(find_task("text_to_video"), vocabulary, pieces)
    batch = TaskBatch("text_to_video", layout.batch_rows([row] * batch_size, vocabulary.special("<pad>")))
    with tempfile.TemporaryDirectory() as folder:
        loop.train(NextToken(model, []), lambda index: batch, run.training, Path(folder))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def give_memory_back() -> None:
    """Let glibc return what is freed at once: what it keeps, or cannot use again, is no tensor's."""
    trim_threshold, mmap_threshold, mmap_max = -1, -3, -4
    libc = ctypes.CDLL(None)
    for option, value in ((mmap_threshold, 2**16), (trim_threshold, 0), (mmap_max, 2**20)):
        libc.mallopt(option, value)


def resident() -> int:
    """Memory that the process has now, in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


if __name__ == "__main__":
    main()
