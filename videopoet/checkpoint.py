"""Files that are whole or absent, and components on disk: `config.json` beside `model.safetensors`, or, as Hugging Face
has it, beside shards of it and an index that names them.

Weights and training state are safetensors and JSON; nothing here reads or writes a pickle.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
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
INDEX = "model.safetensors.index.json"
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([KMG])(I?)B", re.IGNORECASE)
_REFUSED = re.compile(r"\(os error (\d+)\)")
"""How safetensors says what the machine told it."""
_HEADER_BYTES = 256
"""What a header of safetensors takes at most: for each tensor beside its name, and beside the tensors once."""


def write_atomically(path: str | Path, write: Callable[[Path], Any]) -> None:
    """Let `write` fill a temporary file beside `path`, then put it in place; on any error nothing is left.

    Raises:
        OSError: The disk is full or refuses; it names `path`.
    """
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
    except OSError as error:  # a write that fails names no file
        if error.errno is None or error.filename not in (None, name):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
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
    write_atomically(path, lambda file: _write_tensors(whole, file))


def _write_tensors(tensors: dict[str, Tensor], file: Path) -> None:
    try:
        save_file(tensors, file)
    except SafetensorError as error:
        if (refused := _REFUSED.search(str(error))) is None:
            raise
        number, size = int(refused[1]), sum(tensor.nbytes for tensor in tensors.values())
        raise OSError(number, f"{os.strerror(number)} for a file of {size / 1e6:,.3g} MB") from None


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


def weight_files(folder: str | Path) -> list[Path]:
    """The files of a component's weights: `model.safetensors`, or without it the shards that an index names.

    Raises:
        CheckpointError: The index is broken, or a shard that it names is missing.
    """
    folder = Path(folder)
    if (folder / WEIGHTS).is_file() or not (folder / INDEX).is_file():
        return [folder / WEIGHTS]
    try:
        files = [folder / name for name in sorted(set(read_json(folder / INDEX)["weight_map"].values()))]
    except (KeyError, TypeError, AttributeError):
        raise CheckpointError(
            f"'{folder / INDEX}' does not say which file holds which weight; the file is broken; restore it or save "
            "the model again",
            code="checkpoint_corrupt",
        ) from None
    if missing := [file.name for file in files if not file.is_file()]:
        raise CheckpointError(
            f"no {missing[0]} in '{folder}', which holds {len(files) - len(missing)} of the {len(files)} files of its "
            "weights; restore it or save the model again",
            code="checkpoint_missing",
        )
    return files


def read_weights(folder: str | Path) -> dict[str, Tensor]:
    """A component's weights, of one file or of shards.

    Raises:
        CheckpointError: A file is missing or broken.
    """
    return {name: tensor for file in weight_files(folder) for name, tensor in load_tensors(file).items()}


def split_weights(folder: str | Path, max_bytes: int) -> None:
    """Divide the weights of all components in `folder` whose files are larger into shards of at most `max_bytes`.

    Raises:
        ConfigError: One tensor alone is larger.
    """
    for place in sorted({file.parent for file in Path(folder).rglob("model*.safetensors")}):
        before = weight_files(place)
        if all(file.stat().st_size <= max_bytes for file in before):
            continue
        tensors = read_weights(place)
        shards = _shards(tensors, max_bytes)
        files = [place / f"model-{number + 1:05d}-of-{len(shards):05d}.safetensors" for number in range(len(shards))]
        for file, shard in zip(files, shards, strict=True):
            save_tensors(file, shard)
        total = sum(tensor.nbytes for tensor in tensors.values())
        where = {name: file.name for file, shard in zip(files, shards, strict=True) for name in shard}
        write_json(place / INDEX, {"metadata": {"total_size": total}, "weight_map": where})
        for file in {*before} - {*files}:
            file.unlink()


def _shards(tensors: dict[str, Tensor], max_bytes: int) -> list[dict[str, Tensor]]:
    """The tensors in their order, divided so that no file of them is larger."""
    sizes = {name: tensor.nbytes + len(name.encode()) + _HEADER_BYTES for name, tensor in tensors.items()}
    largest = max(sizes, key=lambda name: sizes[name])
    if (least := sizes[largest] + _HEADER_BYTES) > max_bytes:
        raise ConfigError(
            f"'{largest}' takes {least / 1e6:.3g} MB, a file of weights may have {max_bytes / 1e6:.3g} MB; a tensor is "
            f"never cut; allow {math.ceil(least / 1e6)}MB or more",
            code="config_invalid",
        )
    shards, free = [], 0
    for name, tensor in tensors.items():
        if sizes[name] > free:
            shards.append({})
            free = max_bytes - _HEADER_BYTES
        shards[-1][name] = tensor
        free -= sizes[name]
    return shards


def num_bytes(size: int | str) -> int:
    """Bytes of a size, which is their number or text such as "16MB" (millions) or "16MiB" (of 1,024 x 1,024).

    Raises:
        ConfigError: It is no size.
    """
    if isinstance(size, int):
        return size
    if (parts := _SIZE.fullmatch(size)) is None:
        raise ConfigError(
            f"'{size}' is no size; one such as 16MB, 16MiB or 2GB fits; correct it", code="config_invalid"
        )
    number, unit, is_binary = parts.groups()
    return int(float(number) * (1024 if is_binary else 1000) ** (1 + "KMG".index(unit.upper())))


def save_component(folder: str | Path, config: BaseConfig, tensors: dict[str, Tensor]) -> None:
    """Write a component's config and weights into `folder`."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / CONFIG, config.to_dict())
    save_tensors(folder / WEIGHTS, tensors)


def load_component(folder: str | Path, config_class: type[C]) -> tuple[C, dict[str, Tensor]]:
    """Read what `save_component` wrote, its weights divided or not.

    Raises:
        CheckpointError: A file is missing, broken, or its config is not one of `config_class`.
    """
    folder = Path(folder)
    try:
        config = config_class.from_dict(read_json(folder / CONFIG))
    except ConfigError as error:
        raise CheckpointError(f"'{folder / CONFIG}' does not fit: {error}", code="checkpoint_mismatch") from None
    return config, read_weights(folder)


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
