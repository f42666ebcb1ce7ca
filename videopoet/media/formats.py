"""What kind of file this is, from its first bytes and never from its name, and which kinds are read."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

ACCEPTED = "mp4, mov, webm, mkv, avi, mpg, ts, gif, png, jpeg, webp, wav, flac, ogg and mp3"
HEAD_BYTES = 4096


@dataclass(frozen=True)
class Format:
    """A kind of file: its usual name, and FFmpeg's demuxer or Pillow's plugin if it is one that is read."""

    name: str
    demuxer: str | None = None
    picture: str | None = None

    @property
    def accepted(self) -> bool:
        return self.demuxer is not None or self.picture is not None


MP4 = Format("mp4", demuxer="mov")
MATROSKA = Format("matroska", demuxer="matroska")
MP3 = Format("mp3", demuxer="mp3")

_SIGNATURES = (
    (b"\x1aE\xdf\xa3", MATROSKA),
    (b"OggS", Format("ogg", demuxer="ogg")),
    (b"fLaC", Format("flac", demuxer="flac")),
    (b"ID3", MP3),
    (b"\x00\x00\x01\xba", Format("mpeg", demuxer="mpeg")),
    (b"GIF87a", Format("gif", picture="GIF")),
    (b"GIF89a", Format("gif", picture="GIF")),
    (b"\x89PNG\r\n\x1a\n", Format("png", picture="PNG")),
    (b"\xff\xd8\xff", Format("jpeg", picture="JPEG")),
    # Playlists name other files and hosts, so that opening one reads what its sender may not: never opened.
    (b"#EXTM3U", Format("an HLS playlist")),
    (b"ffconcat version", Format("an ffconcat playlist")),
    (b"v=0\r\n", Format("an SDP description")),
    (b"v=0\n", Format("an SDP description")),
    (b"FLV\x01", Format("flv")),
    (b"0&\xb2u\x8ef\xcf\x11", Format("wmv")),
    (b"II*\x00", Format("tiff")),
    (b"MM\x00*", Format("tiff")),
    (b"8BPS", Format("psd")),
    (b"SIMPLE  =", Format("fits")),
    (b"%PDF", Format("pdf")),
    (b"%!PS", Format("eps")),
    (b"\xc5\xd0\xd3\xc6", Format("eps")),
    (b"BM", Format("bmp")),
    (b"\x00\x00\x01\x00", Format("ico")),
    (b"FORM", Format("aiff")),
    (b"\x00\x00\x00\x0cjP  ", Format("jpeg 2000")),
    (b"\xff\x0a", Format("jpeg xl")),
    (b"PK\x03\x04", Format("zip")),
    (b"\x1f\x8b", Format("gzip")),
)
_RIFF = {
    b"AVI ": Format("avi", demuxer="avi"),
    b"WAVE": Format("wav", demuxer="wav"),
    b"WEBP": Format("webp", picture="WEBP"),
}
_PICTURE_BRANDS = {b"avif": "avif", b"avis": "avif", b"heic": "heic", b"heix": "heic", b"mif1": "heic", b"msf1": "heic"}
_ATOMS = (b"ftyp", b"moov", b"mdat", b"moof", b"wide", b"free", b"skip", b"pnot")


def sniff(head: bytes) -> Format | None:
    """The kind of file that begins with these bytes, or None when it is like nothing known."""
    if head[:4] in (b"RIFF", b"RF64"):
        return _RIFF.get(head[8:12], Format("another kind of riff"))
    if head[4:8] == b"ftyp" and head[8:12] in _PICTURE_BRANDS:
        return Format(_PICTURE_BRANDS[head[8:12]])
    if head[4:8] in _ATOMS:
        return MP4
    for signature, found in _SIGNATURES:
        if head.startswith(signature):
            return found
    # Packets of a transport stream are 188 bytes and begin with 0x47; cameras put 4 bytes of time before each.
    if any(head[first::step][:3] == b"\x47" * 3 for first, step in ((0, 188), (4, 192))):
        return Format("mpeg-ts", demuxer="mpegts")
    # An MP3 without tags begins with a frame: eleven set bits, then a version, a layer and a bit rate that exist.
    if len(head) > 2 and head[0] == 0xFF and head[1] & 0xE6 == 0xE2 and head[2] & 0xF0 != 0xF0:
        return MP3
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text.startswith(b"#EXT"):
        return Format("an HLS playlist")
    if text.startswith(b"<"):
        if b"<MPD" in head:
            return Format("a DASH playlist")
        return Format("svg" if b"<svg" in head else "a text with markup")
    return None


def missing_wav_bytes(file: BinaryIO) -> int:
    """How many bytes of sound a WAV promises beyond the end of the file; 0 also when it was written as a stream."""
    size = file.seek(0, 2)
    position = 12
    while position + 8 <= size:
        file.seek(position)
        name, length = struct.unpack("<4sI", file.read(8))
        if name == b"data":
            return 0 if length == 0xFFFFFFFF else max(0, position + 8 + length - size)
        position += 8 + length + length % 2
    return 0
