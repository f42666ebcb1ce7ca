"""Pictures, and files of sound alone, made ready to train on: what `clips.Cutter` does with footage."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from videopoet.data.clips import SILENT_LEVEL, Clip, Config, Cutter, Reject, captioner_scale
from videopoet.data.reel import Reel, read_picture
from videopoet.data.shots import THUMBNAIL, Look
from videopoet.data.sources import Source
from videopoet.errors import MediaError
from videopoet.media.nursery import Nursery

MISSING = 0.05
"""Seconds that may be missing at the end of a sound that is as long as a clip: coding cuts a little off."""
WINDOW = 512
"""Samples of a window of the spectrum that sounds are compared by."""
FLOOR = -60.0
"""Decibels; what is quieter is silence when sounds are compared."""


class Reader(Protocol):
    """What takes a source apart: iterating gives what is kept and what is rejected, in order."""

    seconds: float
    """Of the source, as far as it was read."""

    def __iter__(self) -> Iterator[Clip | Reject]: ...


def opened(source: Source, config: Config, threads: int | None = None, nursery: Nursery | None = None) -> Reader:
    """What takes apart a source of its kind; see `clips.Cutter`."""
    match source.kind:
        case "clip":
            return Cutter(source, config, threads, nursery)
        case "picture":
            return PictureReader(source, config, nursery)
        case "sound":
            return SoundCutter(source, config, threads, nursery)


class PictureReader:
    """Gives a picture as one frame, or says why not."""

    def __init__(self, source: Source, config: Config, nursery: Nursery | None = None):
        self.source, self.config, self.nursery = source, config, nursery
        self.seconds = 0.0

    def __iter__(self) -> Iterator[Clip | Reject]:
        scale = captioner_scale(self.source, self.config)
        sizes = tuple((height * scale, width * scale) for height, width in self.config.buckets)
        try:
            large = read_picture(self.source.video, sizes, self.nursery).contiguous()
        except MediaError as error:
            yield Reject(error.code, str(error))
            return
        pixels = large if scale == 1 else F.avg_pool2d(large.float(), scale).round().to(torch.uint8)
        (look,) = Look.of_each(pixels[None])
        if look.is_black and "black" not in self.config.keep:
            yield Reject(
                "black", "it is black; pictures to learn from show something; --keep black keeps such pictures"
            )
            return
        cells = torch.from_numpy(look.grey).round().to(torch.uint8)
        yield Clip(
            start=0.0,
            video=pixels[:, None],
            audio=None,
            heard="none",
            signature=cells.expand(4, -1, -1).contiguous(),
            motion=None,
            brightness=float(pixels.float().mean() / 255),
            faults=("black",) if look.is_black else (),
            picture=large,
            kind="picture",
        )


class SoundCutter:
    """Cuts a file of sound into stretches of a clip's length, one after the other; the rest at the end is dropped."""

    def __init__(self, source: Source, config: Config, threads: int | None = None, nursery: Nursery | None = None):
        self.config = config
        self.reel = Reel(
            source.video, config.frame_rate, config.sample_rate, what="audio", threads=threads, nursery=nursery
        )
        self.seconds = 0.0

    def __iter__(self) -> Iterator[Clip | Reject]:
        try:
            yield from self._cut()
        except MediaError as error:
            yield Reject(error.code, str(error), self.seconds)
        finally:
            self.reel.close()

    def _cut(self) -> Iterator[Clip | Reject]:
        length, sound, number = self.config.seconds, self.reel.sound, 0
        while True:
            start, end = number * length, (number + 1) * length
            self.reel.read_sound(end)
            self.seconds = sound.seconds
            if sound.seconds < end - MISSING:
                break
            samples = sound.take(start, self.config.num_samples)
            sound.forget(end)
            number += 1
            if samples.square().mean().sqrt() > SILENT_LEVEL:
                yield self._stretch(start, samples)
            else:
                message = "nothing is heard in it, it is below -60 dB; sounds to learn from are heard; make it louder"
                yield Reject("silent", message, start, length)
        if number == 0:
            message = (
                f"this sound lasts {self.seconds:.3g} s; a sound of the dataset lasts {length:g} s; ask for shorter "
                "ones with --seconds"
            )
            yield Reject("sound_too_short", message, 0.0, self.seconds)

    def _stretch(self, start: float, samples: Tensor) -> Clip:
        return Clip(
            start=start,
            video=None,
            audio=(samples * 32767).round().to(torch.int16)[None],
            heard="sound",
            signature=spectral_cells(samples),
            motion=None,
            brightness=None,
            faults=(),
            picture=None,
            kind="sound",
        )


def spectral_cells(samples: Tensor) -> Tensor:
    """Levels of sound, (S,), in four stretches of 16 times and 16 bands, uint8 (4, 16, 16), from `FLOOR` to 0 dB."""
    window = torch.hann_window(WINDOW)
    spectrum = torch.stft(samples, WINDOW, WINDOW // 4, window=window, pad_mode="constant", return_complex=True)
    power = (spectrum[:-1].abs() * (4 / WINDOW)).square()  # (256, t)
    # Band k has places k^2 to (k + 1)^2 of the spectrum: the lower, where sounds differ most, the narrower.
    bands = torch.stack([power[k**2 : (k + 1) ** 2].mean(0) for k in range(THUMBNAIL)])
    levels = 10 * F.adaptive_avg_pool1d(bands, 4 * THUMBNAIL).clamp(min=1e-10).log10()  # (16, 64)
    cells = ((levels.clamp(FLOOR, 0.0) - FLOOR) * (255 / -FLOOR)).round().to(torch.uint8)
    return cells.unflatten(1, (4, THUMBNAIL)).permute(1, 0, 2).contiguous()
