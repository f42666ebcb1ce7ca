"""What each decoder costs in what is seen: how often the oracle reads the named colour and motion, and everything.

The same prompts and seeds are made token by token, by the exact decoder with fewer passes, and with rows of codes side
by side. Prompts are those of `text_to_video_fidelity`. A share has an interval that holds 95 of 100 redraws of the
prompts, and so has its difference to the clips made token by token, which are compared one by one. *Everything* is M2's
verdict: a clip of the toy box with the scenery, resting camera, colour, shape and motion that are named.
"""

from __future__ import annotations

import time

import torch
from held_out import add_model, arguments, interval, percent, toy_box
from report import report
from text_to_video_fidelity import generate, is_right

from videopoet import VideoPoet, runtime
from videopoet.data.toybox_world import Scene
from videopoet.evaluation.oracle import Reading, read_subject
from videopoet.evaluation.reading import ClipReading, read_clip
from videopoet.generation.decoders.autoregressive import Autoregressive
from videopoet.generation.decoders.base import Decoder
from videopoet.generation.decoders.row_parallel import RowParallel
from videopoet.generation.decoders.speculative import Speculative


def difference(ones: list[bool], others: list[bool], draws: int = 2000) -> tuple[float, float, float]:
    """How many of a hundred `ones` has more than `others`, and between what 95 of 100 redraws of the pairs lie."""
    gains = torch.tensor(ones).float() - torch.tensor(others).float()
    chosen = torch.randint(len(gains), (draws, len(gains)), generator=runtime.generator("bootstrap"))
    low, high = (100 * gains[chosen].mean(dim=1)).quantile(torch.tensor([0.025, 0.975])).tolist()
    return round(100 * gains.mean().item(), 2), round(low, 2), round(high, 2)


def all_right(reading: ClipReading, scene: Scene) -> bool:
    """Whether a clip shows a scene of one subject, as its caption names it, and nothing else."""
    if not reading.valid or len(reading.subjects) != 1:
        return False
    found, told = reading.subjects[0], scene.subjects[0]
    wanted = (scene.kind, scene.camera, told.colour, told.shape, told.motion)
    return (reading.scenery, reading.camera, found.colour, found.shape, found.motion) == wanted


def main() -> None:
    parser = arguments(__doc__, count=64)
    add_model(parser)
    parser.add_argument("--windows", type=int, nargs="*", default=[1, 2, 3, 4], help="codes a row is ahead of the next")
    parser.add_argument("--batch-size", type=int, default=16, help="clips made at once; the clips do not depend on it")
    given = parser.parse_args()
    poet, world = VideoPoet.from_pretrained(given.model), toy_box(given.split)
    seeds = range(given.seed, given.seed + given.count)
    scenes = [world.scene(seed, num_subjects=1, camera="still") for seed in seeds]
    prompts, subjects = [scene.captions[0] for scene in scenes], [scene.subjects[0] for scene in scenes]
    decoders: dict[str, Decoder] = {"autoregressive": Autoregressive(), "speculative": Speculative()}
    decoders |= {f"row parallel, window {size}": RowParallel(size) for size in given.windows}
    exact: dict[str, list[bool]] = {}
    for name, decoder in decoders.items():
        poet.decoder = decoder
        readings: list[Reading] = []
        everything: list[bool] = []
        busy = 0.0
        for first in range(0, given.count, given.batch_size):
            some = slice(first, first + given.batch_size)
            began = time.process_time()
            videos = generate(poet, prompts[some], seeds[some]).cpu()
            busy += time.process_time() - began
            readings += map(read_subject, videos)
            everything += [
                all_right(read_clip(video, world.config.frame_rate), scene)
                for video, scene in zip(videos, scenes[some], strict=True)
            ]
        pairs = list(zip(readings, subjects, strict=True))
        seen = {slot: [bool(is_right(slot, *pair)) for pair in pairs] for slot in ("colour", "motion")}
        figures = {}
        for slot, verdicts in (seen | {"everything": everything}).items():
            exact.setdefault(slot, verdicts)
            figures[slot] = {
                "right_percent": percent(verdicts),
                "interval_percent": interval(verdicts),
                "more_than_exact": difference(verdicts, exact[slot]),
            }
        report(
            "decoder_cost",
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
