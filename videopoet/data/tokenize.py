"""Writes the cache of codes that `data.token_cache` reads."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from videopoet import checkpoint, ranks, runtime
from videopoet.data.cluster import Engine, run_on_ray
from videopoet.data.combine import DATASET
from videopoet.data.prepared import Dataset, PreparedClips, stretch
from videopoet.data.token_cache import (
    ABOUT,
    CODES,
    FORMAT,
    INDEX,
    REMEDY,
    SETTINGS,
    SHARDS,
    TOKENS,
    VERSION,
    Views,
    by_shard,
    fingerprint,
    shard_folder,
    starts,
    tensor_name,
)
from videopoet.errors import DataError
from videopoet.media.signals import structure_clip
from videopoet.tokenizers.base import AudioTokenizer, VideoTokenizer

AT_ONCE = 16
"""Clips that are tokenized in one batch."""


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
    """Write the codes of every clip of a dataset, pictures and sounds left out; what is there and whole is kept.

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
        DataError: There is no clip, none can be shown in the first size, or the folder holds other tokenizers' codes.
        MediaError: Clips are off a tokenizer's grid, or OpenCV, which measures motion, is not installed.
    """
    folder = dataset.folder / TOKENS if folder is None else Path(folder)
    settings = {
        "format": FORMAT,
        "version": VERSION,
        "video_tokenizer": fingerprint(video_tokenizer),
        "audio_tokenizer": fingerprint(audio_tokenizer),
    }
    if len(dataset) == 0:
        raise DataError(
            f"'{dataset.folder}' has no clips, and codes are kept of clips alone; add some and prepare again, or train "
            "without codes: pictures and sounds are tokenized as they are drawn",
            code="data_empty",
        )
    video_tokenizer.grid(views.num_frames, *views.sizes[0])
    worlds = {size: PreparedClips(dataset, views.world(size)) for size in views.sizes}
    if not overwrite:
        _check_claim(folder, settings)
    if rank == 0:
        # What is not of these views any more is replaced shard by shard; until all is, there is no index.
        (folder / INDEX).unlink(missing_ok=True)
        checkpoint.write_json(folder / SETTINGS, {**settings, "views": views.to_dict()})
    ranks.wait()  # Nobody writes a shard into a folder that another refuses.
    shards = by_shard(dataset)
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
    shards = by_shard(dataset)
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
        if other.is_dir() and other.name not in kept:
            shutil.rmtree(other)
    return counts


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
        self.shards = by_shard(dataset)

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


def _check_claim(folder: Path, settings: dict[str, Any]) -> None:
    """Refuse a folder that says it holds others' codes."""
    path = folder / SETTINGS
    if not path.exists():
        return
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
