import pytest
import torch

from videopoet.errors import MediaError
from videopoet.media.types import Audio, Image, Video


def test_every_byte_survives_the_way_to_pixels_and_back():
    frame = torch.arange(256, dtype=torch.uint8).expand(3, 8, 256)
    pixels = Image(frame).pixels()
    assert pixels.min() == -1.0 and pixels.max() == 1.0
    assert torch.equal(Image.from_pixels(pixels).frame, frame)


def test_pixels_outside_the_range_are_clipped():
    video = Video.from_pixels(torch.tensor([-7.0, 0.0, 7.0]).view(3, 1, 1, 1).expand(3, 2, 8, 8), 8.0)
    assert video.frames[:, 0, 0, 0].tolist() == [0, 128, 255]


def test_a_video_knows_its_size_and_length():
    video = Video(torch.zeros(3, 17, 8, 16, dtype=torch.uint8), 8.0)
    assert (video.num_frames, video.height, video.width, video.seconds) == (17, 8, 16, 2.125)
    assert repr(video) == "Video(17 frames, 16x8 at 8 fps)"


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda: Video(torch.zeros(3, 0, 8, 8, dtype=torch.uint8), 8.0), "video_invalid"),
        (lambda: Video(torch.zeros(17, 3, 8, 8, dtype=torch.uint8), 8.0), "video_invalid"),
        (lambda: Video(torch.zeros(3, 1, 8, 8), 8.0), "video_invalid"),
        (lambda: Video(torch.zeros(3, 1, 8, 8, dtype=torch.uint8), 0.0), "frame_rate_invalid"),
        (lambda: Image(torch.zeros(8, 8, 3, dtype=torch.uint8)), "image_invalid"),
        (lambda: Audio(torch.zeros(100), 16_000), "audio_invalid"),
        (lambda: Audio(torch.zeros(1, 100), 0), "sample_rate_invalid"),
        (lambda: Image.from_pixels(torch.full((3, 8, 8), float("nan"))), "pixels_not_finite"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(make, code):
    with pytest.raises(MediaError) as caught:
        make()
    assert caught.value.code == code
