"""How often a clip made from words shows the colour and the motion that they name, as the oracle reads its pixels.

Prompts are fresh: captions of held-out scenes with one subject and a camera at rest. Directions are those of the
prompts that ask for left, right, up or down. Beside the model's share of right clips stand its 95% interval; chance,
which is its clips read against each other's prompts; the truth, which is the prompts' own scenes; and the truth through
the video tokenizer, the most that a language model on it can reach. A clip without a subject to be found is wrong.

Tune sampling with `--split validation`; report on `--split test`.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from held_out import add_model, arguments, clips, interval, percent, toy_box
from report import report
from torch import Tensor

from videopoet import VideoPoet, runtime
from videopoet.data.toybox import Subject
from videopoet.evaluation.oracle import DIRECTIONS, MOTIONS, Reading, read_subject
from videopoet.generation.request import Request
from videopoet.sequence import layout
from videopoet.sequence.tasks import find_task

Slot = Literal["colour", "motion", "direction"]
TASK = find_task("text_to_video")


def generate(
    poet: VideoPoet,
    prompts: Sequence[str],
    seeds: Sequence[int],
    on_step: Callable[[], None] = lambda: None,
    **sampling: float | None,
) -> Tensor:
    """Clips, (B, 3, T, H, W), such as `poet.generate("text_to_video", ...)` makes of each prompt, made all at once."""
    parts, vocabulary = poet.parts, poet.parts.vocabulary
    shapes = {"video_out": codes_shape(poet)}
    texts = [torch.tensor(parts.text_encoder.encode(prompt)) for prompt in prompts]
    rows = [layout.plan(TASK, vocabulary, {"text_in": text}, shapes) for text in texts]
    how = Request(task=TASK.name, prompt=prompts[0], **sampling).completed(parts.settings).sampling  # pyright: ignore[reportArgumentType]
    against = [layout.plan(TASK, vocabulary, {}, shapes) for _ in rows] if how.guidance_scale != 1 else []
    streams = [runtime.generator(seed, TASK.name, 0) for seed in seeds]
    filled = poet.decoder.decode(parts.language_model, vocabulary, rows, against, how, streams, on_step)
    return see(poet, torch.stack([layout.read_back(row, vocabulary)["video_out"] for row in filled]))


def codes_shape(poet: VideoPoet) -> tuple[int, int, int]:
    """(t, h, w) of the codes of a clip that the model makes."""
    settings = poet.parts.settings
    return poet.parts.video_tokenizer.grid(settings.num_frames, settings.height, settings.width)


@torch.no_grad()
def see(poet: VideoPoet, codes: Tensor) -> Tensor:
    """Pixels, (B, 3, T, H, W), of video codes, (B, t, h, w)."""
    with runtime.autocast(poet.parts.device):
        return poet.parts.video_tokenizer.decode(codes.to(poet.parts.device)).float()


@torch.no_grad()
def through_codes(poet: VideoPoet, video: Tensor) -> Tensor:
    """Pixels, (B, 3, T, H, W), as the video tokenizer keeps them."""
    with runtime.autocast(poet.parts.device):
        return see(poet, poet.parts.video_tokenizer.encode(video.to(poet.parts.device)))


def is_right(slot: Slot, reading: Reading, subject: Subject) -> bool | None:
    """Whether a clip shows what was asked for; None where the slot was not asked for."""
    if slot == "colour":
        return reading.colour == subject.colour
    return reading.motion == subject.motion if slot == "motion" or subject.motion in DIRECTIONS else None


def right(slot: Slot, readings: Sequence[Reading], subjects: Sequence[Subject]) -> list[bool]:
    """Of each clip for which the slot was asked, whether it is right."""
    verdicts = (is_right(slot, *pair) for pair in zip(readings, subjects, strict=True))
    return [verdict for verdict in verdicts if verdict is not None]


def by_chance(slot: Slot, readings: Sequence[Reading], subjects: Sequence[Subject]) -> list[bool]:
    """The same for every clip and every other clip's prompt."""
    turned = (right(slot, readings, [*subjects[k:], *subjects[:k]]) for k in range(1, len(subjects)))
    return [verdict for verdicts in turned for verdict in verdicts]


