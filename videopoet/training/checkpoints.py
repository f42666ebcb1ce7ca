"""Checkpoints of a run: `checkpoint-NNNNNNN` folders that are whole or absent, and intact or passed over.

What every process has in whole is a safetensors file, `model.safetensors`; what is divided among processes is a folder,
`model/`, with a safetensors file from each (`torch.distributed.checkpoint`). Either is read by any number of processes,
divided or not. Nothing is a pickle.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from videopoet import checkpoint, ranks
from videopoet.errors import CheckpointError
from videopoet.training import sharding

STATE = "state.json"
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""Safetensors' names of what a checkpoint may hold."""


def save(folder: Path, step: int, parts: dict[str, dict[str, Tensor]], state: dict[str, Any], keep: int) -> None:
    """Write the checkpoint of `step`, which all processes do together, and remove all but the newest `keep`."""
    with _shared_folder(folder / f"checkpoint-{step:07d}") as target:
        for name, tensors in parts.items():
            divided = {key: tensor for key, tensor in tensors.items() if isinstance(tensor, DTensor)}
            if divided:
                from torch.distributed import checkpoint as distributed_checkpoint
                from torch.distributed.checkpoint import HuggingFaceStorageWriter

                writer = HuggingFaceStorageWriter(str(target / name), save_distributed=True)
                distributed_checkpoint.save(
                    {key: tensor.detach() for key, tensor in divided.items()}, storage_writer=writer
                )
            if ranks.rank() == 0:
                whole = {key: tensor for key, tensor in tensors.items() if key not in divided}
                if whole or not divided:
                    checkpoint.save_tensors(target / f"{name}.safetensors", whole)
        if ranks.rank() == 0:
            checkpoint.write_json(target / STATE, {"step": step, **state})
    if ranks.rank() == 0:
        for old in sorted(folder.glob("checkpoint-*"))[:-keep]:
            shutil.rmtree(old)


def newest(folder: Path) -> Path | None:
    """The newest intact checkpoint, the same on every process; None when the folder holds none at all.

    What was passed over, and why, is logged.

    Raises:
        CheckpointError: There are some, and every one is broken.
    """
    found, skipped = ranks.as_first_rank(_search(folder) if ranks.rank() == 0 else (None, []))
    if found is None and skipped:
        raise CheckpointError(
            f"no intact checkpoint in '{folder}' ({'; '.join(skipped)}); none can be resumed; start again elsewhere",
            code="checkpoint_corrupt",
        )
    if skipped and ranks.rank() == 0:
        logging.getLogger(__name__).warning("passed over in '%s': %s", folder, "; ".join(skipped))
    return None if found is None else Path(found)


def last_step(folder: Path) -> int | None:
    """The step of the newest intact checkpoint, None if there is none; any process may ask by itself."""
    found, _ = _search(folder)
    return None if found is None else checkpoint.read_json(Path(found) / STATE)["step"]


def clear_remains(folder: Path) -> None:
    """Remove what a run that was killed while writing has left; only the first process does."""
    if ranks.rank() == 0:
        for remains in folder.glob(".checkpoint-*"):
            shutil.rmtree(remains)


def described(source: Path, name: str) -> dict[str, Tensor]:
    """The tensors of one part as they are when whole, by name, without values (on torch's `meta` device)."""
    found = {}
    file = source / f"{name}.safetensors"
    if file.is_file():
        with safe_open(file, framework="pt") as tensors:
            for key in tensors.keys():
                entry = tensors.get_slice(key)
                found[key] = torch.empty(entry.get_shape(), dtype=DTYPES[entry.get_dtype()], device="meta")
    if (source / name).is_dir():
        from torch.distributed.checkpoint import HuggingFaceStorageReader

        entries: dict[str, Any] = HuggingFaceStorageReader(str(source / name)).read_metadata().state_dict_metadata
        for key, entry in entries.items():
            found[key] = torch.empty(entry.size, dtype=entry.properties.dtype, device="meta")
    return found


def read(source: Path, name: str, targets: dict[str, Tensor]) -> None:
    """Fill tensors, divided or not, with those of the same names; all processes do it together.

    Raises:
        CheckpointError: One is missing or of another shape.
    """
    found = {key: tuple(tensor.shape) for key, tensor in described(source, name).items()}
    for key, target in targets.items():
        if found.get(key) != tuple(target.shape):
            raise CheckpointError(
                f"{name} in '{source}' does not fit: '{key}' is {found.get(key, 'absent')}, needed is "
                f"{tuple(target.shape)}; resume with the config that the run was begun with",
                code="checkpoint_mismatch",
            )
    left = dict(targets)
    file = source / f"{name}.safetensors"
    if file.is_file():
        with safe_open(file, framework="pt") as tensors, torch.no_grad():
            for key in left.keys() & set(tensors.keys()):
                own = sharding.local(left[key])
                if isinstance(left.pop(key), DTensor):
                    first = sharding.first_row(targets[key])
                    own.copy_(tensors.get_slice(key)[first : first + len(own)])
                else:
                    own.copy_(tensors.get_tensor(key))
    if left:
        from torch.distributed import checkpoint as distributed_checkpoint
        from torch.distributed.checkpoint import HuggingFaceStorageReader

        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="torch.distributed is disabled")
            distributed_checkpoint.load(
                left,  # pyright: ignore[reportArgumentType]
                storage_reader=HuggingFaceStorageReader(str(source / name)),
                no_dist=ranks.count() == 1,
            )


def of_module(module: nn.Module) -> dict[str, Tensor]:
    """A module's tensors as they are kept: divided ones once, however many names they have."""
    named = module.state_dict(keep_vars=True)
    if not sharding.is_divided(module):
        return {name: tensor.detach() for name, tensor in named.items()}
    once = {id(tensor): name for name, tensor in reversed(named.items())}
    return {name: tensor.detach() for name, tensor in named.items() if once[id(tensor)] == name}


def into_module(module: nn.Module, source: Path, name: str) -> None:
    """Put a part's tensors into a module, all of them and nothing else.

    Raises:
        CheckpointError: A tensor is missing, left over, or of another shape.
    """
    named = module.state_dict(keep_vars=True)
    first = {id(tensor): key for key, tensor in reversed(named.items())}
    read(source, name, {key: tensor.detach() for key, tensor in named.items() if first[id(tensor)] == key})
    if extra := sorted(described(source, name).keys() - named.keys()):
        raise CheckpointError(
            f"{name} in '{source}' does not fit: '{extra[0]}' is in no part of this model ({len(extra)} such tensors); "
            "resume with the config that the run was begun with",
            code="checkpoint_mismatch",
        )


@contextlib.contextmanager
def _shared_folder(path: Path) -> Iterator[Path]:
    """A folder that all processes fill; it takes the place of `path` when the last one is done."""
    if ranks.rank():
        target = Path(ranks.as_first_rank(""))
        ranks.wait()
        yield target
        ranks.wait()
        return
    with checkpoint.atomic_folder(path) as target:
        ranks.as_first_rank(str(target))
        ranks.wait()
        yield target
        ranks.wait()


def _search(folder: Path) -> tuple[str | None, list[str]]:
    """The newest intact checkpoint, and why newer ones were passed over."""
    skipped = []
    for source in sorted(folder.glob("checkpoint-*"), reverse=True):
        reason = checkpoint.why_invalid(source)
        if reason is None and not (source / STATE).is_file():
            reason = f"it has no {STATE}"
        if reason is None:
            return str(source), skipped
        skipped.append(f"{source.name}: {reason}")
    return None, skipped
