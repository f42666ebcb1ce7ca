from types import SimpleNamespace

import pytest
import torch

from videopoet import Video


@pytest.fixture
def case():
    frames = torch.randint(1, 256, (3, 5, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    true, kept = Video(frames, 8.0), Video(torch.zeros_like(frames), 8.0)
    return SimpleNamespace(
        right=SimpleNamespace(video=true),
        truth=SimpleNamespace(video=true),
        through_tokens=SimpleNamespace(video=kept),
        num_known=2,
        keep=None,
    )


def test_the_beginning_that_was_given_is_exact_and_the_rest_is_not(benchmark, case):
    frames = benchmark("given_beside_made").beside(case).video.frames
    assert torch.equal(frames[:, :2], case.right.video.frames[:, :2])
    assert not frames[:, 2:].any() and case.right.video.frames[:, 2:].any()


def test_a_region_that_was_given_is_exact_and_the_rest_is_not(benchmark, case):
    true = case.right.video.frames
    case.keep = torch.zeros(true.shape[1:], dtype=torch.bool)
    case.keep[:, :4] = True
    frames = benchmark("given_beside_made").beside(case).video.frames
    assert torch.equal(frames[:, :, :4], true[:, :, :4]) and not frames[:, :, 4:].any()
