"""Cheap answers that a model must beat; the name in a metric is the function's name.

A baseline is computed from the truth where that makes it stronger. None means that it has no answer to a case.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from videopoet import runtime
from videopoet.data.toybox import Config, Scene, ToyBox
from videopoet.data.toybox_captions import split_words
from videopoet.data.toybox_styles import stylize
from videopoet.evaluation.cases import Case, Take
from videopoet.evaluation.reading import HeardImpact, SubjectReading
from videopoet.media.types import Audio, Video

NUM_TRAINING_CAPTIONS = 1024


def freeze(case: Case, world: ToyBox) -> Take | None:
    """The first true frame, for as long as the clip lasts, silent."""
    video = case.right.video
    if video is None or video.num_frames == 1:
        return None
    still = video.frames[:, :1].expand_as(video.frames).contiguous()
    sound = case.right.audio
    silence = Audio(torch.zeros_like(sound.samples), sound.sample_rate) if sound is not None else None
    return Take(Video(still, video.frame_rate), silence)


def copy_last(case: Case, world: ToyBox) -> Take | None:
    """The given frames, and their last for the rest."""
    video = case.right.video
    if video is None or not case.num_known:
        return None
    known = video.frames[:, : case.num_known]
    rest = known[:, -1:].expand(-1, video.num_frames - case.num_known, -1, -1)
    return Take(Video(torch.cat([known, rest], dim=1), video.frame_rate))


def constant_velocity(case: Case, world: ToyBox) -> Take | None:
    """What is read of the truth up to the last given frame, going straight on as it went in the last two steps."""
    reading, known = case.right.reading, case.num_known
    if reading is None or known < 3:
        return None

    def onward(one: SubjectReading) -> SubjectReading:
        step = (one.track[known - 1] - one.track[known - 3]) / 2
        after = torch.arange(1.0, len(one.track) - known + 1)[:, None] * step + one.track[known - 1]
        track = torch.cat([one.track[:known], after])
        return replace(one, track=track, path=track, impacts=())

    return Take(known=replace(reading, subjects=tuple(map(onward, reading.subjects)), impacts=()))


def retrieval(case: Case, world: ToyBox) -> Take | None:
    """The training clip whose caption shares most words with the prompt."""
    if case.prompt is None or case.right.video is None:
        return None
    config = world.config
    training = ToyBox(config.model_copy(update={"split": "train", "combinations": "seen"}))
    captions = _training_captions(config.height, config.width, config.num_frames, config.frame_rate)
    wanted = set(split_words(case.prompt))
    shared = [len(wanted & words) / len(wanted | words) for words, _ in captions]
    clips = training.render([captions[int(np.argmax(shared))][1]])
    assert clips.audio is not None
    video = Video.from_pixels(clips.video[0][:, : case.right.video.num_frames], clips.frame_rate)
    return Take(video, Audio(clips.audio[0], clips.sample_rate))


def bag_of_words(case: Case, world: ToyBox) -> Take | None:
    """The truth with colours given to shapes by lot: the right words, paired by chance."""
    reading = case.right.reading
    if reading is None or len(reading.subjects) < 2:
        return None
    order = torch.randperm(len(reading.subjects), generator=runtime.generator("bag", case.suite, case.number)).tolist()
    subjects = tuple(
        replace(one, colour=reading.subjects[other].colour) for one, other in zip(reading.subjects, order, strict=True)
    )
    return Take(known=replace(reading, subjects=subjects))


def same_again(case: Case, world: ToyBox) -> Take | None:
    """The right clip for the first prompt of a pair, and the same again for the second."""
    return Take(case.right.video, other=case.right)


def same_clip(case: Case, world: ToyBox) -> Take:
    """One true clip, whatever the prompt."""
    clips = world.render([world.scene(0, num_subjects=1, camera="still")], audio=False)
    return Take(Video.from_pixels(clips.video[0], clips.frame_rate))


def mean_time(case: Case, world: ToyBox) -> Take | None:
    """One onset in the middle of the clip, when things land on the average, or one landing where the sound is given."""
    middle = case.truth.plain.seconds / 2
    reading = case.right.reading
    if reading is None:
        return None
    subjects = tuple(replace(one, impacts=(middle,) if not i else ()) for i, one in enumerate(reading.subjects))
    seen = reading.subjects if case.given_sound is None else subjects
    return Take(known=replace(reading, subjects=seen, impacts=(HeardImpact(middle, "knock"),)))


def copy_input(case: Case, world: ToyBox) -> Take:
    """The clip that is to be stylized, as it is."""
    return Take(Video(case.truth.plain.frames, case.truth.plain.frame_rate))


def ignore_input(case: Case, world: ToyBox) -> Take | None:
    """Another clip, in the style that is asked for."""
    if case.style is None:
        return None
    other: Scene = world.scene(case.truth.scene.seed + 1)
    video = stylize(world.render([other], audio=False).video, case.style)[0]
    return Take(Video.from_pixels(video, world.config.frame_rate))


def mean_fill(case: Case, world: ToyBox) -> Take | None:
    """The hole in the mean colour of what is given."""
    if case.keep is None:
        return None
    pixels = case.truth.plain.pixels()
    mean = (pixels * case.keep).sum(dim=(1, 2, 3)) / case.keep.sum()
    return _filled(case, mean.view(3, 1, 1, 1).expand_as(pixels))


def nearest_in_time(case: Case, world: ToyBox) -> Take | None:
    """Each hidden pixel as it is in the nearest frame that shows it; where none does, bilinear."""
    if case.keep is None:
        return None
    fallback = bilinear(case, world)
    assert fallback is not None and fallback.video is not None
    pixels, filled = case.truth.plain.pixels(), fallback.video.pixels().clone()
    frames = torch.arange(len(case.keep))
    for frame in range(len(case.keep)):
        gaps = torch.where(case.keep, (frames - frame).abs().view(-1, 1, 1), len(frames) + 1)
        gap, nearest = gaps.min(dim=0)  # (H, W)
        shown = pixels.gather(1, nearest.expand(3, 1, *nearest.shape))[:, 0]
        filled[:, frame] = torch.where(gap <= len(frames), shown, filled[:, frame])
    return _filled(case, filled)


def bilinear(case: Case, world: ToyBox) -> Take | None:
    """The hole filled smoothly from its border: coarser and coarser means of what is given."""
    if case.keep is None:
        return None
    pixels = case.truth.plain.pixels().transpose(0, 1)  # (T, 3, H, W)
    keep = case.keep.float()[:, None]
    size = pixels.shape[2:]
    values, weights = pixels * keep, keep
    filled, covered = values.clone(), keep.clone()
    while not bool((covered > 0).all()):
        if min(values.shape[2:]) == 1:
            filled = torch.where(covered > 0, filled, values.mean(dim=(2, 3), keepdim=True))
            break
        values, weights = (F.avg_pool2d(one, 2, ceil_mode=True, count_include_pad=False) for one in (values, weights))
        level = values / weights.clamp_min(1e-6)
        upward = F.interpolate(level, size, mode="bilinear", align_corners=False)
        known = F.interpolate((weights > 0).float(), size, mode="nearest")
        filled = torch.where(covered > 0, filled, upward * known)
        covered = torch.maximum(covered, known)
    return _filled(case, filled.transpose(0, 1))


def blur(case: Case, world: ToyBox) -> Take | None:
    """The truth blurred by one and a half pixels, and its sound cut above a quarter of its range."""
    video, audio = case.truth.plain, case.truth.plain.audio
    axis = torch.arange(-4.0, 5.0)
    kernel = torch.exp(-(axis**2) / (2 * 1.5**2))
    kernel = (kernel / kernel.sum()).view(1, 1, -1)
    frames = F.pad(video.pixels().transpose(0, 1), (4, 4, 4, 4), mode="replicate").flatten(0, 1)[:, None]
    soft = F.conv2d(F.conv2d(frames, kernel[..., None, :]), kernel[..., None])
    pixels = soft[:, 0].unflatten(0, (video.num_frames, 3)).transpose(0, 1)
    dull = None
    if audio is not None:
        spectrum = torch.fft.rfft(audio.samples)
        spectrum[:, spectrum.shape[1] // 4 :] = 0
        dull = Audio(torch.fft.irfft(spectrum, audio.num_samples), audio.sample_rate)
    return Take(Video.from_pixels(pixels, video.frame_rate), dull)


def _filled(case: Case, pixels: Tensor) -> Take:
    assert case.keep is not None
    video = case.truth.plain
    return Take(Video.from_pixels(torch.where(case.keep, video.pixels(), pixels), video.frame_rate))


@cache
def _training_captions(
    height: int, width: int, num_frames: int, frame_rate: float
) -> list[tuple[frozenset[str], Scene]]:
    world = ToyBox(Config(height=height, width=width, num_frames=num_frames, frame_rate=frame_rate))
    scenes = (world.scene(seed) for seed in range(NUM_TRAINING_CAPTIONS))
    return [(frozenset(split_words(scene.captions[0])), scene) for scene in scenes]
