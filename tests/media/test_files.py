"""What is written can be read again, and files as the world makes them come out right."""

import json
import math
import resource
import struct
import weakref
from fractions import Fraction

import av
import pytest
import torch
from PIL import Image as Pillow
from torch import Tensor

from videopoet.errors import MediaError
from videopoet.media import encoder
from videopoet.media.files import probe, read_audio, read_image, read_video, write, write_parts
from videopoet.media.types import Audio, Image, Video

METADATA = {"prompt": 'a "red" ball\n紙の船', "seed": 7, "task": "text_to_video"}


def psnr(first: Tensor, second: Tensor) -> float:
    return 10 * math.log10(255**2 / (first.float() - second.float()).square().mean().clamp_min(1e-9))


def numbered(
    path, *, codec="libx264", size=(64, 64), times=None, pixel_format="yuv420p", frame=None, **settings
) -> None:
    """Write a clip whose frame k is grey of brightness 10 k, or what `frame(k)` paints, with its times in ms."""
    width, height = size
    times = times if times is not None else [round(k * 125) for k in range(16)]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=8)
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        stream.codec_context.time_base = Fraction(1, 1000)
        for name, value in settings.items():
            setattr(stream.codec_context, name, value)
        for k, time in enumerate(times):
            array = frame(k) if frame else torch.full((height, width, 3), 10 * k, dtype=torch.uint8).numpy()
            picture = av.VideoFrame.from_ndarray(array, format="rgba" if array.shape[2] == 4 else "rgb24")
            picture = picture.reformat(format=pixel_format)
            picture.pts, picture.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))


def numbers(video: Video) -> list[int]:
    """The numbers of the frames of such a clip."""
    return (video.frames.float().mean(dim=(0, 2, 3)) / 10).round().int().tolist()


def click(audio: Audio) -> float:
    """When the loudest sample sounds, in seconds."""
    return audio.samples.abs().amax(dim=0).argmax().item() / audio.sample_rate


def test_the_stream_of_a_camera_is_read_as_any_transport_stream(clip_path, tmp_path):
    """Its packets have four bytes more, which say when each came."""
    numbered(tmp_path / "clip.ts")
    data = (tmp_path / "clip.ts").read_bytes()
    packets = [data[k : k + 188] for k in range(0, len(data), 188)]
    (tmp_path / "clip.m2ts").write_bytes(b"".join(k.to_bytes(4, "big") + packet for k, packet in enumerate(packets)))
    plain, camera = (read_video(tmp_path / f"clip.{extension}") for extension in ("ts", "m2ts"))
    assert numbers(camera) == list(range(16)) and torch.equal(camera.frames, plain.frames)


def test_colours_that_the_scaler_does_not_know_are_refused_by_name(tmp_path):
    for number, name in ((8, "YCgCo"), (10, "BT.2020 of constant luminance"), (14, "ICtCp")):
        numbered(tmp_path / "clip.mkv", colorspace=number)
        with pytest.raises(MediaError, match=f"{name}; .*convert it to BT.709") as caught:
            read_video(tmp_path / "clip.mkv")
        assert caught.value.code == "colours_unsupported"
    numbered(tmp_path / "clip.mkv", colorspace=9)
    assert numbers(read_video(tmp_path / "clip.mkv"))[-1] == 15


# Round trips


def test_an_mp4_comes_back_as_it_was(clip, clip_path):
    video = read_video(clip_path)
    assert (video.num_frames, video.height, video.width, video.frame_rate) == (17, 64, 80, 8.0)
    assert psnr(video.frames, clip.frames) > 35
    assert video.audio is not None and video.audio.sample_rate == 16_000
    assert video.audio.num_samples == clip.audio.num_samples


def test_sound_stays_in_time_with_the_picture(clip_path):
    audio = read_video(clip_path).audio
    assert audio is not None and abs(click(audio) - 1.0) < 0.03
    assert abs(click(read_audio(clip_path, sample_rate=44_100)) - 1.0) < 0.03


