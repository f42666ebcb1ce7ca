import math

import pytest
import torch

from videopoet.errors import MediaError
from videopoet.media.quality import psnr, ssim
from videopoet.runtime import generator


def frames(seed=0, height=24, width=32):
    low = torch.rand(3, 4, height // 4, width // 4, generator=generator("frames", seed))
    smooth = torch.nn.functional.interpolate(low, (height, width), mode="bilinear")
    return (255 * smooth).to(torch.uint8)


def test_equal_clips_are_as_near_as_can_be():
    assert psnr(frames(), frames()) == math.inf
    assert ssim(frames(), frames()) == pytest.approx(1.0)


def test_an_error_of_one_level_is_48_decibels():
    assert psnr(torch.full((3, 2, 16, 16), 7, dtype=torch.uint8), torch.full((3, 2, 16, 16), 8, dtype=torch.uint8)) == (
        pytest.approx(20 * math.log10(255))
    )


def test_the_order_does_not_matter_and_noise_does():
    clip = frames()
    noise = torch.randint(-20, 21, clip.shape, generator=generator("noise"))
    noisy = (clip + noise).clamp(0, 255).to(torch.uint8)
    for measure in (psnr, ssim):
        assert measure(clip, noisy) == pytest.approx(measure(noisy, clip))
        assert measure(clip, noisy) > measure(clip, frames(1))


def test_ssim_is_that_of_torchmetrics():
    metrics = pytest.importorskip("torchmetrics.functional.image")
    one, other = frames(), frames(1)
    as_batch = [clip.transpose(0, 1).double() / 255 for clip in (one, other)]
    expected = metrics.structural_similarity_index_measure(*as_batch, data_range=1.0)
    assert ssim(one, other) == pytest.approx(float(expected), abs=1e-5)


def test_clips_that_do_not_compare_are_refused():
    with pytest.raises(MediaError, match="shapes") as caught:
        psnr(frames(), frames(height=28))
    assert caught.value.code == "video_shapes_differ"
    with pytest.raises(MediaError, match="5x5") as caught:
        ssim(frames()[..., :5, :5], frames()[..., :5, :5])
    assert caught.value.code == "video_too_small"
