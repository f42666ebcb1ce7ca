"""Broken, hostile and unsuitable files end in one of our errors; whatever happens to the child, the parent lives."""

import os
import re
import socket
import struct
import subprocess
import sys
import threading
import zlib
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import pytest
import torch
from PIL import Image as Pillow

from videopoet.data.reel import LONG
from videopoet.errors import MediaError
from videopoet.media import sandbox
from videopoet.media.files import probe, read_audio, read_image, read_video
from videopoet.media.protocol import Limits
from videopoet.media.sandbox import stream


def refused(read, path, code: str, **wanted) -> str:
    """Check that a file is refused with this code by a message that gives nothing away; return the message."""
    with pytest.raises(MediaError) as caught:
        read(path, **wanted)
    message = str(caught.value)
    assert caught.value.code == code, message
    assert message.startswith(Path(path).name[:4]) and message.count(";") >= 2 and "\n" not in message
    assert not re.search(r"0x[0-9a-f]{6,}|Traceback|/tmp|/home", message)
    return message


# Files that cannot be read


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("empty.mp4", b"", "media_empty"),
        ("text.mp4", b"once upon a time", "media_unrecognised"),
        ("half.png", b"\x89PNG\r\n\x1a\n\x00\x00", "media_corrupt"),
        ("half.mp4", b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00", "media_corrupt"),
        ("half.webm", b"\x1aE\xdf\xa3\x01\x02", "media_corrupt"),
        ("half.wav", b"RIFF\x00\x00\x00\x00WAVEfmt ", "media_corrupt"),
        ("half.gif", b"GIF89a\x10\x00\x10\x00", "media_corrupt"),
        ("list.mp4", b"#EXTM3U\n#EXTINF:1,\nother.ts\n", "media_type_unsupported"),
        ("drawing.png", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "media_type_unsupported"),
        ("scan.png", b"II*\x00\x08\x00\x00\x00", "media_type_unsupported"),
    ],
)
def test_what_is_no_whole_file_of_a_known_kind_is_refused(tmp_path, name, content, code):
    (tmp_path / name).write_bytes(content)
    for read in (read_video, read_image) if code == "media_corrupt" else (read_video, read_image, read_audio, probe):
        refused(read, tmp_path / name, code)


def test_places_that_are_no_files_are_refused(tmp_path):
    refused(read_video, tmp_path / "nowhere.mp4", "media_missing")
    refused(read_video, tmp_path / "nowhere" / "clip.mp4", "media_missing")
    refused(read_video, tmp_path, "media_is_folder")
    os.mkfifo(tmp_path / "pipe.mp4")
    refused(read_video, tmp_path / "pipe.mp4", "media_unreadable")
    refused(read_video, tmp_path / "null\x00.mp4", "media_unreadable")


def test_every_cut_and_every_flipped_byte_ends_in_a_clip_or_an_error(clip_path, tmp_path):
    whole = clip_path.read_bytes()
    path = tmp_path / "cut.mp4"
    path.write_bytes(whole[:406])
    refused(read_video, path, "codec_unsupported")
    for kept in (len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:kept])
        refused(read_video, path, "media_corrupt")
    generator = torch.Generator().manual_seed(0)
    for _ in range(12):
        damaged = bytearray(whole)
        for place in torch.randint(0, len(whole), (8,), generator=generator).tolist():
            damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        try:
            read_video(path, max_frames=17)
        except MediaError as error:
            assert error.code != "decoder_crashed"


def test_a_picture_with_a_wrong_checksum_is_refused(tmp_path):
    Pillow.new("RGB", (64, 64), (1, 2, 3)).save(tmp_path / "picture.png")
    data = bytearray((tmp_path / "picture.png").read_bytes())
    data[data.index(b"IDAT") + 20] ^= 0xFF
    (tmp_path / "picture.png").write_bytes(data)
    refused(read_image, tmp_path / "picture.png", "media_corrupt")


# Files of another kind than asked for


def test_a_track_that_is_not_there_is_named(clip, clip_path, tmp_path):
    clip.audio.save(tmp_path / "sound.wav")
    Pillow.new("RGB", (16, 16)).save(tmp_path / "picture.png")
    assert "sound only" in refused(read_video, tmp_path / "sound.wav", "no_video_stream")
    refused(read_image, tmp_path / "sound.wav", "no_video_stream")
    refused(read_video, tmp_path / "picture.png", "no_video_stream")
    refused(read_audio, tmp_path / "picture.png", "no_audio_stream")
    refused(read_image, clip_path, "image_animated")


def encoded(path, codec: str, pixel_format: str, size: int = 16, num_frames: int = 2, **options) -> None:
    with av.open(str(path), "w", **options) as container:
        stream = container.add_stream(codec, rate=8, options={"preset": "ultrafast"} if codec == "libx264" else {})
        stream.width = stream.height = size
        stream.pix_fmt = pixel_format
        picture = av.VideoFrame(size, size, pixel_format)
        for plane in picture.planes:
            plane.update(bytes([128]) * plane.buffer_size)
        for k in range(num_frames):
            picture.pts, picture.time_base = k, Fraction(1, 8)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))


