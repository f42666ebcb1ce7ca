"""The machine we run on: device, precision, random streams and progress on a terminal."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import hashlib
import os
import platform
import secrets
import sys
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import torch

from videopoet.errors import ConfigError

# Of attention with a mask it builds a plan for each new length, which a decoder has at each token, and some versions
# give gradients that are no numbers (pytorch#196678). What takes its place is nearly as fast.
torch.backends.cuda.enable_cudnn_sdp(False)


def best_device() -> torch.device:
    """A CUDA GPU when there is one, else the CPU.

    Apple's GPUs are taken only where `mps` is asked for: torch's convolutions of clips are not sound on all of them.
    """
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def best_devices() -> list[str]:
    """The names of all CUDA GPUs when there are any, else the CPU's."""
    # What counts GPUs may see some that cannot be used.
    return [f"cuda:{n}" for n in range(torch.cuda.device_count())] if torch.cuda.is_available() else ["cpu"]


def usable_device(name: torch.device | str | None) -> torch.device:
    """The device of that name; the best there is without one.

    Raises:
        ConfigError: There is no such device here.
    """
    if name is None:
        return best_device()
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):  # the latter where torch was built without the device
        raise ConfigError(
            f"device '{name}' cannot be used here; the best there is is {best_device()}; leave the device out or name "
            "another",
            code="device_invalid",
        ) from None
    return device


@cache
def bf16_is_fast(kind: str) -> bool:
    """Whether devices of this kind, `cpu` or `cuda`, compute in bf16 rather than imitate it.

    Processors without AVX-512 (most laptops) take a hundred times as long for a matrix product in bf16 as in fp32, and
    GPUs before Ampere have no bf16 either.
    """
    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if kind == "cpu":
        return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return True


def compute_dtype(device: torch.device | str) -> torch.dtype:
    """What matrix products are computed in on this device: bf16 where that is fast, else fp32."""
    return torch.bfloat16 if bf16_is_fast(torch.device(device).type) else torch.float32


def sent(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor of the CPU on a device; a GPU need not have done what it was given before."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def autocast(device: torch.device | str, enabled: bool = True) -> torch.autocast:
    """bf16 where it is fast and safe: matrix products and convolutions, on devices that have it (`bf16_is_fast`).

    Quantizers, norms' statistics and losses stay fp32.
    """
    kind = torch.device(device).type
    return torch.autocast(kind, dtype=torch.bfloat16, enabled=enabled and bf16_is_fast(kind))


def keep_freed_memory() -> None:
    """Let glibc keep what is freed for the next allocation of this process; elsewhere nothing happens.

    A step on a CPU allocates the same large tensors again and again; asking the system for zeroed pages each time
    costs a language model a tenth of its training speed.
    """
    mmap_max, trim_threshold = -4, -1
    with contextlib.suppress(OSError, AttributeError, TypeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(mmap_max, 0)
        libc.mallopt(trim_threshold, 2**31 - 1)


def generator(*seeds: int | str) -> torch.Generator:
    """A CPU random stream that is a pure function of its seeds, the same on every machine and run."""
    digest = hashlib.sha256(repr(seeds).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") % 2**63)


def drawn_seed() -> int:
    """A seed for those who name none; the one number here that no seed decides."""
    return secrets.randbelow(2**31)


@contextlib.contextmanager
def progress(total: int, description: str, enabled: bool = True) -> Iterator[Callable[..., None]]:
    """A progress bar on a terminal's standard error; anywhere else nothing is printed.

    Yields:
        `advance(steps=1, **figures)`, which moves the bar and shows the figures behind it.
    """
    if not (enabled and sys.stderr.isatty()):
        yield lambda steps=1, **figures: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(description, total=total, figures="")

        def advance(steps: int = 1, **figures: float) -> None:
            bar.update(task, advance=steps, figures="  ".join(f"{name} {value:.4g}" for name, value in figures.items()))

        yield advance


def free_memory() -> None:
    """Give back what nothing holds any more, to the device too."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def num_processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe_machine(device: torch.device | None = None) -> dict[str, Any]:
    """What figures depend on: processor, cores, memory, device (the best where none is named) and versions."""
    device = device or best_device()
    described: dict[str, Any] = {
        "processor": _processor(),
        "cores": num_processors(),
        "threads": torch.get_num_threads(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "device": str(device),
        "precision": "bf16" if bf16_is_fast(device.type) else "fp32",
        "python": platform.python_version(),
        "torch": str(torch.__version__),
    }
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        described |= {"gpu": properties.name, "gpu_memory_gb": round(properties.total_memory / 1e9, 1)}
    return described


def _processor() -> str:
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
