"""Pictures and animations by Pillow, inside the decoding child: PNG, JPEG, WebP and GIF."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

from PIL import Image, ImageColor, ImageFilter, ImageOps, ImagePalette, MpoImagePlugin, TiffImagePlugin, WebPImagePlugin

from videopoet.media.protocol import FRAME, TIME, Channel, Refusal, Request
from videopoet.media.selection import Placement, Sampler, check_pixels, constant_rate, place

# Pillow imports these only when it needs them, but a confined child can open no module.
Image.preinit()
PRELOADED = (ImageColor, ImageFilter, ImagePalette, MpoImagePlugin, TiffImagePlugin, WebPImagePlugin)

ORIENTATION = 0x0112
DEFAULT_MILLISECONDS = 100
"""How long browsers show a frame of an animation that asks for a hundredth of a second or less."""


def read(file: BinaryIO, request: Request, channel: Channel) -> dict[str, Any]:
    """Send what is asked for, and give the facts about it.

    Raises:
        Refusal: The file is broken, of a kind that is not read, or exceeds a limit.
    """
    Image.MAX_IMAGE_PIXELS = None  # Our own limit is checked, on the header alone, before anything is decoded.
    try:
        with Image.open(file, formats=[request.picture or ""]) as image:
            check_pixels(*image.size, request.limits.image_pixels, "image")
            return _read(image, request, channel)
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError) as error:
        # Pillow's plugins raise any of these on broken files.
        raise Refusal(
            "media_corrupt", "it cannot be decoded; a whole picture is needed; copy or export it again"
        ) from error


def _read(image: Image.Image, request: Request, channel: Channel) -> dict[str, Any]:
    # A phone's JPEG may hold further views of the same picture; the first is the picture.
    num_frames = 1 if image.format in ("JPEG", "MPO") else getattr(image, "n_frames", 1)
    if request.what == "audio":
        raise Refusal("no_audio_stream", "it is a picture; a track of sound is needed; use another file")
    if request.what == "facts":
        return _describe(image, num_frames)
    if request.what == "image" and num_frames > 1:
        raise Refusal(
            "image_animated",
            f"it is an animation of {num_frames} frames; a picture has one; read it as a video, or save one frame",
        )
    if request.what == "video" and num_frames == 1:
        raise Refusal("no_video_stream", "it is a still picture; a clip is needed; use it where a picture is asked for")

    sampler = Sampler(request, request.start)  # an animation begins at 0
    facts: dict[str, Any] = {}
    for time, frame in sampler.keep(_frames(image, num_frames)):
        placement = place(frame.width, frame.height, request)
        if not facts:
            facts = {"height": placement.height, "width": placement.width, "pixel_channels": len(frame.getbands())}
            channel.begin(**facts, origin=0.0, has_sound=False)
        channel.send(FRAME, TIME.pack(time), _fit(frame, placement).tobytes())
    return {**facts, "origin": 0.0, "end": sampler.end, "frame_rate": None}


def _frames(image: Image.Image, num_frames: int) -> Iterator[tuple[float, float, Image.Image]]:
    """The frames, upright, with the times they come and go; those of an animation may all be transparent."""
    start = 0
    for index in range(num_frames):
        image.seek(index)
        image.load()
        duration = round(image.info.get("duration", 0))
        end = start + (duration if duration > 10 else DEFAULT_MILLISECONDS)
        yield start / 1000, end / 1000, _eight_bits(ImageOps.exif_transpose(image), transparent=num_frames > 1)
        start = end


def _eight_bits(image: Image.Image, *, transparent: bool) -> Image.Image:
    """The picture in 8 bits, RGB, or RGBA if some of it is or may be transparent."""
    if image.mode.startswith("I"):
        image = image.point(lambda value: value * (1 / 257)).convert("L")  # 16-bit grey
    return image.convert("RGBA" if transparent or image.has_transparency_data else "RGB")


def _fit(image: Image.Image, placement: Placement) -> Image.Image:
    size = placement.scaled_width, placement.scaled_height
    if image.size != size:
        image = image.resize(size, Image.Resampling.BICUBIC)
    if size == (placement.width, placement.height):
        return image
    left, top = placement.left, placement.top
    if placement.scaled_width > placement.width or placement.scaled_height > placement.height:
        return image.crop((left, top, left + placement.width, top + placement.height))
    framed = Image.new(image.mode, (placement.width, placement.height), (0, 0, 0, 255)[: len(image.getbands())])
    framed.paste(image, (-left, -top))
    return framed


def _describe(image: Image.Image, num_frames: int) -> dict[str, Any]:
    width, height = image.size
    if image.getexif().get(ORIENTATION) in (5, 6, 7, 8):
        width, height = height, width
    comment = image.info.get("comment")
    facts = {"kind": "image", "height": height, "width": width, "num_frames": num_frames}
    facts["comment"] = comment.decode("utf-8", "replace") if isinstance(comment, bytes) else comment
    if num_frames > 1:
        times = [(start, end) for start, end, _ in _frames(image, num_frames)]
        end = times[-1][1]
        rate, _ = constant_rate([start for start, _ in times], end, None)
        facts |= {"kind": "video", "seconds": end, "frame_rate": rate}
    return facts
