"""Writers: mp4 (H.264 and AAC, starts playing before it is whole), gif, png and wav. `files.write` chooses one.

Settings of how a clip was made travel as JSON in the file's comment; nothing else about this machine is written.
"""

from __future__ import annotations

import json
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
    import av
    from av.video.reformatter import ColorRange, Colorspace, Interpolation

    rate = Fraction(video.frame_rate).limit_denominator(1001)
    sound = _for_aac(video.audio) if video.audio is not None and video.audio.num_samples else None
    with av.open(f"file:{path}", "w", format="mp4", options={"movflags": "+faststart", "fflags": "+bitexact"}) as file:
        if metadata:
            file.metadata["comment"] = comment(metadata)
        stream = file.add_stream("libx264", rate=rate, options=H264)
        stream.height, stream.width = video.height + video.height % 2, video.width + video.width % 2
        context = stream.codec_context
        context.pix_fmt = "yuv420p"
        context.colorspace = context.color_primaries = context.color_trc = BT709
        context.color_range = LIMITED_RANGE
        if sound is not None:
            audio_stream = file.add_stream("aac", rate=sound.sample_rate, layout=_layout(sound))
            audio_stream.bit_rate = 64_000 * sound.num_channels

        # Each frame is followed by its share of the sound, so that a player finds both close together.
        written = 0
        for index, frame in enumerate(video.frames.unbind(1)):
            picture = av.VideoFrame.from_ndarray(_array(_even(frame)), format="rgb24")
            picture = picture.reformat(
                format="yuv420p",
                dst_colorspace=Colorspace.ITU709,
                dst_color_range=ColorRange.MPEG,
                interpolation=Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP,
            )
            picture.pts, picture.time_base = index, 1 / rate
            file.mux(stream.encode(picture))
            if sound is not None:
                last = index == video.num_frames - 1
                end = sound.num_samples if last else round((index + 1) / rate * sound.sample_rate)
                if written < min(end, sound.num_samples):
                    file.mux(audio_stream.encode(_block(sound, written, end, "fltp")))
                    written = end
        file.mux(stream.encode(None))
        if sound is not None:
            file.mux(audio_stream.encode(None))


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


def _block(audio: Audio, start: int, end: int, sample_format: str) -> av.AudioFrame:
    """Some of the sound as the encoder takes it: planar floats ("fltp") or interleaved 16-bit integers ("s16")."""
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
    block.sample_rate, block.pts, block.time_base = audio.sample_rate, start, Fraction(1, audio.sample_rate)
    return block
