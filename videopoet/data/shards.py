"""Clips in files: many of one size together, as safetensors that are read row by row; never a pickle.

Pixels and samples are kept as they are. They take more room than an mp4, and in return reading costs no decoding, needs
no decoder on the machine that trains, loses nothing, and gets any clip without those before it.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from videopoet.checkpoint import save_tensors
from videopoet.data.clips import Clip
from videopoet.data.sources import KINDS, Kind
from videopoet.errors import DataError

SHARD_BYTES = 64 << 20
"""What clips waiting to be written may take; a shard is about as large, or smaller."""
MOST_OPEN = 64
"""Shards that are open at a time."""
REMEDY = "it was changed or broken; run `videopoet prepare` again, which replaces it"


class ShardWriter:
    """Writes clips into shards in a folder, one file for each size and kind, and remembers their rows."""

    def __init__(self, folder: Path, num_samples: int):
        self.folder, self.num_samples = folder, num_samples
        self.rows: dict[Kind, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
        """What was said of each clip, picture and sound, with the `shard` and the `row` in it where it lies."""
        self._waiting: dict[str, list[tuple[Clip, dict[str, Any]]]] = {}
        self._num_bytes = 0
        self._num_shards: dict[str, int] = {}

    def add(self, clip: Clip, said: dict[str, Any]) -> None:
        """Take a clip, and what is said of it as JSON values."""
        if clip.video is None:
            group: str = clip.kind
        else:
            group = "picture-" * (clip.kind == "picture") + "x".join(map(str, clip.video.shape[2:]))
            self._num_bytes += clip.video.nbytes * (2 if clip.reference is not None else 1)
        group += "-referenced" * (clip.reference is not None) + "-masked" * (clip.mask is not None)
        self._waiting.setdefault(group, []).append((clip, said))
        self._num_bytes += 2 * self.num_samples * (clip.kind != "picture")
        if self._num_bytes > SHARD_BYTES:
            self.close()

    def close(self) -> None:
        """Write what waits."""
        for group, waiting in self._waiting.items():
            number = self._num_shards.get(group, 0)
            self._num_shards[group] = number + 1
            name = f"{group}-{number:03d}.safetensors"
            clips = [clip for clip, _ in waiting]
            tensors = {"signature": torch.stack([clip.signature for clip in clips])}
            if videos := [clip.video for clip in clips if clip.video is not None]:
                tensors["video"] = torch.stack(videos)
            if clips[0].kind != "picture":
                silence = torch.zeros(1, self.num_samples, dtype=torch.int16)
                tensors["audio"] = torch.stack([silence if clip.audio is None else clip.audio for clip in clips])
            references = [clip.reference for clip in clips if clip.reference is not None]
            masks = [clip.mask for clip in clips if clip.mask is not None]
            if references:
                tensors["reference"] = torch.stack(references)
            if masks:
                tensors["mask"] = torch.stack(masks)
            save_tensors(self.folder / name, tensors)
            self.rows[clips[0].kind] += [{**said, "shard": name, "row": row} for row, (_, said) in enumerate(waiting)]
        self._waiting, self._num_bytes = {}, 0


class Shards:
    """Reads rows of shards in a folder. Each shard's hash is checked when it is first read.

    Args:
        folder: Where the shards' names begin.
        entries: For each name its `bytes` and `sha256`; None checks nothing.
        remedy: What to do about a shard that is missing or was changed.
    """

    def __init__(self, folder: str | Path, entries: dict[str, dict[str, Any]] | None = None, remedy: str = REMEDY):
        self.folder, self.entries, self.remedy = Path(folder), entries, remedy
        self._open: OrderedDict[str, Any] = OrderedDict()
        self._checked: set[str] = set()
        self._lock = threading.Lock()  # threads make batches side by side

    def row(self, shard: str, name: str, row: int) -> Tensor:
        """One row of a tensor of a shard.

        Raises:
            DataError: The shard is missing, or not as it was written.
        """
        return self.rows(shard, name, row, row + 1)[0]

    def rows(self, shard: str, name: str, first: int = 0, last: int | None = None) -> Tensor:
        """The rows from `first` to before `last`, or to the end."""
        try:
            return self._file(shard).get_slice(name)[first:last]
        except (SafetensorError, IndexError) as error:
            reason = str(error).splitlines()[0]
            raise DataError(
                f"shard '{shard}' has no rows {first} to {last} of '{name}' ({reason}); {self.remedy}",
                code="shard_corrupt",
            ) from None

    def check_sizes(self) -> None:
        """Refuse, before any work, what is missing or of another size."""
        for shard, entry in (self.entries or {}).items():
            path = self.folder / shard
            found = path.stat().st_size if path.is_file() else None
            if found != entry["bytes"]:
                what = "is missing" if found is None else f"has {found} bytes, written were {entry['bytes']}"
                raise DataError(f"shard '{shard}' {what}; {self.remedy}", code="shard_corrupt")

    def check(self, shard: str) -> None:
        """Refuse a shard that is not as it was written."""
        path = self.folder / shard
        if self.entries is None or shard in self._checked:
            return
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != self.entries[shard]["sha256"]:
                raise DataError(
                    f"shard '{shard}' has another content than was written; {self.remedy}", code="shard_corrupt"
                )
        self._checked.add(shard)

    def _file(self, shard: str) -> Any:
        with self._lock:
            return self._opened(shard)

    def _opened(self, shard: str) -> Any:
        if shard in self._open:
            self._open.move_to_end(shard)
            return self._open[shard]
        try:
            self.check(shard)
            opened = safe_open(self.folder / shard, framework="pt")
        except (SafetensorError, OSError, ValueError, OverflowError) as error:
            raise DataError(
                f"shard '{shard}' cannot be read ({str(error).splitlines()[0]}); {self.remedy}", code="shard_corrupt"
            ) from None
        self._open[shard] = opened
        if len(self._open) > MOST_OPEN:
            self._open.popitem(last=False)
        return opened


def read_lines(path: Path) -> Any:
    """The JSON values of a file, line by line."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def write_lines(path: Path, values: Sequence[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for value in values:
            file.write(json.dumps(value, ensure_ascii=False) + "\n")
