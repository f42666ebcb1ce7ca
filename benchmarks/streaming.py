"""How soon are frames there, and what does a long clip hold in memory? Streamed and whole, side by side in one run.

*clip*: seconds from the request to the first frame, to the last frame and to the whole clip with its sound, of
`poet.stream`, beside those of `poet.generate` for the same seed; they take turns, so that both meet the same machine.
`same_frames` counts the clips whose frames are those of `generate`, bit for bit.

*tokenizer*: a clip of each length encoded and decoded whole and in pieces of a latent frame, with the highest resident
memory above what was there before, and how far pixels in [-1, 1] differ at the most: by rounding, in the precision that
is used when clips are made.
"""

from __future__ import annotations

import argparse
import ctypes
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from report import report
from torch import Tensor

from videopoet import Video, VideoPoet, runtime
from videopoet.nn.causal_conv import PastFrames
from videopoet.tokenizers.base import VideoTokenizer

PROMPT = "a red ball bounces on the grass"


class Times(NamedTuple):
    """Seconds from a request on, and the frames that came."""

    first: float
    last: float
    whole: float
    frames: Tensor


def streamed(poet: VideoPoet, **request: Any) -> Times:
    """A clip that is watched while it is made."""
    began, arrived, frames = time.perf_counter(), [], []
    stream = poet.stream("text_to_video", progress=False, **request)
    for piece in stream:
        arrived.append(time.perf_counter() - began)
        frames.append(piece.frames)
    assert isinstance(stream.result.media, Video)
    return Times(arrived[0], arrived[-1], time.perf_counter() - began, torch.cat(frames, dim=1))


def generated(poet: VideoPoet, **request: Any) -> Times:
    """The same clip, waited for."""
    began = time.perf_counter()
    media = poet.generate("text_to_video", progress=False, **request).media
    seconds = time.perf_counter() - began
    assert isinstance(media, Video)
    return Times(seconds, seconds, seconds, media.frames)


def measure_clips(poet: VideoPoet, seconds: float | None, repeats: int, seed: int) -> None:
    """Report what `repeats` clips take, after a first that does not count."""
    length = {} if seconds is None else {"seconds": seconds}
    pairs = [
        tuple(make(poet, prompt=PROMPT, seed=seed + number, **length) for make in (streamed, generated))
        for number in range(1 + repeats)
    ][1:]
    streams, wholes = zip(*pairs, strict=True)
    figures = {
        name: round(statistics.median(getattr(times, name) for times in streams), 3)
        for name in ("first", "last", "whole")
    }
    waited = [times.whole for times in wholes]
    report(
        "streaming",
        what="clip",
        model=poet.parts.settings.name,
        num_frames=wholes[0].frames.shape[1],
        seconds_to_first_frame=figures["first"],
        seconds_to_last_frame=figures["last"],
        seconds_to_whole_streamed=figures["whole"],
        seconds_to_whole_generated=round(statistics.median(waited), 3),
        spread_generated=round(max(waited) - min(waited), 3),
        times_sooner=round(statistics.median(waited) / figures["first"], 2),
        same_frames=sum(torch.equal(one.frames, other.frames) for one, other in pairs),
        repeats=repeats,
        seed=seed,
    )


class PeakMemory:
    """The highest resident memory of this process since it was made, as Linux with glibc counts it."""

    def __init__(self):
        ctypes.CDLL(None).malloc_trim(0)  # what was freed and is still held would hide what is needed
        Path("/proc/self/clear_refs").write_text("5")  # begins the count anew
        self.before = self._bytes("VmRSS")

    def grown(self) -> int:
        """Bytes above what there was."""
        return max(0, self._bytes("VmHWM") - self.before)

    @staticmethod
    def _bytes(name: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) * 1024


def in_pieces(call: Callable[..., Tensor], clip: Tensor, axis: int, first: int, size: int) -> Tensor:
    """What a tokenizer makes of a clip that comes in pieces along `axis`: one of `first`, then those of `size`."""
    past, made, start = PastFrames(), [], 0
    while start < clip.shape[axis]:
        length = first if not start else size
        made.append(call(clip.narrow(axis, start, length), past))
        start += length
    return torch.cat(made, dim=1 if clip.ndim == 5 else 2)


@torch.no_grad()
def measure_tokenizer(tokenizer: VideoTokenizer, num_frames: int, side: int, seed: int) -> None:
    """Report time and memory of a clip of that length, whole and in pieces."""
    stream = torch.Generator().manual_seed(seed)
    device = next(tokenizer.parameters()).device
    clip = (torch.rand(1, 3, num_frames, side, side, generator=stream) * 2 - 1).to(device)
    stride = tokenizer.time_stride
    ways: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
        "pieces": (
            lambda clip: in_pieces(tokenizer.encode, clip, 2, 1, stride),
            lambda codes: in_pieces(tokenizer.decode, codes, 1, 1, 1),
        ),
        "whole": (tokenizer.encode, tokenizer.decode),
    }
    figures: dict[str, Any] = {}
    made = {}
    with runtime.autocast(device):
        tokenizer.decode(tokenizer.encode(clip[:, :, :1]))  # warms up
        for name, (encode, decode) in ways.items():
            memory, began = PeakMemory(), time.perf_counter()
            codes = encode(clip)
            seconds = time.perf_counter() - began
            made[name] = codes, decode(codes)
            figures |= {
                f"seconds_encode_{name}": round(seconds, 3),
                f"seconds_decode_{name}": round(time.perf_counter() - began - seconds, 3),
                f"peak_mb_{name}": round(memory.grown() / 1e6, 1),
            }
    (codes, pixels), (whole_codes, whole_pixels) = made["pieces"], made["whole"]
    report(
        "streaming",
        what="tokenizer",
        num_frames=num_frames,
        side=side,
        clip_mb=round(2 * clip.numel() * clip.element_size() / 1e6, 1),
        **figures,
        other_codes=int((codes != whole_codes).sum()),
        largest_difference=float((pixels - whole_pixels).abs().max()),
        seed=seed,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", metavar="FOLDER", help="the model to measure; without it, the one that ships")
    parser.add_argument("--seconds", type=float, nargs="*", default=[6.0], help="lengths of clips beside the usual one")
    parser.add_argument("--frames", type=int, nargs="*", default=[17, 65, 161], help="lengths for the tokenizer")
    parser.add_argument("--side", type=int, default=64, help="height and width for the tokenizer")
    parser.add_argument("--repeats", type=int, default=3, help="clips of each length, after a first")
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    poet = VideoPoet.from_pretrained(given.model)
    for num_frames in given.frames:
        measure_tokenizer(poet.parts.video_tokenizer, num_frames, given.side, given.seed)
    for seconds in (None, *given.seconds):
        measure_clips(poet, seconds, given.repeats, given.seed)


if __name__ == "__main__":
    main()
