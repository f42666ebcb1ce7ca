"""The command line. It parses, calls, prints and turns every error into one line; the work is done elsewhere.

Torch and everything that needs it are imported by the command that runs, so that help and mistakes answer at once.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import sys
import time
import traceback
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from videopoet import __version__
from videopoet.errors import ConfigError, VideoPoetError

app = typer.Typer(
    name="videopoet",
    help="Make and edit video with sound by a language model.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "token_normalize_func": lambda token: token.replace("_", "-"),  # --top_k is --top-k
    },
)

Model = Annotated[
    str | None, typer.Option("--model", "-m", help="Folder or hub id of a model; without it, the one that ships.")
]
Device = Annotated[str | None, typer.Option(help="Where to compute, such as cpu; without it, the best there is.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"videopoet {__version__}")
        raise typer.Exit


@app.callback()
def _everywhere(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Options of every command; `run` takes `--debug` out before they are parsed."""


@app.command()
def tasks(as_json: AsJson = False) -> None:
    """List every task: what it takes, what it gives."""
    from videopoet.sequence.tasks import TASKS

    if as_json:
        described = [
            {
                "name": task.name,
                "description": task.description,
                "requires": task.requires,
                "optional": task.optional,
                "gives": task.gives,
            }
            for task in TASKS.values()
        ]
        _print_json(described)
        return
    rows = [("TASK", "TAKES [OPTIONAL]", "GIVES", "")]
    for task in TASKS.values():
        takes = [*task.requires, *(f"[{name}]" for name in task.optional)]
        rows.append((task.name, " ".join(takes) or "nothing", " ".join(task.gives), task.description))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        print("  ".join([*(cell.ljust(width) for cell, width in zip(row[:3], widths, strict=True)), row[3]]).rstrip())


