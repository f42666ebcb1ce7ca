"""Prepared clips as codes, on disk: training reads these instead of tokenizing the same clips again and again.

    tokens/
      settings.json                 whose codes: the tokenizers' fingerprints, and the views that are kept
      tokens.json                   counts, and size and SHA-256 of every shard; written last: without it there is none
      shards/<part>-<shard>/        the codes of the clips of one shard of pixels, and which clips those are

A shard is written whole or not at all, so a run that is killed loses one at most. Codes are of the views that are the
same each time a clip is read: its picture in each size, its sound, and the motion that stylization is given. Clips that
are masked at random are still tokenized when they are read.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict
from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor

from videopoet.config import BaseConfig
from videopoet.data import toybox
from videopoet.data.prepared import Dataset, PreparedClips
from videopoet.data.shards import Shards
from videopoet.errors import DataError
from videopoet.tokenizers.base import AudioTokenizer, Tokenizer, VideoTokenizer

FORMAT, VERSION = "videopoet tokens", 1
TOKENS = "tokens"
"""The folder in a dataset that `videopoet tokenize` writes."""
SETTINGS, INDEX, SHARDS, CODES, ABOUT = "settings.json", "tokens.json", "shards", "codes.safetensors", "about.json"
MOST_STARTS = 4
"""A clip that is longer than what is shown of it is kept from so many places, spread evenly over it."""
MOST_HELD = 128
"""Views of shards whose codes are in memory, each at most a megabyte or two."""
_OF_NO_MATTER = ("_name_or_path", "transformers_version")
REMEDY = "it was changed or broken; run `videopoet tokenize` again, which replaces it"


class Views(BaseConfig):
    """What is kept of each clip as codes."""

    sizes: tuple[tuple[int, int], ...] = Field(default=((64, 64),), min_length=1)
    """Heights and widths in pixels; smaller clips are kept without."""
    num_frames: int = Field(default=17, ge=1)
    frame_rate: float = Field(default=8.0, gt=0)
    """Frames per second."""
    sample_rate: int = Field(default=16_000, ge=8_000)
    """Samples of sound per second."""
    structure: bool = False
    """Also the optical flow, or the reference that came with a clip: what stylization is given."""

    def world(self, size: tuple[int, int]) -> toybox.Config:
        """How clips are shown in one of the sizes."""
        return toybox.Config(
            height=size[0],
            width=size[1],
            num_frames=self.num_frames,
            frame_rate=self.frame_rate,
            sample_rate=self.sample_rate,
        )

    def within(self, other: Views) -> bool:
        """Whether whoever keeps the other views keeps these too."""
        same = self.model_copy(update={"sizes": other.sizes, "structure": other.structure}) == other
        return same and set(self.sizes) <= set(other.sizes) and other.structure >= self.structure


def fingerprint(tokenizer: Tokenizer) -> str:
    """What tells a tokenizer from any other: a hash of its kind, its config and its weights."""
    digest = hashlib.sha256(type(tokenizer).__qualname__.encode())
    # Published ones also say where they were read from, and by which version.
    values = {name: value for name, value in tokenizer.config.to_dict().items() if name not in _OF_NO_MATTER}
    digest.update(json.dumps(values, sort_keys=True).encode())
    for name, tensor in sorted(tokenizer.state_dict().items()):
        tensor = tensor.detach().cpu()
        tensor = tensor.float() if tensor.is_floating_point() else tensor
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def starts(world: PreparedClips) -> list[int]:
    """The first frames that clips are kept from."""
    last = world.num_starts - 1
    return torch.linspace(0, last, min(MOST_STARTS, last + 1)).round().long().tolist()


class TokenCache:
    """The codes of a dataset's clips, read clip by clip; each shard's hash is checked when it is first read.

    Args:
        dataset: The clips.
        folder: What `tokenize` and `finish` wrote; None is `tokens` in the dataset's own folder.

    Raises:
        DataError: There is none, it is unfinished or broken, or not of all clips of the dataset.
    """

    def __init__(self, dataset: Dataset, folder: str | Path | None = None):
        self.dataset = dataset
        self.folder = dataset.folder / TOKENS if folder is None else Path(folder)
        if not (self.folder / INDEX).is_file():
            raise DataError(
                f"'{self.folder}' holds no {INDEX}; tokenizing was not finished; run `videopoet tokenize` again, which "
                "goes on where it was",
                code="tokens_unfinished",
            )
        try:
            described = json.loads((self.folder / INDEX).read_text(encoding="utf-8"))
            if (described["format"], described["version"]) != (FORMAT, VERSION):
                raise DataError(
                    f"'{self.folder}' is of version {described['version']} of '{described['format']}'; this program "
                    f"reads version {VERSION} of '{FORMAT}'; run `videopoet tokenize` with --overwrite",
                    code="data_version",
                )
            self.views, self.counts = Views.from_dict(described["views"]), described["counts"]
            self.fingerprints: tuple[str, str] = (described["video_tokenizer"], described["audio_tokenizer"])
            entries = described["shards"]
        except (ValueError, KeyError, TypeError):
            raise DataError(
                f"'{self.folder / INDEX}' is not what `videopoet tokenize` writes; run it again with --overwrite",
                code="data_corrupt",
            ) from None
        self.shards = Shards(self.folder, entries, REMEDY)
        self.shards.check_sizes()
        self.starts = starts(PreparedClips(dataset, self.views.world(self.views.sizes[0])))
        """First frames that clips are kept from."""
        self._rows: dict[str, dict[int, int]] = {}
        self._held: OrderedDict[tuple[str, str], Tensor] = OrderedDict()
        self._lock = threading.Lock()
        self._check_clips()

    def check_tokenizers(self, video_tokenizer: VideoTokenizer, audio_tokenizer: AudioTokenizer) -> None:
        """Refuse codes that these tokenizers did not make.

        Raises:
            DataError: They are another's.
        """
        found = fingerprint(video_tokenizer), fingerprint(audio_tokenizer)
        kinds = ("video", "audio")
        others = [kind for kind, one, other in zip(kinds, found, self.fingerprints, strict=True) if one != other]
        if others:
            number = kinds.index(others[0])
            raise DataError(
                f"'{self.folder}' holds {self.counts['clips']} clips as codes of another {others[0]} tokenizer "
                f"({self.fingerprints[number][:12]}) than the model's ({found[number][:12]}); the model was trained on "
                "its own codes; run `videopoet tokenize` for this model with --overwrite, or remove the folder",
                code="tokens_mismatch",
            )

    def check_views(self, views: Views) -> None:
        """Refuse codes that do not hold these views of the clips.

        Raises:
            DataError: They hold others.
        """
        if views.within(self.views):
            return

        def told(views: Views) -> str:
            sizes = ", ".join(f"{width}x{height}" for height, width in views.sizes)
            return f"{views.num_frames} frames at {views.frame_rate:g} a second in {sizes}"

        sizes = " ".join(f"--size {width}x{height}" for height, width in views.sizes)
        raise DataError(
            f"'{self.folder}' holds codes of {told(self.views)}, and the run wants {told(views)}; run `videopoet "
            f"tokenize` again with {sizes} and a model of that length, or remove the folder",
            code="tokens_mismatch",
        )

    def codes(self, numbers: list[int], first_frames: list[int], view: str, size: tuple[int, int]) -> Tensor:
        """The codes of clips, int64: `video` and `structure` (B, t, h, w), `audio` (B, Q, s).

        Args:
            numbers: Of the clips in the list of the dataset.
            first_frames: What each is shown from; one of `starts`.
            view: `video`, `audio` or `structure`.
            size: Height and width; of no matter for sound.

        Raises:
            DataError: A shard was changed.
        """
        name = tensor_name(view, size)
        found = []
        # A shard is opened and its rows are looked up once; several threads may ask at a time.
        with self._lock:
            for number, first_frame in zip(numbers, first_frames, strict=True):
                shard, row = self.dataset.place(number)
                file = f"{SHARDS}/{shard_folder(shard)}/{CODES}"
                if file not in self._rows:
                    rows = self.shards.rows(file, "rows").tolist()
                    self._rows[file] = {row: position for position, row in enumerate(rows)}
                start = self.starts.index(first_frame)
                found.append(self._tensor(file, name)[self._rows[file][row], start])
        return torch.stack(found).long()

    def _tensor(self, file: str, name: str) -> Tensor:
        """All codes of a view in a shard: they are small, and quicker to hold than to look up."""
        key = file, name
        if key not in self._held:
            self._held[key] = self.shards.rows(file, name)
            if len(self._held) > MOST_HELD:
                self._held.popitem(last=False)
        self._held.move_to_end(key)
        return self._held[key]

    def has(self, view: str, size: tuple[int, int]) -> bool:
        """Whether it holds these codes of every clip that is large enough."""
        return size in self.views.sizes and (view != "structure" or self.views.structure)

    def _check_clips(self) -> None:
        """Refuse codes of fewer clips than there are, or of clips that were prepared anew since."""
        missing = []
        assert self.shards.entries is not None
        for shard, numbers in by_shard(self.dataset).items():
            file = f"{SHARDS}/{shard_folder(shard)}/{CODES}"
            if file not in self.shards.entries:
                missing += numbers
                continue
            try:
                about = json.loads((self.folder / file).with_name(ABOUT).read_text(encoding="utf-8"))
                if about["sha256"] != (self.dataset.shards.entries or {})[shard]["sha256"]:
                    missing += numbers
                else:
                    known = set(about["rows"])
                    missing += [number for number in numbers if self.dataset.place(number)[1] not in known]
            except (OSError, ValueError, KeyError, TypeError):
                missing += numbers
        if missing:
            first = self.dataset.row(missing[0])["id"]
            raise DataError(
                f"'{self.folder}' lacks the codes of {len(missing)} of {len(self.dataset)} clips (such as '{first}'); "
                "the dataset was prepared anew since; run `videopoet tokenize` again, which adds them",
                code="tokens_incomplete",
            )


def tensor_name(view: str, size: tuple[int, int]) -> str:
    """What a view's codes are called in a shard: sizes are width by height, as everywhere."""
    return view if view == "audio" else f"{view} {size[1]}x{size[0]}"


def shard_folder(shard: str) -> str:
    """The folder of the codes of a shard of pixels."""
    path = Path(shard)
    return f"{path.parent.name}-{path.stem}"


def by_shard(dataset: Dataset) -> dict[str, list[int]]:
    """The numbers of the clips in each shard of pixels, in the order of their rows."""
    found: dict[str, list[int]] = {}
    for number in range(len(dataset)):
        found.setdefault(dataset.place(number)[0], []).append(number)
    for numbers in found.values():
        numbers.sort(key=lambda number: dataset.place(number)[1])
    return found
