"""One clip that many tests read: smooth colours that move, and a click at one second."""

import math

import pytest
import torch

from videopoet.media.types import Audio, Video

METADATA = {"prompt": 'a "red" ball\n紙の船', "seed": 7, "task": "text_to_video"}


@pytest.fixture(scope="session")
def clip() -> Video:
    """Seventeen frames of 64x80 at 8 a second, and 2.125 s of sound at 16 kHz that is silent but for one click."""
    y, x = torch.meshgrid(torch.linspace(0, 1, 64), torch.linspace(0, 1, 80), indexing="ij")
    frames = [
        torch.stack([torch.sin(3 * x + k / 5), torch.cos(2 * y - k / 7), torch.sin(2 * (x + y) + k / 6)]) * 0.8
        for k in range(17)
    ]
    samples = torch.zeros(1, 34_000)
    samples[0, 16_000:16_032] = torch.sin(torch.arange(32) * math.pi / 4) * 0.9
    return Video.from_pixels(torch.stack(frames, dim=1), 8.0, Audio(samples, 16_000))


@pytest.fixture(scope="session")
def clip_path(clip, tmp_path_factory):
    """The clip as an mp4 file; tests read it and leave it as it is."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    clip.save(path, METADATA)
    return path
