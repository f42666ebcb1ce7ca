"""Writers: mp4 (H.264 and AAC, starts playing before it is whole), mkv (lossless), gif, png and wav.

Settings of how a clip was made travel as JSON in the file's comment; nothing else about this machine is written.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from videopoet.errors import MediaError
from videopoet.media.resample import resample_audio
from videopoet.media.types import Audio, Image, Video

if TYPE_CHECKING:
    import av
    import numpy as np
    from PIL import Image as Pillow

AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
H264 = {"crf": "17", "preset": "medium", "x264-params": "mbtree=0"}
"""Hardly visible loss. In narrow pictures x264's macroblock tree reads memory that it never wrote, so that with it the
same clip would not always give the same bytes."""
BT709 = 1
"""The number of BT.709 among colour spaces, primaries and transfer functions, as in ITU-T H.273."""
LIMITED_RANGE = 1


def comment(metadata: dict[str, Any]) -> str:
    """Metadata as the text that goes into a file's comment."""
    return json.dumps(metadata, ensure_ascii=False).encode("utf-8", "replace").decode()


def write_mp4(video: Video, path: Path, metadata: dict[str, Any] | None) -> None:
    """H.264 in yuv420p. Such a picture has even sides: an odd one gains a copy of its last row or column."""
    write_mp4_of_parts([video], path, metadata)


def write_mp4_of_parts(parts: Iterable[Video], path: Path, metadata: dict[str, Any] | None) -> None:
    """Parts of one size, rate and kind of sound, one after the other, of which only one is held at a time.

    How a clip is cut into parts does not change the file, unless its sample rate is none of AAC's: sound is then
    resampled part by part.

    Raises:
        MediaError: A part is unlike the first, or there is none.
    """
    import av

    parts = iter(parts)
    part = next(parts, None)
    if part is None:
        raise MediaError("the clip has no part; a file needs at least one frame; give one", code="video_invalid")
    with av.open(f"file:{path}", "w", format="mp4", options={"movflags": "+faststart", "fflags": "+bitexact"}) as file:
        if metadata:
            file.metadata["comment"] = comment(metadata)
        writer = _Mp4(file, part)
        while part is not None:
            writer.write(part)
            part = None  # before the next is made
            part = next(parts, None)
        writer.finish()


def write_mkv(video: Video, path: Path, metadata: dict[str, Any] | None) -> None:
    """FFV1 in RGB and 16-bit samples: every pixel comes back as it was."""
    import av

    rate = Fraction(video.frame_rate).limit_denominator(1001)
    with av.open(f"file:{path}", "w", format="matroska", options={"fflags": "+bitexact"}) as file:
        if metadata:
            file.metadata["comment"] = comment(metadata)
        stream = file.add_stream("ffv1", rate=rate)
        stream.height, stream.width, stream.pix_fmt = video.height, video.width, "bgr0"
        sound, audio_stream = video.audio, None
        if sound is not None and sound.num_samples:
            audio_stream = file.add_stream("pcm_s16le", rate=sound.sample_rate, layout=_layout(sound))
        for number, frame in enumerate(video.frames.unbind(1)):
            picture = av.VideoFrame.from_ndarray(_array(frame), format="rgb24").reformat(format="bgr0")
            picture.pts, picture.time_base = number, 1 / rate
            file.mux(stream.encode(picture))
            if sound is not None and audio_stream is not None:
                start, end = (round(count / rate * sound.sample_rate) for count in (number, number + 1))
                if number + 1 == video.num_frames:
                    end = max(end, sound.num_samples)
                if start < min(end, sound.num_samples):
                    file.mux(audio_stream.encode(_block(sound, start, end, "s16")))
        file.mux(stream.encode(None))
        if audio_stream is not None:
            file.mux(audio_stream.encode(None))


class _Mp4:
    """An mp4 that grows frame by frame, each followed by its share of the sound: a player finds both close together.

    Args:
        file: An open container.
        like: What the parts are like.
    """

    def __init__(self, file: Any, like: Video):
        from av.video.reformatter import ColorRange, Colorspace, Interpolation

        self.file, self.kind = file, _kind(like)
        self.rate = Fraction(like.frame_rate).limit_denominator(1001)
        self.stream = file.add_stream("libx264", rate=self.rate, options=H264)
        self.stream.height, self.stream.width = like.height + like.height % 2, like.width + like.width % 2
        context = self.stream.codec_context
        context.pix_fmt = "yuv420p"
        context.colorspace = context.color_primaries = context.color_trc = BT709
        context.color_range = LIMITED_RANGE
        self.conversion = {
            "format": "yuv420p",
            "dst_colorspace": Colorspace.ITU709,
            "dst_color_range": ColorRange.MPEG,
            "interpolation": Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP,
        }
        self.num_frames = self.num_samples = 0
        self.audio_stream = None
        if like.audio is not None and like.audio.num_samples:
            self.pending = _for_aac(like.audio)  # sound that is still to be written
            self.audio_stream = file.add_stream("aac", rate=self.pending.sample_rate, layout=_layout(self.pending))
            self.audio_stream.bit_rate = 64_000 * self.pending.num_channels
            self.pending = Audio(self.pending.samples[:, :0], self.pending.sample_rate)

    def write(self, part: Video) -> None:
        import av

        if _kind(part) != self.kind:
            raise MediaError(
                f"a part of the clip is {part}, unlike the first; all have one size, frame rate and kind of sound; "
                "make them alike",
                code="video_invalid",
            )
        if self.audio_stream is not None and part.audio is not None:
            samples = torch.cat([self.pending.samples, _for_aac(part.audio).samples.cpu()], dim=1)
            self.pending = Audio(samples, self.pending.sample_rate)
        for frame in part.frames.unbind(1):
            picture = av.VideoFrame.from_ndarray(_array(_even(frame)), format="rgb24").reformat(**self.conversion)
            picture.pts, picture.time_base = self.num_frames, 1 / self.rate
            self.file.mux(self.stream.encode(picture))
            self.num_frames += 1
            if self.audio_stream is not None:
                self._write_sound(until=round(self.num_frames / self.rate * self.pending.sample_rate))

    def finish(self) -> None:
        self.file.mux(self.stream.encode(None))
        if self.audio_stream is not None:
            self._write_sound(until=self.num_samples + self.pending.num_samples)
            self.file.mux(self.audio_stream.encode(None))

    def _write_sound(self, until: int) -> None:
        """Write what there is of the sound before a sample of the clip."""
        assert self.audio_stream is not None
        count = min(until - self.num_samples, self.pending.num_samples)
        if count > 0:
            self.file.mux(self.audio_stream.encode(_block(self.pending, 0, count, "fltp", at=self.num_samples)))
            self.num_samples += count
            self.pending = Audio(self.pending.samples[:, count:], self.pending.sample_rate)


