"""How much of real clips the video tokenizer keeps, beside H.264 and H.265 at no fewer bits a pixel.

Clips are windows of the model's size and frame rate from a folder of real footage, one per file. Each codec encodes
every window on its own at the quality (CRF) at which it needs at least as many bits as the tokenizer's codes do, and
the fewest above: bits of the bare stream with its headers, without the remarks (SEI) that encoders
sign it with. Where even the coarsest quality needs more, `at_coarsest_percent` says how often. PSNR and SSIM
are means over windows; edge PSNR is over the tenth of the pixels at which the original changes most. Trained on minutes
of synthetic video, a tokenizer shows here that its code paths are right, not open-domain quality.
"""

from __future__ import annotations

import argparse
import fractions
import io
import math
import statistics
from collections.abc import Callable, Sequence, Set
from pathlib import Path
from typing import Any

import av
import torch
from held_out import add_model
from report import report
from torch import Tensor

from videopoet import VideoPoet, runtime
from videopoet.data.prepared import Dataset
from videopoet.errors import MediaError
from videopoet.evaluation.statistics import bootstrap_ratio
from videopoet.generation.window import Window
from videopoet.media.files import read_video
from videopoet.media.quality import psnr, ssim
from videopoet.media.types import Video

MEDIA = Path(__file__).resolve().parents[1].parent / "shared" / "media" / "video"
EXTENSIONS = {".mp4", ".webm", ".mkv", ".mov", ".avi", ".ogv", ".mpg"}
CODECS = {"h264": "libx264", "h265": "libx265"}
COARSEST = 51
BLANK = 3.0
"""Spread of pixels, of 255, under which a window shows nothing."""


def windows(folder: Path, window: Window, most: int, known: Set[str] = frozenset()) -> list[tuple[str, Video]]:
    """One window from the middle of each file that is long enough, not blank and not known, by the file's name."""
    found = []
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in EXTENSIONS)
    files = [file for file in files if file.relative_to(folder).as_posix() not in known]
    with runtime.progress(min(len(files), most), "reading") as advance:
        for file in files:
            if len(found) == most:
                break
            seconds = 4 * window.seconds
            try:
                video = read_video(
                    file,
                    height=window.height,
                    width=window.width,
                    frame_rate=window.frame_rate,
                    max_seconds=seconds,
                )
            except MediaError:
                continue  # a folder of footage also holds files that are broken on purpose
            if video.num_frames < window.num_frames:
                continue
            first = (video.num_frames - window.num_frames) // 2
            frames = video.frames[:, first : first + window.num_frames].contiguous()
            if float(frames.float().std()) < BLANK:
                continue
            found.append((file.name, Video(frames, video.frame_rate)))
            advance()
    return found


def trained_on(dataset: Dataset) -> set[str]:
    """The files, in the folder that was prepared, of the clips that a dataset trains on."""
    return {dataset.row(number)["source"] for number in dataset.numbers["train"]}


def encoded(video: Video, codec: str, crf: int) -> tuple[Tensor, int]:
    """Frames, (3, T, H, W) uint8, as a codec gives them back at a CRF, and the bits of its stream."""
    target = io.BytesIO()
    raw = {"libx264": "h264", "libx265": "hevc"}[codec]
    with av.open(target, "w", format=raw) as container:
        stream = container.add_stream(codec, rate=fractions.Fraction(video.frame_rate).limit_denominator(1000))
        stream.width, stream.height, stream.pix_fmt = video.width, video.height, "yuv420p"  # pyright: ignore
        options = {"crf": str(crf), "preset": "slow"}
        if codec == "libx265":
            options["x265-params"] = "log-level=error:info=0"
        else:
            options["x264-params"] = "log-level=0"
        stream.options = options  # pyright: ignore
        for frame in video.frames.permute(1, 2, 3, 0).contiguous().numpy():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))  # pyright: ignore
        container.mux(stream.encode(None))  # pyright: ignore
    content = target.getvalue()
    with av.open(io.BytesIO(content), "r", format=raw) as source:
        frames = [torch.from_numpy(frame.to_ndarray(format="rgb24")) for frame in source.decode(video=0)]
    return torch.stack(frames).permute(3, 0, 1, 2).contiguous(), 8 * (len(content) - _num_remark_bytes(content, raw))


def _num_remark_bytes(content: bytes, raw: str) -> int:
    """Bytes of a stream's supplemental units (SEI), which pictures do not need."""
    total = 0
    for unit in content.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1")[1:]:
        kind = unit[0] & 31 if raw == "h264" else unit[0] >> 1 & 63
        total += len(unit) + 4 if kind in ((6,) if raw == "h264" else (39, 40)) else 0
    return total