@app.command()
def generate(
    words: Annotated[str | None, typer.Argument(metavar="PROMPT", help="What to make, in words.")] = None,
    task: Annotated[str, typer.Option(help="One of `videopoet tasks`.")] = "text_to_video",
    prompt: Annotated[str | None, typer.Option(help="The prompt, where it does not come first.")] = None,
    negative_prompt: Annotated[str | None, typer.Option(help="What to stay away from.")] = None,
    image: Annotated[Path | None, typer.Option(help="A picture to start from.")] = None,
    video: Annotated[Path | None, typer.Option(help="A clip to go on from, to edit or to hear.")] = None,
    audio: Annotated[Path | None, typer.Option(help="A sound to see or to go on from.")] = None,
    mask: Annotated[str | None, typer.Option(help="The region to fill or to keep, such as central.")] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", "--output-path", help="The file to write; its extension chooses the format."),
    ] = None,
    model: Model = None,
    device: Device = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same result.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Length.")] = None,
    num_frames: Annotated[int | None, typer.Option(help="Length in frames, instead of --seconds.")] = None,
    height: Annotated[int | None, typer.Option(help="Pixels.")] = None,
    width: Annotated[int | None, typer.Option(help="Pixels.")] = None,
    temperature: Annotated[float | None, typer.Option(help="Below 1 is safer, above 1 is wilder.")] = None,
    top_k: Annotated[int | None, typer.Option(help="Choose among so many likeliest tokens.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Choose among the likeliest tokens of this probability.")] = None,
    guidance_scale: Annotated[
        float | None, typer.Option("--guidance-scale", "--cfg-scale", help="How closely to follow the words; 1 is off.")
    ] = None,
    sound: Annotated[bool, typer.Option(help="Make the sound of a clip too.")] = True,
    metadata: Annotated[bool, typer.Option(help="Keep prompt, seed, model and settings in the file.")] = True,
    as_json: AsJson = False,
) -> None:
    """Make a clip, a picture, a sound or a caption.

    Without --output the file goes to outputs/, and its path is printed; a caption is printed itself.
    """
    from videopoet.sequence.tasks import find_task

    if words is not None and prompt is not None:
        raise ConfigError(
            f"the prompt is given twice ('{words}', '{prompt}'); one is taken; leave out --prompt", code="prompt_twice"
        )
    row = find_task(task.replace("-", "_"))
    seed = secrets.randbelow(2**31) if seed is None else seed
    suffixes = _suffixes(row)
    named = output is not None
    if output is None and row.gives != ("text",):
        output = Path("outputs") / f"{row.name}-{seed}{suffixes[0]}"
    if output is not None:
        _check_output(output, suffixes)
    given = {
        "prompt": words if prompt is None else prompt,
        "negative_prompt": negative_prompt,
        "image": image,
        "video": video,
        "audio": audio,
        "mask": mask,
        "seconds": seconds,
        "num_frames": num_frames,
        "height": height,
        "width": width,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "guidance_scale": guidance_scale,
    }
    given = {name: value for name, value in given.items() if value is not None}

    from videopoet import VideoPoet

    began = time.perf_counter()
    poet = VideoPoet.from_pretrained(model, device=device)
    result = poet.generate(row.name, seed=seed, sound=sound, progress=True, **given)
    if output is not None:
        result.save(output, metadata=metadata)
    for warning in result.warnings:
        _say(f"warning: {warning}")
    text = result.media if isinstance(result.media, str) else None
    if as_json:
        _print_json(
            {
                "task": row.name,
                "seed": seed,
                "output": output and str(output),
                "text": text,
                "warnings": result.warnings,
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
    model: Model = None,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Turn a clip into tokens and back, and print what was kept: PSNR, SSIM and bits per pixel."""
    if output is not None:
        _check_output(output, _writable("video"))

    from videopoet import VideoPoet

    seen = VideoPoet.from_pretrained(model, device=device).reconstruct(video)
    if output is not None:
        seen.video.save(output)
    if as_json:
        figures = {"psnr": seen.psnr, "ssim": seen.ssim, "bits_per_pixel": seen.bits_per_pixel}
        _print_json({**figures, "output": output and str(output)})
    else:
        print(f"PSNR {seen.psnr:.2f} dB, SSIM {seen.ssim:.4f}, {seen.bits_per_pixel:.4f} bits per pixel")


@app.command()
def train(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the run.")],
    preset: Annotated[str, typer.Option(help="The settings to start from.")] = "tiny",
    data: Annotated[str | None, typer.Option(help="`toybox`; without it, what the preset says.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting: a.b=c; repeatable.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint in the folder.")] = False,
    stages: Annotated[
        str | None, typer.Option(metavar="NAME,NAME", help="Only these stages, such as video_tokenizer.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and print the settings, and stop.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train the tokenizers and the model of a preset on clips."""
    _check_folder(output)

    from videopoet import presets
    from videopoet.config import override

    assignments = [*(settings or []), *([f"data={data}"] if data is not None else [])]
    config = override(presets.preset(preset), assignments)
    if dry_run:
        _print_tree(config.to_dict(), as_json)
        return

    from videopoet.training import run

    poet = run.train(config, output, resume=resume, stages=run.stage_names(stages))
    if as_json:
        _print_json({"poet": str(poet), "figures": run.last_figures(output)})
    elif poet.exists():
        print(poet)


@app.command()
def info(
    model: Annotated[str | None, typer.Argument(metavar="FOLDER", help="A model; else the one that ships.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say what a model consists of and what this machine can do."""
    from videopoet import VideoPoet, runtime

    described = VideoPoet.from_pretrained(model).describe()
    _print_tree({"videopoet": __version__, "model": described, "machine": runtime.describe_machine()}, as_json)


@app.command()
def toybox(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the clips.")],
    count: Annotated[int, typer.Option(min=1, help="How many clips.")] = 16,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first; the next follow.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Write clips of the synthetic world, each with its caption beside it."""
    _check_folder(output)

    from videopoet import runtime
    from videopoet.data.toybox import ToyBox
    from videopoet.media.types import Audio, Video

    world = ToyBox()
    written = []
    with runtime.progress(count, "toy box") as advance:
        for number in range(seed, seed + count):
            clips = world.render([world.scene(number)])
            sound = None if clips.audio is None else Audio(clips.audio[0], clips.sample_rate)
            clip = Video.from_pixels(clips.video[0], clips.frame_rate, sound)
            file, caption = output / f"{number:06d}.mp4", clips.captions[0]
            clip.save(file)
            file.with_suffix(".txt").write_text(caption + "\n", encoding="utf-8")
            written.append({"video": str(file), "caption": caption})
            advance()
    if as_json:
        _print_json(written)


def _writable(kind: str) -> tuple[str, ...]:
    """The extensions that a kind of output can be written with, the usual one first."""
    from videopoet.media import files, types

    writers = {"video": types.Video, "image": types.Image, "audio": types.Audio}
    return tuple(files.WRITERS[writers[kind]]) if kind in writers else (".txt",)


def _suffixes(task: Any) -> tuple[str, ...]:
    """The extensions that fit what a task gives; a sound made for a clip can be written with that clip."""
    kind = task.gives[0]
    with_clip = _writable("video")[:1] if kind == "audio" and "video" in task.takes else ()
    return with_clip + _writable(kind)


def _check_output(path: Path, suffixes: tuple[str, ...]) -> None:
    """Refuse an output that could not be written, before any work is done for it."""
    if path.is_dir():
        raise ConfigError(f"output '{path}' is a folder; a file is wanted; add a name", code="output_is_folder")
    if path.suffix.lower() not in suffixes:
        raise ConfigError(
            f"output '{path}' ends in '{path.suffix}'; {' and '.join(suffixes)} fit; change the extension",
            code="output_extension",
        )
    _check_folder(path.parent)


def _check_folder(path: Path) -> None:
    """Refuse a folder that could not be made or written to."""
    place = next(place for place in (path, *path.absolute().parents) if place.exists())
    if not place.is_dir():
        raise ConfigError(
            f"output folder '{path}' cannot be made; '{place}' is a file; choose another", code="output_not_folder"
        )
    if not os.access(place, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(place))


def _print_json(value: Any) -> None:
    print(json.dumps(value))


def _print_tree(value: dict[str, Any], as_json: bool) -> None:
    if as_json:
        _print_json(value)
        return
    import yaml

    print(yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=120), end="")


def _say(line: str) -> None:
    """One line on standard error, whatever is in it; a prompt or a file name cannot command the terminal."""
    printable = "".join(character if character.isprintable() else " " for character in line)
    print(f"videopoet: {' '.join(printable.split())}", file=sys.stderr)


def _exit_code_of(error: BaseException) -> int:
    """Say in one line what went wrong, and return what to exit with."""
    if isinstance(error, VideoPoetError):
        _say(f"error: {error}")
        return error.exit_code
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return 130
    if isinstance(error, BrokenPipeError):  # whoever read our output has stopped, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    if isinstance(error, OSError):
        _say(f"error: {_explain_os_error(error)}")
        return 4
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "allocate" in str(error)):  # torch's
        _say("error: out of memory; the work needs more than is free; make it smaller or close other programs")
        return 4
    if hasattr(error, "format_message"):  # how typer, and click below it, say that the usage is wrong
        _say(f"error: {_explain_usage_error(error)}")
        return 2
    _say(f"error: {type(error).__name__}: {error}; this is a fault of videopoet; report it with what --debug shows")
    return 1


def _explain_usage_error(error: Any) -> str:
    message = error.format_message().strip().rstrip(".")
    if hasattr(error.__cause__, "errors"):  # pydantic's, which knows what was found
        message += f", found {error.__cause__.errors()[0]['input']!r}"
    command = error.ctx.command_path if getattr(error, "ctx", None) else "videopoet"
    return f"{message[:1].lower()}{message[1:]}; see `{command} --help`"


def _explain_os_error(error: OSError) -> str:
    remedies = {
        errno.ENOSPC: "free some space or choose another place",
        errno.EDQUOT: "free some space or choose another place",
        errno.EACCES: "choose a place that you may use",
        errno.EPERM: "choose a place that you may use",
        errno.EROFS: "choose a place that can be written to",
        errno.ENAMETOOLONG: "choose a shorter name",
    }
    what = (error.strerror or str(error) or type(error).__name__).lower()
    remedy = remedies.get(error.errno or 0, "check the path and the machine")
    return f"{what}{f' ({error.filename!r})' if error.filename else ''}; the machine refused it; {remedy}"


def run(arguments: list[str]) -> int:
    """Run one command line, without the program's name, and return its exit code.

    0 is success; 2 wrong usage, 3 bad input, 4 the machine (disk, memory), 130 an interrupt, 1 a fault of ours.
    """
    words = arguments[: arguments.index("--")] if "--" in arguments else arguments
    debug = "--debug" in words
    if debug:
        arguments = [word for word in words if word != "--debug"] + arguments[len(words) :]
    else:
        warnings.simplefilter("ignore")
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        code = typer.main.get_command(app)(arguments or ["--help"], prog_name="videopoet", standalone_mode=False)
        sys.stdout.flush()
        return code or 0
    except (Exception, KeyboardInterrupt) as error:
        if debug:
            traceback.print_exc()
        return _exit_code_of(error)


def main() -> None:
    """The `videopoet` program."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