def test_a_rare_codec_is_named_and_not_run(tmp_path):
    encoded(tmp_path / "rare.avi", "magicyuv", "gbrp")
    assert "'magicyuv'" in refused(read_video, tmp_path / "rare.avi", "codec_unsupported")
    refused(probe, tmp_path / "rare.avi", "codec_unsupported")


def test_an_encrypted_clip_is_named(tmp_path):
    secret = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "0" * 32, "encryption_kid": "1" * 32}
    encoded(tmp_path / "locked.mp4", "libx264", "yuv420p", container_options=secret)
    refused(read_video, tmp_path / "locked.mp4", "media_encrypted")


# Limits


def test_a_huge_picture_is_refused_by_its_header(tmp_path):
    path = tmp_path / "huge.png"
    Pillow.new("RGB", (16, 16)).save(path)
    data = bytearray(path.read_bytes())
    header = b"IHDR" + struct.pack(">II", 30_000, 30_000) + data[24:29]
    data[12:33] = header + struct.pack(">I", zlib.crc32(header))
    path.write_bytes(data)
    assert "30000x30000" in refused(read_image, path, "image_too_large")


def test_slivers_are_refused(tmp_path):
    Pillow.new("RGB", (1, 10_000)).save(tmp_path / "line.png")
    refused(read_image, tmp_path / "line.png", "image_too_small")


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        (Limits(frame_pixels=64 * 80 - 1), "video_too_large"),
        (Limits(frames=16), "video_too_long"),
        (Limits(seconds=1.9), "video_too_long"),
        (Limits(output_bytes=17 * 64 * 80 * 3 - 1), "video_too_large"),
    ],
)
def test_a_clip_beyond_a_limit_is_refused_and_not_cut(clip_path, limits, code):
    refused(read_video, clip_path, code, limits=limits)


@pytest.mark.parametrize(
    "limits", [Limits(frames=9), Limits(seconds=1.2), Limits(output_bytes=9 * 64 * 80 * 3 + 100_000)]
)
def test_limits_count_from_where_reading_begins(clip_path, limits):
    assert read_video(clip_path, start=1.0, limits=limits).num_frames == 9


def test_a_clip_at_its_limits_is_read(clip_path):
    output_bytes = 17 * 64 * 80 * 3 + 36_000 * 4
    limits = Limits(frame_pixels=64 * 80, frames=17, seconds=2.2, output_bytes=output_bytes)
    assert read_video(clip_path, limits=limits).num_frames == 17


def test_a_bomb_is_refused(tmp_path):
    encoded(tmp_path / "bomb.mp4", "libx264", "yuv420p", size=2048, num_frames=200)
    refused(read_video, tmp_path / "bomb.mp4", "video_too_large")
    assert read_video(tmp_path / "bomb.mp4", height=64, width=64, max_frames=2).num_frames == 2


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone has it")
def test_memory_beyond_the_limit_is_an_error(clip_path, tmp_path):
    encoded(tmp_path / "large.mp4", "libx264", "yuv420p", size=4096)
    for megabytes in (180, 200, 240):  # Of the first two FFmpeg says that the data is bad.
        limits = Limits(memory_bytes=megabytes << 20)
        refused(read_video, tmp_path / "large.mp4", "media_too_large", limits=limits)
    Pillow.new("RGB", (8000, 8000)).save(tmp_path / "large.png")
    refused(read_image, tmp_path / "large.png", "media_too_large", limits=Limits(memory_bytes=240 << 20))


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        ({"height": 0}, "height_invalid"),
        ({"width": 100_000}, "width_invalid"),
        ({"frame_rate": 0.0}, "frame_rate_invalid"),
        ({"frame_rate": float("nan")}, "frame_rate_invalid"),
        ({"max_frames": 0}, "max_frames_invalid"),
        ({"max_seconds": -1.0}, "max_seconds_invalid"),
        ({"start": -1.0}, "start_invalid"),
        ({"start": float("nan")}, "start_invalid"),
        ({"fit": "stretch"}, "fit_invalid"),
    ],
)
def test_wishes_out_of_range_are_refused(clip_path, wanted, code):
    with pytest.raises(MediaError) as caught:
        read_video(clip_path, **wanted)
    assert caught.value.code == code


# Names


