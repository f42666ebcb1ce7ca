"""A poet's parts, and the folder that holds them.

videopoet.json        format version, the parts' names, the vocabulary, what is made by default
language_model/       a Hugging Face folder with the text tokenizer in it, and token_embedding/; text_encoder/ where
                      features of a frozen one stand for prompts, and draft_head/ where there is one
video_tokenizer/      config.json, model.safetensors
audio_tokenizer/      config.json, model.safetensors
super_resolution/     config.json, model.safetensors; only where there is one

In place of any model.safetensors there may be shards, model-00001-of-00002.safetensors and so on, with their index.
"""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from videopoet import checkpoint, pretrained, runtime
from videopoet.config import BaseConfig
from videopoet.errors import CheckpointError, ConfigError
from videopoet.generation.request import Settings
from videopoet.models.language_model import LanguageModel
from videopoet.models.super_resolution import SuperResolution
from videopoet.registry import component
from videopoet.sequence import vocabulary as vocabularies
from videopoet.sequence.vocabulary import Vocabulary
from videopoet.text_encoders.base import TextEncoder
from videopoet.tokenizers.base import AudioTokenizer, VideoTokenizer

BUNDLED = Path(__file__).parents[1] / "bundled"
"""The poet that ships inside the package."""
CONTENTS = "videopoet.json"
FORMAT = 1
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


class Contents(BaseConfig):
    """What `videopoet.json` says."""

    format: int = FORMAT
    """Grows when an older version of the code could no longer read the folder."""
    video_tokenizer: str
    """Names are those of files in `tokenizers/` and `text_encoders/`."""
    audio_tokenizer: str
    text_encoder: str
    vocabulary: vocabularies.Config
    settings: Settings


@dataclass(frozen=True, eq=False)
class Parts:
    """What a poet consists of.

    Raises:
        CheckpointError: The vocabulary was made for other parts than these.
    """

    video_tokenizer: VideoTokenizer
    audio_tokenizer: AudioTokenizer
    text_encoder: TextEncoder
    language_model: LanguageModel
    vocabulary: Vocabulary
    settings: Settings
    super_resolution: SuperResolution | None = None

    def __post_init__(self) -> None:
        config = self.vocabulary.config
        encoder = self.text_encoder
        num_text, num_prompt = encoder.answer_size, encoder.size if encoder.num_features else 0
        for what, has, expected in (
            ("codes of the video tokenizer", self.video_tokenizer.num_codes, config.visual_codes),
            ("codes on a level of the audio tokenizer", self.audio_tokenizer.codebook_size, config.audio_codebook_size),
            ("levels of the audio tokenizer", self.audio_tokenizer.num_quantizers, config.audio_quantizers),
            # A language model's table may be longer than its tokenizer's list, never shorter.
            ("ids of the text encoder", num_text, min(num_text, config.text_size)),
            ("ids of prompts", num_prompt, config.prompt_ids),
            ("features of a prompt", encoder.num_features, self.language_model.embedding.config.num_features),
            ("ids of the language model", len(self.language_model.head_weight), self.vocabulary.size),
        ):
            if has != expected:
                raise CheckpointError(
                    f"the {what} number {has}, the vocabulary was made for {expected}; the parts do not belong "
                    "together; use those that were trained together",
                    code="checkpoint_mismatch",
                )

        if self.super_resolution is not None:
            its = self.super_resolution.config
            if (2**its.num_bits, its.text_size) != (config.visual_codes, encoder.size):
                raise CheckpointError(
                    f"the super-resolution was made for {2**its.num_bits} visual codes and {its.text_size} text ids, "
                    f"the poet has {config.visual_codes} and {encoder.size}; the parts do not belong together; use "
                    "those that were trained together",
                    code="checkpoint_mismatch",
                )

        if encoder.num_features:
            self.language_model.reader = encoder.features

    @property
    def device(self) -> torch.device:
        return self.language_model.head_weight.device

    @property
    def contents(self) -> Contents:
        return Contents(
            video_tokenizer=_name(self.video_tokenizer),
            audio_tokenizer=_name(self.audio_tokenizer),
            text_encoder=_name(self.text_encoder),
            vocabulary=self.vocabulary.config,
            settings=self.settings,
        )


def save(parts: Parts, folder: str | Path, dtype: torch.dtype, max_shard_size: int | str | None = None) -> None:
    """Write a poet's folder, whole or not at all, with its weights in `dtype`; codebooks stay as they are.

    Args:
        max_shard_size: The most that a file of weights may have, in bytes or as text such as "16MB"; None leaves each
            component's in one file.

    Raises:
        ConfigError: One tensor alone is larger, or `max_shard_size` is no size.
    """
    max_bytes = None if max_shard_size is None else checkpoint.num_bytes(max_shard_size)
    with checkpoint.atomic_folder(folder) as place:
        checkpoint.write_json(place / CONTENTS, parts.contents.to_dict())
        language_model = parts.language_model
        if language_model.head_weight.dtype != dtype:
            language_model = copy.deepcopy(language_model).to(dtype)
        language_model.save(place / "language_model")
        parts.text_encoder.save(place / "language_model")
        parts.video_tokenizer.save(place / "video_tokenizer", dtype)
        parts.audio_tokenizer.save(place / "audio_tokenizer", dtype)
        if parts.super_resolution is not None:
            parts.super_resolution.save(place / "super_resolution", dtype)
        if max_bytes is not None:
            checkpoint.split_weights(place, max_bytes)


