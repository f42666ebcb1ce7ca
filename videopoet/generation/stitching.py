"""Clips joined to one: one after another, by cuts, or by cross-fades of picture and sound."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from videopoet.media.resample import resample_audio
from videopoet.media.types import Audio, Video

SOFT_SECONDS = 0.01
"""At a cut each sound fades to silence for so long, or it would click."""


def stitched(clips: Iterable[tuple[Video, bool]], fade_seconds: float, fades_out: bool) -> Iterator[Video]:
    """The parts of one clip, in order; two of the clips are held at most.

    Args:
        clips: Each with whether what is before it fades into it; before the first that is darkness and silence. All are
            of one size, frame rate and kind of sound, and no shorter than the fades at their ends.
        fade_seconds: Of each fade.
        fades_out: Whether the last one fades to darkness and silence.
    """
    held: Video | None = None
    for clip, fades in clips:
        num_faded = _num_faded(clip, fade_seconds)
        if held is None:
            held = _dimmed(clip, num_faded, rises=True) if fades else _softened(clip, begins=True)
            continue
        num_faded = min(num_faded, held.num_frames)
        if fades and num_faded:
            if held.num_frames > num_faded:
                yield _part(held, 0, held.num_frames - num_faded)
            yield _mixed(_part(held, held.num_frames - num_faded, held.num_frames), _part(clip, 0, num_faded))
            held = _part(clip, num_faded, clip.num_frames) if clip.num_frames > num_faded else None
            if held is None:
                continue
        else:
            yield _softened(held, begins=False)
            held = _softened(clip, begins=True)
    if held is not None:
        yield _dimmed(held, _num_faded(held, fade_seconds), rises=False) if fades_out else _softened(held, begins=False)


def num_frames_of(lengths: list[tuple[int, bool]], frame_rate: float, fade_seconds: float) -> int:
    """How many frames `stitched` gives of clips of so many, each with whether what is before it fades into it."""
    total = left = 0
    for number, (num_frames, fades) in enumerate(lengths):
        # What the fade before has taken of a clip is not there for the next one.
        faded = min(num_frames, left, round(fade_seconds * frame_rate)) if fades and number else 0
        left = num_frames - faded
        total += left
    return total


def lasting(sound: Audio, seconds: float, longer: bool = True) -> Audio:
    """Sound of that length; where samples are missing it goes on in silence, unless `longer` is off."""
    missing = round(seconds * sound.sample_rate) - sound.num_samples
    return Audio(F.pad(sound.samples, (0, missing if longer else min(0, missing))).contiguous(), sound.sample_rate)


def joined(clip: Video, new: Video) -> Video:
    """A clip and what comes after it; its own sound keeps its rate and channels, and the new one takes them."""
    frames = torch.cat([clip.frames, new.frames], dim=1)
    if new.audio is None:
        return Video(frames, clip.frame_rate, clip.audio)
    own = lasting(clip.audio or Audio(torch.zeros(1, 0), new.audio.sample_rate), clip.seconds)
    after = resample_audio(new.audio, own.sample_rate, own.num_channels)
    return Video(frames, clip.frame_rate, Audio(torch.cat([own.samples, after.samples], dim=1), own.sample_rate))


def _num_faded(clip: Video, seconds: float) -> int:
    return min(clip.num_frames, round(seconds * clip.frame_rate))


def _part(clip: Video, first: int, end: int) -> Video:
    audio = clip.audio
    if audio is not None:
        start, stop = (round(frame / clip.frame_rate * audio.sample_rate) for frame in (first, end))
        audio = Audio(audio.samples[:, start:stop].contiguous(), audio.sample_rate)
    return Video(clip.frames[:, first:end].contiguous(), clip.frame_rate, audio)


def _mixed(before: Video, after: Video) -> Video:
    """One clip giving way to another of its length: pictures evenly, sounds by equal power."""
    shares = _rising(after.num_frames)[:, None, None]
    frames = before.frames.float() * (1 - shares) + after.frames.float() * shares
    audio = after.audio
    if before.audio is not None and after.audio is not None:
        angles = _rising(after.audio.num_samples) * (math.pi / 2)
        missing = after.audio.num_samples - before.audio.num_samples  # one, where lengths were rounded
        old = F.pad(before.audio.samples, (0, missing))
        audio = Audio(old * angles.cos() + after.audio.samples * angles.sin(), after.audio.sample_rate)
    return Video(frames.round().to(torch.uint8), after.frame_rate, audio)


def _dimmed(clip: Video, num_frames: int, rises: bool) -> Video:
    """A clip that begins in darkness and silence, or ends there."""
    if not num_frames:
        return clip
    frames, audio = clip.frames.clone(), clip.audio
    edge = slice(0, num_frames) if rises else slice(clip.num_frames - num_frames, clip.num_frames)
    light = _rising(num_frames) if rises else _rising(num_frames).flip(0)
    frames[:, edge] = (frames[:, edge].float() * light[:, None, None]).round().to(torch.uint8)
    if audio is not None:
        audio = _faded(audio, num_frames / clip.frame_rate, rises)
    return Video(frames, clip.frame_rate, audio)


def _softened(clip: Video, begins: bool) -> Video:
    if clip.audio is None:
        return clip
    return Video(clip.frames, clip.frame_rate, _faded(clip.audio, SOFT_SECONDS, begins))


def _faded(audio: Audio, seconds: float, rises: bool) -> Audio:
    count = min(audio.num_samples, round(seconds * audio.sample_rate))
    if not count:
        return audio
    samples = audio.samples.clone()
    loudness = _rising(count)
    if rises:
        samples[:, :count] *= loudness
    else:
        samples[:, -count:] *= loudness.flip(0)
    return Audio(samples, audio.sample_rate)


def _rising(count: int) -> Tensor:
    """Even steps from above 0 to below 1."""
    return (torch.arange(count) + 0.5) / max(1, count)
