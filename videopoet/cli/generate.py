"""Media from a model: `generate` and `reconstruct`."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from videopoet.cli.base import (
    AsJson,
    Device,
    GuidanceScale,
    Model,
    NegativePrompt,
    Pixels,
    Size,
    Start,
    Temperature,
    TopK,
    TopP,
    app,
    check_folder,
    check_not_input,
    check_output,
    print_json,
    say,
    sides,
    unheard,
    writable,
)
from videopoet.cli.prompt_file import generate_all, kept_seed, read_prompts
from videopoet.errors import ConfigError
from videopoet.registry import component


@app.command()
def generate(
    words: Annotated[str | None, typer.Argument(metavar="PROMPT", help="What to make, in words.")] = None,
    task: Annotated[str, typer.Option(help="One of `videopoet tasks`.")] = "text_to_video",
    prompt: Annotated[str | None, typer.Option(help="The prompt, where it does not come first.")] = None,
    prompt_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Many prompts, one on each line; --output is then a folder of files named <prompt>-<number>.",
        ),
    ] = None,
    negative_prompt: NegativePrompt = None,
    camera: Annotated[str | None, typer.Option(help="How the camera moves, such as 'zoom in'.")] = None,
    image: Annotated[Path | None, typer.Option(help="A picture to start from.")] = None,
    video: Annotated[Path | None, typer.Option(help="A clip to go on from, to edit or to hear.")] = None,
    audio: Annotated[Path | None, typer.Option(help="A sound to see or to go on from.")] = None,
    mask: Annotated[
        str | None,
        typer.Option(
            help="A picture or clip that is white where to paint, or a region: central, half, edge, moving_box ..."
        ),
    ] = None,
    box: Annotated[
        str | None,
        typer.Option(
            metavar="LEFT,TOP,RIGHT,BOTTOM",
            help="Shares up to 1, or pixels: what inpainting replaces, or where outpainting puts the clip.",
        ),
    ] = None,
    depth: Annotated[Path | None, typer.Option(help="How near things are in --video: a picture, clip or .npy.")] = None,
    depth_model: Annotated[str | None, typer.Option(help="Folder or hub id of a model that says so instead.")] = None,
    start: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="Where in --video or --audio to begin; what comes before is left out."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", "--output-path", help="The file to write; its extension chooses the format."),
    ] = None,
    preview: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE_OR_FOLDER",
            help="Show the frames while they are made: a .gif or .png that grows with them, or a folder of pictures.",
        ),
    ] = None,
    model: Model = None,
    device: Device = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same result.")] = None,
    count: Annotated[
        int,
        typer.Option(
            min=1,
            help="So many results, of the seeds from --seed on, and a sheet that shows them all; of a file of prompts, "
            "so many of each.",
        ),
    ] = 1,
    seconds: Annotated[float | None, typer.Option(help="Length.")] = None,
    num_frames: Annotated[int | None, typer.Option(help="Length in frames, instead of --seconds.")] = None,
    size: Size = None,
    height: Pixels = None,
    width: Pixels = None,
    temperature: Temperature = None,
    top_k: TopK = None,
    top_p: TopP = None,
    guidance_scale: GuidanceScale = None,
    decoder: Annotated[
        str | None,
        typer.Option(
            help="autoregressive, speculative (the default) or row_parallel, which is faster and approximate."
        ),
    ] = None,
    upscale: Annotated[int | None, typer.Option(help="2 or 4: so many times the size, by super-resolution.")] = None,
    sound: Annotated[bool, typer.Option(help="Make the sound of a clip too.")] = True,
    metadata: Annotated[bool, typer.Option(help="Keep prompt, seed, model and settings in the file.")] = True,
    as_json: AsJson = False,
) -> None:
    """Make a clip, a picture, a sound or a caption.

    Without --output the file goes to outputs/, and its path is printed; a caption is printed itself.

    With --prompt-file the model is loaded once for all prompts. Results that are in the folder already are left: the
    same command goes on where it was interrupted.

    With --preview the frames are there as soon as they are known, long before the clip with its sound is finished:
    open the .gif in a viewer that notices when a file changes. They are those of the finished clip. What is interrupted
    leaves its preview.
    """
    from videopoet.sequence.tasks import find_task

    if words is not None and prompt is not None:
        raise ConfigError(
            f"the prompt is given twice ('{words}', '{prompt}'); one is taken; leave out --prompt", code="prompt_twice"
        )
    height, width = sides(size, height, width)
    row = find_task(task.replace("-", "_"))
    if not sound and (row.gives != ("video",) or row.hears):
        what = "is about sound itself" if row.hears else f"makes {' and '.join(row.gives)} and no sound"
        raise ConfigError(
            f"--no-sound is given and {row.name} {what}; it goes with tasks that make the sound of a clip after it; "
            "leave it out",
            code="input_unexpected",
        )
    prompts = None if prompt_file is None else _prompts(prompt_file, words or prompt, preview)
    seed = secrets.randbelow(2**31) if seed is None else seed
    suffixes = _suffixes(row)
    named = output is not None
    if prompt_file is not None:
        output = output or Path("outputs") / prompt_file.stem
        check_folder(output)
    else:
        if output is None and row.gives != ("text",):
            output = Path("outputs") / f"{row.name}-{seed}{suffixes[0]}"
        if output is not None:
            check_output(output, suffixes)
    if preview is not None:
        _check_preview(row, preview)
    if prompts is None:
        _check_not_inputs(row, output, preview, count, (image, video, audio, mask, depth))
    given = {
        "prompt": words if prompt is None else prompt,
        "negative_prompt": negative_prompt,
        "camera": camera,
        "image": image,
        "video": video,
        "audio": audio,
        "mask": mask,
        "box": None if box is None else _numbers(box),
        "depth": depth,
        "depth_model": depth_model,
        "start": start,
        "seconds": seconds,
        "num_frames": num_frames,
        "height": height,
        "width": width,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "guidance_scale": guidance_scale,
        "upscale": upscale,
    }
    given = {name: value for name, value in given.items() if value is not None}
    chosen_decoder = None if decoder is None else component("generation.decoders", decoder.replace("-", "_"))

    from videopoet import VideoPoet

    began = time.perf_counter()
    poet = VideoPoet.from_pretrained(model, device=device)
    if chosen_decoder is not None:
        poet.decoder = chosen_decoder()
    if prompts is not None:
        assert output is not None
        given["sound"] = sound
        written = generate_all(poet, row.name, prompts, output, suffixes[0], count, seed, metadata, given)
        if as_json:
            for each in written:
                each["seed"] = kept_seed(each["output"]) if each["seed"] is None else each["seed"]
            print_json({"results": written})
        else:
            print(output)
        return
    if count > 1:
        with _showing(preview, count) as show:
            results = poet.variations(row.name, count=count, seed=seed, sound=sound, progress=True, **show, **given)
        _write_variations(results, output, metadata, as_json)
        return
    with _showing(preview) as show:
        result = poet.generate(row.name, seed=seed, sound=sound, progress=True, **show, **given)
    if output is not None:
        result.save(output, metadata=metadata)
    warnings = [*result.warnings, *unheard(result.media, output)]
    for warning in warnings:
        say(f"warning: {warning}")
    text = result.media if isinstance(result.media, str) else None
    if as_json:
        print_json(
            {
                "task": row.name,
                "seed": seed,
                "output": output and str(output),
                "preview": preview and str(preview),
                "text": text,
                "warnings": warnings,
                "metadata": result.metadata,
                "took_seconds": round(time.perf_counter() - began, 3),
            }
        )
    elif text is not None and output is None:
        print(text)
    elif not named:
        print(output)


@app.command()
def reconstruct(
    video: Annotated[Path, typer.Argument(help="A clip.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Where to write what the tokens kept.")] = None,
    start: Start = None,
    model: Model = None,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Turn a clip into tokens and back, and print what was kept: PSNR, SSIM and bits per pixel."""
    if output is not None:
        check_output(output, writable("video"), inputs=(video,))

    from videopoet import VideoPoet

    seen = VideoPoet.from_pretrained(model, device=device).reconstruct(video, start=start)
    warnings = [*seen.warnings, *unheard(seen.video, output)]
    if output is not None:
        seen.video.save(output)
    for warning in warnings:
        say(f"warning: {warning}")
    if as_json:
        figures = {"psnr": seen.psnr, "ssim": seen.ssim, "bits_per_pixel": seen.bits_per_pixel}
        print_json({**figures, "output": output and str(output), "warnings": warnings})
    else:
        print(f"PSNR {seen.psnr:.2f} dB, SSIM {seen.ssim:.4f}, {seen.bits_per_pixel:.4f} bits per pixel")