def test_probe_says_what_a_clip_holds(clip_path):
    facts = probe(clip_path)
    assert (facts.kind, facts.height, facts.width, facts.num_frames) == ("video", 64, 80, 17)
    assert (facts.frame_rate, facts.seconds, facts.sample_rate, facts.channels) == (8.0, 2.125, 16_000, 1)
    assert (facts.video_codec, facts.audio_codec) == ("h264", "aac")
    assert facts.metadata == METADATA


def test_an_mp4_is_one_that_browsers_play_before_it_is_whole(clip_path):
    data = clip_path.read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")
    with av.open(str(clip_path)) as container:
        video = container.streams.video[0]
        assert (video.codec_context.pix_fmt, video.codec_context.profile) == ("yuv420p", "High")


def test_the_same_clip_gives_the_same_bytes_and_none_of_them_names_this_machine(clip, clip_path, tmp_path):
    clip.save(tmp_path / "again.mp4", METADATA)
    data = (tmp_path / "again.mp4").read_bytes()
    assert data == clip_path.read_bytes()
    assert str(tmp_path).encode() not in data


def test_an_odd_side_gains_one_row_or_column(clip, tmp_path):
    odd = Video(clip.frames[:, :2, :63, :79], 8.0)
    odd.save(tmp_path / "odd.mp4")
    video = read_video(tmp_path / "odd.mp4")
    assert (video.height, video.width) == (64, 80)
    assert psnr(video.frames[..., :63, :79], odd.frames) > 35


@pytest.mark.parametrize("frame_rate", [2.5, 8.0, 24000 / 1001, 60.0])
def test_any_frame_rate_is_kept(clip, tmp_path, frame_rate):
    Video(clip.frames[:, :3], frame_rate).save(tmp_path / "clip.mp4")
    video = read_video(tmp_path / "clip.mp4")
    assert video.num_frames == 3 and video.frame_rate == pytest.approx(frame_rate)


def test_sound_of_a_rate_that_aac_lacks_is_written_at_another(clip, tmp_path):
    samples = clip.audio.samples.repeat(2, 1).repeat_interleave(12, dim=1)
    Video(clip.frames, 8.0, Audio(samples, 192_000)).save(tmp_path / "clip.mp4")
    audio = read_video(tmp_path / "clip.mp4").audio
    assert audio is not None and (audio.sample_rate, audio.num_channels) == (48_000, 2)
    assert abs(click(audio) - 1.0) < 0.03


def test_a_gif_is_a_clip_of_the_same_length(clip, tmp_path):
    clip.save(tmp_path / "clip.gif", METADATA)
    video = read_video(tmp_path / "clip.gif", frame_rate=8.0)
    assert video.num_frames == 17 and video.audio is None
    assert psnr(video.frames, clip.frames) > 28
    assert probe(tmp_path / "clip.gif").metadata == METADATA
    with pytest.raises(MediaError) as caught:
        read_image(tmp_path / "clip.gif")
    assert caught.value.code == "image_animated"


