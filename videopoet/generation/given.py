"""What a request is given, read and brought to the window's size and rate.

What stylization takes of a clip is in `given_structure`. A warning says what a task leaves out of a clip;
`start` is always the seconds into it at which it begins to be used.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from videopoet.errors import MediaError, TaskError
from videopoet.generation.window import Shape
from videopoet.media.files import Limits, probe, read_audio, read_image, read_video
from videopoet.media.resample import resample_audio, resample_frames, resize_and_crop
from videopoet.media.sandbox import refusal
from videopoet.media.selection import beyond_end
from videopoet.media.types import Audio, Image, Video

Timed = TypeVar("Timed", Video, Audio)

LIMITS = Limits(seconds=60.0)
"""What a given file may cost; its length also bounds the work."""
SAME_SHAPE = 0.02
"""How much two shapes, width over height, may differ and still count as one."""
SILENT = 1e-4
"""Samples that are all nearer to 0 than this are no sound."""
OTHER_SHAPES = (
    "outpainting without a mask keeps a clip whole, and --height and --width choose another shape where task and model "
    "make it"
)
"""What to do about a clip that is cut to the window's shape."""
MOMENT = 0.1
"""Seconds beyond a window that are read of a sound, to know whether there is more of it."""
HELD_SHARE = 0.9
"""How much of what a file may cost its frames may take, so that its sound has room too."""


def picture(given: str | Path | Image, window: Shape) -> Tensor:
    """Pixels of a picture, (3, 1, H, W)."""
    if not isinstance(given, Image):
        given = read_image(given, height=window.height, width=window.width)
    return Image(resize_and_crop(given.frame, window.height, window.width)).pixels()[:, None]


def clip(
    given: str | Path | Video,
    window: Shape,
    *,
    start: float | None = None,
    height: int | None = None,
    width: int | None = None,
    max_frames: int | None = None,
) -> Video:
    """A clip at the window's frame rate and size, or that given, as long as it is or as `max_frames` says."""
    height, width = height or window.height, width or window.width
    if isinstance(given, Video):
        given = resample_frames(_cut(given, start), window.frame_rate)
        # One by one: all of them as floats would need four times the memory of the clip.
        frames = [resize_and_crop(frame, height, width) for frame in given.frames[:, :max_frames].unbind(1)]
        return Video(torch.stack(frames, dim=1), given.frame_rate, given.audio)
    return read_video(
        given,
        height=height,
        width=width,
        frame_rate=window.frame_rate,
        start=start,
        max_frames=max_frames,
        limits=LIMITS,
    )


def kept_clip(
    given: str | Path | Video, window: Shape, start: float | None, use: str = "what goes on from a clip keeps"
) -> Video:
    """A clip at the window's frame rate and size, as long as it is, to be kept; `use` is what messages say of that.

    Raises:
        MediaError: The file is missing, broken or longer than is kept; says where to start in it.
    """
    with _said_where_to_begin(given, use):
        return clip(given, window, start=start)


def picture_or_clip(given: str | Path | Video, window: Shape) -> str | Path | Video:
    """What is given, of a picture a clip of that one frame."""
    if isinstance(given, Video) or probe(given, limits=LIMITS).kind != "image":
        return given
    return Video(read_image(given, limits=LIMITS).frame[:, None], window.frame_rate)


def untouched_clip(given: str | Path | Video, start: float | None = None) -> Video:
    """A clip as it is, to be upscaled.

    Raises:
        MediaError: As `kept_clip`.
    """
    if isinstance(given, Video):
        return _cut(given, start)
    with _said_where_to_begin(given, "upscaling takes"):
        return read_video(given, start=start, limits=LIMITS)


def clip_to_hear(given: str | Path | Video, start: float | None, warnings: list[str]) -> Video:
    """A clip as it is, of a long or large file as much as can be held."""
    if isinstance(given, Video):
        return _cut(given, start)
    facts = probe(given, limits=LIMITS)
    frame_bytes = 3 * (facts.height or 1) * (facts.width or 1)
    most = max(1, min(LIMITS.frames, int(HELD_SHARE * LIMITS.output_bytes / frame_bytes)))
    made = read_video(given, start=start, max_frames=most, max_seconds=LIMITS.seconds, limits=LIMITS)
    is_cut = made.num_frames == most or made.num_frames >= int(LIMITS.seconds * made.frame_rate)
    if is_cut and (facts.seconds is None or facts.seconds - (start or 0.0) > made.seconds + 0.5):
        warnings.append(
            f"the clip is longer than {made.seconds:.3g} seconds, and that is as much as is taken of one of "
            f"{made.width}x{made.height} pixels; {_where(start)}"
        )
    return made


