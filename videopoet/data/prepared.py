"""Prepared footage as training reads it: clips by number, as pixels and samples with their words.

A dataset may also have pictures, which are clips of one frame, and sounds, which have no frame: each are a dataset and
a world of their own beside the clips, so that no batch of clips ever draws one.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from videopoet.data import combine, toybox
from videopoet.data.clips import Config
from videopoet.data.shards import Shards
from videopoet.data.sources import Kind
from videopoet.errors import ConfigError, DataError
from videopoet.media.resample import resize_and_crop
from videopoet.media.signals import optical_flow

MOST_WORDS = 8000
"""Words that a vocabulary made of captions has; the rarer ones are unknown to it."""
_PIECE = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True)
class Scene:
    """A stretch of a prepared clip."""

    number: int
    """Of the clip, in the list of its dataset."""
    first_frame: int
    caption: str
    """Empty if there is none."""
    heard: str
    """sound, silence or none"""


@dataclass(frozen=True)
class Footage:
    """A batch of clips."""

    scenes: tuple[Scene, ...]
    video: Tensor
    """(B, 3, T, H, W) in [-1, 1]"""
    audio: Tensor | None
    """(B, 1, S) in [-1, 1]"""
    depth: None
    """Not known of footage."""
    flow: Tensor | None
    """(B, 2, T, H, W), pixels to the right and down until the next frame, as measured"""
    hidden: list[Tensor | None]
    """bool (T, H, W) of each clip that came with a mask: what inpainting hides"""
    structures: list[Tensor | None]
    """(3, T, H, W) in [-1, 1] of each clip that came with a reference"""


class Dataset:
    """A folder written by `prepare`, opened for reading: the list of its clips, and those of pictures and sounds.

    Raises:
        DataError: It is none, it is unfinished, or a file of it is missing or of another size.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        path = self.folder / combine.DATASET
        if not path.is_file():
            if not self.folder.exists():
                raise DataError(
                    f"there is no '{folder}'; a folder written by `videopoet prepare` is needed; correct the path",
                    code="data_unprepared",
                )
            what = "its preparation was not finished" if (self.folder / combine.PARTS).is_dir() else "it is none"
            raise DataError(
                f"'{folder}' holds no {combine.DATASET}, so {what}; a folder written by `videopoet prepare` is needed; "
                "run it to the end",
                code="data_unprepared",
            )
        try:
            described = json.loads(path.read_text(encoding="utf-8"))
            if (described["format"], described["version"]) != (combine.FORMAT, combine.VERSION):
                raise DataError(
                    f"'{path}' is of version {described['version']} of '{described['format']}'; this program reads "
                    f"version {combine.VERSION} of '{combine.FORMAT}'; prepare the footage again",
                    code="data_version",
                )
            self.config, self.counts = Config.from_dict(described["config"]), described["counts"]
            lists, shards = described["lists"], described["shards"]
        except (ValueError, KeyError, TypeError, ConfigError) as error:
            raise DataError(
                f"'{path}' is not what `videopoet prepare` writes ({type(error).__name__}); prepare the footage again",
                code="data_corrupt",
            ) from None
        self.shards = Shards(self.folder, shards)
        self.shards.check_sizes()
        self.kind: Kind = "clip"
        self._index(lists)
        self.pictures, self.sounds = self._of("picture", lists), self._of("sound", lists)

    def _of(self, kind: Kind, lists: dict[str, Any]) -> Dataset:
        """The pictures or the sounds of the same folder, in the place of its clips."""
        other = copy.copy(self)
        other.kind = kind
        if kind == "picture":
            other.config = self.config.model_copy(update={"num_frames": 1})
        other._index(lists)
        return other

    def _index(self, lists: dict[str, Any]) -> None:
        """Remember where the row of each clip begins, and which clips are for what: 40 bytes a clip."""
        self._path = self.folder / combine.LISTS[self.kind]
        self._offsets = array("Q")
        self.numbers: dict[str, array[int]] = {"train": array("L"), "validation": array("L")}
        """Of the clips of each split."""
        self.sizes, self.heard = array("I"), array("B")
        """Of each clip, its height and width, one after the other, and whether it is heard."""
        self.shard_names: list[str] = []
        self.places = array("L")
        """Of each clip, the number of its shard and its row there, one after the other."""
        shard_numbers: dict[str, int] = {}
        digest, offset = hashlib.sha256(), 0
        if self._path.name not in lists and self.kind != "clip":  # there are none
            return
        try:
            expected = lists[self._path.name]["sha256"]
            with self._path.open("rb") as file:
                for number, line in enumerate(file):
                    digest.update(line)
                    self._offsets.append(offset)
                    offset += len(line)
                    row = json.loads(line)
                    self.numbers[row["split"]].append(number)
                    self.sizes.extend((row["height"] or 0, row["width"] or 0))  # a sound has none
                    self.heard.append(row["heard"] == "sound")
                    shard = shard_numbers.setdefault(row["shard"], len(shard_numbers))
                    self.places.extend((shard, row["row"]))
        except (OSError, ValueError, KeyError, TypeError):
            expected = "readable"
        self.shard_names = list(shard_numbers)
        if digest.hexdigest() != expected:
            raise DataError(
                f"'{self._path.name}' is not the list that was written with {combine.DATASET}; preparation was "
                "interrupted, or the list was changed; run `videopoet prepare` again",
                code="data_corrupt",
            )

    def __len__(self) -> int:
        return len(self._offsets)

    def row(self, number: int) -> dict[str, Any]:
        """What the list says of a clip."""
        with self._path.open("rb") as file:
            file.seek(self._offsets[number])
            return json.loads(file.readline())

    def place(self, number: int) -> tuple[str, int]:
        """The shard of a clip, and its row there."""
        return self.shard_names[self.places[2 * number]], self.places[2 * number + 1]

    def tensor(self, row: dict[str, Any], name: str) -> Tensor:
        """`video`, `audio`, `reference` or `mask` of the clip of a row."""
        return self.shards.row(row["shard"], name, row["row"])

    @property
    def num_captioned(self) -> int:
        """Of how many something is said."""
        if self.kind == "clip":
            return self.counts["captioned"]
        return self.counts.get(f"{self.kind}s", {}).get("captioned", 0)

    def words(self) -> list[str]:
        """The words of the captions that are trained on, most frequent first, at most `MOST_WORDS`."""
        counts: Counter[str] = Counter()
        for number in self.numbers["train"]:
            counts.update(_PIECE.findall((self.row(number)["caption"] or "").lower()))
        return [word for word, _ in counts.most_common(MOST_WORDS)]


