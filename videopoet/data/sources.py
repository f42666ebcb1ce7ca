"""A file of footage: of what kind it is, and what is said of it. Nothing here decodes a file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from videopoet.media import formats

Kind = Literal["clip", "picture", "sound"]
"""What a file gives: clips with or without sound, a picture, or sounds without a picture."""
KINDS: tuple[Kind, ...] = get_args(Kind)
FILES = ("video", "audio", "reference_video", "video_mask")
_USUAL: dict[Kind, str] = {
    "clip": ".mp4 .m4v .mov .webm .mkv .avi .mpg .mpeg .ts .m2ts .mts .3gp .ogv .gif .apng .flv .wmv .f4v .mxf",
    "picture": ".png .jpg .jpeg .webp .bmp .tif .tiff .heic .avif",
    "sound": ".wav .flac .mp3 .ogg .oga .opus .m4a .aac .aif .aiff .wma",
}
EXTENSIONS: dict[str, Kind] = {extension: kind for kind, usual in _USUAL.items() for extension in usual.split()}
"""What files of these extensions are: such a file is always taken, and rejected with the reason if it is none."""
OTHERS = frozenset(".txt .csv .jsonl .json .md .yaml .yml .srt .vtt .log .html .pdf .zip .py".split())
"""Extensions of what is no footage: left alone. Of a file with any other, its content decides."""
LONGEST_CAPTION = 4000
_INVISIBLE = re.compile(r"[\x00-\x20\x7f-\x9f\u00a0\u200b-\u200f\u2028-\u202e\u2060-\u2069\ud800-\udfff\ufeff]+")


@dataclass(frozen=True)
class Source:
    """One file of footage, and what is known of it. Paths are absolute."""

    id: str
    """Its path below the root, with slashes; no two sources share one."""
    video: str
    """The file itself, of any kind."""
    audio: str | None = None
    """A file with the sound, instead of the clip's own."""
    caption: str | None = None
    caption_from: str | None = None
    """Where the caption was found: manifest, captions or sidecar."""
    reference_video: str | None = None
    """A clip that shows the structure of this one, such as its depth: what stylization is given."""
    video_mask: str | None = None
    """A clip that is white where this one may be hidden: what inpainting replaces."""
    kind: Kind = "clip"

    @property
    def files(self) -> list[str]:
        """Every file that the source is read from."""
        return [path for name in FILES if (path := getattr(self, name)) is not None]


def kind_of(path: Path) -> Kind | None:
    """What a file is, by its extension, or of one that says nothing, by its content; None if it is no footage."""
    suffix = path.suffix.lower()
    if suffix in EXTENSIONS or suffix in OTHERS:
        return EXTENSIONS.get(suffix)
    try:
        with path.open("rb") as file:
            found = formats.sniff(file.read(formats.HEAD_BYTES))
    except OSError:
        return None
    if found is None or not found.accepted:
        return None
    if found.picture is not None:
        return "clip" if found.name == "gif" else "picture"
    return "clip" if found.demuxer in ("mov", "matroska", "avi", "mpeg", "mpegts") else "sound"


def clean_caption(text: Any) -> str | None:
    """A caption on one line, without what only a machine reads; None if nothing is left.

    Angle brackets go: prompts may hold none of the model's own marks, such as <eos>.
    """
    if text is None:
        return None
    words = _INVISIBLE.sub(" ", str(text).replace("<", " ").replace(">", " ")).split()
    return " ".join(words)[:LONGEST_CAPTION].strip() or None
