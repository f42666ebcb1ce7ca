"""How much of real sounds the audio tokenizer keeps, beside Opus at the fewest bits that it can do with.

Sounds are the first seconds of each file of a folder at the tokenizer's sample rate, in a row of figures for each of
its folders. The mel distance is SoundStream's loss over six window lengths, lower is better; SI-SDR is in dB. Trained
on the impacts of the toy box alone, a tokenizer shows here what a user's own sound becomes, not what the method can do.
"""

from __future__ import annotations

import argparse
import io
import math
import statistics
from pathlib import Path

import av
import numpy as np
import torch
from held_out import add_model
from report import report
from torch import Tensor
from torch.nn import functional as F

from videopoet import VideoPoet, runtime
from videopoet.errors import MediaError
from videopoet.evaluation.metrics.reconstruction import si_sdr
from videopoet.media.files import read_audio
from videopoet.nn.losses import multi_scale_mel_loss

MEDIA = Path(__file__).resolve().parents[1].parent / "shared" / "media" / "audio"
EXTENSIONS = {".ogg", ".wav", ".flac", ".mp3"}
OPUS_BITS = 6000
"""A second: the least that the format has."""
QUIET = 1e-3
"""Root mean square of samples under which a file is silent."""


def by_opus(samples: Tensor, sample_rate: int) -> tuple[Tensor, float]:
    """Samples, (S,), as Opus gives them back, and its bits a second."""
    target = io.BytesIO()
    with av.open(target, "w", format="ogg") as container:
        stream = container.add_stream("libopus", rate=sample_rate, layout="mono")  # pyright: ignore[reportCallIssue]
        stream.bit_rate = OPUS_BITS
        frame = av.AudioFrame.from_ndarray(samples.float().numpy()[None], format="fltp", layout="mono")
        frame.sample_rate = sample_rate
        container.mux([*stream.encode(frame), *stream.encode(None)])
    content = target.getvalue()
    resampler = av.AudioResampler("fltp", "mono", sample_rate)
    with av.open(io.BytesIO(content), "r") as source:
        frames = [part.to_ndarray()[0] for frame in source.decode(audio=0) for part in resampler.resample(frame)]
        frames += [part.to_ndarray()[0] for part in resampler.resample(None)]
    heard = torch.from_numpy(np.concatenate(frames))
    heard = F.pad(heard, (0, max(0, len(samples) - len(heard))))[: len(samples)]
    return heard, 8 * len(content) / (len(samples) / sample_rate)


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add_model(parser)
    parser.add_argument("--media", type=Path, default=MEDIA, help="folder of folders of real sounds")
    parser.add_argument("--count", type=int, default=20, help="the most files of each folder")
    parser.add_argument("--seconds", type=float, default=5.0, help="the most of each file")
    given = parser.parse_args()
    if not given.media.is_dir():
        report("real_sounds", skipped=f"no folder '{given.media.name}' of real sounds; name one with --media")
        return
    tokenizer = VideoPoet.from_pretrained(given.model).parts.audio_tokenizer
    rate = tokenizer.sample_rate
    files = sorted(file for file in given.media.rglob("*") if file.suffix.lower() in EXTENSIONS)
    groups: dict[str, list[Path]] = {}
    for file in files:
        *folders, _ = file.relative_to(given.media).parts
        groups.setdefault(folders[0] if folders else ".", []).append(file)
    with runtime.progress(sum(min(given.count, len(group)) for group in groups.values()), "sounds") as advance:
        for name, group in groups.items():
            ways: dict[str, list[tuple[float, float, float]]] = {}
            for file in group[:: math.ceil(len(group) / given.count)]:
                advance()
                try:
                    samples = read_audio(file, sample_rate=rate, max_seconds=given.seconds).samples.mean(dim=0)
                except MediaError:
                    continue  # a folder of sounds also holds files that are broken on purpose
                if len(samples) < rate // 4 or float(samples.square().mean().sqrt()) < QUIET:
                    continue
                with runtime.autocast(next(tokenizer.parameters()).device):
                    codes = tokenizer.encode(samples[None, None])
                    back = tokenizer.decode(codes).float()[0, 0]
                seconds = len(samples) / rate
                made = {
                    "tokenizer": (back, codes.numel() * math.log2(tokenizer.codebook_size) / seconds),
                    "opus": by_opus(samples, rate),
                }
                for way, (heard, bits) in made.items():
                    length = min(len(heard), len(samples))
                    one, true = heard[:length], samples[:length]
                    mel = float(multi_scale_mel_loss(one[None, None], true[None, None], rate))
                    ways.setdefault(way, []).append((mel, si_sdr(one, true), bits))
            for way, values in ways.items():
                mels, ratios, bits = zip(*values, strict=True)
                report(
                    "real_sounds",
                    sounds=name,
                    way=way,
                    files=len(values),
                    mel_distance=round(statistics.mean(mels), 3),
                    si_sdr_db=round(statistics.mean(ratios), 2),
                    bits_a_second=round(statistics.mean(bits)),
                    seconds=given.seconds,
                )


if __name__ == "__main__":
    main()
