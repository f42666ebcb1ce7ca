"""What becomes of a clip that a model goes on from again and again: roll-outs of two, four and eight windows.

A model sees the first frames of a test clip and its caption, and goes on; each window is made from the end of the one
before. After so many windows, the last frames, as many as a clip has, are read by the oracle. How far roll-outs drift,
freeze and loop are the two ways in which long predictions are known to fail and the slow one that leads to them; a
subject may also leave the picture, as the law of its motion wants, so sameness has no ceiling of 100%: `same_subject`
counts valid clips whose colours and shapes are the first clip's, `same_colour` asks for the colours alone, and `truth`
is how many of the first clips are read so through the tokenizer.
"""

from __future__ import annotations

from collections import defaultdict

import torch
from held_out import add_model, arguments, interval, percent, toy_box
from report import report
from torch import Tensor

from videopoet import VideoPoet, runtime
from videopoet.data.toybox import Scene
from videopoet.evaluation.metrics.continuation import FROZEN, loops
from videopoet.evaluation.reading import read_clip
from videopoet.generation.window import Window
from videopoet.media.types import Video
from videopoet.sequence.tasks import find_task

WINDOWS = (2, 4, 8)


def same(scene: Scene, pixels: Tensor, frame_rate: float) -> tuple[bool, bool]:
    """Whether a clip, (3, T, H, W) in [-1, 1], shows the subjects of a scene: by shape and colour, by colour alone."""
    reading = read_clip(pixels, frame_rate)
    seen = {(one.shape, one.colour) for one in reading.subjects}
    wanted = {(subject.shape, subject.colour) for subject in scene.subjects}
    return reading.valid and seen == wanted, {colour for _, colour in seen} == {colour for _, colour in wanted}


def main() -> None:
    parser = arguments(__doc__, count=24)
    add_model(parser)
    given = parser.parse_args()
    poet = VideoPoet.from_pretrained(given.model)
    window, settings, world = Window(poet.parts), poet.parts.settings, toy_box(given.split)
    view = next(view for view in find_task("video_continuation").given if view.modality == "video")
    known = window.shown_frames(view)
    fresh = settings.num_frames - known
    hits: dict[str, list[bool]] = defaultdict(list)
    drifts: dict[int, list[float]] = defaultdict(list)
    with runtime.progress(given.count, "roll-outs") as advance:
        for seed in range(given.seed, given.seed + given.count):
            scene = world.scene(seed)
            clip = world.render([scene], audio=False).video[0]
            begun = Video.from_pixels(clip[:, :known], settings.frame_rate)
            story = [{"prompt": scene.caption, "seconds": max(WINDOWS) * fresh / settings.frame_rate}]
            film = poet.film(story, video=begun, seed=seed, sound=False, progress=False)
            frames = torch.cat([part.frames for part in film], dim=1)
            subject, colour = same(scene, window.decode(window.encode(clip)), settings.frame_rate)
            hits["truth same_subject"].append(subject)
            hits["truth same_colour"].append(colour)
            for number in WINDOWS:
                end = known + number * fresh
                last = Video(frames[:, end - settings.num_frames : end], settings.frame_rate)
                subject, colour = same(scene, last.pixels(), settings.frame_rate)
                hits[f"{number} same_subject"].append(subject)
                hits[f"{number} same_colour"].append(colour)
                after = frames[:, known:end].float()
                hits[f"{number} frozen"].append(float(after[:, -fresh:].diff(dim=1).abs().mean()) < FROZEN)
                hits[f"{number} looping"].append(loops(after))
                means = frames[:, [0, end - 1]].float().mean(dim=(2, 3))
                drifts[number].append(float((means[:, 1] - means[:, 0]).abs().mean()))
            advance(1)
    report(
        "roll_outs",
        model=settings.name,
        count=given.count,
        seed=given.seed,
        split=given.split,
        truth={name: percent(hits[f"truth {name}"]) for name in ("same_subject", "same_colour")},
        windows={
            number: {
                **{
                    name: {"percent": percent(hits[f"{number} {name}"]), "interval": interval(hits[f"{number} {name}"])}
                    for name in ("same_subject", "same_colour", "frozen", "looping")
                },
                "drift_of_255": round(sum(drifts[number]) / len(drifts[number]), 2),
            }
            for number in WINDOWS
        },
    )


if __name__ == "__main__":
    main()
