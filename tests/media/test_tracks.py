import io

import pytest
import torch

from videopoet.media import containers, tracks
from videopoet.media.protocol import FRAME, HEADER, TIME, Channel, Limits, Request
from videopoet.media.quality import psnr
from videopoet.media.types import Video


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    """A large picture with edges, fine stripes and a gradient."""
    path = tmp_path_factory.mktemp("picture") / "picture.mp4"
    x, y = torch.meshgrid(torch.arange(640.0), torch.arange(360.0), indexing="xy")
    red, green, blue = (x / 320 - 1), torch.sin(x / 9) * 0.8, torch.where((x - 300).hypot(y - 180) < 90, 0.9, -0.6)
    Video.from_pixels(torch.stack([red, green, blue])[:, None].expand(-1, 3, -1, -1), 8.0).save(path)
    return path


def first_frame(path, height, width):
    """The first frame that a decoder sends, uint8 (3, 1, H, W)."""
    pipe = io.BytesIO()
    request = Request("video", Limits(), "mov", height=height, width=width, threads=1)
    with path.open("rb") as file:
        facts = containers.read(file, request, Channel(pipe, 1 << 30))
    pipe.seek(0)
    while header := pipe.read(HEADER.size):
        kind, length = HEADER.unpack(header)
        payload = bytearray(pipe.read(length))
        if kind == FRAME:
            frame = torch.frombuffer(payload, dtype=torch.uint8, offset=TIME.size)
            return frame.view(facts["height"], facts["width"], 3).permute(2, 0, 1)[:, None]


@pytest.mark.parametrize(("height", "width"), [(64, 112), (40, 40), (36, 60)])
def test_averaging_a_picture_that_shrinks_much_is_nearly_what_bicubic_gives(picture, monkeypatch, height, width):
    found = first_frame(picture, height, width)
    monkeypatch.setattr(tracks, "AVERAGED_FROM", 1e9)
    wanted = first_frame(picture, height, width)
    assert found.shape == (3, 1, height, width) and 35 < psnr(found, wanted) < 80


def test_a_picture_that_shrinks_little_is_scaled_by_bicubic(picture, monkeypatch):
    found = first_frame(picture, 180, 320)
    monkeypatch.setattr(tracks, "AVERAGED_FROM", 1e9)
    assert torch.equal(found, first_frame(picture, 180, 320))