class PreparedClips:
    """The clips of one split of a dataset as a world to train on, or its pictures or sounds; see `world.World`.

    A clip that was stored larger is shown as its middle, scaled down; one that is longer, from a place that its number
    decides; one with a multiple of the frame rate, as every so manieth frame.

    Args:
        dataset: The clips.
        config: Size, length and rates that they are shown in, and their split.

    Raises:
        DataError: The split has no clip that is large, long and fast enough, though the dataset has clips.
    """

    styles: tuple[str, ...] = ()

    def __init__(self, dataset: Dataset, config: toybox.Config):
        self.dataset, self.config = dataset, config
        self._of_size: dict[tuple[int, int], PreparedClips] = {}
        stored = dataset.config
        self._step = round(stored.frame_rate / config.frame_rate)
        self._reach = (config.num_frames - 1) * self._step + 1
        if self._step < 1 or abs(self._step * config.frame_rate - stored.frame_rate) > 1e-6:
            self._refuse(
                f"{stored.frame_rate:g} frames a second", f"{config.frame_rate:g}", f"--fps {config.frame_rate:g}"
            )
        if self._reach > stored.num_frames:
            seconds = config.num_frames / config.frame_rate
            self._refuse(f"{stored.num_frames} frames", f"{self._reach}", f"--seconds {seconds:g}")
        if stored.sample_rate != config.sample_rate:
            wanted = f"{config.sample_rate}"
            self._refuse(f"{stored.sample_rate} samples a second", wanted, f"--sample-rate {wanted}")
        sizes = dataset.sizes
        self._numbers = array(
            "L",
            (
                number
                for number in dataset.numbers["train" if config.split == "train" else "validation"]
                if dataset.kind == "sound"
                or (sizes[2 * number] >= config.height and sizes[2 * number + 1] >= config.width)
            ),
        )
        if not self._numbers and dataset.kind == "clip" and (len(dataset) or not self.has_others):
            side = 8 * -(-max(config.height, config.width) // 8)
            self._refuse(
                f"no clip to {'train on' if config.split == 'train' else 'validate with'} that is so large",
                f"{config.width}x{config.height}",
                f"--size {side}x{side}, or add footage",
            )
        self.num_heard = sum(dataset.heard[number] for number in self._numbers)
        """Clips in which something is heard."""
        self.has_sound = self.num_heard > 0
        self.has_clips = bool(self._numbers)
        self.pictures: PreparedClips | None = None
        """The pictures that are as large as the clips are shown, as clips of one frame."""
        self.sounds: PreparedClips | None = None
        """The sounds, which can be heard and not rendered."""
        if dataset.kind == "clip":
            one_frame = config.model_copy(update={"num_frames": 1})
            self.pictures = _or_none(PreparedClips(dataset.pictures, one_frame))
            self.sounds = _or_none(PreparedClips(dataset.sounds, config))

    @property
    def has_others(self) -> bool:
        """Whether the dataset has pictures or sounds, of either split."""
        return bool(len(self.dataset.pictures) or len(self.dataset.sounds))

    def for_frames(self, generator: torch.Generator) -> PreparedClips:
        return self._by_lot(len(self), self.pictures, generator)

    def for_sound(self, generator: torch.Generator) -> PreparedClips:
        return self._by_lot(self.num_heard, self.sounds, generator)

    def _by_lot(self, count: int, other: PreparedClips | None, generator: torch.Generator) -> PreparedClips:
        """This world or the other, as often as they have scenes; where there is no other, without a draw."""
        if other is None:
            return self
        share = len(other) / (count + len(other))
        return other if float(torch.rand((), generator=generator)) < share else self

    def __len__(self) -> int:
        return len(self._numbers)

    def at_scale(self, scale: int) -> PreparedClips:
        return self.of_size(scale * self.config.height, scale * self.config.width)

    def of_size(self, height: int, width: int) -> PreparedClips:
        if (height, width) == (self.config.height, self.config.width):
            return self
        # To make one goes through all clips, and batches ask for the same few again and again.
        if (height, width) not in self._of_size:
            config = self.config.model_copy(update={"height": height, "width": width})
            self._of_size[height, width] = PreparedClips(self.dataset, config)
        return self._of_size[height, width]

    @property
    def num_starts(self) -> int:
        """How many frames of a clip can be the first that is shown."""
        return self.dataset.config.num_frames - self._reach + 1

    def scene(self, seed: int) -> Scene:
        """The clip of that number: counting goes through all clips, and then round again, from other frames."""
        return self.stretch(seed % len(self), seed // len(self) % self.num_starts)

    def stretch(self, place: int, first_frame: int) -> Scene:
        """The clip at that place in the split, shown from a frame on."""
        return stretch(self.dataset, self._numbers[place], first_frame)

    def spread(self, count: int, heard: bool = False) -> list[Scene]:
        """So many clips, evenly spaced in the list; where there are fewer, round again, from other frames."""
        places = [place for place, number in enumerate(self._numbers) if not heard or self.dataset.heard[number]]
        if count <= len(places):
            return [self.stretch(places[index * len(places) // count], 0) for index in range(count)]
        rounds = [(index // len(places) % self.num_starts, index % len(places)) for index in range(count)]
        return [self.stretch(places[index], first_frame) for first_frame, index in rounds]

    def render(
        self,
        scenes: Sequence[Scene],
        device: torch.device | str = "cpu",
        audio: bool = True,
        truth: bool = False,
    ) -> Footage:
        """Picture and sound of the scenes.

        Raises:
            DataError: A shard is missing or was changed.
            MediaError: `truth` is asked for, and OpenCV, which measures flow, is not installed.
        """
        rows = [self.dataset.row(scene.number) for scene in scenes]
        pairs = list(zip(scenes, rows, strict=True))
        frames = [self._frames(scene, row, "video") for scene, row in pairs]
        flow = torch.stack([optical_flow(clip) for clip in frames]).to(device) if truth else None
        hidden: list[Tensor | None] = [None] * len(rows)
        structures: list[Tensor | None] = [None] * len(rows)
        for index, (scene, row) in enumerate(pairs):
            if "-masked" in row["shard"]:
                hidden[index] = self._frames(scene, row, "mask")[0].to(device) > 0
            if "-referenced" in row["shard"]:
                structures[index] = _pixels(self._frames(scene, row, "reference")).to(device)
        return Footage(
            scenes=tuple(scenes),
            video=_pixels(torch.stack(frames)).to(device),
            audio=self.sound(scenes, device) if audio else None,
            depth=None,
            flow=flow,
            hidden=hidden,
            structures=structures,
        )

    def masks(self, scenes: Sequence[Scene], device: torch.device | str = "cpu") -> None:
        """Nobody knows of footage where its subjects are."""

    def sound(self, scenes: Sequence[Scene], device: torch.device | str = "cpu") -> Tensor:
        """The sound alone, (B, 1, S) in [-1, 1]; silence where there is none."""
        config = self.config
        count = round(config.num_frames / config.frame_rate * config.sample_rate)
        sounds = []
        for scene in scenes:
            samples = self.dataset.tensor(self.dataset.row(scene.number), "audio").float() / 32767
            start = round(scene.first_frame / self.dataset.config.frame_rate * config.sample_rate)
            samples = samples[:, start : start + count]
            sounds.append(F.pad(samples, (0, count - samples.shape[1])))
        return torch.stack(sounds).to(device)

    def is_heard(self, scene: Scene) -> bool:
        return scene.heard == "sound"

    def strikes(self, scene: Scene) -> bool:
        """Nobody knows of footage where things strike; where something is heard, they may."""
        return self.is_heard(scene)

    def words(self) -> list[str]:
        return self.dataset.words()

    def _frames(self, scene: Scene, row: dict[str, Any], name: str) -> Tensor:
        """Frames of a tensor as they are shown, uint8 (C, T, H, W)."""
        frames = self.dataset.tensor(row, name)
        if name == "mask":
            frames = frames[None].to(torch.uint8) * 255
        frames = frames[:, scene.first_frame : scene.first_frame + self._reach : self._step]
        height, width = self.config.height, self.config.width
        if height == frames.shape[2] or width == frames.shape[3]:
            top, left = (frames.shape[2] - height) // 2, (frames.shape[3] - width) // 2
            return frames[..., top : top + height, left : left + width]
        return resize_and_crop(frames, height, width)

    def _refuse(self, found: str, wanted: str, remedy: str) -> None:
        raise DataError(
            f"'{self.dataset.folder}' has {found}, and the run wants {wanted}; prepare the footage again with {remedy}",
            code="data_mismatch",
        )


def stretch(dataset: Dataset, number: int, first_frame: int = 0) -> Scene:
    """A clip of either split, shown from a frame on."""
    row = dataset.row(number)
    return Scene(number, first_frame, row["caption"] or "", row["heard"])


def _or_none(world: PreparedClips) -> PreparedClips | None:
    return world if len(world) else None


def _pixels(frames: Tensor) -> Tensor:
    return frames.float().div_(127.5).sub_(1.0)
