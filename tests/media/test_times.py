"""Files whose times are not as they should be: sound stays with its picture, or the file is refused."""

from fractions import Fraction

import av
import numpy as np
import pytest
import torch

from videopoet.data.reel import Reel
from videopoet.errors import MediaError
from videopoet.media.files import read_video
from videopoet.media.types import Audio, Video

RATE, SOUND_RATE = 25, 48_000
PACKET = 188
"""Bytes of a packet of a transport stream."""


def clicking(path, seconds, level, heard=True):
    """Write a transport stream or a program stream of one grey that clicks at each full second."""
    is_program = path.suffix == ".mpg"
    with av.open(str(path), "w", format="mpeg" if is_program else "mpegts") as container:
        video = container.add_stream("mpeg2video", rate=RATE)
        video.width = video.height = 64
        video.pix_fmt = "yuv420p"
        sound = container.add_stream("mp2", rate=SOUND_RATE, layout="mono")
        for k in range(round(seconds * RATE)):
            picture = av.VideoFrame.from_ndarray(np.full((64, 64, 3), level, np.uint8), format="rgb24")
            picture.pts, picture.time_base = k, Fraction(1, RATE)
            container.mux(video.encode(picture))
            size = SOUND_RATE // RATE
            samples = np.zeros((1, size), np.int16)
            if k % RATE == 0:
                samples[0, :400] = 25_000 * np.sin(np.arange(400) / 8)
            block = av.AudioFrame.from_ndarray(samples, format="s16p", layout="mono")
            block.sample_rate, block.pts, block.time_base = SOUND_RATE, k * size, Fraction(1, SOUND_RATE)
            if heard:
                container.mux(sound.encode(block))
        container.mux(video.encode(None))
        if heard:
            container.mux(sound.encode(None))


def clicks(video):
    """When it clicks, in seconds, to a fiftieth."""
    size = video.audio.sample_rate // 50
    is_loud = (video.audio.samples[0].abs().unfold(0, size, size).amax(1) > 0.3).tolist()
    return [k / 50 for k, now in enumerate(is_loud) if now and not (k and is_loud[k - 1])]


def changes(video):
    """When its grey changes, in seconds."""
    greys = video.frames.float().mean((0, 2, 3))
    return [(k + 1) / video.frame_rate for k in np.flatnonzero(greys.diff().abs() > 20)]


def joined(path, *parts):
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


@pytest.mark.parametrize("extension", ["ts", "mpg"])
def test_where_a_clock_begins_again_picture_and_sound_go_on_together(tmp_path, extension):
    parts = [tmp_path / f"{k}.{extension}" for k in range(3)]
    for k, (part, seconds) in enumerate(zip(parts, (4, 3, 2), strict=True)):
        clicking(part, seconds, 40 + 60 * k)
    video = read_video(joined(tmp_path / f"film.{extension}", *parts), frame_rate=RATE)
    assert changes(video) == pytest.approx([4, 7], abs=0.25)
    begins = [0, *changes(video)]
    assert clicks(video) == pytest.approx([begins[k] + n for k in range(3) for n in range(4 - k)], abs=0.12)


@pytest.mark.parametrize("extension", ["ts", "mpg"])
def test_a_start_counts_from_the_beginning_of_the_whole(tmp_path, extension):
    parts = [tmp_path / f"{k}.{extension}" for k in range(2)]
    for k, (part, seconds) in enumerate(zip(parts, (4, 8), strict=True)):
        clicking(part, seconds, 40 + 60 * k)
    film = joined(tmp_path / f"film.{extension}", *parts)
    assert changes(read_video(film, frame_rate=RATE, start=2.0)) == pytest.approx([2], abs=0.25)
    late = read_video(film, frame_rate=RATE, start=9.0)
    assert changes(late) == []
    assert late.num_frames == pytest.approx(3 * RATE, abs=8)


def test_a_part_without_sound_leaves_a_gap_and_moves_nothing(tmp_path):
    parts = [tmp_path / f"{k}.ts" for k in range(3)]
    for k, part in enumerate(parts):
        clicking(part, 4, 40 + 60 * k, heard=k != 1)
    video = read_video(joined(tmp_path / "film.ts", *parts), frame_rate=RATE)
    first, second = changes(video)
    assert second - first == pytest.approx(4, abs=0.1)
    assert clicks(video) == pytest.approx([0, 1, 2, 3, *(second + k for k in range(4))], abs=0.12)


def test_times_that_begin_again_in_one_track_alone_are_refused(tmp_path):
    clicking(tmp_path / "whole.ts", 8, 100)
    data = (tmp_path / "whole.ts").read_bytes()
    packets = [data[k : k + PACKET] for k in range(0, len(data), PACKET)]
    is_sound = [int.from_bytes(packet[1:3], "big") & 0x1FFF == 0x101 for packet in packets]
    sounds = iter([packet for packet, sound in zip(packets, is_sound, strict=True) if sound])
    half = len(packets) // 2
    for k in range(half, len(packets)):
        packets[k] = next(sounds) if is_sound[k] else packets[k]
    (tmp_path / "broken.ts").write_bytes(b"".join(packets))
    with pytest.raises(MediaError, match="begin again after 4.*convert it to mp4") as caught:
        read_video(tmp_path / "broken.ts")
    assert caught.value.code == "times_begin_again"


def test_sound_that_is_there_twice_does_not_drift(tmp_path):
    """Each second of sound holds a tenth and a half of one more than its times leave room for."""
    path, rate = tmp_path / "clip.mkv", 8000
    with av.open(str(path), "w") as container:
        video = container.add_stream("ffv1", rate=RATE)
        video.width = video.height = 16
        video.pix_fmt = "gray"
        sound = container.add_stream("pcm_s16le", rate=rate, layout="mono")
        for k in range(6 * RATE):
            picture = av.VideoFrame.from_ndarray(np.zeros((16, 16), np.uint8), format="gray")
            picture.pts, picture.time_base = k, Fraction(1, RATE)
            container.mux(video.encode(picture))
            if k % RATE == 0:
                samples = np.zeros((1, round(1.15 * rate)), np.int16)
                samples[0, rate // 2 : rate // 2 + 100] = 25_000
                block = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
                block.sample_rate, block.pts, block.time_base = rate, k // RATE * rate, Fraction(1, rate)
                container.mux(sound.encode(block))
        container.mux(video.encode(None))
        container.mux(sound.encode(None))
    expected = pytest.approx([k + 0.5 for k in range(6)], abs=0.11)
    assert clicks(read_video(path)) == expected
    reel = Reel(path, RATE, 16_000, ((16, 16),))
    assert len(list(reel)) == 6 * RATE
    heard = reel.sound.take(0.0, 6 * 16_000)
    assert clicks(Video(torch.zeros(3, 1, 16, 16, dtype=torch.uint8), RATE, Audio(heard[None], 16_000))) == expected