def size_of(given: str | Path | Video) -> tuple[int, int]:
    """Height and width of a clip, upright and in square pixels."""
    if isinstance(given, Video):
        return given.height, given.width
    facts = probe(given, limits=LIMITS)
    if facts.height is None or facts.width is None:
        raise MediaError(
            f"{Path(given).name}: it holds sound only; a track of video is needed; use another file",
            code="no_video_stream",
        )
    return facts.height, facts.width


def first_window(
    given: str | Path | Video,
    window: Shape,
    warnings: list[str],
    *,
    start: float | None = None,
    height: int | None = None,
    width: int | None = None,
) -> Video:
    """What of a clip fits into one window, at the window's size or that given."""
    is_file = not isinstance(given, Video)
    most = window.num_frames + 1 if is_file else None
    made = clip(given, window, start=start, height=height, width=width, max_frames=most)
    if made.num_frames > window.num_frames:
        length = window.num_frames if is_file else made.num_frames
        warnings.append(
            f"the clip has {'more than ' if is_file else ''}{length} frames at {made.frame_rate:g} a second; this task "
            f"takes the first {window.num_frames}; {_where(start)}"
        )
    return Video(made.frames[:, : window.num_frames], made.frame_rate, made.audio)


def end_of(given: Video, num_frames: int) -> Tensor:
    """The last pixels of a clip, (3, T, H, W), to go on from.

    Raises:
        MediaError: The clip is shorter.
    """
    if given.num_frames < num_frames:
        raise MediaError(
            f"the clip has {given.num_frames} frames at {given.frame_rate:g} a second; {num_frames} are needed to go "
            "on from; give a longer one",
            code="video_too_short",
        )
    return Video(given.frames[:, -num_frames:], given.frame_rate).pixels()


def sound(given: str | Path | Audio, window: Shape, start: float | None, warnings: list[str]) -> Audio:
    """A sound as it is, of a file no more than one window needs and a moment."""
    if isinstance(given, Audio):
        heard = _cut(given, start)
    else:
        heard = read_audio(given, start=start, max_seconds=window.seconds + MOMENT, limits=LIMITS)
    if not heard.num_samples or heard.samples.abs().max() < SILENT:
        warnings.append("the given sound is silent")
    return heard


def whole_sound(given: Audio, window: Shape, start: float | None, warnings: list[str]) -> Tensor:
    """A window's samples, (1, S), of a sound; it goes on in silence where it is shorter."""
    if given.seconds > window.seconds:
        warnings.append(
            f"the sound is longer than {window.seconds:g} seconds; this task takes the first so many; {_where(start)}"
        )
    samples = resample_audio(given, window.sample_rate).samples[:, : window.num_samples]
    return F.pad(samples, (0, window.num_samples - samples.shape[1]))


def beginning_of(given: Audio, window: Shape, num_samples: int) -> Tensor:
    """The first samples of a sound, (1, S), to go on from.

    Raises:
        MediaError: The sound is shorter.
    """
    samples = resample_audio(given, window.sample_rate).samples
    if samples.shape[1] < num_samples:
        raise MediaError(
            f"the sound is {given.seconds:.3g} seconds long; {num_samples / window.sample_rate:g} are needed to go on "
            "from; give a longer one",
            code="audio_too_short",
        )
    return samples[:, :num_samples]


def mask_frames(given: str | Path | Image | Video, num_frames: int, window: Shape) -> tuple[Tensor, str]:
    """A picture or a clip that marks pixels, uint8 (3, 1 or num_frames, H, W) at its own size; and which it is.

    Raises:
        MediaError: The file is missing or broken.
        TaskError: The clip is shorter.
    """
    return over_time("mask", given, num_frames, window)


def check_shape(name: str, size: tuple[int, int], clip_size: tuple[int, int], window: Shape) -> None:
    """Refuse what is neither of the shape of the clip that it belongs to nor of the result's; sizes may differ.

    Raises:
        TaskError: It is of neither shape.
    """
    if not same_shape(size, clip_size) and not same_shape(size, (window.height, window.width)):
        raise TaskError(
            f"the {name} is {size[1]}x{size[0]} pixels and the clip {clip_size[1]}x{clip_size[0]}; it must have the "
            f"shape of the clip, or that of the result, {window.width}x{window.height}, at any size; export it again",
            code=f"{name}_shape",
        )


