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
import shutil
import threading
from collections import OrderedDict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from videopoet import checkpoint, runtime
from videopoet.config import BaseConfig
from videopoet.data import toybox
from videopoet.data.cluster import Engine, run_on_ray
from videopoet.data.prepare import DATASET
from videopoet.data.prepared import Dataset, PreparedClips, stretch
from videopoet.data.shards import Shards
from videopoet.errors import DataError
from videopoet.media.signals import structure_clip
from videopoet.tokenizers.base import AudioTokenizer, Tokenizer, VideoTokenizer

FORMAT, VERSION = "videopoet tokens", 1
TOKENS = "tokens"
"""The folder in a dataset that `videopoet tokenize` writes."""
SETTINGS, INDEX, SHARDS, CODES, ABOUT = "settings.json", "tokens.json", "shards", "codes.safetensors", "about.json"
MOST_STARTS = 4
"""A clip that is longer than what is shown of it is kept from so many places, spread evenly over it."""
MOST_HELD = 128
"""Views of shards whose codes are in memory, each at most a megabyte or two."""
AT_ONCE = 16
"""Clips that are tokenized in one batch."""
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
    digest.update(json.dumps(tokenizer.config.to_dict(), sort_keys=True).encode())
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


def tokenize(
    dataset: Dataset,
    views: Views,
    video_tokenizer: VideoTokenizer,
    audio_tokenizer: AudioTokenizer,
    folder: str | Path | None = None,
    *,
    overwrite: bool = False,
    rank: int = 0,
    num_ranks: int = 1,
    engine: Engine = "local",
    workers: int | None = None,
    device: str | None = None,
    progress: bool = False,
) -> None:
    """Write the codes of every clip of a dataset; what is there and whole is kept.

    Args:
        dataset: The clips.
        views: What is kept of each.
        video_tokenizer: Makes the codes, on the device that it is on.
        audio_tokenizer: Likewise.
        folder: Where; None is `tokens` in the dataset's own folder.
        overwrite: Replace codes of other tokenizers.
        rank: The number of this process, which takes its share of the shards; `finish` follows once all are done.
        num_ranks: How many processes there are.
        engine: `local` is this process, `ray` a cluster that shares storage.
        workers: How many of the cluster there are; None is one for each GPU, or else for each processor.
        device: What the workers of the cluster compute on; None is the best that each has.
        progress: Show a bar on a terminal.

    Raises:
        ConfigError: There is no such cluster.
        DataError: The folder holds the codes of other tokenizers, or no clip can be shown in the first size.
        MediaError: Clips are off a tokenizer's grid, or OpenCV, which measures motion, is not installed.
    """
    folder = dataset.folder / TOKENS if folder is None else Path(folder)
    settings = {
        "format": FORMAT,
        "version": VERSION,
        "video_tokenizer": fingerprint(video_tokenizer),
        "audio_tokenizer": fingerprint(audio_tokenizer),
    }
    video_tokenizer.grid(views.num_frames, *views.sizes[0])
    worlds = {size: PreparedClips(dataset, views.world(size)) for size in views.sizes}
    if rank == 0:
        _claim(folder, settings, views, overwrite)
    shards = _by_shard(dataset)
    mine = sorted(shards)[rank::num_ranks]
    if engine == "ray":
        places = dataset.folder.absolute(), folder.absolute()
        stage = partial(_in_worker, *places, settings, views, video_tokenizer, audio_tokenizer, device)
        on_gpus = device is None or device.startswith("cuda")
        shared = {"output": folder / SHARDS, "source": dataset.folder.absolute() / DATASET}
        done = run_on_ray(stage, mine, **shared, workers=workers, on_gpus=on_gpus)
    else:
        done = map(TokenizeShard(dataset, folder, settings, worlds, views, video_tokenizer, audio_tokenizer), mine)
    with runtime.progress(sum(len(shards[shard]) for shard in mine), "tokens", progress) as advance:
        for num_clips in done:
            advance(num_clips)


