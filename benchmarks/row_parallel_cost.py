"""What rows of codes side by side cost: how often the oracle reads the named colour and motion, window by window.

The same prompts and seeds are made exactly and with each window. Prompts are those of `text_to_video_fidelity`. A
share's interval holds 95 of 100 redraws of the prompts; so does that of the difference to the exact clips, which are
compared prompt by prompt.
"""

from __future__ import annotations

import time

import torch
from held_out import add_model, arguments, interval, percent, toy_box
from report import report
from text_to_video_fidelity import generate, is_right

from videopoet import VideoPoet, runtime
from videopoet.evaluation.oracle import Reading, read_subject
from videopoet.generation.decoders.autoregressive import Autoregressive
from videopoet.generation.decoders.base import Decoder
from videopoet.generation.decoders.row_parallel import RowParallel


def difference(ones: list[bool], others: list[bool], draws: int = 2000) -> tuple[float, float, float]:
    """How many of a hundred `ones` has more than `others`, and between what 95 of 100 redraws of the pairs lie."""
    gains = torch.tensor(ones).float() - torch.tensor(others).float()
    chosen = torch.randint(len(gains), (draws, len(gains)), generator=runtime.generator("bootstrap"))
    low, high = (100 * gains[chosen].mean(dim=1)).quantile(torch.tensor([0.025, 0.975])).tolist()
    return round(100 * gains.mean().item(), 2), round(low, 2), round(high, 2)


def main() -> None:
    parser = arguments(__doc__, count=64)
    add_model(parser)
    parser.add_argument("--windows", type=int, nargs="+", default=[1, 2, 3, 4], help="codes a row is ahead of the next")
    parser.add_argument("--batch-size", type=int, default=16, help="clips made at once; the clips do not depend on it")
    given = parser.parse_args()
    poet, world = VideoPoet.from_pretrained(given.model), toy_box(given.split)
    seeds = range(given.seed, given.seed + given.count)
    scenes = [world.scene(seed, num_subjects=1, camera="still") for seed in seeds]
    prompts, subjects = [scene.captions[0] for scene in scenes], [scene.subjects[0] for scene in scenes]
    decoders: dict[str, Decoder] = {"autoregressive": Autoregressive()}
    decoders |= {f"row parallel, window {size}": RowParallel(size) for size in given.windows}
    exact: dict[str, list[bool]] = {}
    for name, decoder in decoders.items():
        poet.decoder = decoder
        readings: list[Reading] = []
        began = time.process_time()
        for first in range(0, given.count, given.batch_size):
            some = slice(first, first + given.batch_size)
            readings += map(read_subject, generate(poet, prompts[some], seeds[some]).cpu())
        busy = time.process_time() - began
        figures = {}
        for slot in ("colour", "motion"):
            verdicts = [bool(is_right(slot, *pair)) for pair in zip(readings, subjects, strict=True)]
            exact.setdefault(slot, verdicts)
            figures[slot] = {
                "right_percent": percent(verdicts),
                "interval_percent": interval(verdicts),
                "more_than_exact": difference(verdicts, exact[slot]),
            }
        report(
            "row_parallel_cost",
            strategy=name,
            **figures,
            no_subject_percent=percent([reading.colour is None for reading in readings]),
            processor_seconds_per_clip=round(busy / given.count, 3),
            clips=given.count,
            split=given.split,
            seed=given.seed,
            batch_size=given.batch_size,
            model=poet.parts.settings.name,
        )


if __name__ == "__main__":
    main()
