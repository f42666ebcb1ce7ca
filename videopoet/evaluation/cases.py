"""Cases: what a model is asked and given, and the exact truth; and takes: what came back, read by the oracle.

What is given follows from the views of a task in the table, so a new task has its cases as soon as it has its entry.
Cases are scenes of the toy box's test split, which nothing is trained on; `suites` says which.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from videopoet.data.toybox import STYLES, Scene, ToyBox
from videopoet.data.toybox_styles import stylize
from videopoet.evaluation.caption_reading import Asked, read_caption
from videopoet.evaluation.reading import ClipReading, HeardImpact, read_clip
from videopoet.generation.request import Request
from videopoet.generation.window import Window
from videopoet.media.signals import structure_clip
from videopoet.media.types import Audio, Image, Media, Video
from videopoet.sequence.conditions import MAGVIT_REGIONS, keep_mask
from videopoet.sequence.tasks import Task, find_task


@dataclass(frozen=True, eq=False)
class Truth:
    """The clip that was asked for, and all that is known of it."""

    scene: Scene
    video: Video
    """What should come out, with its sound: in a style where one is asked for, one frame where a picture is."""
    plain: Video
    """The whole scene, before any style."""
    tracks: Tensor
    """(3, T, 2): subjects' centres in pixels (column, row); NaN where there is no such subject."""
    masks: Tensor
    """bool (3, T, H, W): where each subject is seen."""
    flow: Tensor
    """(2, T, H, W), pixels to the right and down until the next frame."""

    @property
    def impacts(self) -> list[float]:
        """When something lands, in seconds, in order; landings that are heard as one count once."""
        times: list[float] = []
        for impact in self.scene.impacts:
            if not times or impact.seconds - times[-1] > HEARD_AS_ONE:
                times.append(impact.seconds)
        return times

    @property
    def materials(self) -> frozenset[str]:
        """What lands, as it sounds."""
        return frozenset(impact.material for impact in self.scene.impacts)


HEARD_AS_ONE = 0.05
"""Seconds; the oracle counts onsets nearer than this as one."""


@dataclass(frozen=True, eq=False)
class Take:
    """One answer to a case, by a model, a baseline or the truth itself."""

    video: Video | None = None
    """A picture is a clip of one frame."""
    audio: Audio | None = None
    text: str | None = None
    codes: Tensor | None = None
    """Video codes, (t, h, w), where the answer was made of them."""
    num_codes: int | None = None
    """How many different ones there are."""
    prefix_agreement: float | None = None
    """Share of the codes of the beginning that stay as they are when the rest is left out."""
    seconds: float | None = None
    """What it took to make."""
    other: Take | None = None
    """The answer to the case's `other`, from the same seed."""
    seen: Video | None = None
    """What the oracle looks at in place of the clip."""
    known: ClipReading | None = None
    """What the oracle would read, where a baseline computes that and no pixels."""

    @classmethod
    def of(cls, media: Media | str, **more: Any) -> Take:
        """What a model returned."""
        if isinstance(media, str):
            return cls(text=media, **more)
        if isinstance(media, Image):
            return cls(video=Video(media.frame[:, None], 1.0), **more)
        if isinstance(media, Audio):
            return cls(audio=media, **more)
        return cls(video=Video(media.frames, media.frame_rate), audio=media.audio, **more)

    @cached_property
    def reading(self) -> ClipReading | None:
        """What the oracle reads of picture and sound; None where there is no picture."""
        if self.known is not None or self.video is None:
            return self.known
        sound = self._mono()
        seen = self.seen or self.video
        pixels, rate = seen.pixels(), seen.frame_rate
        return read_clip(pixels, rate, sound, self.audio.sample_rate if self.audio and sound is not None else None)

    @cached_property
    def heard(self) -> tuple[HeardImpact, ...] | None:
        """The onsets of its sound; None where it has none."""
        if self.known is not None or self.video is not None:
            return self.reading.impacts if self.reading and (self.known or self._mono() is not None) else None
        sound = self._mono()
        if sound is None or self.audio is None:
            return None
        # The oracle reads clips; what it hears does not depend on what it sees.
        return read_clip(torch.zeros(3, 1, 32, 32), 1.0, sound, self.audio.sample_rate).impacts

    def _mono(self) -> Tensor | None:
        return self.audio.samples.mean(dim=0) if self.audio is not None and self.audio.num_samples else None


