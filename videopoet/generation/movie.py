"""Movies: a storyboard's scenes, each made with its sound, under a title and with cuts or cross-fades between them.

Scenes that go on from one another are one take, which is one film. Takes that were made before are taken from their
folder. What joins them is in `stitching`, what keeps them in `take_store`.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from videopoet import __version__, runtime
from videopoet.errors import VideoPoetError
from videopoet.generation import stitching
from videopoet.generation.decoders.base import Decoder
from videopoet.generation.film import Film
from videopoet.generation.poet_folder import Parts
from videopoet.generation.storyboard import Storyboard
from videopoet.generation.take_store import TakeStore
from videopoet.media import framing, titles
from videopoet.media.files import write_parts
from videopoet.media.types import Audio, Video

SHAPES = {"portrait": (640, 360), "square": (480, 480), "landscape": (360, 640)}
"""Height and width of a movie; a model that makes larger pictures makes larger movies."""
FRAME_RATE = 24.0
"""Titles and fades move so fast, or nearly: a movie's frame rate is a whole multiple of the model's."""
STEPS_OF_TAKE = 100


class Movie:
    """A movie in the making: iterate over it, and its parts come one by one, each with its sound.

    Args:
        parts: The poet.
        decoder: Fills rows in.
        storyboard: What it shows, as a `Storyboard` or its plain values.
        takes: A folder where takes are kept and found again, or a store of them; None keeps none.
        font: A font file for the title.
        progress: Show a bar, if standard error is a terminal.
        on_step: Called with how many of the steps are done, and how many there are; what it raises ends the work.

    Raises:
        TaskError: The storyboard does not fit, or the model cannot make a scene; the message says which.
        MediaError: The title cannot be drawn.
    """

    def __init__(
        self,
        parts: Parts,
        decoder: Decoder,
        storyboard: Storyboard | Mapping[str, Any],
        takes: str | Path | TakeStore | None = None,
        font: str | Path | None = None,
        progress: bool = True,
        on_step: Callable[[int, int], None] | None = None,
    ):
        self.storyboard = board = Storyboard.of(storyboard).completed()
        self.parts, self.font, self.progress, self.on_step = parts, font, progress, on_step
        self.model_height, self.model_width = _nearest_size(parts, board.shape)
        self.height, self.width = _canvas(board.shape, self.model_height, self.model_width)
        rate = parts.settings.frame_rate
        self.repeats = max(1, round(FRAME_RATE / rate))
        """How many frames of the movie show one of the model's."""
        self.frame_rate = rate * self.repeats
        self.films = [self._film(take, decoder) for take in board.takes]
        """The takes before they are made."""
        self.store = takes if isinstance(takes, TakeStore) or takes is None else TakeStore(parts, takes)
        self.keys = [self._key(film) for film in self.films]
        """The name of each take in the store."""
        self.made: list[bool] = [False] * len(self.films)
        """Of each take, whether it was made now; known once it is needed."""
        if board.title.strip():
            titles.with_title(torch.zeros(3, self.height, self.width, dtype=torch.uint8), board.title, font)
        self.warnings = tuple(dict.fromkeys(warning for film in self.films for warning in film.warnings))
        """What was asked for and may not be in the movie."""

    @property
    def num_frames(self) -> int:
        """Of the whole movie."""
        board = self.storyboard
        lengths = [(num_frames * self.repeats, self._fades(number)) for number, num_frames in enumerate(self._lengths)]
        if board.title.strip():
            lengths = [(self._title_frames, True), *lengths]
        return stitching.num_frames_of(lengths, self.frame_rate, board.fade_seconds)

    @property
    def seconds(self) -> float:
        return self.num_frames / self.frame_rate

    @property
    def framing(self) -> str:
        """How pictures of the model's size become those of the movie's, in words."""
        made, shown = f"{self.model_width}x{self.model_height}", f"{self.width}x{self.height}"
        if math.isclose(self.model_width * self.height, self.model_height * self.width, rel_tol=0.02):
            return f"made at {made}, shown at {shown}"
        if self.storyboard.fit == "crop":
            return f"made at {made}, cut to {shown}"
        return f"made at {made}, shown whole in {shown} before a blurred copy"

    @property
    def metadata(self) -> dict[str, Any]:
        """How it is made: storyboard, model and sizes."""
        return {
            "generator": f"videopoet {__version__}",
            "model": self.parts.settings.name,
            "task": "movie",
            "seed": self.storyboard.seed,
            "framing": self.framing,
            "storyboard": self.storyboard.to_dict(),
        }

    def __iter__(self) -> Iterator[Video]:
        """The parts of the movie, in order, all of one size, frame rate and kind of sound."""
        board = self.storyboard
        yield from stitching.stitched(self._clips(), board.fade_seconds, board.transition != "cut")

    def save(self, path: str | Path, metadata: bool = True) -> None:
        """Make the movie and write it to an .mp4 as it comes; the file is whole or absent.

        Takes that are finished stay in their folder, also where a later one cannot be made.

        Raises:
            MediaError: The extension does not fit.
            OSError: The disk is full, or the place cannot be written.
        """
        write_parts(self, path, self.metadata if metadata else None)

    def _clips(self) -> Iterator[tuple[Video, bool]]:
        """The title and the takes, as the movie shows them, each with whether what is before fades into it."""
        board = self.storyboard
        total = STEPS_OF_TAKE * len(self.films)
        with contextlib.ExitStack() as stack:
            advance = stack.enter_context(runtime.progress(total, "movie", enabled=self.progress))
            shown = 0

            def tell(done: int) -> None:
                nonlocal shown
                advance(done - shown, take=min(len(self.films), 1 + done // STEPS_OF_TAKE))
                shown = done
                if self.on_step is not None:
                    self.on_step(done, total)

            for number in range(len(self.films)):
                clip = self._take(number, tell)
                if not number and board.title.strip():
                    yield self._title(clip), True
                yield self._framed(clip), self._fades(number)

    def _take(self, number: int, tell: Callable[[int], None]) -> Video:
        """A take at the model's size and frame rate: the one that was kept, or a new one."""
        film, key, before = self.films[number], self.keys[number], STEPS_OF_TAKE * number
        clip = self.store.load(key) if self.store is not None else None
        # A file of another length is none of ours, whatever its name is.
        if clip is None or clip.num_frames != self._lengths[number]:
            film.on_step = lambda done, total: tell(before + STEPS_OF_TAKE * min(done, total) // max(1, total))
            clip = _whole(list(film))
            self.made[number] = True
            if self.store is not None:
                self.store.save(key, clip)
        tell(before + STEPS_OF_TAKE)
        return clip

    def _title(self, first: Video) -> Video:
        """The title before a blurred copy of the first picture, in silence."""
        picture = framing.backdrop(first.frames[:, :1], self.height, self.width)[:, 0]
        picture = titles.with_title(picture, self.storyboard.title, self.font)
        frames = picture[:, None].repeat(1, self._title_frames, 1, 1)
        audio = None
        if first.audio is not None:
            rate = first.audio.sample_rate
            audio = Audio(torch.zeros(1, round(self._title_frames / self.frame_rate * rate)), rate)
        return Video(frames, self.frame_rate, audio)

    def _framed(self, clip: Video) -> Video:
        """A take as the movie shows it."""
        frame = framing.fill if self.storyboard.fit == "crop" else framing.place
        frames = frame(clip.frames, self.height, self.width).repeat_interleave(self.repeats, dim=1)
        return Video(frames, self.frame_rate, clip.audio)

    def _film(self, take: list[int], decoder: Decoder) -> Film:
        """The film of a take, checked."""
        board, scenes = self.storyboard, [self.storyboard.scenes[index] for index in take]
        seeds = [scene.seed or 0 for scene in scenes]
        seed = seeds[0]
        if len(seeds) > 1:  # each scene's own counts
            seed = int(torch.randint(2**31, (), generator=runtime.generator("take", *seeds)))
        inputs = {
            "seed": seed,
            "sound": board.sound,
            "height": self.model_height,
            "width": self.model_width,
            "negative_prompt": board.negative_prompt,
            "temperature": board.temperature,
            "top_k": board.top_k,
            "top_p": board.top_p,
            "guidance_scale": board.guidance_scale,
        }
        story = [{"prompt": scene.prompt, "seconds": scene.seconds, "camera": scene.camera} for scene in scenes]
        try:
            return Film(self.parts, decoder, story, inputs, progress=False)
        except VideoPoetError as error:
            names = f"scene {take[0] + 1}" if len(take) == 1 else f"scenes {take[0] + 1} to {take[-1] + 1}"
            raise type(error)(f"{names}: {error}", code=error.code) from error

    def _key(self, film: Film) -> str:
        """The name of a take: the hash of all that decides its bytes."""
        return "" if self.store is None else self.store.key(film.decides)

    @property
    def _lengths(self) -> list[int]:
        """Frames of each take, at the model's rate."""
        return [film.num_frames for film in self.films]

    @property
    def _title_frames(self) -> int:
        return max(1, round(self.storyboard.title_seconds * self.frame_rate))

    def _fades(self, number: int) -> bool:
        """Whether what is before a take fades into it."""
        first = self.storyboard.takes[number][0]
        return self.storyboard.beginning(first) != "cut"


def _whole(parts: list[Video]) -> Video:
    """One clip of a film's parts, whose sound is as long as its picture."""
    frames = torch.cat([part.frames for part in parts], dim=1)
    sounds = [part.audio for part in parts if part.audio is not None]
    if not sounds:
        return Video(frames, parts[0].frame_rate)
    samples = torch.cat([sound.samples for sound in sounds], dim=1)
    missing = round(frames.shape[1] / parts[0].frame_rate * sounds[0].sample_rate) - samples.shape[1]
    return Video(frames, parts[0].frame_rate, Audio(F.pad(samples, (0, missing)).contiguous(), sounds[0].sample_rate))


def _nearest_size(parts: Parts, shape: str) -> tuple[int, int]:
    """Of the sizes that a model makes, the one whose shape comes nearest; of several, the usual one, or the largest."""
    settings = parts.settings
    usual = settings.height, settings.width
    sizes = [usual, *map(tuple, parts.vocabulary.config.resolutions)]
    height, width = SHAPES[shape]

    def distance(size: tuple[int, ...]) -> tuple[float, bool, int]:
        away = abs(math.log((size[0] / size[1]) / (height / width)))
        return round(away, 3), tuple(size) != usual, -size[0] * size[1]

    best = min(sizes, key=distance)
    return best[0], best[1]


def _canvas(shape: str, height: int, width: int) -> tuple[int, int]:
    """The movie's size: that of its shape, larger where the model's pictures would have to shrink; always even."""
    scale = max(1.0, height / SHAPES[shape][0], width / SHAPES[shape][1])
    tall, wide = (2 * round(side * scale / 2) for side in SHAPES[shape])
    return tall, wide
