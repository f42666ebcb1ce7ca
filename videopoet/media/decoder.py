"""The child process in which files are decoded: python -m videopoet.media.decoder REQUEST < FILE

Decoders are large programs in C: a broken or hostile file can crash them, hang them or make them allocate without end.
So they run here, in a process with limits on memory, time and output that can open no file and no connection: the file
comes as its standard input, and its name never does. Nothing here imports torch, so that the process starts quickly.
`protocol` says what it reads and writes, `sandbox` is its parent; `forker` makes many such processes.
"""

from __future__ import annotations

import json
import math
import sys
from typing import BinaryIO, TextIO

from videopoet.media.protocol import END, Channel, Limits, Refusal, Request

SPARED = 5
"""Seconds of a processor from the first signal that its time is over to the last."""
LARGEST = 1 / 8
"""Of the memory it may take, how much a decoder asks for at once: a frame of the most pixels, of ten bits in full
colour, is a tenth."""


def main() -> None:
    """Answer the request in the first argument about the file on standard input."""
    answer(Request.from_json(sys.argv[1]), sys.stdin.buffer, sys.stdout.buffer)


def answer(request: Request, file: BinaryIO, pipe: BinaryIO) -> None:
    """Write into the pipe what is asked for of a file, once this process is confined."""
    channel = Channel(pipe, request.limits.output_bytes)
    memory = status_of_memory()
    try:
        if request.picture is not None:
            from videopoet.media.pictures import read
        else:
            from videopoet.media.containers import read
        confine(request.limits)
        facts = read(file, request, channel)
        channel.send(END, json.dumps(facts).encode())
    except Refusal as refusal:
        # FFmpeg says of a frame that it was refused memory for that the data is bad.
        is_short = refusal.code == "media_corrupt" and is_used_up(memory, request.limits)
        channel.refuse(too_much_memory(request.limits) if is_short else refusal)
    except ImportError as error:
        channel.refuse(
            Refusal(
                "library_missing", f"reading it takes the package '{error.name}'; it is not there; install it with pip"
            )
        )
    except MemoryError:
        channel.refuse(too_much_memory(request.limits))
    pipe.flush()


def too_much_memory(limits: Limits) -> Refusal:
    most = limits.memory_bytes / 1e6
    return Refusal(
        "media_too_large",
        f"decoding it takes more than {most:.3g} MB of memory; that is the most it may take; scale it down first",
    )


def status_of_memory() -> TextIO | None:
    """What the system says of this process, where it does; a confined child cannot open it."""
    try:
        return open("/proc/self/status", encoding="ascii", errors="replace")
    except OSError:
        return None


def is_used_up(status: TextIO | None, limits: Limits) -> bool:
    """Whether this process may have been refused memory: once, it had almost as much as it may take."""
    peaks = [line.split()[1] for line in status or () if line.startswith("VmPeak:")]
    return any(1024 * int(peak) > (1 - LARGEST) * limits.memory_bytes for peak in peaks)


def confine(limits: Limits) -> None:
    """Give up what decoding does not need: memory and time without end, writing files, opening anything at all."""
    try:
        import resource
    except ImportError:  # Windows has no such limits; the parent's deadline and byte cap remain.
        return
    wanted = {"RLIMIT_AS": limits.memory_bytes, "RLIMIT_FSIZE": 0, "RLIMIT_CORE": 0, "RLIMIT_NOFILE": 3}
    if math.isfinite(limits.processor_seconds):
        wanted["RLIMIT_CPU"] = math.ceil(limits.processor_seconds)
    for name, value in wanted.items():
        which = getattr(resource, name)
        # At the soft limit of its time a process gets a signal that says so; the one at the hard limit says nothing.
        most = value + SPARED if name == "RLIMIT_CPU" else value
        hard = resource.getrlimit(which)[1]
        if hard != resource.RLIM_INFINITY:
            value, most = min(value, hard), min(most, hard)
        try:
            resource.setrlimit(which, (value, most))
        except (ValueError, OSError):  # macOS refuses some of them.
            continue


if __name__ == "__main__":
    main()
