"""How a request becomes media: window by window, filled in by a decoder and joined.

A clip longer than a window is made by going on: the end of what there is becomes the known start of the next window.
Sound is made from the finished codes of each window, those of several windows at once. What makes something is a
generator of `filling`: it yields rows where it needs tokens, so that several compositions can share a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from videopoet import runtime
from videopoet.errors import TaskError
from videopoet.generation import given, given_structure, lengths
from videopoet.generation.early_frames import EarlyFrames, Frames
from videopoet.generation.filling import Fill, Pieces
from videopoet.generation.given_views import given_views
from videopoet.generation.lengths import GOING_ON
from videopoet.generation.painting import Canvas
from videopoet.generation.poet_folder import Parts
from videopoet.generation.request import Request
from videopoet.generation.sampling import Sampling
from videopoet.generation.soundtrack import Soundtrack
from videopoet.generation.stitching import joined, lasting
from videopoet.generation.window import Window
from videopoet.media.types import Audio, Image, Media, Video
from videopoet.sequence.tasks import TASKS, Task

HEARING = TASKS["video_to_audio"]
ROWS_AT_ONCE = 16
"""The most windows whose sound is made in one batch."""

T = TypeVar("T")
Making = Generator[Fill, list[Pieces], T]


@dataclass(frozen=True, eq=False)
class Stretch:
    """A window and what of it a clip takes: `num_frames` frames from `first` on."""

    codes: Tensor
    """(t, h, w)"""
    first: int
    num_frames: int
    frames: Tensor | None = None
    """uint8 (3, num_frames, H, W), where they are not known otherwise."""


@dataclass(frozen=True, eq=False)
class Scene:
    """A part of a clip with a prompt of its own."""

    prompt: Tensor | None
    """Ids."""
    num_frames: int


class Composition:
    """One request in the making.

    Args:
        parts: The poet.
        request: A completed request.
        seed: Of all that is drawn.
        on_frames: Called with frames of the result as soon as they are known, in their order.

    Raises:
        TaskError: The model cannot make what is asked for, or the prompt cannot be read.
    """

    def __init__(self, parts: Parts, request: Request, seed: int, on_frames: Callable[[Frames], None] | None = None):
        self.parts, self.request, self.seed, self.on_frames = parts, request, seed, on_frames
        self.warnings: list[str] = []
        self.facts: dict[str, Any] = {}
        """What the metadata says beyond the request: of painting, what was kept."""
        self.tasks = parts.settings.tasks
        if request.task not in self.tasks:
            raise TaskError(
                f"this model was not trained for {request.task}; it was for {', '.join(self.tasks) or 'nothing yet'}; "
                "choose one of these, or train it",
                code="task_unsupported",
            )
        self.window = Window(parts, request.height, request.width)
        self.prompt, self.negative_prompt = self.read(request.words), self.read(request.negative_prompt)
        self.num_steps = 0
        """How many tokens are chosen in all; known from the first rows on."""

    def make(self) -> Making[Media | str]:
        """What the request asks for."""
        task, request = self.request.row, self.request
        if task.gives == ("text",):
            return (yield from self._caption())
        if task.gives == ("image",):
            self.num_steps = self.window.num_steps(task)
            early = self._early(1)
            made = yield from self._fill(task, [{}], early=early)
            return Image.from_pixels(early.all_of(made[0]["video_out"])[:, 0])
        if task.gives == ("audio",):
            if request.video is None:
                return (yield from self._sound_alone())
            return (yield from self._clip_with_sound(request.video))
        if task.any_length:
            return (yield from self._film())
        return (yield from self._edited_clip())

    def _film(self) -> Making[Video]:
        """A clip of any length, from words, a picture or the end of a clip."""
        request, window = self.request, self.window
        known = None if request.video is None else given.kept_clip(request.video, window, request.start)
        wanted = lengths.film_frames(request, window, goes_on=known is not None)
        parts: list[Video] = []
        self.say_cut()
        if known is not None:
            self._show(Video(known.frames, known.frame_rate))
        yield from self.film([Scene(self.prompt, wanted)], known, parts.append)
        sounds = [part.audio.samples for part in parts if part.audio is not None]
        sound = Audio(torch.cat(sounds, dim=1), window.sample_rate) if sounds else None
        new = Video(torch.cat([part.frames for part in parts], dim=1), window.frame_rate, sound)
        return new if known is None else joined(known, new)

    def film(self, scenes: Sequence[Scene], known: Video | None, emit: Callable[[Video], None]) -> Making[None]:
        """Make scenes one after the other, in memory that does not grow with their number.

        Args:
            scenes: In their order; the first begins as the request says.
            known: A clip of the window's size that they go on from.
            emit: Takes what is finished, in order: frames with their sound, where sound is made.

        Raises:
            TaskError: It takes more than one window, and the model was not trained to go on.
        """
        window, request = self.window, self.request
        overlap = window.shown_frames(GOING_ON.given[-1])
        windows = self.windows(scenes, goes_on=known is not None)
        hears = self.hears
        self.num_steps = len(windows) * (window.num_steps(GOING_ON) + hears * window.num_steps(HEARING))
        self.num_steps += window.num_steps(request.row) - window.num_steps(GOING_ON)

        soundtrack, held = Soundtrack(window), None
        end = torch.empty(3, 0, window.height, window.width) if known is None else given.end_of(known, overlap)
        waiting: list[Stretch] = []
        num_made = 0 if known is None else known.num_frames
        for number, (scene, num_frames) in enumerate(windows):
            start = end
            if request.image is not None and not number:
                start = given.picture(request.image, window)
            first = end.shape[1]
            early = self._early(num_frames, first, num_made)
            made = yield from self._fill(
                GOING_ON if number else request.row,
                [{"video_start": window.encode(start)} if start.numel() else {}],
                number,
                scene.prompt,
                early,
            )
            codes = made[0]["video_out"]
            pixels = early.all_of(codes)
            num_made += num_frames
            end = torch.cat([end, pixels], dim=1)[:, -overlap:].clone()
            waiting.append(Stretch(codes, first, num_frames, Video.from_pixels(pixels, window.frame_rate).frames))
            if len(waiting) < ROWS_AT_ONCE and number + 1 < len(windows):
                continue
            sounds = (yield from self._hear(waiting, number + 1 - len(waiting))) if hears else [None] * len(waiting)
            for stretch, sound in zip(waiting, sounds, strict=True):
                assert stretch.frames is not None
                if sound is None:
                    emit(Video(stretch.frames, window.frame_rate))
                    continue
                heard = soundtrack.add(sound, stretch.first, stretch.num_frames)
                if heard is not None and held is not None:
                    emit(Video(held, window.frame_rate, Audio(heard, window.sample_rate)))
                held = stretch.frames
            waiting, sounds = [], []  # nothing of them is needed while the next windows are made
        if held is not None:
            emit(Video(held, window.frame_rate, Audio(soundtrack.end(), window.sample_rate)))

    def say_cut(self) -> None:
        """Warn where a picture or clip to begin with is of another shape.

        Raises:
            MediaError: A file is missing, broken or sound only.
        """
        for start in (self.request.image, self.request.video):
            if start is not None:
                given.say_cut(start, self.window, self.warnings)

    def windows(self, scenes: Sequence[Scene], goes_on: bool) -> list[tuple[Scene, int]]:
        """For each window of a film its scene and how many frames it gives; a scene ends where it was said to end.

        Raises:
            TaskError: There are several, and the model was not trained to go on, or the first is too short for it.
        """
        wanted = [scene.num_frames for scene in scenes]
        windows = lengths.film_windows(wanted, self.window, goes_on, self.tasks)
        return [(scenes[index], num_frames) for index, num_frames in windows]

    def _edited_clip(self) -> Making[Video]:
        """A clip of one window at most, of the length of what is given, and with its sound where it has one."""
        task, request, window = self.request.row, self.request, self.window
        measured = partial(given_structure.structure, request, window, self.warnings, self.facts)
        views = given_views(request, window, self.warnings, self.facts, measured)
        pieces = {
            piece: window.encode_audio(shown) if piece == "audio_in" else window.encode(shown)
            for piece, shown in views.shown.items()
        }
        wanted, sound = lengths.clip_frames(request, window, views.most), views.sound
        hears = sound is None and "audio" not in task.gives and self.hears
        self.num_steps = window.num_steps(task) + hears * self._hearing_steps(1)
        early = self._early(wanted, canvas=views.canvas)
        made = (yield from self._fill(task, [pieces], early=early))[0]
        clip = Video.from_pixels(early.all_of(made["video_out"]), window.frame_rate)
        if "audio_out" in made:
            sound = Audio(window.decode_audio(made["audio_out"]), window.sample_rate)
        elif hears:
            sound = yield from self._sound_of([Stretch(made["video_out"], 0, window.num_frames)])
        return Video(clip.frames, clip.frame_rate, sound and lasting(sound, clip.seconds, longer=False))

    def _clip_with_sound(self, video: str | Path | Video) -> Making[Video]:
        """The user's own frames, with sound for all of them."""
        own = given.clip_to_hear(video, self.request.start, self.warnings)
        self._show(Video(own.frames, own.frame_rate))
        pixels, whole = given.clip(own, self.window).pixels(), self.window.num_frames
        lead = Soundtrack(self.window).lead_frames  # of each window but the first: seen again, so that it can fade in
        firsts = range(0, max(1, pixels.shape[1] - lead), whole - lead)
        self.num_steps = self._hearing_steps(len(firsts))
        stretches = [
            Stretch(
                self.window.encode(self.window.filled_up(pixels[:, first : first + whole])),
                lead if first else 0,
                whole - lead if first else whole,
            )
            for first in firsts
        ]
        sound = yield from self._sound_of(stretches)
        return Video(own.frames, own.frame_rate, lasting(sound, own.seconds))

    def _sound_alone(self) -> Making[Audio]:
        """A sound from words."""
        task, window = self.request.row, self.window
        seconds = lengths.sound_seconds(self.request, window)
        self.num_steps = window.num_steps(task)
        made = yield from self._fill(task, [{}])
        return lasting(Audio(window.decode_audio(made[0]["audio_out"]), window.sample_rate), seconds)

    def _caption(self) -> Making[str]:
        """What a clip, or a picture as a clip at rest, shows."""
        task, request, window = self.request.row, self.request, self.window
        assert request.video is not None
        shown = given.picture_or_clip(request.video, window)
        clip = given.first_window(shown, window, self.warnings, start=request.start)
        given.say_cut(request.video, window, self.warnings)
        self.num_steps = window.num_steps(task)
        made = yield from self._fill(task, [{"video_in": window.encode(window.filled_up(clip.pixels()))}])
        return self.parts.text_encoder.decode(made[0]["text_out"].tolist())

    @property
    def keeps_pixels(self) -> bool:
        """Whether some of the result is what was given, as it was: what goes on from a clip, or is painted into it."""
        views = [view for view in self.request.row.given if view.modality == "video"]
        keeps = any(view.starts_output or view.change in ("hide_region", "keep_region") for view in views)
        return keeps and self.request.video is not None

    @cached_property
    def hears(self) -> bool:
        """Whether to make the sound of a clip."""
        if self.request.sound and HEARING.name not in self.tasks:
            self.warnings.append("this model was not trained to make sound; the clip is silent")
        return self.request.sound and HEARING.name in self.tasks

    def _hearing_steps(self, num_stretches: int) -> int:
        return num_stretches * self.window.num_steps(HEARING)

    def _sound_of(self, stretches: Sequence[Stretch]) -> Making[Audio]:
        """The sound of consecutive stretches of a clip."""
        soundtrack, parts = Soundtrack(self.window), []
        for first in range(0, len(stretches), ROWS_AT_ONCE):
            group = stretches[first : first + ROWS_AT_ONCE]
            for stretch, samples in zip(group, (yield from self._hear(group, first)), strict=True):
                parts.append(soundtrack.add(samples, stretch.first, stretch.num_frames))
        parts.append(soundtrack.end())
        return Audio(torch.cat([part for part in parts if part is not None], dim=1), self.window.sample_rate)

    def _hear(self, stretches: Sequence[Stretch], number: int) -> Making[list[Tensor]]:
        """The sound of each stretch's window, (1, S); they are those from `number` on."""
        made = yield from self._fill(HEARING, [{"video_in": stretch.codes} for stretch in stretches], number)
        return [self.window.decode_audio(pieces["audio_out"]) for pieces in made]

    def show_again(self, upscaled: Media | str) -> None:
        """Say that the frames that were shown as drafts are known in their final size."""
        if self.on_frames is not None and isinstance(upscaled, Image):
            self.on_frames(Frames(0, upscaled.frame[:, None], self.window.frame_rate))
        elif self.on_frames is not None and isinstance(upscaled, Video):
            self.on_frames(Frames(0, upscaled.frames, upscaled.frame_rate))

    def _show(self, part: Video, first: int = 0) -> None:
        """Say that frames of the result are known."""
        if self.on_frames is not None:
            draft = self.request.upscale is not None
            self.on_frames(Frames(first, part.frames, part.frame_rate, draft))

    def _early(self, num_frames: int, first: int = 0, num_made: int = 0, canvas: Canvas | None = None) -> EarlyFrames:
        """What decodes a stretch of a window, after `num_made` frames of the result, and shows it as it comes."""
        rate = self.window.frame_rate
        return EarlyFrames(
            self.window,
            first,
            num_frames,
            lambda index, pixels: self._show(Video.from_pixels(pixels, rate), num_made + index),
            lambda index, pixels: canvas.painted(pixels, index) if canvas else pixels,
        )

    def _fill(
        self,
        task: Task,
        rows_pieces: list[Pieces],
        number: int = 0,
        prompt: Tensor | None = None,
        early: EarlyFrames | None = None,
    ) -> Making[list[Pieces]]:
        """All pieces of a task's rows, which are those of the windows from `number` on.

        A film has many prompts; `early` takes the codes of a single row as they become final.
        """
        prompt = self.prompt if prompt is None else prompt
        speaks = prompt is not None and any(view.modality == "text" for view in task.given)
        text = {"text_in": prompt} if speaks and prompt is not None else {}
        no_text = {"text_in": self.negative_prompt} if self.negative_prompt is not None else {}
        guided = speaks and self.request.guidance_scale != 1
        return (
            yield Fill(
                task,
                [self.window.plan(task, text | pieces) for pieces in rows_pieces],
                [self.window.plan(task, no_text | pieces) for pieces in rows_pieces] if guided else [],
                self._sampling(task),
                [runtime.generator(self.seed, task.name, number + index) for index in range(len(rows_pieces))],
                [early.take] if early is not None and self.on_frames is not None else [],
            )
        )

    def _sampling(self, task: Task) -> Sampling:
        """The request's; but the sound that comes with a clip is chosen as the model's settings say for sound."""
        if task is HEARING and self.request.task != HEARING.name:
            return self.parts.settings.sampling_of(HEARING.name)
        return self.request.sampling

    def read(self, prompt: str | None) -> Tensor | None:
        """A prompt as ids; words that the model does not know are said."""
        if prompt is None:
            return None
        ids = self.parts.text_encoder.encode(prompt)
        if unknown := self.parts.text_encoder.unknown_words(prompt):
            words = ", ".join(f"'{word}'" for word in unknown)
            self.warnings.append(
                f"the model does not know the word {words}; the result may be without it"
                if len(unknown) == 1
                else f"the model does not know the words {words}; the result may be without them"
            )
        return torch.tensor(ids)
