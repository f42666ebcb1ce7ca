"""Several requests made together: what their rows share is the decoder's batches."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial

from videopoet import __version__, runtime
from videopoet.generation import upscaling
from videopoet.generation.composition import Composition
from videopoet.generation.decoders.base import Decoder
from videopoet.generation.early_frames import Frames
from videopoet.generation.filling import MOST_ROWS, go_on_together
from videopoet.generation.poet_folder import Parts
from videopoet.generation.request import Request
from videopoet.generation.result import Result
from videopoet.generation.steps import Steps
from videopoet.media.types import Media, Video


def check(parts: Parts, request: Request) -> None:
    """Refuse what the model cannot make, as far as that shows without reading files.

    Raises:
        TaskError: The request does not fit the model.
    """
    request = request.completed(parts.settings)
    Composition(parts, request, 0)
    if request.upscale is not None:
        upscaling.check(parts, request.upscale)


def make(
    parts: Parts,
    decoder: Decoder,
    requests: Sequence[Request],
    progress: bool,
    on_step: Callable[[int, int], None] | None,
    on_frames: Callable[[int, Frames], None] | None,
) -> list[Result]:
    """What the requests ask for; see `VideoPoet.generate_batch`."""
    completed = [request.completed(parts.settings) for request in requests]
    compositions = [
        Composition(
            parts,
            request,
            runtime.drawn_seed() if request.seed is None else request.seed,
            None if on_frames is None else partial(on_frames, number),
        )
        for number, request in enumerate(completed)
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
            for ended in go_on_together(works, parts, decoder, steps.advance):
                made |= ended
            for number, composition in enumerate(group):
                factor, media = composition.request.upscale, made[number]
                if factor is not None and not isinstance(media, str):
                    num_frames = media.num_frames if isinstance(media, Video) else 1
                    steps.later += upscaling.num_steps(parts, num_frames, factor)
                    steps.later -= upscaling.num_steps(parts, usual, factor)
                    made[number] = upscaling.upscale(
                        parts,
                        media,
                        factor,
                        composition.prompt,
                        composition.seed,
                        upscaling.keeping(parts.settings.upscaling) if composition.keeps_pixels else None,
                        on_step=lambda: steps.advance(1),
                    )
                    composition.show_again(made[number])
            results += [_result(parts, decoder, composition, made[number]) for number, composition in enumerate(group)]
    return results


def _result(parts: Parts, decoder: Decoder, composition: Composition, media: Media | str) -> Result:
    """What was made, with how."""
    request = composition.request
    metadata = {
        "generator": f"videopoet {__version__}",
        "model": parts.settings.name,
        "task": request.task,
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "camera": request.camera,
        "start": request.start,
        "seed": composition.seed,
        "upscale": request.upscale,
        "decoder": None if decoder.exact else type(decoder).__module__.rpartition(".")[2],
        **composition.facts,
        **asdict(request.sampling),
    }
    metadata = {key: value for key, value in metadata.items() if value is not None}
    return Result(media, metadata, tuple(composition.warnings))
