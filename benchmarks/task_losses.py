"""How well language models predict the outputs of every task, side by side, on the same held-out clips.

    python task_losses.py --model runs/together/poet --model runs/alone/poet

Loss is the mean cross-entropy of the tokens that a task gives, in nats; `uniform` is that of choosing blindly among the
codes that each place allows. The models need the same tokenizers, or their losses are of different codes: `codes` is a
hash of what they were asked to predict, and rows with other codes do not compare.
"""

from __future__ import annotations

import hashlib

import torch
from held_out import arguments, toy_box
from report import report

from videopoet import VideoPoet, runtime
from videopoet.data.mixture import MixtureConfig, Share, TaskBatches
from videopoet.sequence.tasks import TASKS, find_task
from videopoet.training.next_token import NextToken

AT_ONCE = 8
"""Clips in a batch."""


@torch.no_grad()
def losses(poet: VideoPoet, batches: TaskBatches, task: str, count: int) -> tuple[float, float, str]:
    """Mean loss of a task, that of a blind choice, and a hash of the tokens that were predicted."""
    objective = NextToken(poet.parts.language_model.eval(), [])
    pool = batches.pool(0, count)
    total = blind = tokens = 0.0
    digest = hashlib.sha256()
    for number in range(count // AT_ONCE):
        batch = batches.batch(find_task(task), AT_ONCE, pool, runtime.generator("task losses", task, number))
        chosen = batch.rows.targets
        ranges = batch.rows.ranges[chosen]
        with runtime.autocast(poet.parts.device):
            total += float(objective.loss(batch)) * len(ranges)
        blind += float((ranges[:, 1] - ranges[:, 0]).float().log().sum())
        tokens += len(ranges)
        digest.update(batch.rows.tokens[chosen].cpu().numpy().tobytes())
    return total / tokens, blind / tokens, digest.hexdigest()[:12]


def main() -> None:
    parser = arguments(__doc__, count=128)
    parser.add_argument("--model", metavar="FOLDER", action="append", help="one or several; without it, what ships")
    given = parser.parse_args()
    for folder in given.model or [None]:
        poet = VideoPoet.from_pretrained(folder)
        parts = poet.parts
        mixture = MixtureConfig(shares=tuple(Share(task=task, batch_size=AT_ONCE, weight=1) for task in TASKS))
        batches = TaskBatches(
            toy_box(given.split),
            mixture,
            parts.video_tokenizer,
            parts.audio_tokenizer,
            parts.text_encoder,
            parts.vocabulary,
            f"task losses {given.seed}",
            parts.device,
        )
        for task in parts.settings.tasks:
            loss, blind, digest = losses(poet, batches, task, given.count)
            report(
                "task_losses",
                task=task,
                loss=round(loss, 4),
                uniform=round(blind, 4),
                codes=digest,
                clips=given.count,
                model=folder or "bundled",
                split=given.split,
                seed=given.seed,
            )


if __name__ == "__main__":
    main()