@dataclass(frozen=True, eq=False)
class Case:
    """One thing to do, and what is right."""

    suite: str
    task: Task
    number: int
    """In its suite, from 0 on."""
    window: Window
    """How the model sees clips."""
    prompt: str | None
    asked: Asked
    given: dict[str, Any]
    """Fields of the request besides task, prompt and seed."""
    truth: Truth
    num_known: int = 0
    """Frames at the start of the answer that were given."""
    keep: Tensor | None = None
    """bool (T, H, W): which pixels were given, where a region was."""
    style: str | None = None
    other: Case | None = None
    """The same with one word of the prompt changed."""
    changed: tuple[int, str] | None = None
    """Which subject's slot that word fills; -1 for the scenery and the camera, which are no subject's."""

    @cached_property
    def given_sound(self) -> Take | None:
        """The sound, where it is given and only the picture is made; where it goes on, its beginning is made anew."""
        return Take(audio=self.given["audio"]) if "audio" in self.given and "audio" not in self.task.gives else None

    @cached_property
    def right(self) -> Take:
        """The right answer, as far as the task asks for it."""
        if self.task.gives == ("text",):
            return Take(text=self.truth.scene.captions[1])
        if self.task.gives == ("audio",) and "video" not in self.given:
            return Take(audio=self.truth.video.audio)
        return Take(Video(self.truth.video.frames, self.truth.video.frame_rate), self.truth.video.audio)

    @cached_property
    def through_tokens(self) -> Take:
        """The right answer through the tokenizers: the most that a model of their codes can reach."""
        right, window = self.right, self.window
        video = codes = audio = agreement = None
        if right.video is not None:
            video = right.video
            if not ("video" in self.given and self.task.gives == ("audio",)):  # else the given frames come back
                codes = window.encode(video.pixels())
                video = Video.from_pixels(window.decode(codes), video.frame_rate)
                half = 1 + (len(codes) - 1) // 2 * window.time_stride
                first = window.encode(right.video.pixels()[:, :half])
                agreement = float((codes[: len(first)] == first).float().mean())
        if right.audio is not None:
            samples = right.audio.samples[:, : window.num_samples]
            decoded = window.decode_audio(window.encode_audio(samples))[:, : samples.shape[1]]
            audio = Audio(decoded.contiguous(), window.sample_rate)
        num_codes = window.parts.video_tokenizer.num_codes if codes is not None else None
        return Take(video, audio, right.text, codes, num_codes, agreement)

    def looked_at(self, take: Take) -> Take:
        """A model's answer as the oracle is to look at it: with given pixels in it, all of it through the tokenizer.

        Those pixels are sharp and what is made beside them is as soft as the tokenizer leaves it, which is no scene of
        the toy box, however well it goes on. The ceiling has one softness too.
        """
        if take.video is None or "video" not in self.given or "video" not in self.task.gives:
            return take
        codes = self.window.encode(take.video.pixels())
        return replace(take, seen=Video.from_pixels(self.window.decode(codes), take.video.frame_rate))

    def request(self, seed: int) -> Request:
        """What a model is asked."""
        return Request(task=self.task.name, prompt=self.prompt, seed=seed, **self.given)


def without_time(asked: Asked) -> Asked:
    """What a prompt says of a picture: nothing of motion and camera."""
    return Asked(tuple({**subject, "motion": None} for subject in asked.subjects), asked.scenery, None)


def make_case(suite: str, task_name: str, number: int, world: ToyBox, scene: Scene, window: Window) -> Case:
    """The case of a task that a scene makes; what is given are the views that the task's entry names."""
    task = find_task(task_name)
    views = task.given
    gives_picture = task.gives == ("image",)
    wants_style = any(view.change == "structure" for view in views)
    style = STYLES[number % len(STYLES)] if wants_style else None
    clips = world.render([scene], truth=True)
    assert clips.audio is not None and clips.depth is not None and clips.flow is not None
    assert clips.masks is not None and clips.tracks is not None
    sound = Audio(clips.audio[0], clips.sample_rate)
    plain = Video.from_pixels(clips.video[0], clips.frame_rate, sound)
    video = Video.from_pixels(stylize(clips.video, style)[0], clips.frame_rate, sound) if style else plain
    if gives_picture:
        video = Video(video.frames[:, :1], video.frame_rate)
    caption = scene.captions[0]
    num_known, keep, given = 0, None, {}
    for view in views:
        if view.modality == "text":
            continue
        if view.name == "image":
            given["image"] = Image(plain.frames[:, 0].contiguous())
            num_known = 1
        elif view.name == "audio":
            length = sound.num_samples if view.part == "whole" else window.shown_samples(view)
            given["audio"] = Audio(sound.samples[:, :length].contiguous(), sound.sample_rate)
        elif view.change == "structure":
            given["structure"] = structure_clip(clips.depth, clips.flow)[0]
        elif view.change is not None:
            given["mask"] = list(MAGVIT_REGIONS)[number % len(MAGVIT_REGIONS)]
            given["video"] = Video(plain.frames, plain.frame_rate)
            keep = keep_mask(MAGVIT_REGIONS[given["mask"]], view.change, *plain.frames.shape[1:])
        elif view.starts_output:
            num_known = window.shown_frames(view)
            given["video"] = Video(plain.frames[:, :num_known].contiguous(), plain.frame_rate)
        else:
            given["video"] = Video(plain.frames, plain.frame_rate)
    if "video" in task.gives and "audio" not in task.gives and given:
        given["sound"] = False  # the given picture or sound is what is measured; more would only cost time
    prompted = any(view.modality == "text" for view in views)
    asked = read_caption(caption) if prompted or "text" in task.gives else Asked()
    return Case(
        suite=suite,
        task=task,
        number=number,
        window=window,
        prompt=(f"{caption}, {style}" if style else caption) if prompted else None,
        asked=without_time(asked) if gives_picture else asked,
        given=given,
        truth=Truth(scene, video, plain, clips.tracks[0], clips.masks[0], clips.flow[0]),
        num_known=num_known,
        keep=keep,
        style=style,
    )
