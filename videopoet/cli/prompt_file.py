"""Many prompts in one go: a file of them becomes a folder of results, named as benchmarks such as VBench expect."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from videopoet.cli.base import say
from videopoet.errors import ConfigError, MediaError

if TYPE_CHECKING:
    from videopoet import VideoPoet

LONGEST_NAME = 180
"""Bytes of a prompt that a file is named by."""


def read_prompts(path: Path) -> list[str]:
    """The prompts in a file, one on each line, each once.

    Raises:
        ConfigError: The file is missing or no text, has no prompt, or two that would share a file.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, IsADirectoryError, UnicodeDecodeError):
        raise ConfigError(
            f"--prompt-file '{path}' is missing or no text; one prompt on each line fits; correct the path",
            code="prompt_file_invalid",
        ) from None
    prompts = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not prompts:
        raise ConfigError(
            f"--prompt-file '{path}' has no prompt; one on each line fits; write some", code="prompt_file_invalid"
        )
    known: dict[str, str] = {}
    for prompt in prompts:
        other = known.setdefault(_stem(prompt).casefold(), prompt)
        if other != prompt:
            raise ConfigError(
                f"two prompts of '{path}' would share a file: '{other}' and '{prompt}'; names are the first "
                f"{LONGEST_NAME} bytes, '/' as '_'; change one",
                code="prompt_file_invalid",
            )
    return prompts


def generate_all(
    poet: VideoPoet,
    task: str,
    prompts: list[str],
    folder: Path,
    suffix: str,
    count: int,
    seed: int,
    metadata: bool,
    given: dict[str, Any],
) -> list[dict[str, Any]]:
    """Write `count` results of each prompt, of the seeds from `seed` on, as `<prompt>-<number from 0>` in a folder.

    What is there already is left, so that the same command goes on where it was interrupted. Its seed is None in what
    is returned, as only the file can say it; see `kept_seed`.
    """
    from videopoet.generation.filling import MOST_ROWS
    from videopoet.generation.request import Request

    written = [
        {"output": str(folder / f"{_stem(prompt)}-{number}{suffix}"), "prompt": prompt, "seed": seed + number}
        for prompt in prompts
        for number in range(count)
    ]
    missing, kept = [], []
    for each in written:
        (kept if Path(each["output"]).exists() else missing).append(each)
    if kept:
        say(f"{len(kept)} of {len(written)} files are there already, and are left as they are")
    for each in kept:
        each["seed"] = None
    requests = [Request(task=task, prompt=each["prompt"], seed=each["seed"], **given) for each in missing]
    warnings: set[str] = set()
    for first in range(0, len(missing), MOST_ROWS):
        some = slice(first, first + MOST_ROWS)
        for each, result in zip(missing[some], poet.generate_batch(requests[some]), strict=True):
            result.save(each["output"], metadata=metadata)
            for warning in sorted({*result.warnings} - warnings):
                say(f"warning: {warning}")
            warnings.update(result.warnings)
    return written


def kept_seed(path: str | Path) -> int | None:
    """The seed that an earlier call made a file with, if the file says so."""
    from videopoet.media.files import probe

    try:
        seed = probe(path).metadata.get("seed")
    except MediaError:
        return None
    return seed if isinstance(seed, int) else None


def _stem(prompt: str) -> str:
    name = "".join(character if character.isprintable() and character not in "/\\" else "_" for character in prompt)
    return name.encode()[:LONGEST_NAME].decode(errors="ignore")