def write_wav(audio: Audio, path: Path, metadata: dict[str, Any] | None) -> None:
    """16-bit samples; what lies outside [-1, 1] is clipped."""
    import av

    with av.open(f"file:{path}", "w", format="wav", options={"fflags": "+bitexact"}) as file:
        if metadata:
            file.metadata["comment"] = comment(metadata)
        stream = file.add_stream("pcm_s16le", rate=audio.sample_rate, layout=_layout(audio))
        for start in range(0, audio.num_samples, audio.sample_rate):
            file.mux(stream.encode(_block(audio, start, start + audio.sample_rate, "s16")))
        file.mux(stream.encode(None))


def write_png(image: Image, path: Path, metadata: dict[str, Any] | None) -> None:
    """8-bit RGB."""
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    if metadata:
        info.add_itxt("comment", comment(metadata))
    _picture(image.frame).save(path, "PNG", pnginfo=info)


def write_gif(video: Video, path: Path, metadata: dict[str, Any] | None) -> None:
    """256 colours for each frame, looping for ever, without sound.

    Raises:
        MediaError: More than 50 frames a second, which no player of gif shows.
    """
    if video.frame_rate > 50:
        raise MediaError(
            f"the video has {video.frame_rate:g} frames a second; a gif plays at most 50; write .mp4",
            code="frame_rate_invalid",
        )
    # A gif counts time in hundredths of a second: rounding the sum, not each frame, keeps the length right.
    ends = [round(100 * (k + 1) / video.frame_rate) for k in range(video.num_frames)]
    durations = [10 * (end - start) for start, end in zip([0, *ends], ends, strict=False)]
    first, *rest = (_picture(frame).quantize(256) for frame in video.frames.unbind(1))
    text = {"comment": comment(metadata).encode()} if metadata else {}
    first.save(path, "GIF", save_all=True, append_images=rest, duration=durations, loop=0, optimize=False, **text)


def _array(frame: Tensor) -> np.ndarray:
    return frame.permute(1, 2, 0).contiguous().cpu().numpy()  # (H, W, 3)


def _picture(frame: Tensor) -> Pillow.Image:
    from PIL import Image as Pillow

    return Pillow.fromarray(_array(frame))


def _even(frame: Tensor) -> Tensor:
    rows = [*range(frame.shape[1]), *[frame.shape[1] - 1] * (frame.shape[1] % 2)]
    columns = [*range(frame.shape[2]), *[frame.shape[2] - 1] * (frame.shape[2] % 2)]
    return frame[:, rows][:, :, columns]


def _layout(audio: Audio) -> str:
    if audio.num_channels > 2:
        raise MediaError(
            f"the sound has {audio.num_channels} channels; one or two can be written; mix it down with resample_audio",
            code="channels_unsupported",
        )
    return "mono" if audio.num_channels == 1 else "stereo"


def _for_aac(audio: Audio) -> Audio:
    return audio if audio.sample_rate in AAC_RATES else resample_audio(audio, 48_000, audio.num_channels)


def _kind(video: Video) -> tuple[int, int, float, tuple[int, int] | None]:
    """Height, width, frame rate, and of sound the rate and channels: what all parts of a file have in common."""
    audio = video.audio
    sound = (audio.sample_rate, audio.num_channels) if audio is not None and audio.num_samples else None
    return video.height, video.width, video.frame_rate, sound


def _block(audio: Audio, start: int, end: int, sample_format: str, at: int | None = None) -> av.AudioFrame:
    """Some of the sound as the encoder takes it: planar floats ("fltp") or interleaved 16-bit integers ("s16").

    It is played from sample `at` of the file on; without it, from `start`.
    """
    import av

    samples = audio.samples[:, start:end].detach().cpu()
    if not samples.isfinite().all():
        raise MediaError(
            "the sound holds values that are not numbers; they must be finite, from -1 to 1; check what computed them",
            code="samples_not_finite",
        )
    samples = samples.clamp(-1.0, 1.0)
    if sample_format == "s16":
        samples = (samples * 32767).round().to(torch.int16).t().reshape(1, -1)
    block = av.AudioFrame.from_ndarray(samples.contiguous().numpy(), format=sample_format, layout=_layout(audio))
    block.sample_rate, block.time_base = audio.sample_rate, Fraction(1, audio.sample_rate)
    block.pts = start if at is None else at
    return block