def finish(dataset: Dataset, views: Views, folder: str | Path | None = None) -> dict[str, Any]:
    """Write the index of all shards, which makes the folder a cache; returns its counts.

    Raises:
        DataError: A shard is missing or is not as it was written.
    """
    folder = dataset.folder / TOKENS if folder is None else Path(folder)
    settings = checkpoint.read_json(folder / SETTINGS)
    entries, num_codes = {}, 0
    shards = _by_shard(dataset)
    for shard, numbers in sorted(shards.items()):
        place = folder / SHARDS / shard_folder(shard)
        about = _about(dataset, settings, views, shard, numbers)
        if not _is_done(place, about):
            raise DataError(f"shard '{place.name}' of the tokens is missing or broken; {REMEDY}", code="shard_corrupt")
        entries[f"{SHARDS}/{place.name}/{CODES}"] = checkpoint.read_json(place / checkpoint.MANIFEST)[CODES]
        codes = checkpoint.load_tensors(place / CODES)
        num_codes += sum(tensor.numel() for name, tensor in codes.items() if name != "rows")
    counts = {
        "clips": len(dataset),
        "shards": len(shards),
        "tokens": num_codes,
        "bytes": sum(entry["bytes"] for entry in entries.values()),
    }
    values = {**settings, "views": views.to_dict(), "counts": counts, "shards": entries}
    checkpoint.write_json(folder / INDEX, values)
    kept = {shard_folder(shard) for shard in shards}
    for other in (folder / SHARDS).iterdir():
        if other.name not in kept:
            shutil.rmtree(other)
    return counts


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
        for shard, numbers in _by_shard(self.dataset).items():
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


class TokenizeShard:
    """The stage of tokenizing: called with a shard of pixels, it writes its codes and returns the number of its clips.

    Args:
        dataset: The clips.
        folder: Of the cache.
        settings: Whose codes they are.
        worlds: How clips are shown in each size.
        views: What is kept of each.
        video_tokenizer: Makes the codes, on the device that it is on.
        audio_tokenizer: Likewise.
    """

    def __init__(
        self,
        dataset: Dataset,
        folder: Path,
        settings: dict[str, Any],
        worlds: dict[tuple[int, int], PreparedClips],
        views: Views,
        video_tokenizer: VideoTokenizer,
        audio_tokenizer: AudioTokenizer,
    ):
        self.dataset, self.folder, self.settings = dataset, folder, settings
        self.worlds, self.views = worlds, views
        self.video_tokenizer, self.audio_tokenizer = video_tokenizer, audio_tokenizer
        self.device = next(video_tokenizer.parameters()).device
        self.shards = _by_shard(dataset)

    @torch.no_grad()
    def __call__(self, shard: str) -> int:
        numbers = self.shards[shard]
        place = self.folder / SHARDS / shard_folder(shard)
        about = _about(self.dataset, self.settings, self.views, shard, numbers)
        if not _is_done(place, about):
            with checkpoint.atomic_folder(place) as target:
                checkpoint.save_tensors(target / CODES, self.codes(numbers))
                checkpoint.write_json(target / ABOUT, about)
        return len(numbers)

    def codes(self, numbers: list[int]) -> dict[str, Tensor]:
        """The codes of the clips of one shard; all have one size."""
        dataset = self.dataset
        firsts = starts(next(iter(self.worlds.values())))
        height, width = dataset.sizes[2 * numbers[0]], dataset.sizes[2 * numbers[0] + 1]
        pairs = [(number, first) for number in numbers for first in firsts]
        made: dict[str, list[Tensor]] = {}
        for begin in range(0, len(pairs), AT_ONCE):
            scenes = [stretch(dataset, *pair) for pair in pairs[begin : begin + AT_ONCE]]
            some_world = next(iter(self.worlds.values()))
            with runtime.autocast(self.device):
                made.setdefault("audio", []).append(
                    self.audio_tokenizer.encode(some_world.sound(scenes, self.device)).cpu()
                )
            for size, world in self.worlds.items():
                if size[0] > height or size[1] > width:
                    continue
                clips = world.render(scenes, self.device, audio=False, truth=self.views.structure)
                views = {"video": clips.video}
                if clips.flow is not None:
                    structures = zip(structure_clip(None, clips.flow), clips.structures, strict=True)
                    views["structure"] = torch.stack([one if other is None else other for one, other in structures])
                for view, pixels in views.items():
                    with runtime.autocast(self.device):
                        codes = self.video_tokenizer.encode(pixels)
                    made.setdefault(tensor_name(view, size), []).append(codes.cpu())
        tensors = {"rows": torch.tensor([dataset.place(number)[1] for number in numbers], dtype=torch.int32)}
        for name, parts in made.items():
            largest = self.audio_tokenizer.codebook_size if name == "audio" else self.video_tokenizer.num_codes
            codes = torch.cat(parts).unflatten(0, (len(numbers), len(firsts)))
            tensors[name] = codes.to(torch.int16 if largest <= 1 << 15 else torch.int32)
        return tensors


