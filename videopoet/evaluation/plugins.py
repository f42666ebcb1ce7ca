"""Metrics that need networks of others: loaded from weights that the user has, pinned by their sha256, or refused.

    --metric fvd=i3d_torchscript.pt@SHA256          a file
    --metric clipsim=openai/clip-vit-base-patch16@SHA256   the id of a hub folder, or a folder

The hash of a folder is over its files' names and contents, .json, .txt and .safetensors; the refusal of a missing hash
says what it is. Only TorchScript and safetensors are read.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from videopoet import registry, runtime
from videopoet.errors import CheckpointError, ConfigError, is_out_of_memory
from videopoet.evaluation.metrics.base import Metric, Weighty

FOLDER = "evaluation.metrics"
_PATTERNS = ("*.json", "*.txt", "*.safetensors")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def names() -> list[str]:
    """The metrics that need weights."""
    return [name for name in registry.names(FOLDER) if issubclass(registry.component(FOLDER, name), Weighty)]


def load(argument: str) -> tuple[str, Metric]:
    """The metric that `NAME=WEIGHTS@SHA256` names, with its network.

    Raises:
        ConfigError: There is no such metric, or no weights are named.
        CheckpointError: The weights are missing, not those of the hash, or not readable.
    """
    name, _, source = argument.partition("=")
    if name not in names():
        raise ConfigError(
            f"'{name}' is no metric that takes weights; those are {', '.join(names())}; the others need none and are "
            "always measured",
            code="metric_unknown",
        )
    kind = registry.component(FOLDER, name)
    assert issubclass(kind, Weighty)
    if not source:
        raise ConfigError(
            f"{name} needs weights, which do not come with videopoet: {kind.what_to_get}; get them and write "
            f"--metric {name}=PATH@SHA256",
            code="weights_missing",
        )
    path, _, expected = source.rpartition("@") if re.search(r"@[0-9a-fA-F]*$", source) else (source, "", "")
    found = _find(path)
    digest = fingerprint(found)
    if digest != expected.lower():
        pinned = f"not {expected}" if expected else "and none is pinned"
        raise CheckpointError(
            f"the sha256 of '{path}' is {digest}, {pinned}; a figure counts only for known weights; compare it with "
            f"where you have them from and write --metric {name}={path}@SHA256",
            code="weights_mismatch",
        )
    return name, kind(found)


def fingerprint(path: Path) -> str:
    """sha256 of a file; of a folder, over the names, sizes and contents of its weights and settings."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    digest = hashlib.sha256()
    for file in sorted({file for pattern in _PATTERNS for file in path.glob(pattern)}):
        digest.update(f"{file.name} {file.stat().st_size}\n".encode())
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()


def torchscript(path: Path) -> Callable[..., Tensor]:
    """A network from a TorchScript file, on the best device.

    Raises:
        CheckpointError: It is none.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # the published files have this format and no other
            network = torch.jit.load(str(path), map_location=runtime.best_device())
    except (RuntimeError, ValueError) as error:
        raise CheckpointError(
            f"'{path}' is no TorchScript network ({str(error).splitlines()[0]}); the metric takes one; export it with "
            "torch.jit",
            code="weights_unreadable",
        ) from None
    return network.eval()


def run(network: Callable[..., Tensor], pixels: Tensor, width: int, **options: Any) -> Tensor:
    """What a network says, (N, D), on the CPU.

    Raises:
        CheckpointError: It does not take what it is given, or answers with another width than the metric's.
    """
    try:
        with torch.no_grad():
            answer = network(pixels.to(runtime.best_device()), **options)
    except (RuntimeError, TypeError) as error:
        if is_out_of_memory(error):
            raise
        raise CheckpointError(
            f"the network does not take {tuple(pixels.shape)} ({str(error).strip().splitlines()[-1]}); it is not the "
            "one that this metric is defined with; get that",
            code="weights_unfit",
        ) from None
    answer = answer.float().cpu().flatten(1)
    if answer.shape[1] != width:
        raise CheckpointError(
            f"the network answers with {answer.shape[1]} numbers, the metric's own with {width}; it is not the one "
            "that this metric is defined with; get that",
            code="weights_unfit",
        )
    return answer


def _find(path: str) -> Path:
    if Path(path).exists():
        return Path(path)
    if not _HUB_ID.fullmatch(path):
        raise CheckpointError(
            f"no weights at '{path}'; a file, a folder or a hub id is wanted; check the path", code="weights_missing"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return Path(snapshot_download(path, allow_patterns=list(_PATTERNS)))
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise CheckpointError(
            f"no weights at '{path}', and they cannot be had from the Hugging Face hub ({str(error).splitlines()[0]}); "
            "check the name and the network",
            code="weights_missing",
        ) from None
