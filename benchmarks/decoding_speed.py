"""How many passes and seconds a clip's tokens take: one at a time, and by checked guesses, side by side.

Every strategy decodes the same requests with the same seeds, one after the other in turns, so that all meet the same
machine; `same_tokens` says how many clips came out pixel for pixel as token by token. Sound is left out. A model with a
draft head is measured with its drafts and without.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import torch
from held_out import toy_box
from report import report
from torch import Tensor

from videopoet import VideoPoet
from videopoet.generation.decoders.autoregressive import Autoregressive
from videopoet.generation.decoders.base import Decoder
from videopoet.generation.decoders.speculative import Speculative
from videopoet.generation.request import Request
from videopoet.models.cached_pass import CachedPass


class CountedPasses:
    """Passes over kept keys and values since it was made, of whatever language model."""

    def __init__(self) -> None:
        self.number = 0
        plain = CachedPass.__call__

        def counted(read: CachedPass, *given: Any) -> Tensor:
            self.number += 1
            return plain(read, *given)

        CachedPass.__call__ = counted  # pyright: ignore[reportAttributeAccessIssue]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--model", metavar="FOLDER", help="the model to measure; without it, the one that ships")
    parser.add_argument("--split", choices=("test", "validation"), default="test", help="whose prompts")
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 4, 16], help="clips made together")
    parser.add_argument("--windows", type=int, nargs="+", default=[8, 16, 32], help="guesses of a pass in a row")
    parser.add_argument("--repeats", type=int, default=3, help="how often each, after a first")
    parser.add_argument("--guidance", type=float, help="guidance scale; without it, the model's")
    parser.add_argument("--seed", type=int, default=0, help="of the first clip")
    given = parser.parse_args()
    world, poet = toy_box(given.split), VideoPoet.from_pretrained(given.model)
    passes = CountedPasses()
    for num_rows in given.rows:
        requests = [
            Request(
                task="text_to_video", prompt=prompt, seed=given.seed + index, guidance_scale=given.guidance, sound=False
            )
            for index, prompt in enumerate(world.scene(number).caption for number in range(num_rows))
        ]
        strategies: dict[str, Decoder] = {"autoregressive": Autoregressive()}
        strategies |= {f"window {size}": Speculative(size, size * num_rows, drafts=False) for size in given.windows}
        if poet.parts.language_model.draft_head is not None:
            strategies |= {f"window {size}, drafts": Speculative(size, size * num_rows) for size in given.windows}
        seconds: dict[str, list[float]] = {name: [] for name in strategies}
        counted, clips = {}, {}
        for repeat in range(1 + given.repeats):
            for name, decoder in strategies.items():
                poet.decoder, passes.number = decoder, 0
                began = time.perf_counter()
                results = poet.generate_batch(requests, progress=False)
                if repeat:
                    seconds[name].append(time.perf_counter() - began)
                counted[name], clips[name] = passes.number, [result.media for result in results]
        for name in strategies:
            pairs = zip(clips[name], clips["autoregressive"], strict=True)
            report(
                "decoding_speed",
                strategy=name,
                rows=num_rows,
                passes=counted[name],
                seconds_per_clip=round(statistics.median(seconds[name]) / num_rows, 3),
                spread=round((max(seconds[name]) - min(seconds[name])) / num_rows, 3),
                times_faster=round(statistics.median(seconds["autoregressive"]) / statistics.median(seconds[name]), 2),
                same_tokens=sum(torch.equal(one.frames, other.frames) for one, other in pairs),  # pyright: ignore[reportAttributeAccessIssue]
                repeats=given.repeats,
            )


if __name__ == "__main__":
    main()
