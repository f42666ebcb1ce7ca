"""How much of a clip's sound the audio tokenizer keeps, on held-out clips of the toy box: impacts first of all.

Onsets kept compares the impacts heard in what comes back with those heard in the original; impacts found compares the
former with the times at which things land. Both are F1 with one partner each within 50 ms.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import torch
from held_out import add_model, arguments, clips, toy_box
from report import report

from videopoet import VideoPoet, runtime
from videopoet.evaluation.oracle import hear_impacts
from videopoet.nn.losses import multi_scale_mel_loss
from videopoet.tokenizers.soundstream import SoundStream

TOLERANCE = 0.05
"""Seconds."""


def num_pairs(times: Sequence[float], others: Sequence[float]) -> int:
    """How many of two ordered lists of times have a partner of their own within the tolerance."""
    first, second, pairs = 0, 0, 0
    while first < len(times) and second < len(others):
        gap = times[first] - others[second]
        if abs(gap) <= TOLERANCE:
            first, second, pairs = first + 1, second + 1, pairs + 1
        elif gap < 0:
            first += 1
        else:
            second += 1
    return pairs


def f1(lists: Sequence[tuple[Sequence[float], Sequence[float]]]) -> float:
    """F1 in percent over pairs of lists of times; 100 where there are none in any."""
    pairs = sum(num_pairs(*both) for both in lists)
    total = sum(len(one) + len(other) for one, other in lists)
    return round(100 * 2 * pairs / total, 2) if total else 100.0


@torch.inference_mode()
def main() -> None:
    parser = arguments(__doc__, count=500)
    add_model(parser)
    parser.add_argument("--audio-tokenizer", metavar="FOLDER", help="measure this tokenizer instead of the model's")
    given = parser.parse_args()
    if given.audio_tokenizer:
        tokenizer = SoundStream.load(given.audio_tokenizer).to(runtime.best_device())
    else:
        tokenizer = VideoPoet.from_pretrained(given.model).parts.audio_tokenizer
    rate, world = tokenizer.sample_rate, toy_box(given.split)
    scenes = [world.scene(seed) for seed in range(given.seed, given.seed + given.count)]
    kept, found, audible, mels, all_codes = [], [], [], [], []
    for batch in clips(world, scenes, audio=True):
        assert batch.audio is not None
        with runtime.autocast(batch.audio.device):
            codes = tokenizer.encode(batch.audio)
            back = tokenizer.decode(codes).float()
        truth = batch.audio[..., : back.shape[-1]]
        all_codes.append(codes.movedim(1, 0).flatten(1).cpu())  # (Q, N)
        for scene, one, other in zip(batch.scenes, back, truth, strict=True):
            mels.append(multi_scale_mel_loss(one[None], other[None], rate).item())
            heard, original = (hear_impacts(samples[0], rate).tolist() for samples in (one, other))
            landings = [impact.seconds for impact in scene.impacts]
            kept.append((heard, original))
            found.append((heard, landings))
            audible.append((original, landings))
    counts = [level.unique(return_counts=True)[1] for level in torch.cat(all_codes, dim=1)]
    levels = [len(count) / tokenizer.codebook_size for count in counts]
    nats = [float(torch.special.entr(count / count.sum()).sum()) for count in counts]
    report(
        "audio_tokenizer_quality",
        onsets_kept_f1_percent=f1(kept),
        impacts_found_f1_percent=f1(found),
        impacts_found_in_truth_f1_percent=f1(audible),
        num_impacts=sum(len(landings) for _, landings in found),
        mel_distance=round(statistics.mean(mels), 4),
        nats_per_frame=round(sum(nats), 2),
        nats_by_level=[round(entropy, 2) for entropy in nats],
        code_usage_percent=round(100 * statistics.mean(levels), 2),
        code_usage_percent_by_level=[round(100 * share, 2) for share in levels],
        clips=given.count,
        seed=given.seed,
        split=given.split,
    )


if __name__ == "__main__":
    main()
