"""Real files and the odd ones among them, where a folder of them lies beside the repository."""

from pathlib import Path

import pytest

from videopoet.errors import MediaError
from videopoet.media.files import probe, read_audio, read_image, read_video

MEDIA = Path(__file__).resolve().parents[2].parent / "shared" / "media"
ODD = sorted(file for file in (MEDIA / "odd").rglob("*") if file.is_file())

REFUSED = {
    "1x1_pixel_yuv444_1fps.mp4": "video_too_small",
    "annexb_in_mp4_truncated.mp4": "media_corrupt",
    "audio_only.mp4": "no_video_stream",
    "bbb_keyframe_index.flv": "media_type_unsupported",
    "chunk_out_of_range.mp4": "media_corrupt",
    "corrupt_payload.mp4": "media_corrupt",
    "huge_header.png": "image_too_large",
    "random_bytes.webm": "media_unrecognised",
    "text_renamed.mp4": "media_unrecognised",
    "truncated.jpg": "media_corrupt",
    "truncated_moov_first.mp4": "media_corrupt",
    "truncated_moov_missing.mp4": "media_corrupt",
    "vp9_invalid_bitstream.webm": "media_corrupt",
    "vvc_unsupported_codec.mp4": "codec_unsupported",
    "wav_claims_too_long.wav": "media_corrupt",
    "webp_16000x9000_black.webp": "image_too_large",
    "zero_byte_real.webm": "media_empty",
    "zero_length.mp4": "media_empty",
}
"""What each of these is refused with by `read_video`; the others may be read, or refused with another of our codes."""
SIZES = {
    "rotated_metadata_bbb.mp4": (1920, 1080),
    "sar_2x1.mp4": (360, 1280),
    "bbb_first_pts_10s.mp4": (640, 1137),
    "interlaced.mp4": (240, 320),
    "odd_size_gray_ffv1.mkv": (121, 161),
}
"""Heights and widths of upright pictures in square pixels."""
NUM_FRAMES = {
    "attached_picture_mjpeg.mp4": 16,
    "audio_longer_than_video.mp4": 8,
    "fps_1000.mp4": 1,
    "h265_10bit.mp4": 8,
    "muybridge_race_horse.apng": 12,
    "one_frame.mp4": 1,
    "vfr_dog_fireplace.mp4": 16,
    "yuv422p.mp4": 16,
}
"""Frames in the first two seconds at eight a second."""


@pytest.mark.parametrize("path", ODD, ids=lambda path: path.name)
def test_every_odd_file_ends_in_media_or_in_one_of_our_errors(path):
    try:
        video = read_video(path, height=64, width=64, frame_rate=8.0, max_seconds=2.0)
    except MediaError as error:
        assert error.code == REFUSED.get(path.name, error.code) and error.code != "decoder_crashed"
        if error.code == "no_video_stream":
            also_refused(read_audio, path, {"no_audio_stream", "audio_empty", "audio_not_finite", "media_corrupt"})
        if path.suffix in (".png", ".jpg", ".webp", ".gif"):
            also_refused(read_image, path, {error.code, "media_corrupt", "image_animated", "image_too_small"})
        return
    assert path.name not in REFUSED
    assert video.frames.shape[2:] == (64, 64)
    assert video.num_frames == NUM_FRAMES.get(path.name, video.num_frames)
    assert video.audio is None or video.audio.seconds <= video.seconds + 1e-3


def also_refused(read, path, codes: set[str]) -> None:
    """Read a file another way: that works, or ends in one of these codes."""
    try:
        read(path)
    except MediaError as error:
        assert error.code in codes


@pytest.mark.parametrize("name", SIZES)
def test_pictures_are_upright_and_their_pixels_square(real_media, name):
    facts = probe(next((real_media / "odd").rglob(name)))
    assert (facts.height, facts.width) == SIZES[name]


def test_real_files_of_each_kind_are_read(real_media):
    assert read_audio(real_media / "audio/sonicpi/misc_crow.flac", sample_rate=16_000).seconds > 0.4
    assert read_audio(next((real_media / "audio/esc10/rain").glob("*.ogg")), sample_rate=16_000).seconds > 4
    assert read_image(real_media / "images/skimage/chelsea.png", height=64, width=64).width == 64
    assert read_image(next((real_media / "images/captioned").glob("*.jpg")), height=64, width=64).width == 64
    for folder in ("robot_captioned", "city", "sport", "film_public_domain"):
        video = next((real_media / "video" / folder).iterdir())
        assert read_video(video, height=64, width=64, frame_rate=8.0, max_seconds=1.0).num_frames == 8
