import math

import pytest
import torch

from videopoet.errors import MediaError
from videopoet.media.resample import resample_audio, resample_frames, resize_and_crop, shrink
from videopoet.media.types import Audio, Video


def tone(hertz: float, sample_rate: int, seconds: float = 0.5) -> Audio:
    times = torch.arange(round(seconds * sample_rate), dtype=torch.float64) / sample_rate
    return Audio(torch.sin(2 * math.pi * hertz * times).float()[None], sample_rate)


@pytest.mark.parametrize(
    ("old", "new"), [(44_100, 16_000), (16_000, 44_100), (192_000, 16_000), (44_101, 16_000), (8_000, 8_001)]
)
def test_a_tone_stays_the_same_tone_at_another_rate(old, new):
    resampled = resample_audio(tone(1000, old), new)
    expected = tone(1000, new)
    assert resampled.sample_rate == new
    assert abs(resampled.num_samples - expected.num_samples) <= 1
    length = min(resampled.num_samples, expected.num_samples)
    middle = slice(length // 10, -length // 10)
    assert (resampled.samples[0, :length] - expected.samples[0, :length])[middle].abs().max() < 2e-3


def test_what_the_new_rate_cannot_hold_is_filtered_out():
    resampled = resample_audio(tone(10_000, 44_100), 16_000)
    assert resampled.samples[0, 500:-500].abs().max() < 1e-2


def test_resampling_agrees_with_scipy():
    signal = pytest.importorskip("scipy.signal")
    noise = torch.randn(4_410, generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.avg_pool1d(noise[None, None], 41, 1, 20)[0]
    ours = resample_audio(Audio(smooth, 44_100), 16_000).samples[0].numpy()
    theirs = signal.resample_poly(smooth[0].numpy(), 160, 441)
    assert abs(ours - theirs)[50:-50].max() < 0.02 * abs(theirs).max()


def test_channels_are_averaged_or_repeated():
    stereo = Audio(torch.tensor([[0.5, 0.5], [-0.1, 0.3]]), 16_000)
    mono = resample_audio(stereo, 16_000, channels=1)
    assert torch.allclose(mono.samples, torch.tensor([[0.2, 0.4]]))
    assert torch.equal(resample_audio(mono, 16_000, channels=2).samples[0], mono.samples[0])
    with pytest.raises(MediaError) as caught:
        resample_audio(stereo, 16_000, channels=3)
    assert caught.value.code == "channels_unsupported"


def test_silence_of_no_length_can_be_resampled():
    assert resample_audio(Audio(torch.zeros(1, 0), 44_100), 16_000).num_samples == 0


def numbered(num_frames: int, frame_rate: float) -> Video:
    frames = torch.arange(num_frames, dtype=torch.uint8).view(1, -1, 1, 1).expand(3, -1, 8, 8)
    return Video(frames, frame_rate)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (8.0, 8.0, [0, 1, 2, 3, 4, 5, 6, 7]),
        (8.0, 4.0, [0, 2, 4, 6]),
        (8.0, 16.0, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7]),
        (8.0, 3.0, [0, 2, 5]),
    ],
)
def test_a_frame_is_the_one_on_screen_at_its_time(old, new, expected):
    video = resample_frames(numbered(8, old), new)
    assert video.frames[0, :, 0, 0].tolist() == expected
    assert video.frame_rate == new


def test_the_middle_is_cut_out_of_a_wider_picture():
    picture = torch.zeros(3, 32, 96, dtype=torch.uint8)
    picture[:, :, 32:64] = 200
    assert resize_and_crop(picture, 16, 16).ge(180).all()
    assert resize_and_crop(picture.float(), 32, 32).shape == (3, 32, 32)


def test_shrinking_averages_so_that_fine_stripes_become_grey():
    stripes = torch.zeros(1, 64, 64)
    stripes[..., ::2] = 1.0
    assert (resize_and_crop(stripes, 16, 16)[..., 2:-2] - 0.5).abs().max() < 0.05


def test_a_shrunken_pixel_is_the_mean_of_what_it_covers():
    frames = torch.arange(2 * 4 * 8.0).view(1, 2, 4, 8)
    shrunken = shrink(frames, 2, 2)
    assert shrunken.shape == (1, 2, 2, 2)
    assert torch.equal(shrunken[0, 1, 0, 1], frames[0, 1, :2, 4:].mean())
