import io
from fractions import Fraction

import av
import pytest
import torch

from videopoet.media import containers
from videopoet.media.protocol import FRAME, HEADER, SOUND, TIME, Channel, Limits, Request
from videopoet.media.types import Audio, Video


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """Four seconds at 30 frames a second of a ground that slides by, with frames that no other frame is made from."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    generator = torch.Generator().manual_seed(0)
    ground = torch.nn.functional.interpolate(torch.rand(1, 3, 12, 48, generator=generator), (96, 384), mode="bicubic")
    frames = torch.stack([ground[0, :, :, k : k + 128] for k in range(120)], dim=1).clamp(0, 1) * 2 - 1
    tone = torch.sin(torch.arange(64_000) * 0.05)[None] * 0.5
    Video.from_pixels(frames, 30.0, Audio(tone, 16_000)).save(path)
    return path


def read(path, frame_rate, threads=1, start=None):
    """The frames and the sound that a decoder sends."""
    pipe = io.BytesIO()
    request = Request(
        "video", Limits(), "mov", height=48, width=64, frame_rate=frame_rate, threads=threads, start=start
    )
    with path.open("rb") as file:
        facts = containers.read(file, request, Channel(pipe, 1 << 30))
    pipe.seek(0)
    frames, sound = [], []
    while header := pipe.read(HEADER.size):
        kind, length = HEADER.unpack(header)
        payload = pipe.read(length)
        if kind == FRAME:
            frames.append(payload)
        elif kind == SOUND:
            sound.append((TIME.unpack_from(payload)[0], payload[TIME.size :]))
    return frames, sound, facts


@pytest.fixture
def decoded(monkeypatch):
    """How many frames the decoder gave."""
    count = []
    picture = containers.VideoTrack.decode

    def counted(self, *given):
        for found in picture(self, *given):
            count.append(found[0])
            yield found

    monkeypatch.setattr(containers.VideoTrack, "decode", counted)
    return count


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("frame_rate", [8.0, 7.3, 15.0, 30.0, 50.0, None])
def test_frames_left_out_change_no_frame_that_is_kept(film, monkeypatch, frame_rate, threads):
    frames, sound, facts = read(film, frame_rate, threads)
    monkeypatch.setattr(containers.Lookahead, "_is_wanted", lambda self, packet: True)
    assert (frames, sound, facts) == read(film, frame_rate, threads) and len(frames) > 25


def test_frames_that_nobody_sees_are_not_decoded(film, decoded):
    read(film, 8.0)
    seldom = len(decoded)
    decoded.clear()
    read(film, 30.0)
    assert len(decoded) == 120 and seldom < 100


@pytest.fixture(scope="module")
def long_film(film, tmp_path_factory):
    """The film six times over, with a key frame each second."""
    path = tmp_path_factory.mktemp("long") / "film.mp4"
    with av.open(str(film)) as source, av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt, stream.codec_context.gop_size = 128, 96, "yuv420p", 30
        for k, frame in enumerate(list(source.decode(video=0)) * 6):
            frame.pts, frame.time_base = k, Fraction(1, 30)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("frame_rate", [8.0, 30.0, None])
def test_what_comes_long_before_a_time_is_not_decoded(long_film, decoded, frame_rate):
    whole, _, _ = read(long_film, frame_rate)
    decoded.clear()
    rest, _, _ = read(long_film, frame_rate, start=22.5)
    pictures, wanted = ([frame[TIME.size :] for frame in frames] for frames in (rest, whole[-len(rest) :]))
    assert pictures == wanted and round(1.5 * (frame_rate or 30)) <= len(rest) <= 45
    assert len(decoded) < 5 * 30


def test_a_container_that_cannot_be_gone_through_is_decoded_from_its_beginning(long_film, decoded, monkeypatch):
    found = read(long_film, 8.0, start=22.5)
    decoded.clear()
    monkeypatch.setattr(containers.Packets, "go_to", lambda *_: False)
    assert read(long_film, 8.0, start=22.5) == found and len(decoded) > 10 * 30


def test_sound_comes_in_pieces_of_a_fifth_of_a_second_and_loses_nothing(film):
    _, sound, facts = read(film, 8.0)
    lengths = [len(data) // 4 / facts["sample_rate"] for _, data in sound]
    assert all(0.2 <= length < 0.3 for length in lengths[:-1]) and 3.9 < sum(lengths) < 4.2
    ends = [time + length for (time, _), length in zip(sound, lengths, strict=True)]
    assert all(abs(end - time) < 0.05 for end, (time, _) in zip(ends, sound[1:], strict=False))