def _prompts(path: Path, prompt: str | None, preview: Path | None) -> list[str]:
    """The prompts of a file, beside which neither another nor a preview has a place."""
    for name, other in (("a prompt", prompt), ("--preview", preview)):
        if other is not None:
            raise ConfigError(
                f"--prompt-file '{path}' and {name} ('{other}') are both given; one fits; leave the other out",
                code="prompt_twice",
            )
    return read_prompts(path)


def _check_preview(row: Any, preview: Path) -> None:
    from videopoet.cli.preview import check_preview

    if not {"video", "image"} & set(row.gives):
        raise ConfigError(
            f"{row.name} makes {' and '.join(row.gives)}, which has no frames of its own; a preview shows frames; "
            "leave out --preview",
            code="preview_unfit",
        )
    check_preview(preview)


def _check_not_inputs(
    row: Any, output: Path | None, preview: Path | None, count: int, inputs: tuple[Path | str | None, ...]
) -> None:
    """Refuse to write results, their previews or their sheet over what they are made of."""
    results, previews = [output] if output else [], [preview] if preview else []
    if count > 1:
        from videopoet.cli.preview import numbered
        from videopoet.generation.pipeline import MOST_VARIATIONS

        numbers = range(1, min(count, MOST_VARIATIONS) + 1)
        previews = [numbered(path, number) for path in previews for number in numbers]
        sheets = [_sheet(path) for path in results if row.gives != ("text",)]
        results = [_variation(path, number) for path in results for number in numbers] + sheets
    for path in results:
        check_not_input(path, inputs)
    for path in previews:
        check_not_input(path, inputs, "preview")


