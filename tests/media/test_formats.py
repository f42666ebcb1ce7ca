import io
import struct

import pytest

from videopoet.media import formats


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"\x00\x00\x00\x20ftypisom", "mp4"),
        (b"\x00\x00\x00\x08wide\x00\x00", "mp4"),
        (b"\x1aE\xdf\xa3\x01", "matroska"),
        (b"RIFF\x00\x00\x00\x00AVI LIST", "avi"),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", "wav"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "webp"),
        (b"OggS\x00", "ogg"),
        (b"fLaC\x00", "flac"),
        (b"ID3\x04", "mp3"),
        (b"\xff\xfb\x90\x64", "mp3"),
        (b"GIF89a", "gif"),
        (b"\x89PNG\r\n\x1a\n", "png"),
        (b"\xff\xd8\xff\xe0", "jpeg"),
        ((b"\x47" + b"\x00" * 187) * 3, "mpeg-ts"),
        ((b"\x12\x34\x56\x78\x47" + b"\x00" * 187) * 3, "mpeg-ts"),
    ],
)
def test_what_is_read_is_known_by_its_first_bytes(head, name):
    found = formats.sniff(head)
    assert found is not None and found.name == name and found.accepted


@pytest.mark.parametrize(
    "head",
    [
        b"#EXTM3U\n#EXT-X-VERSION:3\n",
        b"\xef\xbb\xbf#EXTM3U\n",
        b"  \n#EXTM3U\n",
        b"ffconcat version 1.0\nfile 'x.mp4'\n",
        b'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011">',
        b"v=0\no=- 0 0 IN IP4 127.0.0.1\n",
        b'<svg xmlns="http://www.w3.org/2000/svg">',
        b"\x00\x00\x00\x20ftypavif",
        b"\x00\x00\x00\x20ftypheic",
        b"II*\x00",
        b"8BPS",
        b"SIMPLE  =",
        b"%PDF-1.7",
        b"%!PS-Adobe",
        b"FLV\x01",
    ],
)
def test_playlists_and_other_types_are_known_and_not_read(head):
    found = formats.sniff(head)
    assert found is not None and not found.accepted


@pytest.mark.parametrize("head", [b"hello there", b"\x00" * 64, b"\xff\xff\xff\xff", b"x"])
def test_what_is_like_nothing_is_nothing(head):
    assert formats.sniff(head) is None


@pytest.mark.parametrize(("claimed", "missing"), [(100, 0), (101, 1), (1 << 31, (1 << 31) - 100), (0xFFFFFFFF, 0)])
def test_a_wav_that_promises_too_much_is_found_out(claimed, missing):
    body = b"WAVEfmt " + struct.pack("<I", 16) + bytes(16) + b"data" + struct.pack("<I", claimed) + bytes(100)
    assert formats.missing_wav_bytes(io.BytesIO(b"RIFF" + struct.pack("<I", len(body)) + body)) == missing