def load(path: str | Path | None, device: torch.device | str | None, dtype: torch.dtype | None) -> Parts:
    """Read a poet.

    Args:
        path: A folder, the id of one on the Hugging Face hub, or None for the one that ships.
        device: Where to compute; without it, the best there is.
        dtype: Of the language model; without it, float32 on a CPU, where it costs a small model no time, and on a GPU
            that has no bfloat16; else bfloat16.

    Raises:
        CheckpointError: A part is missing, broken, of a newer format, or made for something else.
        ConfigError: There is no such device.
    """
    device = runtime.usable_device(device)
    folder = find(path)
    contents = read_contents(folder)
    if dtype is None:
        dtype = torch.float32 if device.type == "cpu" else runtime.compute_dtype(device)
    try:
        video_tokenizer = component("tokenizers", contents.video_tokenizer)
        audio_tokenizer = component("tokenizers", contents.audio_tokenizer)
        text_encoder = component("text_encoders", contents.text_encoder)
    except ConfigError as error:
        raise CheckpointError(f"'{folder / CONTENTS}' does not fit: {error}", code="checkpoint_mismatch") from None
    return Parts(
        language_model=LanguageModel.load(folder / "language_model", dtype).to(device).requires_grad_(False),
        text_encoder=text_encoder.load(folder / "language_model"),
        video_tokenizer=video_tokenizer.load(folder / "video_tokenizer").to(device).requires_grad_(False),
        audio_tokenizer=audio_tokenizer.load(folder / "audio_tokenizer").to(device).requires_grad_(False),
        vocabulary=Vocabulary(contents.vocabulary),
        settings=contents.settings,
        super_resolution=_super_resolution(folder / "super_resolution", device),
    )


def _super_resolution(folder: Path, device: torch.device) -> SuperResolution | None:
    if not folder.is_dir():
        return None
    return SuperResolution.load(folder).to(device).requires_grad_(False)


def read_contents(folder: Path) -> Contents:
    """What a poet's folder says of itself.

    Raises:
        CheckpointError: It cannot be read, or is of a newer format.
    """
    values = checkpoint.read_json(folder / CONTENTS)
    version = values.get("format") if isinstance(values, dict) else None
    if not isinstance(version, int):
        raise CheckpointError(
            f"'{folder / CONTENTS}' names no format; a poet's has one; save the model again", code="checkpoint_mismatch"
        )
    if version > FORMAT:
        raise CheckpointError(
            f"'{folder}' is a model of format {version}, this version of videopoet reads up to {FORMAT}; "
            "install a newer videopoet",
            code="checkpoint_mismatch",
        )
    try:
        return Contents.from_dict(values)
    except ConfigError as error:
        raise CheckpointError(f"'{folder / CONTENTS}' does not fit: {error}", code="checkpoint_mismatch") from None


def find(path: str | Path | None) -> Path:
    """The folder of a poet: one of that path or a run's, one fetched from the hub, or for None the one that ships.

    Raises:
        CheckpointError: There is none.
    """
    if path is None:
        if not (BUNDLED / CONTENTS).exists():
            raise CheckpointError(
                "no model ships with this installation of videopoet; one is needed; name a model's folder or train one "
                "with `videopoet train`",
                code="checkpoint_missing",
            )
        return BUNDLED
    folder = Path(path)
    if not (folder / CONTENTS).exists():
        if (folder / "poet" / CONTENTS).exists():
            return folder / "poet"
        run = folder.parent if folder.name == "poet" else folder
        if any(run.glob("*/journal.jsonl")):
            raise CheckpointError(
                f"'{run}' is a run that has made no model yet; its stages up to the language model make one; give its "
                "`videopoet train` again, with --resume",
                code="checkpoint_missing",
            )
    if folder.is_dir():
        return folder
    if isinstance(path, str) and _HUB_ID.fullmatch(path) and not Path(path).parent.is_dir():
        return pretrained.from_hub(path)
    raise CheckpointError(
        f"no model folder '{path}'; it must hold {CONTENTS}; check the path or leave it out for the model that ships",
        code="checkpoint_missing",
    )


def _name(part: object) -> str:
    return type(part).__module__.rpartition(".")[2]


def describe(parts: Parts) -> dict[str, Any]:
    """What a poet consists of and what it makes, as plain values."""
    contents, settings = parts.contents, parts.settings
    sizes = dict.fromkeys([(settings.height, settings.width), *map(tuple, parts.vocabulary.config.resolutions)])
    modules = {
        contents.video_tokenizer: parts.video_tokenizer,
        contents.audio_tokenizer: parts.audio_tokenizer,
        parts.language_model.weights.config.model_type: parts.language_model,
    }
    if parts.super_resolution is not None:
        modules["super_resolution"] = parts.super_resolution
    return {
        "name": settings.name,
        "format": contents.format,
        "parameters": {
            name: sum(parameter.numel() for parameter in module.parameters()) for name, module in modules.items()
        },
        "vocabulary": {
            "text": parts.vocabulary.config.text_size,
            "special": parts.vocabulary.config.num_special,
            "video": parts.vocabulary.config.visual_codes,
            "audio": parts.vocabulary.config.audio_codebook_size * parts.vocabulary.config.audio_quantizers,
        },
        "settings": settings.model_dump(mode="json", exclude={"tasks", "name"}),
        "sizes": [f"{width}x{height}" for height, width in sizes],
        "tasks": list(settings.tasks),
        "device": str(parts.device),
        "dtype": str(parts.language_model.head_weight.dtype).removeprefix("torch."),
    }
