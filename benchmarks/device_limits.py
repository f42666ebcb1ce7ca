"""How near to what the device can do come training, and decoding one clip, at the size of a preset?

Weights are random: what a pass takes does not depend on them. How fast the device reads (matrix times vector, and a
copy) and how many operations a second it makes (a product of large matrices) is measured in the same run. Decoding one
token at a time must read all layers, the head over the codes, and the keys and values kept so far in every pass: what
that comes to a second is held against the former. Training is the loop of `videopoet train`; its operations, three
times those of the forward pass with recomputation left out, are held against the latter.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import torch
from report import report, timed
from training_step import TASK, train_ours

from videopoet import presets, runtime
from videopoet.data.mixture import TaskBatch
from videopoet.generation.decoders.autoregressive import Autoregressive
from videopoet.generation.sampling import Sampling
from videopoet.models.language_model import LanguageModel
from videopoet.sequence import layout
from videopoet.sequence.layout import UNKNOWN, Row
from videopoet.sequence.vocabulary import Vocabulary
from videopoet.training import plan
from videopoet.training.language_model import fresh
from videopoet.training.next_token import NextToken
from videopoet.training.rehearsal import Operations

NUM_WORDS = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--preset", default="paper", help="whose language model and clips")
    parser.add_argument("--device", help="cuda, cuda:1, cpu ...; the best there is where it is left out")
    parser.add_argument("--rows", type=int, default=8, help="of a training batch")
    parser.add_argument("--steps", type=int, default=10, help="of training, after the first two")
    parser.add_argument("--repeats", type=int, default=3, help="clips decoded, after a first")
    parser.add_argument("--compile", action="store_true", help="train with compiled layers")
    parser.add_argument("--recompute", action="store_true", help="compute layers again in the backward pass")
    given = parser.parse_args()
    device = runtime.usable_device(given.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)  # which is then waited for
    dtype = runtime.compute_dtype(device)
    model, vocabulary, rows = make(given.preset, device, given.rows)
    facts = {"preset": given.preset, "parameters": sum(p.numel() for p in model.parameters()), "on": str(device)}

    most_flops = flops_a_second(device, dtype)
    if given.recompute:
        model.recompute_layers()
    if given.compile:
        model.compile_layers()
    batch = layout.batch_rows(rows, vocabulary.special("<pad>")).to(device)
    objective = NextToken(model, [])
    stance = torch.compiler.set_stance("force_eager")  # torch compiles nothing while operations are counted
    with stance, Operations() as operations, torch.no_grad(), runtime.autocast(device):
        objective.loss(TaskBatch(TASK.name, batch))
    flops = 3 * operations.flops
    laps = [seconds for seconds, _ in train_ours(model.train(), batch, given.steps + 3, 1e-4).durations()]
    step = statistics.median(laps)
    report(
        "device_limits",
        what="training",
        seconds_per_step=round(step, 4),
        spread=round(max(laps) - min(laps), 4),
        tokens_per_second=round(batch.tokens.numel() / step, 1),
        teraflops=round(flops / step / 1e12, 3),
        device_teraflops=round(most_flops / 1e12, 3),
        share=round(flops / step / most_flops, 3),
        rows=given.rows,
        compiled=given.compile,
        recomputed=given.recompute,
        **facts,
    )

    most_bytes = bytes_a_second(device, dtype)
    model = model.eval().requires_grad_(False).to(dtype)
    taken = timed(lambda: decode(model, vocabulary, rows[0]), repeats=given.repeats)
    passes = int(planned(rows[0]).to_generate.sum())
    moved = passes * bytes_of_a_pass(model, vocabulary, rows[0])
    report(
        "device_limits",
        what="decoding one clip, one token a pass",
        seconds=round(taken.seconds, 3),
        spread=round(taken.spread, 3),
        passes=passes,
        gigabytes_per_second=round(moved / taken.seconds / 1e9, 3),
        device_gigabytes_per_second=round(most_bytes / 1e9, 3),
        share=round(moved / taken.seconds / most_bytes, 3),
        dtype=str(dtype).removeprefix("torch."),
        **facts,
    )


def make(preset: str, device: torch.device, num_rows: int) -> tuple[LanguageModel, Vocabulary, list[Row]]:
    """The language model that a preset begins with, its vocabulary, and rows of words and codes by lot."""
    run = presets.preset(preset)
    parts = plan.parts_of(run)
    vocabulary, stream = parts.vocabulary, runtime.generator("device_limits")
    with device:
        torch.manual_seed(0)
        model = fresh(run.language_model.model, vocabulary)
    grid = parts.video.grid(run.world.num_frames, run.world.height, run.world.width)
    rows = [
        layout.build(
            TASK,
            vocabulary,
            {
                "text_in": torch.randint(vocabulary.config.text_size, (NUM_WORDS,), generator=stream),
                "video_out": torch.randint(vocabulary.config.visual_codes, grid, generator=stream),
            },
        )
        for _ in range(num_rows)
    ]
    return model, vocabulary, rows


def planned(row: Row) -> Row:
    """The row with its clip still to be chosen."""
    span, tokens = row.spans["video_out"], row.tokens.clone()
    tokens[span.start : span.stop] = UNKNOWN
    return row.filled(tokens)


def decode(model: LanguageModel, vocabulary: Vocabulary, row: Row) -> None:
    """Choose the clip, without guidance."""
    sampling = Sampling(temperature=1.0, top_k=None, top_p=1.0, guidance_scale=1.0)
    Autoregressive().decode(model, vocabulary, [planned(row)], [], sampling, [runtime.generator("decode")])


def bytes_of_a_pass(model: LanguageModel, vocabulary: Vocabulary, row: Row) -> float:
    """What a pass over one token must read, on average over the clip."""
    start, stop = vocabulary.range("video")
    weights = sum(weight.numel() for layer in model.layers for weight in layer.parameters())
    head = (stop - start) * model.head_weight.shape[1]
    span = row.spans["video_out"]
    kept = 2 * model.num_layers * model.key_width * (span.start + span.stop) / 2
    return (weights + head + kept) * model.head_weight.element_size()


def bytes_a_second(device: torch.device, dtype: torch.dtype) -> float:
    """The most that the device reads, or reads and writes."""
    size = 2**15 if device.type == "cuda" else 2**13
    matrix, vector = torch.ones(size, size, device=device, dtype=dtype), torch.ones(size, device=device, dtype=dtype)
    other, held = torch.empty_like(matrix), matrix.numel() * matrix.element_size()
    return max(held / fastest(lambda: matrix @ vector), 2 * held / fastest(lambda: other.copy_(matrix)))


def flops_a_second(device: torch.device, dtype: torch.dtype) -> float:
    """The most operations of a product of matrices."""
    size = 2**13 if device.type == "cuda" else 2**11
    matrix = torch.ones(size, size, device=device, dtype=dtype)
    return 2 * size**3 / fastest(lambda: matrix @ matrix)


def fastest(compute: Callable[[], object], repeats: int = 10) -> float:
    """Seconds of the fastest of some calls."""
    return min(timed(compute, warmup=number == 0, repeats=1).seconds for number in range(repeats))


if __name__ == "__main__":
    main()
