"""The program itself: one command line in, an exit code out, every error in one line."""

from __future__ import annotations

import errno
import os
import shutil
import sys
import traceback
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from videopoet import __version__
from videopoet.cli.base import app, say
from videopoet.errors import VideoPoetError, is_out_of_memory


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


def run(arguments: list[str]) -> int:
    """Run one command line, without the program's name, and return its exit code.

    0 is success; 2 wrong usage, 3 bad input, 4 the machine (disk, memory), 5 diverged training,
    130 an interrupt, 143 a request to end, 1 a fault of ours.
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
        return exit_code_of(error)


def main() -> None:
    """The `videopoet` program."""
    # Threads that wait shall sleep: beside other work, spinning ones make a clip take three times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    sys.exit(run(sys.argv[1:]))


def exit_code_of(error: BaseException) -> int:
    """Say in one line what went wrong, and return what to exit with."""
    if isinstance(error, VideoPoetError):
        say(f"error: {error}")
        return error.exit_code
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return 130
    if isinstance(error, BrokenPipeError):  # whoever read our output has stopped, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    if isinstance(error, OSError):
        say(f"error: {_explain_os_error(error)}")
        return 4
    if is_out_of_memory(error):
        say("error: out of memory; the work needs more than is free; make it smaller or close other programs")
        return 4
    if hasattr(error, "format_message"):  # how typer, and click below it, say that the usage is wrong
        say(f"error: {_explain_usage_error(error)}")
        return 2
    say(f"error: {type(error).__name__}: {error}; this is a fault of videopoet; report it with what --debug shows")
    return 1


def _explain_usage_error(error: Any) -> str:
    message = error.format_message().strip().rstrip(".")
    if hasattr(error.__cause__, "errors"):  # pydantic's, which knows what was found
        message += f", found {error.__cause__.errors()[0]['input']!r}"
    command = error.ctx.command_path if getattr(error, "ctx", None) else "videopoet"
    return f"{message[:1].lower()}{message[1:]}; see `{command} --help`"


def _explain_os_error(error: OSError) -> str:
    """The machine's words, and what to do: a note that the error brings, or what usually helps."""
    remedies = {
        errno.ENOSPC: "free some space or choose another place",
        errno.EDQUOT: "free some space or choose another place",
        errno.EACCES: "choose a place that you may use",
        errno.EPERM: "choose a place that you may use",
        errno.EROFS: "choose a place that can be written to",
        errno.ENAMETOOLONG: "choose a shorter name",
    }
    what = error.strerror or str(error) or type(error).__name__
    remedy = f"the machine refused it; {remedies.get(error.errno or 0, 'check the path and the machine')}"
    notes = getattr(error, "__notes__", [remedy])
    where = f" ({error.filename!r}{_free_space(error)})" if error.filename else ""
    return f"{what[0].lower()}{what[1:]}{where}; {notes[0]}"


def _free_space(error: OSError) -> str:
    """How much the full disk of a file has left, which may be more than nothing and too little."""
    if error.errno != errno.ENOSPC:
        return ""
    try:
        return f", {shutil.disk_usage(Path(error.filename).absolute().parent).free / 1e6:,.3g} MB free"
    except OSError:
        return ""
