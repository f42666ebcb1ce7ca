"""Does the oracle accept given pixels beside made ones? True answers to continuation and painting, put together.

*Beside*: the given pixels as they are, the others as the tokenizer keeps them, which is the most that a model could
answer. *Looked at*: the same through the tokenizer once more, as `videopoet evaluate` looks at such answers.
*Tokenizer*: the truth wholly through it, the ceiling. Percent of clips that the oracle takes for scenes of the toy box.
"""

from __future__ import annotations

import argparse

import torch
from held_out import add_model, percent
from report import report
from torch import Tensor

from videopoet import Video, VideoPoet, runtime
from videopoet.evaluation.cases import Case, Take
from videopoet.evaluation.suites import cases, world_of
from videopoet.generation.window import Window

SUITES = "video_continuation", "inpainting", "outpainting"


def beside(case: Case) -> Take:
    """The truth where it was given, and elsewhere what the tokenizer keeps of it."""
    true, kept = case.right.video, case.through_tokens.video
    assert true is not None and kept is not None
    return Take(Video(torch.where(given(case), true.frames, kept.frames), true.frame_rate))


def given(case: Case) -> Tensor:
    """Which pixels were given, bool (T, 1, 1) or (T, H, W)."""
    if case.keep is not None:
        return case.keep
    return (torch.arange(case.truth.video.num_frames) < case.num_known)[:, None, None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--count", type=int, default=24, help="true clips of each task")
    parser.add_argument("--seed", type=int, default=0, help="number of the first test prompt; the next follow")
    add_model(parser)
    asked = parser.parse_args()
    window = Window(VideoPoet.from_pretrained(asked.model).parts)
    for suite in SUITES:
        accepted: dict[str, list[bool]] = {"truth": [], "tokenizer": [], "beside": [], "looked_at": []}
        with runtime.progress(asked.count, suite) as advance:
            for case in cases(suite, world_of(window, "in"), window, range(asked.count), asked.seed):
                answer = beside(case)
                takes = (case.right, case.through_tokens, answer, case.looked_at(answer))
                for hits, take in zip(accepted.values(), takes, strict=True):
                    hits.append(take.reading is not None and take.reading.valid)
                advance()
        report(
            "given_beside_made",
            suite=suite,
            accepted_percent={name: percent(hits) for name, hits in accepted.items()},
            clips=asked.count,
            seed=asked.seed,
        )


if __name__ == "__main__":
    main()
