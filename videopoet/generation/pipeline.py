"""VideoPoet: a request in, media out. What happens between is in `composition`, how tokens are chosen in `decoders`."""

from __future__ import annotations

import contextlib
import math
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch

from videopoet import __version__, checkpoint, runtime
from videopoet.errors import TaskError, VideoPoetError
from videopoet.generation import chain, given, poet_folder, upscaling
from videopoet.generation.composition import HEARING, Composition
from videopoet.generation.decoders.base import Decoder
from videopoet.generation.decoders.speculative import Speculative
from videopoet.generation.filling import MOST_ROWS, go_on_together
from videopoet.generation.film import Film
from videopoet.generation.masked_decoding import MaskedSampling
from videopoet.generation.movie import Movie
from videopoet.generation.poet_folder import Parts
from videopoet.generation.request import Request, Settings
from videopoet.generation.steps import Steps
from videopoet.generation.story import Story
from videopoet.generation.storyboard import Storyboard
from videopoet.generation.take_store import TakeStore
from videopoet.generation.window import Window
from videopoet.media.files import write
from videopoet.media.quality import psnr, ssim
from videopoet.media.resample import resample_audio
from videopoet.media.types import Audio, Image, Media, Video
from videopoet.models.language_model import LanguageModel
from videopoet.models.super_resolution import SuperResolution
from videopoet.sequence.vocabulary import Vocabulary
from videopoet.text_encoders.base import TextEncoder
from videopoet.tokenizers.base import AudioTokenizer, VideoTokenizer

__all__ = ["Parts", "Reconstruction", "Request", "Result", "Settings", "VideoPoet"]

MOST_VARIATIONS = 1000


