"""Films: scenes one after the other, made while they are taken, in memory that does not grow with their length."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from videopoet import __version__, checkpoint, runtime
from videopoet.errors import TaskError
from videopoet.generation import given
from videopoet.generation.composition import Composition, Scene
from videopoet.generation.decoders.base import Decoder
from videopoet.generation.filling import go_on_together
from videopoet.generation.film_folder import FilmFolder
from videopoet.generation.poet_folder import Parts
from videopoet.generation.request import Request
from videopoet.generation.steps import Steps
from videopoet.generation.story import Story, scenes_of
from videopoet.generation.take_store import fingerprint
from videopoet.media.files import write_parts
from videopoet.media.resample import resample_audio
from videopoet.media.types import Audio, Image, Video

OF_A_SCENE = ("prompt", "seconds", "num_frames", "camera")
_BEGINNINGS = {"video": "video_continuation", "image": "image_to_video"}


class Film:
    """A film in the making: iterate over it, and its parts are made one by one, each with its sound.

    Each iteration makes the same parts anew. A film that goes on from a clip begins with that clip.

    Args:
        parts: The poet.
        decoder: Fills rows in.
        story: What it shows.
        inputs: Fields of `Request` beside those of a scene.
        progress: Show a bar, if standard error is a terminal.
        on_step: Called with how many of the steps are done, and how many there are; what it raises ends the work.

    Raises:
        TaskError: The story or another input does not fit, or the model was not trained for it.
        MediaError: A given file is missing, broken or sound only.
    """

    def __init__(
        self,
        parts: Parts,
        decoder: Decoder,
        story: Story,
        inputs: Mapping[str, Any],
        progress: bool = True,
        on_step: Callable[[int, int], None] | None = None,
    ):
        self.parts, self.decoder, self.progress, self.on_step = parts, decoder, progress, on_step
        self.story = scenes_of(story)
        for name in (*OF_A_SCENE, "upscale"):
            if inputs.get(name) is not None:
                whose = "a film cannot be upscaled" if name == "upscale" else "each scene has its own"
                raise TaskError(
                    f"{name} ({inputs[name]!r}) is given for a whole film; {whose}; leave it out",
                    code="input_unexpected",
                )
        task = next((task for name, task in _BEGINNINGS.items() if inputs.get(name) is not None), "text_to_video")
        self.seed = runtime.drawn_seed() if inputs.get("seed") is None else inputs["seed"]
        self.requests = [
            Request(**{**inputs, "task": task, "prompt": scene.prompt, "camera": scene.camera, "seed": self.seed})
            for scene in self.story
        ]
        composition, _ = self._begin()
        _ = composition.hears  # which may be a warning
        composition.say_cut()
        self.warnings = tuple(composition.warnings)
        """What was asked for and may not be in the film."""

    @property
    def metadata(self) -> dict[str, Any]:
        """How it is made: story, seed, model and settings."""
        request = self.requests[0].completed(self.parts.settings)
        story = [{name: value for name, value in asdict(scene).items() if value is not None} for scene in self.story]
        metadata = {
            "generator": f"videopoet {__version__}",
            "model": self.parts.settings.name,
            "task": request.task,
            "story": story,
            "negative_prompt": request.negative_prompt,
            "start": request.start,
            "seed": self.seed,
            **asdict(request.sampling),
        }
        return {key: value for key, value in metadata.items() if value is not None}

    @property
    def decides(self) -> dict[str, Any]:
        """All that decides the film's bytes but the poet itself, as values of JSON."""
        first, encoder = self.requests[0].completed(self.parts.settings), self.parts.text_encoder
        settings = {name: value for name, value in vars(self.decoder).items() if isinstance(value, int | float | str)}
        beginnings = {name: _hash(media) for name in _BEGINNINGS if (media := getattr(first, name)) is not None}
        return {
            **self.metadata,
            **beginnings,
            "words": [encoder.encode(request.words or "") for request in self.requests],
            "size": [first.height, first.width],
            "sound": first.sound,
            "decoder": [type(self.decoder).__module__, settings],
        }

    def __iter__(self) -> Iterator[Video]:
        """The parts of the film, in order, all of one size, frame rate and kind of sound.

        Raises:
            MediaError: A given file is missing or broken.
        """
        return self._made(self.decoder)

    def save(self, path: str | Path, metadata: bool = True, keep: str | Path | None = None) -> None:
        """Make the film and write it to an .mp4 as it comes; the file is whole or absent.

        Args:
            path: Where.
            metadata: Keep story, seed, model and settings in the file.
            keep: A folder for what is made, which is removed once the film is whole. A film that was interrupted goes
                on from what is there, and becomes what it would have been; it needs the same seed.

        Raises:
            MediaError: The extension does not fit.
            TaskError: `keep` holds another film or something else, or another process makes it.
            OSError: The disk is full, or the place cannot be written.
        """
        told = self.metadata if metadata else None
        if keep is None:
            write_parts(self, path, told)
            return
        with FilmFolder(keep, {**self.decides, "weights": fingerprint(self.parts)}) as folder:
            whole = folder.path / f"film{Path(path).suffix}"
            write_parts(self._made(folder.filling(self.decoder)), whole, told)
            checkpoint.write_atomically(path, partial(shutil.move, whole))
            folder.done = True

    def _made(self, decoder: Decoder) -> Iterator[Video]:
        """The parts as they are made."""
        composition, scenes = self._begin()
        ready: deque[Video] = deque()
        known = None
        if (video := self.requests[0].video) is not None:
            known = given.kept_clip(video, composition.window, self.requests[0].start)
            ready.append(_alike(known, composition.window.sample_rate if composition.hears else None))
        model = self.parts.language_model
        with contextlib.ExitStack() as stack:
            stack.callback(model.train, model.training)
            model.eval()
            steps = Steps([composition], "film", self.progress, self.on_step, stack)
            work = composition.film(scenes, known, ready.append)
            del known
            for _ in go_on_together([work], self.parts, decoder, steps.advance):
                while ready:
                    yield ready.popleft()

    def _begin(self) -> tuple[Composition, list[Scene]]:
        """The work, and the scenes for it."""
        composition = Composition(self.parts, self.requests[0].completed(self.parts.settings), self.seed)
        ends = [0]
        for end in accumulate(scene.seconds for scene in self.story):
            ends.append(max(ends[-1] + 1, round(end * composition.window.frame_rate)))
        self.num_frames = ends[-1]
        scenes = [
            Scene(
                composition.prompt if number == 0 else composition.read(request.words),
                ends[number + 1] - ends[number],
            )
            for number, request in enumerate(self.requests)
        ]
        composition.windows(scenes, goes_on=self.requests[0].video is not None)
        return composition, scenes


def _hash(media: str | Path | Image | Video) -> str:
    """Of what is given: of a file its bytes, else its pixels and samples."""
    if isinstance(media, str | Path):
        return checkpoint.sha256(Path(media))
    tensors = [media.frame] if isinstance(media, Image) else [media.frames]
    tensors += [media.audio.samples] if isinstance(media, Video) and media.audio is not None else []
    digest = hashlib.sha256(repr(media).encode())
    for tensor in tensors:
        digest.update(tensor.cpu().contiguous().numpy().data)
    return digest.hexdigest()


def _alike(clip: Video, sample_rate: int | None) -> Video:
    """A given clip with sound like that of what follows it, or without any."""
    if sample_rate is None:
        return Video(clip.frames, clip.frame_rate)
    num_samples = round(clip.seconds * sample_rate)
    samples = torch.zeros(1, 0) if clip.audio is None else resample_audio(clip.audio, sample_rate).samples
    samples = F.pad(samples, (0, num_samples - samples.shape[1]))
    return Video(clip.frames, clip.frame_rate, Audio(samples, sample_rate))