@contextlib.contextmanager
def _showing(path: Path | None, count: int | None = None) -> Iterator[dict[str, Any]]:
    """What to ask of a poet beside the rest, for the frames of a result, or of `count`, to be shown as they come."""
    if path is None:
        yield {}
        return
    from videopoet.cli.preview import Preview, numbered

    previews = [Preview(path)] if count is None else [Preview(numbered(path, number + 1)) for number in range(count)]
    try:
        if count is None:
            yield {"on_frames": previews[0].show}
        else:
            yield {"on_frames": lambda number, frames: previews[number].show(frames)}
    finally:
        for preview in previews:
            preview.finish()


def _write_variations(results: list[Any], output: Path | None, metadata: bool, as_json: bool) -> None:
    """Write each result to a file with its number, and all to one sheet; captions without an output are printed."""
    from videopoet.media.contact_sheet import contact_sheet
    from videopoet.media.types import Image, Video

    written, warnings = [], dict[str, None]()  # each once, in order
    for number, result in enumerate(results, start=1):
        file = output and _variation(output, number)
        if file is not None:
            result.save(file, metadata=metadata)
        warnings |= dict.fromkeys([*result.warnings, *unheard(result.media, file)])
        text = result.media if isinstance(result.media, str) else None
        written.append({"output": file and str(file), "seed": result.seed, "text": text, "metadata": result.metadata})
    for warning in warnings:
        say(f"warning: {warning}")
    sheet = None
    seen = [result.media for result in results if isinstance(result.media, Video | Image)]
    if output is not None and seen:
        sheet = _sheet(output)
        contact_sheet(seen).save(sheet)
    if as_json:
        print_json({"results": written, "sheet": sheet and str(sheet)})
        return
    for each in written:
        print(each["text"] if each["output"] is None else each["output"])
    if sheet is not None:
        print(sheet)


def _variation(output: Path, number: int) -> Path:
    return output.with_stem(f"{output.stem}-{number}")


def _sheet(output: Path) -> Path:
    return output.with_name(f"{output.stem}-sheet.png")


def _suffixes(task: Any) -> tuple[str, ...]:
    """The extensions that fit what a task gives; a sound made for a clip can be written with that clip."""
    kind = task.gives[0]
    with_clip = writable("video")[:1] if kind == "audio" and "video" in task.takes else ()
    return with_clip + writable(kind)


def _numbers(text: str) -> tuple[float, ...]:
    """The numbers of a flag such as 0.25,0.25,0.75,0.75; how many there must be, the request says."""
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError:
        raise ConfigError(
            f"--box is '{text}'; four numbers with commas between them fit, such as 0.25,0.25,0.75,0.75; correct it",
            code="box_invalid",
        ) from None