def _in_worker(
    data: Path,
    folder: Path,
    settings: dict[str, Any],
    views: Views,
    video_tokenizer: VideoTokenizer,
    audio_tokenizer: AudioTokenizer,
    device: str | None,
) -> TokenizeShard:
    """The stage in a worker of a cluster, which opens the dataset and computes on a device of its own."""
    dataset = Dataset(data)
    worlds = {size: PreparedClips(dataset, views.world(size)) for size in views.sizes}
    place = device or runtime.best_device()
    tokenizers = video_tokenizer.to(place), audio_tokenizer.to(place)
    return TokenizeShard(dataset, folder, settings, worlds, views, *tokenizers)


def _by_shard(dataset: Dataset) -> dict[str, list[int]]:
    """The numbers of the clips in each shard of pixels, in the order of their rows."""
    found: dict[str, list[int]] = {}
    for number in range(len(dataset)):
        found.setdefault(dataset.place(number)[0], []).append(number)
    for numbers in found.values():
        numbers.sort(key=lambda number: dataset.place(number)[1])
    return found


def _about(dataset: Dataset, settings: dict[str, Any], views: Views, shard: str, numbers: list[int]) -> dict[str, Any]:
    """All that the codes of a shard depend on, and the names of its clips."""
    rows = [dataset.place(number)[1] for number in numbers]
    ids = [dataset.row(number)["id"] for number in numbers]
    sha256 = (dataset.shards.entries or {})[shard]["sha256"]
    named = {name: settings[name] for name in ("video_tokenizer", "audio_tokenizer")}
    return {"shard": shard, "sha256": sha256, **named, "views": views.to_dict(), "rows": rows, "ids": ids}


def _is_done(place: Path, about: dict[str, Any]) -> bool:
    """Whether the codes of a shard are there, whole, and of just this."""
    return checkpoint.why_invalid(place) is None and checkpoint.read_json(place / ABOUT) == about


def _claim(folder: Path, settings: dict[str, Any], views: Views, overwrite: bool) -> None:
    """Say whose codes the folder holds, unless it says another's."""
    path = folder / SETTINGS
    if path.exists() and not overwrite:
        held = checkpoint.read_json(path)
        if any(held.get(name) != value for name, value in settings.items()):
            num_shards = sum(1 for _ in (folder / SHARDS).glob("[!.]*"))
            raise DataError(
                f"'{folder}' holds {num_shards} shards of codes of other tokenizers "
                f"({str(held.get('video_tokenizer'))[:12]}, {str(held.get('audio_tokenizer'))[:12]}) than the model's "
                f"({settings['video_tokenizer'][:12]}, {settings['audio_tokenizer'][:12]}); a folder holds those of "
                "one model; pass --overwrite to replace them",
                code="tokens_mismatch",
            )
    # What is not of these views any more is replaced shard by shard; until all is, there is no index.
    (folder / INDEX).unlink(missing_ok=True)
    checkpoint.write_json(path, {**settings, "views": views.to_dict()})
