"""Files that are whole or absent, and components on disk: `config.json` beside `model.safetensors`.

Weights and training state are safetensors and JSON; nothing here reads or writes a pickle.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from videopoet.config import BaseConfig
from videopoet.errors import CheckpointError, ConfigError

C = TypeVar("C", bound=BaseConfig)
CONFIG, WEIGHTS, MANIFEST = "config.json", "model.safetensors", "manifest.json"


def write_atomically(path: str | Path, write: Callable[[Path], Any]) -> None:
    """Let `write` fill a temporary file beside `path`, then put it in place; on any error nothing is left."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=f".partial{path.suffix}")
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        _sync(temporary)
        temporary.chmod(0o666 & ~_umask())
        os.replace(temporary, path)
        _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """A folder to fill; it takes the place of `path`, with a manifest of sizes and hashes, once all is on disk."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.partial-"))
    try:
        yield temporary
        files = sorted(file for file in temporary.rglob("*") if file.is_file())
        entries = {
            str(file.relative_to(temporary)): {"bytes": file.stat().st_size, "sha256": sha256(file)} for file in files
        }
        (temporary / MANIFEST).write_text(json.dumps(entries, indent=1))
        for file in [*files, temporary / MANIFEST, temporary]:
            _sync(file)
        temporary.chmod(0o777 & ~_umask())
        if path.exists():
            old = path.with_name(f".{path.name}.old-{os.getpid()}")
            os.replace(path, old)
            os.replace(temporary, path)
            shutil.rmtree(old)
        else:
            os.replace(temporary, path)
        _sync(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def why_invalid(folder: str | Path) -> str | None:
    """Why a folder written by `atomic_folder` cannot be trusted, or None when every file is as it was written."""
    folder = Path(folder)
    try:
        entries = json.loads((folder / MANIFEST).read_text())
        for name, entry in entries.items():
            file = folder / name
            if not file.is_file():
                return f"{name} is missing"
            if file.stat().st_size != entry["bytes"]:
                return f"{name} has {file.stat().st_size} bytes, written were {entry['bytes']}"
            if sha256(file) != entry["sha256"]:
                return f"{name} has changed since it was written"
    except FileNotFoundError:
        return "it has no manifest"
    except (ValueError, TypeError, AttributeError, KeyError):
        return "its manifest is not readable"
    return None


def write_json(path: str | Path, values: Any) -> None:
    """Write JSON atomically."""
    write_atomically(path, lambda file: file.write_text(json.dumps(values, indent=1) + "\n"))


def read_json(path: str | Path) -> Any:
    """Read JSON.

    Raises:
        CheckpointError: The file is missing or not JSON.
    """
    path = Path(path)
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise CheckpointError(
            f"no {path.name} in '{path.parent}'; a model folder holds one; check the path", code="checkpoint_missing"
        ) from None
    except (UnicodeDecodeError, ValueError):
        raise CheckpointError(
            f"'{path}' is not readable JSON; the file is broken; restore it or save the model again",
            code="checkpoint_corrupt",
        ) from None


def save_tensors(path: str | Path, tensors: dict[str, Tensor]) -> None:
    """Write named tensors as safetensors, atomically."""
    whole: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        # Safetensors refuses two names for one memory, as tied weights have; the second gets a copy.
        is_shared = any(tensor.data_ptr() == other.data_ptr() for other in whole.values()) and tensor.numel()
        whole[name] = tensor.clone() if is_shared else tensor
    write_atomically(path, lambda file: save_file(whole, file))


def load_tensors(path: str | Path) -> dict[str, Tensor]:
    """Read named tensors from safetensors.

    Raises:
        CheckpointError: The file is missing or broken.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(
            f"no {path.name} in '{path.parent}'; a model folder holds one; check the path", code="checkpoint_missing"
        )
    try:
        return load_file(path)
    except (SafetensorError, ValueError, OverflowError) as error:
        raise CheckpointError(
            f"'{path}' is not readable safetensors ({str(error).splitlines()[0]}); the file is broken or of another "
            "kind; restore it or save the model again",
            code="checkpoint_corrupt",
        ) from None


def save_component(folder: str | Path, config: BaseConfig, tensors: dict[str, Tensor]) -> None:
    """Write a component's config and weights into `folder`."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / CONFIG, config.to_dict())
    save_tensors(folder / WEIGHTS, tensors)


def load_component(folder: str | Path, config_class: type[C]) -> tuple[C, dict[str, Tensor]]:
    """Read what `save_component` wrote.

    Raises:
        CheckpointError: A file is missing, broken, or its config is not one of `config_class`.
    """
    folder = Path(folder)
    try:
        config = config_class.from_dict(read_json(folder / CONFIG))
    except ConfigError as error:
        raise CheckpointError(f"'{folder / CONFIG}' does not fit: {error}", code="checkpoint_mismatch") from None
    return config, load_tensors(folder / WEIGHTS)


def load_weights(module: torch.nn.Module, tensors: dict[str, Tensor], source: str | Path) -> None:
    """Put tensors into a module, all of them and nothing else, keeping the module's dtypes.

    Raises:
        CheckpointError: A tensor is missing, left over, or of another shape.
    """
    expected = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in tensors.items()}
    wrong = [name for name in sorted(expected.keys() | found.keys()) if expected.get(name) != found.get(name)]
    if wrong:
        name = wrong[0]
        raise CheckpointError(
            f"weights in '{source}' do not fit: '{name}' is {found.get(name, 'absent')}, the model has "
            f"{expected.get(name, 'no such tensor')} ({len(wrong)} differ in all); use the config they were saved with",
            code="checkpoint_mismatch",
        )
    module.load_state_dict(tensors)


def sha256(path: Path) -> str:
    """The hash of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