@pytest.mark.parametrize("frame_rate", [8.0, 24000 / 1001])
def test_an_mkv_keeps_every_bit(frame_rate, tmp_path):
    frames = torch.randint(256, (3, 5, 37, 51), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    samples = torch.rand(2, 8000, generator=torch.Generator().manual_seed(1)) * 2 - 1
    Video(frames, frame_rate, Audio(samples, 16_000)).save(tmp_path / "clip.mkv", METADATA)
    again = read_video(tmp_path / "clip.mkv")
    assert torch.equal(again.frames, frames) and again.frame_rate == pytest.approx(frame_rate, rel=1e-3)
    assert again.audio is not None and again.audio.sample_rate == 16_000
    assert (again.audio.samples[:, :3000] - samples[:, :3000]).abs().max() < 1e-4
    assert probe(tmp_path / "clip.mkv").metadata == METADATA
    Video(frames, frame_rate).save(tmp_path / "silent.mkv")
    assert read_video(tmp_path / "silent.mkv").audio is None


def test_a_png_keeps_every_bit(clip, tmp_path):
    image = Image(clip.frames[:, 0])
    image.save(tmp_path / "picture.PNG", METADATA)
    assert torch.equal(read_image(tmp_path / "picture.PNG").frame, image.frame)
    assert probe(tmp_path / "picture.PNG").metadata == METADATA


def test_a_wav_keeps_sixteen_bits(tmp_path):
    audio = Audio(torch.linspace(-1.2, 1.2, 2000).view(2, 1000), 22_050)
    audio.save(tmp_path / "sound.wav", METADATA)
    again = read_audio(tmp_path / "sound.wav")
    assert again.sample_rate == 22_050
    assert (again.samples - audio.samples.clamp(-1, 1)).abs().max() < 1e-4
    assert probe(tmp_path / "sound.wav").metadata == METADATA


def test_a_foreign_comment_is_no_metadata(tmp_path):
    Pillow.new("RGB", (16, 16)).save(tmp_path / "picture.gif", comment=b"made by hand")
    assert probe(tmp_path / "picture.gif").metadata == {}


@pytest.mark.parametrize(
    ("media", "name", "fitting"),
    [
        (Image(torch.zeros(3, 8, 8, dtype=torch.uint8)), "picture.jpg", ".png"),
        (Video(torch.zeros(3, 1, 8, 8, dtype=torch.uint8), 8.0), "clip.avi", ".mp4 and .gif and .mkv"),
        (Audio(torch.zeros(1, 8), 8000), "sound", ".wav"),
    ],
)
def test_an_extension_that_cannot_be_written_is_refused_with_those_that_can(media, name, fitting, tmp_path):
    with pytest.raises(MediaError, match=fitting) as caught:
        write(media, tmp_path / name)
    assert caught.value.code == "extension_unsupported"
    assert not list(tmp_path.iterdir())


# Whole or absent


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(clip, tmp_path, monkeypatch, error):
    def interrupt(*_, **__):
        raise error

    path = tmp_path / "clip.mp4"
    path.write_bytes(b"old")
    monkeypatch.setattr(encoder, "_block", interrupt)
    with pytest.raises(error):
        clip.save(path)
    assert [file.name for file in tmp_path.iterdir()] == ["clip.mp4"]
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("name", ["clip.mp4", "clip.gif", "picture.png", "sound.wav"])
def test_a_full_disk_is_an_os_error_and_leaves_nothing(name, clip, tmp_path):
    noise = torch.randint(0, 256, clip.frames.shape, generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    video = Video(noise, 8.0, clip.audio)
    media = {"clip": video, "picture": Image(noise[:, 0]), "sound": clip.audio}[name.split(".")[0]]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(OSError):
            media.save(tmp_path / name)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())


# Files as the world makes them


def test_a_file_that_breaks_off_is_refused_but_its_beginning_can_be_read(tmp_path):
    noise = torch.randint(0, 256, (64, 64, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8).numpy()
    path = tmp_path / "clip.mkv"
    numbered(path, codec="ffv1", times=[125 * k for k in range(32)], frame=lambda k: noise)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(MediaError, match="before its end at 4") as caught:
        read_video(path)
    assert caught.value.code == "media_corrupt"
    assert read_video(path, max_seconds=1.0).num_frames == 8


def test_frames_are_chosen_by_their_times(tmp_path):
    numbered(tmp_path / "clip.mkv", codec="ffv1", times=[0, 100, 200, 300, 1000, 1100, 1200, 1300])
    video = read_video(tmp_path / "clip.mkv")
    assert video.frame_rate == pytest.approx(10.0)
    assert numbers(video) == [0, 1, 2, 3, 3, 3, 3, 3, 3, 3, 4, 5, 6, 7, 7]
    assert numbers(read_video(tmp_path / "clip.mkv", frame_rate=2.0)) == [0, 3, 4]
    assert numbers(read_video(tmp_path / "clip.mkv", frame_rate=10.0, max_frames=5)) == [0, 1, 2, 3, 3]
    assert numbers(read_video(tmp_path / "clip.mkv", frame_rate=10.0, max_seconds=0.3)) == [0, 1, 2]


def test_time_is_counted_from_the_first_frame(tmp_path):
    numbered(tmp_path / "clip.mkv", codec="ffv1", times=[10_000 + 125 * k for k in range(8)])
    assert numbers(read_video(tmp_path / "clip.mkv", frame_rate=4.0)) == [0, 2, 4, 6]


@pytest.mark.parametrize(
    ("name", "codec", "times"),
    [
        ("clip.mp4", "libx264", [125 * k for k in range(25)]),
        ("clip.mkv", "libx264", [125 * k + (60 if k % 3 else 0) + (500 if k > 9 else 0) for k in range(25)]),
        ("clip.ts", "libx264", [125 * k for k in range(25)]),
        ("clip.avi", "mpeg4", [125 * k for k in range(25)]),
    ],
)
def test_a_clip_from_a_time_on_is_what_cutting_the_whole_leaves(tmp_path, name, codec, times):
    path = tmp_path / name
    if name == "clip.avi":
        encoded_at_eight(path, codec)
    else:
        numbered(path, codec=codec, times=times, gop_size=5, max_b_frames=2)
    whole = read_video(path, frame_rate=16.0)
    for first in (1, 18, 30, 37, whole.num_frames - 1):
        rest = read_video(path, start=first / 16, frame_rate=16.0)
        assert torch.equal(rest.frames, whole.frames[:, first:])
    assert torch.equal(read_video(path, start=2.0, frame_rate=16.0, max_seconds=0.5).frames, whole.frames[:, 32:40])


def encoded_at_eight(path, codec):
    """A clip of 25 frames whose container does not say when each is shown."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=8)
        stream.width, stream.height, stream.pix_fmt, stream.codec_context.gop_size = 64, 64, "yuv420p", 5
        for k in range(25):
            picture = av.VideoFrame.from_ndarray(torch.full((64, 64, 3), 10 * k, dtype=torch.uint8).numpy(), "rgb24")
            container.mux(stream.encode(picture.reformat(format="yuv420p")))
        container.mux(stream.encode(None))


def test_a_clip_at_its_own_rate_begins_with_the_frame_on_screen_and_sound_stays_with_it(clip_path):
    whole, rest = read_video(clip_path), read_video(clip_path, start=0.8)
    assert torch.equal(rest.frames, whole.frames[:, 6:]) and rest.frame_rate == 8.0
    assert rest.audio is not None and click(rest.audio) == pytest.approx(0.25, abs=0.002)
    resampled = read_video(clip_path, start=0.8, frame_rate=4.0)
    assert torch.equal(resampled.frames[:, 1], whole.frames[:, 8])
    assert resampled.audio is not None and click(resampled.audio) == pytest.approx(0.2, abs=0.002)
    assert read_video(clip_path, start=0.8, max_seconds=0.5).num_frames == 4


def test_a_still_that_lasts_is_shown_from_the_time_asked_for_on(tmp_path):
    numbered(tmp_path / "clip.mkv", codec="ffv1", times=[0, 100, 200, 300, 3000, 3100, 3200, 3300])
    assert numbers(read_video(tmp_path / "clip.mkv", start=2.7)) == [3, 3, 3, 4, 5, 6, 7, 7]


def test_sound_from_a_time_on_is_what_cutting_the_whole_leaves(clip_path, tmp_path):
    noise = Audio(torch.rand(2, 5 * 8000, generator=torch.Generator().manual_seed(0)) - 0.5, 8000)
    noise.save(tmp_path / "noise.wav")
    whole = read_audio(tmp_path / "noise.wav").samples
    assert torch.equal(read_audio(tmp_path / "noise.wav", start=2.5).samples, whole[:, 20_000:])
    assert torch.equal(read_audio(tmp_path / "noise.wav", start=4.0, max_seconds=0.5).samples, whole[:, 32_000:36_000])
    part = read_audio(clip_path, start=0.7, max_seconds=1.0)
    assert part.num_samples == 16_000 and click(part) == pytest.approx(0.3, abs=0.002)


def test_a_clip_whose_sound_has_ended_goes_on_without(tmp_path):
    audio = Audio(torch.full((1, 8000), 0.5), 16_000)
    Video(torch.zeros(3, 17, 16, 16, dtype=torch.uint8), 8.0, audio).save(tmp_path / "clip.mp4")
    assert read_video(tmp_path / "clip.mp4", start=1.5).audio is None


def test_what_begins_after_the_end_is_refused_with_both_times(clip, clip_path, tmp_path):
    clip.save(tmp_path / "clip.gif")
    clip.audio.save(tmp_path / "clip.wav")
    for read, path in (
        (read_video, clip_path),
        (read_audio, clip_path),
        (read_video, tmp_path / "clip.gif"),
        (read_audio, tmp_path / "clip.wav"),
    ):
        with pytest.raises(MediaError, match=r"start is 9 s and it ends after 2\.1. s") as caught:
            read(path, start=9.0)
        assert caught.value.code == "start_beyond_end"


def with_matrix(path, matrix: tuple[int, ...]):
    """The clip with a display matrix in its track's header, as a phone writes it."""
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 44
    a, b, c, d = (value << 16 for value in matrix)
    data[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    return data


@pytest.mark.parametrize(
    ("matrix", "corner"),
    [
        ((1, 0, 0, 1), (0, 0)),
        ((0, 1, -1, 0), (0, -1)),  # a quarter turn clockwise brings the top left to the top right
        ((-1, 0, 0, -1), (-1, -1)),
        ((0, -1, 1, 0), (-1, 0)),
        ((-1, 0, 0, 1), (0, -1)),
        ((1, 0, 0, -1), (-1, 0)),
        ((0, 1, 1, 0), (0, 0)),
        ((0, -1, -1, 0), (-1, -1)),
    ],
)
def test_a_clip_is_turned_and_mirrored_as_its_header_says(tmp_path, matrix, corner):
    frame = torch.zeros(32, 64, 3, dtype=torch.uint8)
    frame[:8, :8] = 255
    numbered(tmp_path / "flat.mp4", size=(64, 32), times=[0, 125], frame=lambda k: frame.numpy())
    (tmp_path / "turned.mp4").write_bytes(with_matrix(tmp_path / "flat.mp4", matrix))
    video = read_video(tmp_path / "turned.mp4")
    assert (video.width, video.height) == ((32, 64) if matrix[0] == 0 else (64, 32))
    assert video.frames[:, 0, corner[0], corner[1]].min() > 200
    assert sum(video.frames[0, 0, row, column] > 200 for row in (0, -1) for column in (0, -1)) == 1


def test_pixels_that_are_not_square_become_so(tmp_path):
    numbered(tmp_path / "clip.mp4", size=(64, 64), sample_aspect_ratio=Fraction(2, 1))
    assert (probe(tmp_path / "clip.mp4").width, probe(tmp_path / "clip.mp4").height) == (128, 64)
    video = read_video(tmp_path / "clip.mp4", height=32, width=32, max_frames=1)
    assert (video.width, video.height) == (32, 32)


@pytest.mark.parametrize(
    ("codec", "pixel_format"),
    [
        ("libx264", "yuv420p10le"),
        ("libx264", "yuv422p"),
        ("libx264", "yuv444p"),
        ("libx264", "yuvj420p"),
        ("ffv1", "gray"),
        ("ffv1", "bgr0"),
        ("mpeg4", "yuv420p"),
    ],
)
def test_brightness_is_the_same_whatever_the_pixels_are(tmp_path, codec, pixel_format):
    numbered(tmp_path / "clip.mkv", codec=codec, pixel_format=pixel_format)
    assert numbers(read_video(tmp_path / "clip.mkv")) == list(range(16))


@pytest.mark.parametrize(("codec", "pixel_format"), [("ffv1", "bgra"), ("libvpx-vp9", "yuva420p")])
def test_what_is_transparent_becomes_white(tmp_path, codec, pixel_format):
    frame = torch.zeros(64, 64, 4, dtype=torch.uint8)
    frame[16:48, 16:48] = torch.tensor([255, 0, 0, 255], dtype=torch.uint8)
    numbered(
        tmp_path / "clip.webm" if "vp9" in codec else tmp_path / "clip.mkv",
        codec=codec,
        pixel_format=pixel_format,
        times=[0, 125],
        frame=lambda k: frame.numpy(),
    )
    path = next(tmp_path.iterdir())
    frames = read_video(path).frames
    assert frames[:, 0, 2, 2].min() > 245
    assert frames[0, 0, 32, 32] > 240 and frames[1:, 0, 32, 32].max() < 16


def test_a_size_that_changes_on_the_way_is_fitted_to_the_first(tmp_path):
    numbered(tmp_path / "a.ts", size=(64, 64), times=[1000 + 125 * k for k in range(4)])
    numbered(tmp_path / "b.ts", size=(128, 64), times=[1500 + 125 * k for k in range(4)])
    (tmp_path / "both.ts").write_bytes((tmp_path / "a.ts").read_bytes() + (tmp_path / "b.ts").read_bytes())
    video = read_video(tmp_path / "both.ts")
    assert video.num_frames >= 7 and (video.height, video.width) == (64, 64)


@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_another_shape_is_cut_or_framed(clip_path, fit):
    frames = read_video(clip_path, height=32, width=32, fit=fit, max_frames=1).frames[:, 0]
    black_rows = (frames.amax(dim=(0, 2)) < 8).sum()
    assert black_rows == (6 if fit == "pad" else 0)


def test_scaling_in_the_child_is_what_scaling_here_would_give(clip, clip_path):
    from videopoet.media.resample import resize_and_crop

    assert psnr(read_video(clip_path, height=32, width=32).frames, resize_and_crop(clip.frames, 32, 32)) > 35


def wav(path, samples: Tensor, sample_rate: int, layout: str, sample_format: str, codec: str) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=sample_rate, layout=layout)
        block = av.AudioFrame.from_ndarray(samples.numpy(), format=sample_format, layout=layout)
        block.sample_rate = sample_rate
        container.mux(stream.encode(block))
        container.mux(stream.encode(None))


def test_five_channels_and_one_become_two(tmp_path):
    samples = torch.zeros(1, 6 * 4800)
    samples[0, 2::6] = 0.5  # the centre
    wav(tmp_path / "surround.wav", samples, 48_000, "5.1", "flt", "pcm_f32le")
    audio = read_audio(tmp_path / "surround.wav")
    assert audio.num_channels == 2 and audio.samples.min() > 0.05
    assert torch.allclose(audio.samples[0], audio.samples[1])


def test_eight_bits_and_192_khz_are_read(tmp_path):
    samples = torch.full((1, 19_200), 192, dtype=torch.uint8)
    wav(tmp_path / "old.wav", samples, 192_000, "mono", "u8", "pcm_u8")
    audio = read_audio(tmp_path / "old.wav", sample_rate=16_000)
    assert audio.num_samples == 1600
    assert audio.samples[0, 200:-200].sub(0.5).abs().max() < 0.01


def test_samples_that_are_not_numbers_are_refused_and_loud_ones_clipped(tmp_path):
    wav(tmp_path / "loud.wav", torch.full((1, 800), 3.0), 8_000, "mono", "flt", "pcm_f32le")
    assert read_audio(tmp_path / "loud.wav").samples.max() == 1.0
    wav(tmp_path / "broken.wav", torch.full((1, 800), float("nan")), 8_000, "mono", "flt", "pcm_f32le")
    with pytest.raises(MediaError) as caught:
        read_audio(tmp_path / "broken.wav")
    assert caught.value.code == "audio_not_finite"


def test_sound_that_is_longer_than_the_picture_is_cut(clip, tmp_path):
    Video(clip.frames[:, :4], 8.0, clip.audio).save(tmp_path / "clip.mp4")
    audio = read_video(tmp_path / "clip.mp4").audio
    assert audio is not None and audio.num_samples == 8_000
    assert read_audio(tmp_path / "clip.mp4").num_samples >= 34_000
    assert read_audio(tmp_path / "clip.mp4", max_seconds=1.5).num_samples == 24_000


def test_sound_that_begins_after_the_picture_gets_silence_before_it(tmp_path):
    with av.open(str(tmp_path / "clip.mkv"), "w") as container:
        video = container.add_stream("ffv1", rate=8)
        video.width = video.height = 16
        video.pix_fmt = "gray"
        sound = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        for k in range(16):
            picture = av.VideoFrame.from_ndarray(torch.zeros(16, 16, dtype=torch.uint8).numpy(), format="gray")
            picture.pts, picture.time_base = k, Fraction(1, 8)
            container.mux(video.encode(picture))
        container.mux(video.encode(None))
        block = av.AudioFrame.from_ndarray(torch.full((1, 4000), 9000, dtype=torch.int16).numpy(), "s16", "mono")
        block.sample_rate, block.pts, block.time_base = 8000, 4000, Fraction(1, 8000)
        container.mux(sound.encode(block))
    audio = read_video(tmp_path / "clip.mkv").audio
    assert audio is not None and audio.num_samples == 8000
    assert audio.samples[0, :3990].abs().max() == 0 and audio.samples[0, 4010:].min() > 0.2


# Pictures


def test_a_photo_is_turned_as_its_camera_says(tmp_path):
    photo = Pillow.new("RGB", (64, 32))
    photo.paste((255, 255, 255), (0, 0, 16, 16))
    exif = Pillow.Exif()
    exif[0x0112] = 6
    photo.save(tmp_path / "photo.jpg", exif=exif, quality=95)
    frame = read_image(tmp_path / "photo.jpg").frame
    assert frame.shape == (3, 64, 32) and frame[:, 2, -3].min() > 240 and frame[:, 2, 2].max() < 16
    assert (probe(tmp_path / "photo.jpg").height, probe(tmp_path / "photo.jpg").width) == (64, 32)


def picture(mode: str) -> Pillow.Image:
    if mode == "I;16":
        return Pillow.fromarray(torch.full((16, 16), 200 * 257, dtype=torch.int32).numpy().astype("uint16"))
    grey = Pillow.new("L", (16, 16), 200)
    return (
        Pillow.merge("CMYK", [Pillow.new("L", (16, 16), 0)] * 3 + [Pillow.new("L", (16, 16), 55)])
        if mode == "CMYK"
        else grey.convert(mode)
    )


@pytest.mark.parametrize(
    ("mode", "name"),
    [
        ("I;16", "a.png"),
        ("L", "a.png"),
        ("LA", "a.png"),
        ("P", "a.png"),
        ("RGB", "a.webp"),
        ("CMYK", "a.jpg"),
        ("P", "a.gif"),
    ],
)
def test_every_kind_of_pixel_becomes_eight_bit_rgb(tmp_path, mode, name):
    picture(mode).save(tmp_path / name)
    frame = read_image(tmp_path / name).frame
    assert frame.shape == (3, 16, 16) and (frame.int() - 200).abs().max() <= 3


def test_a_transparent_picture_lies_on_white(tmp_path):
    Pillow.new("RGBA", (16, 16), (0, 0, 0, 128)).save(tmp_path / "glass.png")
    assert (read_image(tmp_path / "glass.png").frame.int() - 127).abs().max() <= 1


@pytest.mark.parametrize("name", ["moving.png", "moving.webp", "moving.gif"])
def test_an_animation_is_a_clip(tmp_path, name):
    pictures = [Pillow.new("RGB", (16, 16), (60 * k,) * 3) for k in range(4)]
    pictures[0].save(
        tmp_path / name, save_all=True, append_images=pictures[1:], duration=[100, 100, 200, 100], lossless=True
    )
    video = read_video(tmp_path / name)
    assert video.frame_rate == pytest.approx(10.0)
    assert video.frames[0, :, 8, 8].tolist() == [0, 60, 120, 120, 180]
    later = read_video(tmp_path / name, start=0.1, frame_rate=10.0)
    assert later.frames[0, :, 8, 8].tolist() == [60, 120, 120, 180]


def test_a_clip_of_one_frame_is_a_picture(clip, tmp_path):
    Video(clip.frames[:, :1], 8.0).save(tmp_path / "still.mp4")
    assert psnr(read_image(tmp_path / "still.mp4").frame, clip.frames[:, 0]) > 35
    assert read_video(tmp_path / "still.mp4").num_frames == 1


def test_a_picture_takes_the_size_asked_for(tmp_path):
    Pillow.new("RGB", (64, 32), (9, 99, 199)).save(tmp_path / "picture.png")
    assert read_image(tmp_path / "picture.png", height=16, width=16).frame.shape == (3, 16, 16)
    assert read_image(tmp_path / "picture.png", width=32).frame.shape == (3, 16, 32)
    framed = read_image(tmp_path / "picture.png", height=32, width=32, fit="pad").frame
    assert framed[:, 0, 0].tolist() == [0, 0, 0] and framed[:, 16, 16].tolist() == [9, 99, 199]


def test_metadata_is_json_that_other_tools_read(clip_path):
    with av.open(str(clip_path)) as container:
        assert json.loads(container.metadata["comment"]) == METADATA


# Clips that come in parts


def parts_of(video, lengths):
    """The clip in parts of so many frames, each with its sound."""
    start = 0
    for length in lengths:
        sound = video.audio and Audio(
            video.audio.samples[:, round(start / video.frame_rate * video.audio.sample_rate) :][
                :, : round(length / video.frame_rate * video.audio.sample_rate)
            ],
            video.audio.sample_rate,
        )
        yield Video(video.frames[:, start : start + length], video.frame_rate, sound)
        start += length


@pytest.mark.parametrize("sounding", [True, False])
@pytest.mark.parametrize("lengths", [(10,), (1, 9), (4, 4, 2)])
def test_how_a_clip_is_cut_into_parts_does_not_change_its_file(tmp_path, sounding, lengths):
    stream = torch.Generator().manual_seed(0)
    frames = torch.randint(256, (3, 10, 16, 16), generator=stream, dtype=torch.uint8)
    sound = Audio(torch.rand(1, 20_000, generator=stream) - 0.5, 16_000) if sounding else None
    clip = Video(frames, 8.0, sound)
    write(clip, tmp_path / "whole.mp4", {"seed": 7})
    write_parts(parts_of(clip, lengths), tmp_path / "parts.mp4", {"seed": 7})
    assert (tmp_path / "whole.mp4").read_bytes() == (tmp_path / "parts.mp4").read_bytes()


def test_a_part_is_let_go_before_the_next_is_made(tmp_path):
    alive = []

    def parts():
        for _ in range(5):
            part = Video(torch.zeros(3, 2, 16, 16, dtype=torch.uint8), 8.0, Audio(torch.zeros(1, 4000), 16_000))
            alive.append(weakref.ref(part))
            yield part
            del part
            assert sum(reference() is not None for reference in alive) <= 1

    write_parts(parts(), tmp_path / "clip.mp4")
    assert read_video(tmp_path / "clip.mp4").num_frames == 10


def test_what_making_a_part_raises_leaves_no_file(tmp_path):
    def parts():
        yield Video(torch.zeros(3, 2, 16, 16, dtype=torch.uint8), 8.0)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_parts(parts(), tmp_path / "clip.mp4")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("other", [{"height": 18}, {"frame_rate": 9.0}, {"audio": Audio(torch.zeros(1, 4000), 16_000)}])
def test_a_part_unlike_the_first_is_refused(tmp_path, other):
    def part(height=16, frame_rate=8.0, audio=None):
        return Video(torch.zeros(3, 2, height, 16, dtype=torch.uint8), frame_rate, audio)

    with pytest.raises(MediaError, match="unlike the first"):
        write_parts([part(), part(**other)], tmp_path / "clip.mp4")
    with pytest.raises(MediaError, match="no part"):
        write_parts([], tmp_path / "clip.mp4")
    with pytest.raises(MediaError, match="'.gif'"):
        write_parts([part()], tmp_path / "clip.gif")
    assert list(tmp_path.iterdir()) == []


def test_a_clip_that_is_one_column_too_wide_is_cut_by_it(tmp_path):
    """106x60 fills 112x64 once it is scaled to 113x64: the column goes, on the right."""
    Video(torch.full((3, 2, 60, 106), 90, dtype=torch.uint8), 8.0).save(tmp_path / "clip.mp4")
    assert read_video(tmp_path / "clip.mp4", height=64, width=112).frames.shape == (3, 2, 64, 112)