def main() -> None:
    parser = arguments(__doc__, count=200)
    add_model(parser)
    for name, kind, meaning in (
        ("guidance-scale", float, "how closely to follow the words"),
        ("temperature", float, "below 1 is safer, above 1 is wilder"),
        ("top-k", int, "choose among so many likeliest tokens"),
        ("top-p", float, "choose among the likeliest tokens of this probability"),
    ):
        parser.add_argument(f"--{name}", type=kind, help=f"{meaning}; without it, what the model's settings say")
    parser.add_argument("--batch-size", type=int, default=8, help="clips made at once; the clips do not depend on it")
    parser.add_argument(
        "--readings", type=Path, help="write what was asked for and what was read, a JSON line per clip"
    )
    given = parser.parse_args()
    sampling = {name: getattr(given, name) for name in ("guidance_scale", "temperature", "top_k", "top_p")}

    poet = VideoPoet.from_pretrained(given.model)
    world = toy_box(given.split)
    seeds = range(given.seed, given.seed + given.count)
    scenes = [world.scene(seed, num_subjects=1, camera="still") for seed in seeds]
    prompts, subjects = [scene.captions[0] for scene in scenes], [scene.subjects[0] for scene in scenes]
    readings: dict[str, list[Reading]] = {"model": [], "tokenizer": [], "truth": []}
    for batch in clips(world, scenes, audio=False):
        readings["truth"] += map(read_subject, batch.video.cpu())
        readings["tokenizer"] += map(read_subject, through_codes(poet, batch.video).cpu())
    began = time.perf_counter()
    steps = math.prod(codes_shape(poet)) * math.ceil(given.count / given.batch_size)
    with runtime.progress(steps, "clips from words") as advance:
        for first in range(0, given.count, given.batch_size):
            some = slice(first, first + given.batch_size)
            made = generate(poet, prompts[some], seeds[some], advance, **sampling)
            readings["model"] += map(read_subject, made.cpu())
    seconds = time.perf_counter() - began

    def figures(slot: Slot) -> dict[str, Any]:
        verdicts = right(slot, readings["model"], subjects)
        return {
            "right_percent": percent(verdicts),
            "interval_percent": interval(verdicts),
            "chance_percent": percent(by_chance(slot, readings["model"], subjects)),
            "tokenizer_percent": percent(right(slot, readings["tokenizer"], subjects)),
            "truth_percent": percent(right(slot, readings["truth"], subjects)),
            "prompts": len(verdicts),
        }

    if given.readings:
        lines = [
            {"prompt": prompt, "seed": seed, "asked": [asked.colour, asked.motion], "read": [read.colour, read.motion]}
            for prompt, seed, asked, read in zip(prompts, seeds, subjects, readings["model"], strict=True)
        ]
        given.readings.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    motions = {
        motion: [r.motion == motion for r, s in zip(readings["model"], subjects, strict=True) if s.motion == motion]
        for motion in MOTIONS
    }
    how = Request(task=TASK.name, prompt=prompts[0], **sampling).completed(poet.parts.settings).sampling
    report(
        "text_to_video_fidelity",
        colour=figures("colour"),
        direction=figures("direction"),
        motion=figures("motion"),
        motion_right_percent_by_motion={motion: percent(verdicts) for motion, verdicts in motions.items()},
        no_subject_percent=percent([reading.colour is None for reading in readings["model"]]),
        seconds_per_clip=round(seconds / given.count, 3),
        model=poet.parts.settings.name,
        sampling=vars(how),
        batch_size=given.batch_size,
        seed=given.seed,
        split=given.split,
    )


if __name__ == "__main__":
    main()