def at_bits(make: Callable[[int], tuple[Tensor, int]], least: float) -> tuple[Tensor, int, int]:
    """The coarsest quality whose stream has at least so many bits: frames, bits and CRF. Bits fall as the CRF grows."""
    low, high = 0, COARSEST
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if make(middle)[1] >= least else (low, middle - 1)
    return *make(low), low


def edge_psnr(frames: Tensor, reference: Tensor) -> float:
    """PSNR in dB over the tenth of the pixels of uint8 frames, (3, T, H, W), at which the reference changes most."""
    true, made = reference.double(), frames.double()
    change = torch.zeros(true.shape[1:], dtype=torch.float64)
    change[:, :, 1:-1] += (true[..., 2:] - true[..., :-2]).abs().mean(dim=0)
    change[:, 1:-1] += (true[:, :, 2:] - true[:, :, :-2]).abs().mean(dim=0)
    edge = (change >= change.flatten().quantile(0.9)) & (change > 0)
    if not edge.any():
        return min(psnr(frames, reference), 100.0)
    error = (made - true).square().mean(dim=0)[edge].mean()
    return float(10 * torch.log10(255**2 / error.clamp_min(255**2 * 1e-10)))


def flicker(frames: Tensor) -> float:
    """VBench's temporal flickering: mean difference of neighbouring frames, of 255."""
    return float(frames.double().diff(dim=1).abs().mean())


def figures(seen: Sequence[tuple[Tensor, Tensor, float]]) -> dict[str, Any]:
    """Means over windows of (frames, original, bits a pixel)."""
    values = torch.tensor([[psnr(one, other), 1.0] for one, other, _ in seen], dtype=torch.float64).clamp_max(100)
    interval = bootstrap_ratio(values.numpy())
    return {
        "psnr": round(float(values[:, 0].mean()), 3),
        "psnr_interval": [round(end, 3) for end in interval] if interval else None,
        "ssim": round(statistics.mean(ssim(one, other) for one, other, _ in seen), 4),
        "edge_psnr": round(statistics.mean(edge_psnr(one, other) for one, other, _ in seen), 3),
        "flicker_above_original": round(statistics.mean(flicker(one) - flicker(other) for one, other, _ in seen), 4),
        "bits_per_pixel": round(statistics.mean(bits for _, _, bits in seen), 5),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add_model(parser)
    parser.add_argument("--media", type=Path, default=MEDIA, help="folder of real clips")
    parser.add_argument("--count", type=int, default=40, help="the most sources, one window of each")
    parser.add_argument(
        "--unseen-by", metavar="DATA", help="leave out files that this dataset, of the folder, trains on"
    )
    given = parser.parse_args()
    if not given.media.is_dir():
        report("real_clips", skipped=f"no folder '{given.media.name}' of real clips; name one with --media")
        return
    poet = VideoPoet.from_pretrained(given.model)
    window = Window(poet.parts)
    known = frozenset(trained_on(Dataset(given.unseen_by)) if given.unseen_by else ())
    found = windows(given.media, window, given.count, known)
    pixels = window.num_frames * window.height * window.width
    seen: dict[str, list[tuple[Tensor, Tensor, float]]] = {name: [] for name in ("tokenizer", *CODECS)}
    qualities: dict[str, list[int]] = {name: [] for name in CODECS}
    with runtime.progress(len(found), "clips") as advance:
        for _, video in found:
            codes = window.encode(video.pixels())
            bits = codes.numel() * math.log2(poet.parts.video_tokenizer.num_codes)
            made = Video.from_pixels(window.decode(codes), video.frame_rate).frames
            seen["tokenizer"].append((made, video.frames, bits / pixels))
            for name, codec in CODECS.items():
                frames, used, crf = at_bits(lambda crf, v=video, c=codec: encoded(v, c, crf), bits)
                seen[name].append((frames, video.frames, used / pixels))
                qualities[name].append(crf)
            advance()
    report(
        "real_clips",
        clips=len(found),
        left_out=len(known),
        size=[window.num_frames, window.height, window.width],
        frame_rate=window.frame_rate,
        **{name: figures(values) if values else None for name, values in seen.items()},
        crf_median={name: statistics.median(values) if values else None for name, values in qualities.items()},
        at_coarsest_percent={
            name: round(100 * statistics.mean(crf == COARSEST for crf in values), 1) if values else None
            for name, values in qualities.items()
        },
        model=poet.parts.settings.name,
    )


if __name__ == "__main__":
    main()