@pytest.mark.parametrize(
    "name", ["-y.mp4", "concat:a|b.mp4", "subfile,,start,0,end,9,,:x.mp4", "%d.mp4", "紙の船 ü.mp4", "a\nb\x1b[31m.mp4"]
)
def test_a_name_is_only_a_name(clip, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    clip.save(name)
    assert [file.name for file in tmp_path.iterdir()] == [name]
    assert probe(name).num_frames == 17


def test_a_name_that_is_no_unicode_is_read(clip_path, tmp_path):
    name = os.path.join(os.fsencode(tmp_path), b"clip\xff.mp4")
    with open(name, "wb") as file:
        file.write(clip_path.read_bytes())
    assert probe(os.fsdecode(name)).num_frames == 17


def test_what_a_terminal_would_obey_stays_out_of_messages(tmp_path):
    (tmp_path / "a\nb\x1b[31m.mp4").write_bytes(b"")
    with pytest.raises(MediaError) as caught:
        read_video(tmp_path / "a\nb\x1b[31m.mp4")
    assert str(caught.value).isprintable()


# The child


def as_child(monkeypatch, code: str) -> None:
    monkeypatch.setattr(sandbox, "CHILD", ("-c", code))


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
        ("import os; os.abort()", "SIGABRT"),
        ("raise SystemExit(3)", "status 3"),
        ("print('no message at all')", "status 0"),
        ("import sys; sys.stdout.buffer.write(b'f' + (1 << 40).to_bytes(8, 'little'))", "status"),
        ("import sys; sys.stdout.buffer.write(b'e' + (1 << 30).to_bytes(8, 'little') + b'x')", "status"),
        ("import sys; sys.stdout.buffer.write(b'f' + (100).to_bytes(8, 'little') + b'x')", "status 0"),
    ],
)
def test_a_child_that_crashes_is_an_error_and_the_next_one_works(clip_path, monkeypatch, code, reason):
    as_child(monkeypatch, code)
    assert reason in refused(read_video, clip_path, "decoder_crashed")
    monkeypatch.undo()
    assert probe(clip_path).num_frames == 17


def test_a_child_that_hangs_is_ended_at_the_deadline(clip_path, monkeypatch):
    as_child(monkeypatch, "while True: pass")
    refused(read_video, clip_path, "media_timeout", limits=Limits(deadline_seconds=0.5))


BUSY = (
    "import sys; from videopoet.media import decoder, protocol\n"
    "decoder.confine(protocol.Request.from_json(sys.argv[1]).limits)\n"
    "while True: pass"
)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such limits")
def test_a_child_that_used_up_its_processor_time_is_named_for_that(clip_path, monkeypatch):
    as_child(monkeypatch, BUSY)
    said = refused(read_video, clip_path, "media_timeout", limits=Limits(deadline_seconds=60, processors=1 / 60))
    assert "took 1 s of a processor" in said


def test_a_child_that_is_read_as_it_decodes_may_take_all_the_time_that_it_needs(clip_path, monkeypatch):
    limits = replace(LONG, deadline_seconds=1.0)
    unlimited = "import resource; sys.exit(7 * (resource.getrlimit(resource.RLIMIT_CPU)[0] == resource.RLIM_INFINITY))"
    as_child(monkeypatch, BUSY.replace("while True: pass", unlimited))
    with pytest.raises(MediaError, match="exit status 7"):
        list(stream(clip_path, what="video", limits=limits))
    as_child(monkeypatch, BUSY)
    with pytest.raises(MediaError, match="did not end within 1 s"):
        list(stream(clip_path, what="video", limits=limits))


def test_a_confined_child_opens_no_file_and_no_connection(tmp_path):
    listener = socket.create_server(("127.0.0.1", 0))
    canary = tmp_path / "canary.txt"
    canary.write_text("canary")
    attempts = (
        f"open({str(canary)!r})",
        f"open({str(tmp_path / 'new.txt')!r}, 'w')",
        f"socket.create_connection(('127.0.0.1', {listener.getsockname()[1]}), 1)",
        "bytearray(3 << 30)",
    )
    for attempt in attempts:
        code = (
            "import os, socket\nfrom videopoet.media.decoder import confine\n"
            f"from videopoet.media.protocol import Limits\nconfine(Limits())\ntry:\n    {attempt}\n"
            "except (OSError, MemoryError):\n    print('refused')"
        )
        finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
        assert finished.stdout == "refused\n", attempt
    listener.setblocking(False)
    with pytest.raises(BlockingIOError):
        listener.accept()
    listener.close()
    assert not (tmp_path / "new.txt").exists()


def test_the_child_knows_no_secret_of_its_parent(clip_path, monkeypatch):
    monkeypatch.setenv("VIDEOPOET_SECRET", "canary")
    code = "import os, sys; sys.exit(7 if 'canary' in str(os.environ) or os.listdir() else 5)"
    as_child(monkeypatch, code)
    assert "status 5" in refused(read_video, clip_path, "decoder_crashed")


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone has it")
def test_reading_leaves_no_process_file_or_thread_behind(clip_path):
    read_video(clip_path, max_frames=1)
    before = len(os.listdir("/proc/self/fd")), num_threads()
    for _ in range(3):
        read_video(clip_path, max_frames=1)
    assert (len(os.listdir("/proc/self/fd")), num_threads()) == before


def num_threads():
    """Without those that some other library started below Python and that `threading` came to know later."""
    return sum(not isinstance(thread, threading._DummyThread) for thread in threading.enumerate())


def test_the_child_starts_without_torch():
    code = (
        "import videopoet.media.decoder, videopoet.media.containers, videopoet.media.pictures, sys; print(*sys.modules)"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    modules = finished.stdout.split()
    assert "av" in modules and "torch" not in modules and "numpy" not in modules