@contextlib.contextmanager
def _said_where_to_begin(given: str | Path | Video, use: str) -> Iterator[None]:
    """Where a file turns out to be longer than is taken of one, say from when on it is not."""
    try:
        yield
    except MediaError as error:
        if error.code != "video_too_long" or isinstance(given, Video):
            raise
        seconds = probe(given, limits=LIMITS).seconds
        found, late = f"more than {LIMITS.seconds:g} s", "later in it"
        if seconds is not None and seconds > LIMITS.seconds:
            found, late = f"{seconds:.1f} s", f"at {math.ceil(10 * (seconds - LIMITS.seconds)) / 10:.1f} s or later"
        raise refusal(
            Path(given),
            "video_too_long",
            f"it lasts {found}; {use} {LIMITS.seconds:g} s of it at most; begin {late}, with --start",
        ) from None


def _where(start: float | None) -> str:
    """The end of a warning that only the beginning of something is used."""
    return "--start says where in it to begin" + (f", now at {start:g} s" if start else "")


def _cut(given: Timed, start: float | None) -> Timed:
    """What comes from a time on; of a clip, from the frame on screen then, with the sound from there on.

    Raises:
        MediaError: It ends earlier.
    """
    if not start:
        return given
    if start >= given.seconds:
        late = beyond_end(start, given.seconds)
        raise MediaError(f"the given {type(given).__name__.lower()}: {late}", code=late.code)
    if isinstance(given, Audio):
        first = min(round(start * given.sample_rate), given.num_samples - 1)
        return Audio(given.samples[:, first:], given.sample_rate)
    first, heard = min(int(start * given.frame_rate + 1e-6), given.num_frames - 1), given.audio
    if heard is not None:
        samples = heard.samples[:, round(first / given.frame_rate * heard.sample_rate) :]
        heard = Audio(samples, heard.sample_rate) if samples.shape[1] else None
    return Video(given.frames[:, first:], given.frame_rate, heard)


def same_shape(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether one (height, width) scales to the other, give or take a pixel or a fiftieth."""
    return abs(size[1] / size[0] * other[0] - other[1]) <= max(1.0, SAME_SHAPE * other[1])


def say_cut(given: str | Path | Image | Video, window: Shape, warnings: list[str], remedy: str = OTHER_SHAPES) -> None:
    """Warn where a picture or clip is of another shape than the window, which shows its middle alone.

    Raises:
        MediaError: A file is missing, broken or sound only.
    """
    height, width = (given.height, given.width) if isinstance(given, Image) else size_of(given)
    if same_shape((height, width), (window.height, window.width)):
        return
    share = window.width / window.height * height / width
    warnings.append(
        f"what is given is {width}x{height} and is used at {window.width}x{window.height}: the middle "
        f"{100 * min(share, 1 / share):.0f}% of its {'width' if share < 1 else 'height'}; {remedy}"
    )


def over_time(name: str, given: str | Path | Image | Video, num_frames: int, window: Shape) -> tuple[Tensor, str]:
    """A picture, (3, 1, H, W), or the frames of a clip that stand beside those of another, (3, num_frames, H, W)."""
    if isinstance(given, (str, Path)):
        kind = probe(given, limits=LIMITS).kind
        if kind == "image":
            given = read_image(given, limits=LIMITS)
        else:
            given = read_video(given, frame_rate=window.frame_rate, max_frames=num_frames, limits=LIMITS)
    if isinstance(given, Image):
        return given.frame[:, None], "picture"
    frames = resample_frames(given, window.frame_rate).frames[:, :num_frames]
    # Programs disagree by a frame about where a clip ends.
    if frames.shape[1] == num_frames - 1:
        frames = torch.cat([frames, frames[:, -1:]], dim=1)
    if frames.shape[1] < num_frames:
        raise TaskError(
            f"the {name} has {frames.shape[1]} frames at {window.frame_rate:g} a second and the clip {num_frames}; it "
            "must last as long as the clip, or be a still picture; give a longer one",
            code=f"{name}_too_short",
        )
    return frames, "clip"
