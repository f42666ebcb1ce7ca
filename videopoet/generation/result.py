"""What a request became, and how it gets into a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from videopoet import checkpoint
from videopoet.media.files import write
from videopoet.media.types import Media, Video


@dataclass(frozen=True, eq=False)
class Result:
    """What a request became."""

    media: Media | str
    """A Video, an Image, an Audio, or the text of a caption."""
    metadata: dict[str, Any]
    """How it was made: prompt, seed, model and settings."""
    warnings: tuple[str, ...] = ()
    """What was asked for and may not be in the result."""

    @property
    def seed(self) -> int:
        """Asking again with it gives the same result."""
        return self.metadata["seed"]

    def save(self, path: str | Path, metadata: bool = True) -> None:
        """Write the media, with how it was made unless `metadata` is off; a clip as .wav is its sound alone.

        Raises:
            MediaError: The extension does not fit.
            OSError: The disk is full, or the place cannot be written.
        """
        media, path = self.media, Path(path)
        if isinstance(media, str):
            checkpoint.write_atomically(path, lambda file: file.write_text(media + "\n", encoding="utf-8"))
            return
        if isinstance(media, Video) and media.audio is not None and path.suffix.lower() == ".wav":
            media = media.audio
        write(media, path, self.metadata if metadata else None)