@dataclass(frozen=True, eq=False)
class Result:
    """What a request became."""

    media: Media | str
    """A Video, an Image, an Audio, or the text of a caption."""
    metadata: dict[str, Any]
    """How it was made: prompt, seed, model and settings."""
    warnings: tuple[str, ...] = ()
    """What was asked for and may not be in the result."""

    @property
    def seed(self) -> int:
        """Asking again with it gives the same result."""
        return self.metadata["seed"]

    def save(self, path: str | Path, metadata: bool = True) -> None:
        """Write the media, with how it was made unless `metadata` is off; a clip as .wav is its sound alone.

        Raises:
            MediaError: The extension does not fit.
            OSError: The disk is full, or the place cannot be written.
        """
        media, path = self.media, Path(path)
        if isinstance(media, str):
            checkpoint.write_atomically(path, lambda file: file.write_text(media + "\n", encoding="utf-8"))
            return
        if isinstance(media, Video) and media.audio is not None and path.suffix.lower() == ".wav":
            media = media.audio
        write(media, path, self.metadata if metadata else None)


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """A clip seen through its tokens, and what they kept of it."""

    video: Video
    psnr: float
    """dB, over the whole clip."""
    ssim: float
    bits_per_pixel: float
    """Of the picture: bits of its codes over height x width x frames."""


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

    def save_pretrained(self, folder: str | Path, dtype: torch.dtype = torch.bfloat16) -> None:
        """Write the poet's folder, whole or not at all."""
        poet_folder.save(self.parts, folder, dtype)

    def generate(
        self,
        task: str,
        *,
        progress: bool = True,
        on_step: Callable[[int, int], None] | None = None,
        **inputs: Any,
    ) -> Result:
        """Make what a task makes.

        Args:
            task: An entry of the task table.
            progress: Show a bar, if standard error is a terminal.
            on_step: Called with how many of the steps are done, and how many there are; what it raises ends the work.
            inputs: The other fields of `Request`.

        Raises:
            TaskError: The request does not fit the task or the model.
            MediaError: A given file is missing or broken.
        """
        return self(Request(task=task, **inputs), progress=progress, on_step=on_step)

    def __call__(
        self, request: Request, *, progress: bool = True, on_step: Callable[[int, int], None] | None = None
    ) -> Result:
        """Make what a request asks for; see `generate`."""
        return self.generate_batch([request], progress=progress, on_step=on_step)[0]

    def variations(
        self,
        task: str,
        *,
        count: int = 4,
        progress: bool = True,
        on_step: Callable[[int, int], None] | None = None,
        **inputs: Any,
    ) -> list[Result]:
        """Make different results of one input: the seeds are those from `seed` on, a drawn one where it is left out.

        Each is what `generate` makes with its seed; see there for the arguments and for what is raised.
        """
        first = Request(task=task, **inputs)
        seed = _drawn_seed() if first.seed is None else first.seed
        if not 1 <= count <= MOST_VARIATIONS:
            raise TaskError(
                f"count is {count}; it must be from 1 to {MOST_VARIATIONS}; ask again with other seeds for more",
                code="range",
            )
        requests = [replace(first, seed=seed + number) for number in range(count)]
        return self.generate_batch(requests, progress=progress, on_step=on_step)

    def generate_batch(
        self,
        requests: Sequence[Request],
        *,
        progress: bool = True,
        on_step: Callable[[int, int], None] | None = None,
    ) -> list[Result]:
        """Make what several requests ask for; tokens of those alike are chosen together, in as large batches as fit.

        A result is what its request alone would give, up to the rounding of sums, which differs between batch sizes.

        Args:
            requests: Of any tasks; all are checked before the first is begun.
            progress: Show a bar, if standard error is a terminal.
            on_step: As in `generate`; in a batch, of all its requests.

        Raises:
            TaskError: A request does not fit the task or the model.
            MediaError: A given file is missing or broken.
        """
        parts = self.parts
        completed = [request.completed(parts.settings) for request in requests]
        compositions = [
            Composition(parts, request, _drawn_seed() if request.seed is None else request.seed)
            for request in completed
        ]
        upscaled = [request for request in completed if request.upscale is not None]
        for request in upscaled:
            upscaling.check(parts, request.upscale or 0)
        results: list[Result] = []
        with contextlib.ExitStack() as stack:
            stack.callback(parts.language_model.train, parts.language_model.training)
            parts.language_model.eval()
            tasks = {request.task for request in requests}
            steps = Steps(compositions, " ".join(tasks) if len(tasks) == 1 else "requests", progress, on_step, stack)
            usual = parts.settings.num_frames
            steps.later = sum(upscaling.num_steps(parts, usual, request.upscale or 2) for request in upscaled)
            for first in range(0, len(compositions), MOST_ROWS):
                group = compositions[first : first + MOST_ROWS]
                made: dict[int, Media | str] = {}
                works = [composition.make() for composition in group]
                for ended in go_on_together(works, parts, self.decoder, steps.advance):
                    made |= ended
                for number, composition in enumerate(group):
                    factor, media = composition.request.upscale, made[number]
                    if factor is not None and not isinstance(media, str):
                        made[number] = upscaling.upscale(
                            parts,
                            media,
                            factor,
                            composition.prompt,
                            composition.seed,
                            on_step=lambda: steps.advance(1),
                        )
                results += [self._result(composition, made[number]) for number, composition in enumerate(group)]
        return results

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
        seed = _drawn_seed() if seed is None else seed
        parts = self.parts
        links = chain.link(steps, seed, hears=HEARING.name in parts.settings.tasks)
        for number, link in enumerate(links, start=1):
            with _naming_step(number):
                request = link.request().completed(parts.settings)
                Composition(parts, request, seed)
                if request.upscale is not None:
                    upscaling.check(parts, request.upscale)
        results: list[Result] = []
        told: list[dict[str, Any]] = []
        for number, link in enumerate(links, start=1):
            with _naming_step(number):
                result = self(link.request([made.media for made in results]), progress=progress, on_step=on_step)
            results.append(replace(result, metadata={**result.metadata, "chain_seed": seed, "chain": list(told)}))
            told.append(result.metadata)
            if on_result is not None:
                on_result(number - 1, results[-1])
        return results

    def _result(self, composition: Composition, media: Media | str) -> Result:
        """What was made, with how."""
        request = composition.request
        metadata = {
            "generator": f"videopoet {__version__}",
            "model": self.parts.settings.name,
            "task": request.task,
            "prompt": request.prompt,
            "negative_prompt": request.negative_prompt,
            "camera": request.camera,
            "seed": composition.seed,
            "upscale": request.upscale,
            **composition.facts,
            **asdict(request.sampling),
        }
        metadata = {key: value for key, value in metadata.items() if value is not None}
        return Result(media, metadata, tuple(composition.warnings))

    def upscale(
        self,
        media: str | Path | Video | Image,
        factor: int = 2,
        *,
        prompt: str | None = None,
        seed: int | None = None,
        progress: bool = True,
        **sampling: Any,
    ) -> Result:
        """Make a clip or picture of one's own larger; scaled down again, it is what was given.

        Args:
            media: A Video or an Image, or the path of a clip.
            factor: 2 or 4.
            prompt: What is to be seen.
            seed: The same one gives the same result.
            progress: Show a bar, if standard error is a terminal.
            sampling: Fields of `MaskedSampling`, where they are not to be the model's settings.

        Raises:
            TaskError: The model has no super-resolution, the factor does not fit, or the prompt cannot be read.
            MediaError: The file is missing, broken or too large.
            ConfigError: A field that `MaskedSampling` does not have, or a value that does not fit.
        """
        parts = self.parts
        upscaling.check(parts, factor)
        choosing = MaskedSampling(**(parts.settings.upscaling.to_dict() | sampling))
        ids = None if prompt is None else torch.tensor(parts.text_encoder.encode(prompt))
        own = media if isinstance(media, Image) else given.untouched_clip(media)
        seed = _drawn_seed() if seed is None else seed
        total = upscaling.num_steps(parts, own.num_frames if isinstance(own, Video) else 1, factor, choosing)
        with runtime.progress(total, "upscaling", enabled=progress) as advance:
            made = upscaling.upscale(parts, own, factor, ids, seed, choosing, faithful=True, on_step=advance)
        metadata = {"generator": f"videopoet {__version__}", "model": parts.settings.name, "prompt": prompt}
        metadata |= {"seed": seed, "upscale": factor, **choosing.to_dict()}
        return Result(made, {key: value for key, value in metadata.items() if value is not None})

    def reconstruct(self, video: str | Path | Video) -> Reconstruction:
        """See a clip, at the model's size and frame rate, through its tokens, sound included.

        As many frames are kept as fit the tokenizer's grid; frames at the end that do not are left out.

        Raises:
            MediaError: The file is missing, broken or too long.
        """
        window, tokenizer = Window(self.parts), self.parts.video_tokenizer
        clip = given.clip(video, window)
        num_frames = 1 + (clip.num_frames - 1) // tokenizer.time_stride * tokenizer.time_stride
        original = Video(clip.frames[:, :num_frames], clip.frame_rate)
        codes = window.encode(original.pixels())
        seen = Video.from_pixels(window.decode(codes), clip.frame_rate, self._heard(clip.audio, original.seconds))
        return Reconstruction(
            seen,
            psnr(seen.frames, original.frames),
            ssim(seen.frames, original.frames),
            codes.numel() * math.log2(tokenizer.num_codes) / (num_frames * window.height * window.width),
        )

    def _heard(self, audio: Audio | None, seconds: float) -> Audio | None:
        """Sound through its tokens; None where there is less of it than one code needs."""
        tokenizer = self.parts.audio_tokenizer
        if audio is None:
            return None
        samples = resample_audio(audio, tokenizer.sample_rate).samples[:, : round(seconds * tokenizer.sample_rate)]
        if not tokenizer.num_frames(samples.shape[1]):
            return None
        with torch.no_grad(), runtime.autocast(self.parts.device):
            codes = tokenizer.encode(samples[None].to(self.parts.device))
            return Audio(tokenizer.decode(codes)[0].float().cpu(), tokenizer.sample_rate)

    def describe(self) -> dict[str, Any]:
        """What the poet consists of and what it makes, as plain values."""
        parts, contents = self.parts, self.parts.contents
        settings = parts.settings
        modules = {
            contents.video_tokenizer: parts.video_tokenizer,
            contents.audio_tokenizer: parts.audio_tokenizer,
            parts.language_model.backbone.config.model_type: parts.language_model,
        }
        if parts.super_resolution is not None:
            modules["super_resolution"] = parts.super_resolution
        return {
            "name": settings.name,
            "format": contents.format,
            "parameters": {
                name: sum(parameter.numel() for parameter in module.parameters()) for name, module in modules.items()
            },
            "vocabulary": {
                "text": parts.vocabulary.config.text_size,
                "special": parts.vocabulary.config.num_special,
                "video": parts.vocabulary.config.visual_codes,
                "audio": parts.vocabulary.config.audio_codebook_size * parts.vocabulary.config.audio_quantizers,
            },
            "settings": settings.model_dump(mode="json", exclude={"tasks", "name"}),
            "tasks": list(settings.tasks),
            "device": str(parts.device),
            "dtype": str(parts.language_model.head_weight.dtype).removeprefix("torch."),
        }


@contextlib.contextmanager
def _naming_step(number: int) -> Iterator[None]:
    """Let errors say which step of a chain they are from."""
    try:
        yield
    except VideoPoetError as error:
        raise type(error)(f"step {number}: {error}", code=error.code) from error


def _drawn_seed() -> int:
    return secrets.randbelow(2**31)
