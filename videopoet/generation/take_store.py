"""Takes that were made before, in a folder: each under the hash of all that decides its bytes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from videopoet import checkpoint
from videopoet.errors import CheckpointError, MediaError
from videopoet.generation.poet_folder import Parts
from videopoet.media.types import Audio, Video

FORMAT = 1
"""Of the files; another one makes all takes anew."""


class TakeStore:
    """A folder of takes, kept without loss as safetensors.

    Args:
        parts: The poet that makes them.
        folder: Where they are kept; made with the first one.
        also: Further folders to look in; what is found there becomes this folder's own too.
        model: The poet's `fingerprint`, where it is known.
    """

    def __init__(self, parts: Parts, folder: str | Path, also: Sequence[str | Path] = (), model: str | None = None):
        self.folder, self.also = Path(folder), [Path(other) for other in also]
        self._frame_rate = parts.settings.frame_rate
        self._sample_rate = parts.audio_tokenizer.sample_rate
        self._model = model or fingerprint(parts)

    def key(self, decides: dict[str, Any]) -> str:
        """The name of a take, given all that decides it but the model."""
        text = json.dumps([FORMAT, self._model, decides], sort_keys=True)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]

    def path(self, key: str) -> Path:
        """Where a take is kept."""
        return self.folder / f"{key}.safetensors"

    def load(self, key: str) -> Video | None:
        """The take, or None where there is none that is whole."""
        own = self.path(key)
        for path in (own, *(other / own.name for other in self.also)):
            if not path.is_file():
                continue
            try:
                clip = self._read(path)
            except (CheckpointError, MediaError, KeyError):
                continue  # half a file, or another one's: the take is made again, and takes its place
            if path != own:
                self.folder.mkdir(parents=True, exist_ok=True)
                _share(path, own)
            return clip
        return None

    def save(self, key: str, clip: Video) -> None:
        """Keep a take."""
        tensors = {"frames": clip.frames}
        if clip.audio is not None:
            tensors["samples"] = clip.audio.samples
        checkpoint.save_tensors(self.path(key), tensors)

    def _read(self, path: Path) -> Video:
        tensors = checkpoint.load_tensors(path)
        audio = Audio(tensors["samples"], self._sample_rate) if "samples" in tensors else None
        return Video(tensors["frames"], self._frame_rate, audio)


def fingerprint(parts: Parts) -> str:
    """A hash of a poet: its weights, its settings, and on what they compute."""
    digest = hashlib.sha256()
    modules: dict[str, nn.Module] = {
        "video_tokenizer": parts.video_tokenizer,
        "audio_tokenizer": parts.audio_tokenizer,
        "language_model": parts.language_model,
    }
    versions = [torch.__version__, parts.device.type]
    digest.update(json.dumps([parts.contents.to_dict(), versions], sort_keys=True).encode())
    for name, module in modules.items():
        for key, tensor in sorted(module.state_dict().items()):
            digest.update(f"{name}.{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _share(path: Path, own: Path) -> None:
    """Make a file of another folder one of this folder too: by a link, since a take is never changed."""

    def link(temporary: Path) -> None:
        temporary.unlink()
        try:
            os.link(path, temporary)
        except OSError:
            temporary.write_bytes(path.read_bytes())

    checkpoint.write_atomically(own, link)
