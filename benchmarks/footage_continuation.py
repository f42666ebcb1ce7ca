"""How well a model goes on from clips of footage that it was not trained on, beside the model that ships.

Of each clip that `videopoet prepare` held out, the models see the first frames, as `video_continuation` does, and
predict the next eight, which are compared with the true ones (PSNR, mean over clips). Each clip is continued with
several seeds. Two references say how much room there is: the last frame seen, held still, and the true frames after the
tokenizer alone, which no model of these tokenizers can beat.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

import torch
from report import report

from videopoet import VideoPoet, runtime
from videopoet.data.prepared import Dataset, PreparedClips
from videopoet.data.toybox import Config
from videopoet.errors import ConfigError
from videopoet.evaluation.statistics import bootstrap_ratio
from videopoet.generation.window import Window
from videopoet.media.quality import psnr
from videopoet.media.types import Video
from videopoet.sequence.tasks import find_task

NEXT = 8
"""Frames that are compared."""


def held_out(poet: VideoPoet, data: Path, count: int) -> list[Video]:
    """Clips that training did not see, in the size and length of a model."""
    settings = poet.parts.settings
    dataset = Dataset(data)
    config = Config(
        height=settings.height,
        width=settings.width,
        num_frames=settings.num_frames,
        frame_rate=settings.frame_rate,
        sample_rate=dataset.config.sample_rate,
        split="validation",
    )
    world = PreparedClips(dataset, config)
    scenes = [world.scene(number) for number in range(min(count, len(world)))]
    return [Video.from_pixels(world.render([scene], audio=False).video[0], settings.frame_rate) for scene in scenes]


def shape(poet: VideoPoet) -> tuple[float, ...]:
    """Size, length and rate of what a model makes."""
    settings = poet.parts.settings
    return settings.height, settings.width, settings.num_frames, settings.frame_rate


def num_given(poet: VideoPoet) -> int:
    """How many frames of a clip a continuation is given."""
    view = next(view for view in find_task("video_continuation").given if view.modality == "video")
    return Window(poet.parts).shown_frames(view)


def continued(poet: VideoPoet, clip: Video, given: int, seed: int) -> torch.Tensor:
    """The frames that a model makes after the given ones, uint8 (3, 8, H, W)."""
    seen = Video(clip.frames[:, :given], clip.frame_rate)
    made: Any = poet.generate("video_continuation", video=seen, seed=seed, progress=False).media
    return made.frames[:, given : given + NEXT]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--model", metavar="FOLDER", required=True, help="the model that was trained on the footage")
    parser.add_argument("--data", type=Path, required=True, help="the dataset that `videopoet prepare` wrote")
    parser.add_argument("--count", type=int, default=32, help="the most clips")
    parser.add_argument("--seeds", type=int, default=2, help="continuations of each clip")
    given = parser.parse_args()
    models = {"trained": VideoPoet.from_pretrained(given.model), "bundled": VideoPoet.from_pretrained()}
    shapes = [shape(poet) for poet in models.values()]
    if shapes[0] != shapes[1]:
        raise ConfigError(
            f"'{given.model}' makes other clips than the model that ships; those of one size and length are compared; "
            "train it with --init-from bundled",
            code="config_invalid",
        )
    clips = held_out(models["trained"], given.data, given.count)
    seen = num_given(models["trained"])
    found: dict[str, list[float]] = {"trained": [], "bundled": [], "still": [], "tokenizer": []}
    with runtime.progress(len(clips), "clips") as advance:
        for clip in clips:
            true = clip.frames[:, seen : seen + NEXT]
            for name, poet in models.items():
                tries = [psnr(continued(poet, clip, seen, seed), true) for seed in range(given.seeds)]
                found[name].append(statistics.mean(tries))
            found["still"].append(min(psnr(clip.frames[:, seen - 1 : seen].expand_as(true).contiguous(), true), 100.0))
            window = Window(models["trained"].parts)
            whole = Video.from_pixels(window.decode(window.encode(clip.pixels())), clip.frame_rate).frames
            found["tokenizer"].append(psnr(whole[:, seen : seen + NEXT], true))
            advance()
    gains = [one - other for one, other in zip(found["trained"], found["bundled"], strict=True)]
    interval = bootstrap_ratio(torch.tensor([[gain, 1.0] for gain in gains], dtype=torch.float64).numpy())
    report(
        "footage_continuation",
        clips=len(clips),
        seeds=given.seeds,
        frames_given=seen,
        frames_compared=NEXT,
        **{f"psnr_{name}": round(statistics.mean(values), 3) for name, values in found.items()},
        gain=round(statistics.mean(gains), 3),
        gain_interval=[round(end, 3) for end in interval] if interval else None,
        clips_better=sum(gain > 0 for gain in gains),
    )


if __name__ == "__main__":
    main()
