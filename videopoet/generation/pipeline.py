"""VideoPoet: a request in, media out.

What happens between is in `batch` and `composition`, how tokens are chosen in `decoders`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import torch

from videopoet import __version__, runtime
from videopoet.errors import TaskError
from videopoet.generation import batch, chain, given, poet_folder, reconstruction, upscaling
from videopoet.generation.composition import HEARING
from videopoet.generation.decoders.base import Decoder
from videopoet.generation.decoders.speculative import Speculative
from videopoet.generation.early_frames import Frames
from videopoet.generation.film import Film
from videopoet.generation.masked_decoding import MaskedSampling
from videopoet.generation.movie import Movie
from videopoet.generation.poet_folder import Parts
from videopoet.generation.reconstruction import Reconstruction
from videopoet.generation.request import Request, Settings, check_number
from videopoet.generation.result import Result
from videopoet.generation.story import Story
from videopoet.generation.storyboard import Storyboard
from videopoet.generation.stream import Stream
from videopoet.generation.take_store import TakeStore
from videopoet.media.types import Image, Video
from videopoet.models.language_model import LanguageModel
from videopoet.models.super_resolution import SuperResolution
from videopoet.sequence.vocabulary import Vocabulary
from videopoet.text_encoders.base import TextEncoder
from videopoet.tokenizers.base import AudioTokenizer, VideoTokenizer

__all__ = ["Frames", "Parts", "Reconstruction", "Request", "Result", "Settings", "Stream", "VideoPoet"]

MOST_VARIATIONS = 1000


class VideoPoet:
    """One model that makes and edits video with sound.

    Args:
        video_tokenizer: Clips to codes and back.
        audio_tokenizer: Sound to codes and back.
        text_encoder: Words to ids.
        language_model: Chooses tokens.
        vocabulary: Joins them all.
        settings: What is made of a request that does not say.
        super_resolution: Doubles the size of clips; None does without.

    Raises:
        CheckpointError: The parts do not belong together.
    """

    def __init__(
        self,
        video_tokenizer: VideoTokenizer,
        audio_tokenizer: AudioTokenizer,
        text_encoder: TextEncoder,
        language_model: LanguageModel,
        vocabulary: Vocabulary,
        settings: Settings,
        super_resolution: SuperResolution | None = None,
    ):
        self.parts = Parts(
            video_tokenizer, audio_tokenizer, text_encoder, language_model, vocabulary, settings, super_resolution
        )
        self.decoder: Decoder = Speculative()

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> Self:
        """Read a poet; see `poet_folder.load`.

        Raises:
            CheckpointError: It is missing, broken, of a newer format, or its parts do not belong together.
            ConfigError: There is no such device.
        """
        parts = poet_folder.load(path, device, dtype)
        return cls(
            parts.video_tokenizer,
            parts.audio_tokenizer,
            parts.text_encoder,
            parts.language_model,
            parts.vocabulary,
            parts.settings,
            parts.super_resolution,
        )

    def save_pretrained(
        self, folder: str | Path, dtype: torch.dtype = torch.bfloat16, max_shard_size: int | str | None = None
    ) -> None:
        """Write the poet's folder, whole or not at all; see `poet_folder.save`.

        Raises:
            ConfigError: One tensor alone is larger than `max_shard_size`, or that is no size.
        """
        poet_folder.save(self.parts, folder, dtype, max_shard_size)

    def generate(
        self,
        task: str,
        *,
        progress: bool = True,
        on_step: Callable[[int, int], None] | None = None,
        on_frames: Callable[[Frames], None] | None = None,
        **inputs: Any,
    ) -> Result:
        """Make what a task makes.

        Args:
            task: An entry of the task table.
            progress: Show a bar, if standard error is a terminal.
            on_step: Called with how many of the steps are done, and how many there are; what it raises ends the work.
            on_frames: Called with frames of the result as soon as they are known, in their order; what it raises ends
                the work.
            inputs: The other fields of `Request`.

        Raises:
            TaskError: The request does not fit the task or the model.
            MediaError: A given file is missing or broken.
        """
        return self(Request(task=task, **inputs), progress=progress, on_step=on_step, on_frames=on_frames)

    def __call__(
        self,
        request: Request,
        *,
        progress: bool = True,
        on_step: Callable[[int, int], None] | None = None,
        on_frames: Callable[[Frames], None] | None = None,
    ) -> Result:
        """Make what a request asks for; see `generate`."""
        show = None if on_frames is None else lambda number, frames: on_frames(frames)
        return self.generate_batch([request], progress=progress, on_step=on_step, on_frames=show)[0]

    def stream(
        self,
        task: str,
        *,
        progress: bool = True,
        on_step: Callable[[int, int], None] | None = None,
        **inputs: Any,
    ) -> Stream:
        """Make what a task makes, and give its frames one after the other, as soon as they are known.

        Iterate over the stream for `Frames`; its `result` is what `generate` gives for the same inputs, and consists of
        these very frames. The work begins at once, in a thread of its own, and goes on ahead of who iterates.

        Args:
            task: An entry of the task table.
            progress: Show a bar, if standard error is a terminal.
            on_step: As in `generate`; called in that thread.
            inputs: The other fields of `Request`.

        Raises:
            TaskError: The request does not fit the task or the model.
            MediaError: A given file is missing or broken; where that shows late, from the iteration.
        """
        request = Request(task=task, **inputs)
        if request.seed is None:
            request = replace(request, seed=runtime.drawn_seed())
        self._check(request)
        return Stream(partial(self, request, progress=progress), on_step)

    def variations(
        self,
        task: str,
        *,
        count: int = 4,
        progress: bool = True,
        on_step: Callable[[int, int], None] | None = None,
        on_frames: Callable[[int, Frames], None] | None = None,
        **inputs: Any,
    ) -> list[Result]:
        """Make different results of one input: the seeds are those from `seed` on, a drawn one where it is left out.

        Each is what `generate` makes with its seed; see there and `generate_batch` for the arguments and for what is
        raised.
        """
        first = Request(task=task, **inputs)
        seed = runtime.drawn_seed() if first.seed is None else first.seed
        if not 1 <= count <= MOST_VARIATIONS:
            raise TaskError(
                f"count is {count}; it must be from 1 to {MOST_VARIATIONS}; ask again with other seeds for more",
                code="range",
            )
        requests = [replace(first, seed=seed + number) for number in range(count)]
        return self.generate_batch(requests, progress=progress, on_step=on_step, on_frames=on_frames)

    def generate_batch(
        self,
        requests: Sequence[Request],
        *,
        progress: bool = True,
        on_step: Callable[[int, int], None] | None = None,
        on_frames: Callable[[int, Frames], None] | None = None,
    ) -> list[Result]:
        """Make what several requests ask for; tokens of those alike are chosen together, in as large batches as fit.

        A result is what its request alone would give, up to the rounding of sums, which differs between batch sizes.

        Args:
            requests: Of any tasks; all are checked before the first is begun.
            progress: Show a bar, if standard error is a terminal.
            on_step: As in `generate`; in a batch, of all its requests.
            on_frames: As in `generate`, with the index of the request that they belong to before them.

        Raises:
            TaskError: A request does not fit the task or the model.
            MediaError: A given file is missing or broken.
        """
        return batch.make(self.parts, self.decoder, requests, progress, on_step, on_frames)

    def film(
        self,
        story: Story,
        *,
        progress: bool = True,
        on_step: Callable[[int, int], None] | None = None,
        **inputs: Any,
    ) -> Film:
        """A film of any length, made while it is iterated over or saved, in memory that does not grow with it.

        Args:
            story: Scenes, or mappings with their fields, such as `{"prompt": "a red ball bounces", "seconds": 4}`.
            progress: Show a bar, if standard error is a terminal.
            on_step: As in `generate`.
            inputs: Fields of `Request`: an `image` to begin with or a `video` to go on from, the seed, the size, how to
                sample, and whether to make sound.

        Raises:
            TaskError: The story or another input does not fit, or the model was not trained for it.
            MediaError: A given file is missing or broken.
        """
        return Film(self.parts, self.decoder, story, inputs, progress, on_step)

    def movie(
        self,
        storyboard: Storyboard | Mapping[str, Any],
        *,
        takes: str | Path | TakeStore | None = None,
        font: str | Path | None = None,
        progress: bool = True,
        on_step: Callable[[int, int], None] | None = None,
    ) -> Movie:
        """A movie of several scenes under a title, made while it is iterated over or saved.

        Args:
            storyboard: What it shows; `videopoet.write_storyboard` makes one of an idea.
            takes: A folder where scenes are kept, so that those made before are not made again.
            font: A font file for the title.
            progress: Show a bar, if standard error is a terminal.
            on_step: As in `generate`.

        Raises:
            TaskError: The storyboard does not fit, or the model cannot make a scene.
            MediaError: The title cannot be drawn.
        """
        return Movie(self.parts, self.decoder, storyboard, takes, font, progress, on_step)

    def chain(
        self,
        steps: chain.Steps,
        *,
        seed: int | None = None,
        progress: bool = True,
        on_step: Callable[[int, int], None] | None = None,
        on_result: Callable[[int, Result], None] | None = None,
    ) -> list[Result]:
        """Run tasks in a row, each on what those before it made; `generation.chain` says what becomes of which.

        Args:
            steps: Mappings with `task` and other fields of `Request`; all are checked before the first is begun.
            seed: Every step's seed follows from it, unless the step has its own.
            progress: Show a bar for each step, if standard error is a terminal.
            on_step: As in `generate`, of each step in turn.
            on_result: Called with the index of a step and its result, as soon as there is one.

        Returns:
            The results of all steps; the metadata of each tells those before it.

        Raises:
            TaskError: A step does not fit its task, the model, or the steps before it.
            MediaError: A given file is missing or broken.
        """
        seed = runtime.drawn_seed() if seed is None else seed
        links = chain.link(steps, seed, hears=HEARING.name in self.parts.settings.tasks)
        make = partial(self, progress=progress, on_step=on_step)
        return chain.run(links, seed, self._check, make, on_result or (lambda index, result: None))

    def _check(self, request: Request) -> None:
        """Refuse what the model cannot make, as far as that shows without reading files.

        Raises:
            TaskError: The request does not fit the model.
        """
        batch.check(self.parts, request)

    def upscale(
        self,
        media: str | Path | Video | Image,
        factor: int = 2,
        *,
        prompt: str | None = None,
        start: float | None = None,
        seed: int | None = None,
        progress: bool = True,
        **sampling: Any,
    ) -> Result:
        """Make a clip or picture of one's own larger; scaled down again, it is what was given (`faithfulness` 1).

        Args:
            media: A Video or an Image, or the path of a clip.
            factor: 2 or 4.
            prompt: What is to be seen.
            start: Seconds into the clip at which it begins to be used.
            seed: The same one gives the same result.
            progress: Show a bar, if standard error is a terminal.
            sampling: Fields of `MaskedSampling`, where they are not to be the model's settings.

        Raises:
            TaskError: The model has no super-resolution, the factor or `start` does not fit, or the prompt cannot be
                read.
            MediaError: The file is missing, broken, too large, or ends before `start`.
            ConfigError: A field that `MaskedSampling` does not have, or a value that does not fit.
        """
        parts = self.parts
        upscaling.check(parts, factor)
        choosing = MaskedSampling(**(upscaling.keeping(parts.settings.upscaling).to_dict() | sampling))
        if prompt is None and "text_guidance" in sampling and choosing.text_guidance != 1:
            raise TaskError(
                f"text_guidance is {choosing.text_guidance:g} and there is no prompt to follow; give one, or leave "
                "it out",
                code="input_missing",
            )
        ids = None if prompt is None else torch.tensor(parts.text_encoder.encode(prompt))
        if start is not None:
            check_number("start", start)
            if isinstance(media, Image):
                raise TaskError(
                    f"upscaling was given start ({start:g}) and a picture, which has no moments; it goes with a clip; "
                    "leave it out",
                    code="input_unexpected",
                )
        own = media if isinstance(media, Image) else given.untouched_clip(media, start)
        seed = runtime.drawn_seed() if seed is None else seed
        total = upscaling.num_steps(parts, own.num_frames if isinstance(own, Video) else 1, factor, choosing)
        with runtime.progress(total, "upscaling", enabled=progress) as advance:
            made = upscaling.upscale(parts, own, factor, ids, seed, choosing, on_step=advance)
        metadata = {"generator": f"videopoet {__version__}", "model": parts.settings.name, "prompt": prompt}
        metadata |= {"start": start, "seed": seed, "upscale": factor, **choosing.to_dict()}
        return Result(made, {key: value for key, value in metadata.items() if value is not None})

    def reconstruct(self, video: str | Path | Video, *, start: float | None = None) -> Reconstruction:
        """See a clip, at the model's size and frame rate, through its tokens, sound included.

        As many frames are kept as fit the tokenizer's grid; warnings say what is left out, at the sides or the end.

        Args:
            video: A Video, or the path of a clip.
            start: Seconds into it at which it begins to be used.

        Raises:
            TaskError: `start` is no number of seconds that fits.
            MediaError: The file is missing, broken, too long, or ends before `start`.
        """
        return reconstruction.reconstruct(self.parts, video, start)

    def describe(self) -> dict[str, Any]:
        """What the poet consists of and what it makes, as plain values."""
        return poet_folder.describe(self.parts)
