"""videopoet: make and edit video with sound by a language model.

from videopoet import VideoPoet

poet = VideoPoet.from_pretrained()
poet.generate("text_to_video", prompt="a red ball bounces on the grass", seed=7).save("clip.mp4")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from videopoet.errors import VideoPoetError
    from videopoet.generation.pipeline import VideoPoet
    from videopoet.generation.storyboard import Storyboard
    from videopoet.media.types import Audio, Image, Video
    from videopoet.writers.base import write_storyboard

__version__ = "0.1.0"
__all__ = ["Audio", "Image", "Storyboard", "Video", "VideoPoet", "VideoPoetError", "write_storyboard"]

_HOME = {
    "Audio": "videopoet.media.types",
    "Image": "videopoet.media.types",
    "Storyboard": "videopoet.generation.storyboard",
    "Video": "videopoet.media.types",
    "VideoPoet": "videopoet.generation.pipeline",
    "VideoPoetError": "videopoet.errors",
    "write_storyboard": "videopoet.writers.base",
}


def __getattr__(name: str) -> Any:
    """Load a public name on first use, so that `import videopoet` takes milliseconds."""
    if name not in _HOME:
        raise AttributeError(f"module 'videopoet' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOME[name]), name)
