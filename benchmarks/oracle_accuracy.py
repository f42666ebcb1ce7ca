"""The oracle's own gates: how often it reads truth right, refuses what is no clip of ours, and hears of a change.

One JSON line a gate. Truth: every slot of held-out clips, per slot and all together, of seen and of held-out
combinations; the same through H.264. Outside: the same of scenes that prompts of the `outside` split ask for, which are
faster, smaller and bigger than those of training. Invalid: clips that must be refused. Changed: pairs of clips that
must both be read, and differ in what was changed alone. Second reader: how often it agrees, on single subjects before
a camera at rest.
"""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

import av
import numpy as np
import torch
from held_out import arguments, clips, interval, percent
from report import report
from torch import Tensor

from videopoet.data.toybox import Config, Scene, ToyBox
from videopoet.evaluation import prompts
from videopoet.evaluation.gates import CHANGED, INVALID, is_told_apart, slots
from videopoet.evaluation.reading import ClipReading, oracle_hash, read_clip
from videopoet.evaluation.second_reader import read_again

QUALITIES = 18, 23, 28
"""H.264's constant rate factors."""


def through_h264(video: Tensor, frame_rate: float, quality: int) -> Tensor:
    """Pixels in [-1, 1], (3, T, H, W), encoded and decoded."""
    frames = ((video + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 3, 0).numpy()
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(frame_rate).limit_denominator(1000))
        stream.width, stream.height, stream.pix_fmt = video.shape[3], video.shape[2], "yuv420p"
        stream.options = {"crf": str(quality)}
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    file.seek(0)
    with av.open(file, "r") as container:
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return torch.from_numpy(np.stack(decoded)).permute(3, 0, 1, 2).float() / 127.5 - 1


def read(
    world: ToyBox, scenes: Sequence[Scene], quality: int | None = None
) -> Iterator[tuple[Scene, ClipReading, float]]:
    """Scenes, what is read of their clips, and the seconds that reading took."""
    for batch in clips(world, scenes, audio=True):
        assert batch.audio is not None
        for scene, video, audio in zip(batch.scenes, batch.video.cpu(), batch.audio.cpu(), strict=True):
            shown = video if quality is None else through_h264(video, batch.frame_rate, quality)
            began = time.process_time()
            reading = read_clip(shown, batch.frame_rate, audio, batch.sample_rate)
            yield scene, reading, time.process_time() - began


def truth(question: str, world: ToyBox, scenes: Sequence[Scene], quality: int | None = None, **asked: Any) -> None:
    """Print how often each slot is read right."""
    right: dict[str, list[bool]] = {}
    seconds, wrong = [], []
    for scene, reading, duration in read(world, scenes, quality):
        verdicts = slots(reading, scene)
        verdicts["all"] = all(verdicts.values())
        if not verdicts["all"]:
            wrong.append(scene.seed)
        for slot, is_right in verdicts.items():
            right.setdefault(slot, []).append(is_right)
        seconds.append(duration)
    report(
        question,
        **({} if quality is None else {"crf": quality}),
        right_percent={slot: percent(hits) for slot, hits in right.items()},
        all_slots_interval_percent=interval(right["all"]),
        wrong_seeds=wrong[:50],
        cpu_milliseconds_per_clip=round(1000 * statistics.median(seconds), 1),
        **asked,
        combinations=world.config.combinations,
        clips=len(scenes),
        seed=scenes[0].seed,
        split=world.config.split,
        oracle=oracle_hash()[:16],
    )


def main() -> None:
    parser = arguments(__doc__, count=300)
    parser.add_argument("--gates", nargs="*", default=["truth", "outside", "h264", "invalid", "changed", "second"])
    given = parser.parse_args()
    seeds = range(given.seed, given.seed + given.count)
    world = ToyBox(Config(split=given.split))
    if "truth" in given.gates:
        for combinations in ("seen", "held_out"):
            whole = ToyBox(Config(split=given.split, combinations=combinations))
            for num_subjects in (1, 2, 3, None):
                scenes = [whole.scene(seed, num_subjects=num_subjects) for seed in seeds]
                truth("oracle_truth", whole, scenes, subjects=num_subjects or "1 to 3")
    if "outside" in given.gates:
        first = prompts.prompts("outside")[0].seed
        truth("oracle_outside", world, [prompts.scene("outside", first + number, number, world) for number in seeds])
    if "h264" in given.gates:
        scenes = [world.scene(seed, num_subjects=1) for seed in seeds]
        for quality in QUALITIES:
            truth("oracle_h264", world, scenes, quality, subjects=1)
    if "invalid" in given.gates:
        each = range(given.seed, given.seed + -(-given.count // len(INVALID)))
        flagged = {name: [not make(world, seed).read(world).valid for seed in each] for name, make in INVALID.items()}
        report(
            "oracle_invalid",
            flagged={name: f"{sum(hits)} of {len(hits)}" for name, hits in flagged.items()},
            not_flagged_seeds={
                name: [s for s, hit in zip(each, hits, strict=True) if not hit] for name, hits in flagged.items()
            },
            split=given.split,
            oracle=oracle_hash()[:16],
        )
    if "changed" in given.gates:
        each = range(given.seed, given.seed + -(-given.count // len(CHANGED)))
        told = {
            name: [
                is_told_apart(name, one.read(world), other.read(world))
                for one, other in (make(world, seed) for seed in each)
            ]
            for name, make in CHANGED.items()
        }
        report(
            "oracle_changed",
            told_apart={name: f"{sum(hits)} of {len(hits)}" for name, hits in told.items()},
            split=given.split,
            oracle=oracle_hash()[:16],
        )
    if "second" in given.gates:
        agreed: dict[str, list[bool]] = {"colour": [], "motion": []}
        scenes = [world.scene(seed, num_subjects=1, camera="still") for seed in seeds]
        for batch in clips(world, scenes, audio=False):
            for video in batch.video.cpu():
                subjects, again = read_clip(video, batch.frame_rate).subjects, read_again(video)
                for slot, hits in agreed.items():
                    hits.append(bool(subjects) and getattr(subjects[0], slot) == getattr(again, slot))
        report(
            "oracle_second_reader",
            agree_percent={slot: percent(hits) for slot, hits in agreed.items()},
            clips=given.count,
            seed=given.seed,
            split=given.split,
            oracle=oracle_hash()[:16],
        )


if __name__ == "__main__":
    main()
