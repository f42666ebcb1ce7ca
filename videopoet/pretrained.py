"""Folders that `transformers` writes and reads, of this machine or of the Hugging Face hub.

Weights are read from safetensors only, and no model brings code of its own. `transformers` raises whatever it met in a
broken folder; here it is one sentence.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from videopoet.checkpoint import read_json, weight_files
from videopoet.errors import CheckpointError

FILES = ("*.json", "*.safetensors")
"""Patterns of the files that a folder of ours, or of a published network with a fast tokenizer, consists of."""
MODEL_FILES = (*FILES, "*.jinja", "*.model", "*.txt")
"""Patterns of those of any published network, with what prepares its inputs."""
OTHER_FORMATS = ("original/*", "consolidated*", "onnx/*")
"""Patterns of those among them that hold the same weights once more."""


def from_hub(name: str, files: tuple[str, ...] = FILES, but: tuple[str, ...] = ()) -> Path:
    """The folder that holds a hub repository's files, fetched where they are not there yet.

    Args:
        name: Such as `owner/name`.
        files: Patterns of the files that are wanted.
        but: Patterns of those among them that are not.

    Raises:
        CheckpointError: It cannot be had.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=list(files), ignore_patterns=list(but)))
    except Exception as error:  # among them those of the HTTP library, which that of the hub does not name
        raise CheckpointError(
            f"no folder '{name}', and it cannot be had from the Hugging Face hub ({_first_line(error)}); "
            "check the name and the network",
            code="checkpoint_missing",
        ) from None


def model_folder(source: str | Path) -> Path:
    """The folder of a network with what prepares its inputs: `source` itself, or what the hub has by that name.

    The hub is asked once. `transformers` would ask it for file after file, and repeat each question for half a minute
    where there is no network.

    Raises:
        CheckpointError: It is no folder, and cannot be had from the hub.
    """
    return Path(source) if Path(source).is_dir() else from_hub(str(source), MODEL_FILES, OTHER_FORMATS)


def check_safetensors(folder: Path, source: str | Path | None = None) -> None:
    """Refuse a folder without safetensors; `source` is what it was asked for by, where that is not its path.

    Raises:
        CheckpointError: There are none.
    """
    if not any(folder.glob("*.safetensors")):
        raise CheckpointError(
            f"'{source or folder}' holds no safetensors; weights in other formats can run code and are not read; save "
            "it again with transformers, which writes safetensors, or choose one that has them",
            code="checkpoint_missing",
        )


def check_no_code(folder: Path, source: str | Path | None = None) -> None:
    """Refuse a language model that wants code to be run which its folder names; `source` as for `check_safetensors`.

    Raises:
        CheckpointError: It does.
    """
    if "auto_map" in read_json(folder / "config.json"):
        raise CheckpointError(
            f"the language model in '{source or folder}' asks to run code of its own (auto_map in config.json); only "
            "models that transformers knows are loaded; use one of these",
            code="checkpoint_mismatch",
        )


@contextmanager
def loading(what: str, folder: str | Path, remedy: str) -> Iterator[None]:
    """Within it, whatever fails is said to be the fault of the folder that is read.

    Args:
        what: Such as "the tokenizer".
        folder: Where it is.
        remedy: What is wrong then, and what to do about it.

    Raises:
        CheckpointError: Something failed.
    """
    try:
        yield
    except Exception as error:  # transformers has no error of its own for a broken folder
        raise CheckpointError(
            f"{what} in '{folder}' cannot be loaded ({_first_line(error)}); {remedy}", code="checkpoint_corrupt"
        ) from None


def load_network(
    network_class: Any,
    folder: Path,
    what: str,
    broken: str = "the folder is broken; fetch or save it again",
    unfit: str = "use the config they were saved with",
    exactly: bool = False,
    **options: Any,
) -> Any:
    """A network of `transformers`, with every weight that its config asks for.

    Args:
        network_class: Its class, or an `Auto` one.
        folder: Where it is.
        what: Such as "the tokenizer".
        broken: What to say, and to do, when it cannot be read.
        unfit: The same when its weights are not those of its config.
        exactly: Whether weights that nothing takes are refused too.
        options: For `from_pretrained`, such as `dtype`.

    Raises:
        CheckpointError: It cannot be read, or its weights do not fit its config.
    """
    from transformers.utils import logging

    weight_files(folder)  # which names a shard that is missing; transformers would take it for a name on the hub
    logging.disable_progress_bar()
    with loading(what, folder, broken):
        network, report = network_class.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # they are reported, and refused below
            output_loading_info=True,
            **options,
        )
    kinds = ("missing_keys", "mismatched_keys", *(("unexpected_keys",) if exactly else ()))
    if wrong := sorted(str(name) for kind in kinds for name in report[kind]):  # transformers would draw fresh ones
        raise CheckpointError(
            f"weights in '{folder}' do not fit its config: {wrong[0]} ({len(wrong)} in all); {unfit}",
            code="checkpoint_mismatch",
        )
    return network


def save_network(network: Any, folder: Path) -> None:
    """Write the Hugging Face folder of a network of `transformers`."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    network.save_pretrained(folder)
    for file in folder.glob("*.safetensors"):
        file.chmod((folder / "config.json").stat().st_mode)  # transformers lets only the owner read them


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
