import torch

from videopoet.media.signals import structure_clip


def test_flow_and_depth_become_three_channels_in_range():
    depth = torch.rand(2, 1, 5, 16, 32)
    flow = torch.randn(2, 2, 5, 16, 32) * 10
    clip = structure_clip(depth, flow)
    assert clip.shape == (2, 3, 5, 16, 32)
    assert clip.abs().max() <= 1.0
    assert (clip[:, 2:].amax((1, 2, 3, 4)) == 1).all() and (clip[:, 2:].amin((1, 2, 3, 4)) == -1).all()


def test_a_motion_looks_the_same_at_every_resolution():
    small = structure_clip(torch.zeros(1, 1, 1, 16, 32), torch.full((1, 2, 1, 16, 32), 1.0))
    large = structure_clip(torch.zeros(1, 1, 1, 64, 128), torch.full((1, 2, 1, 64, 128), 4.0))
    assert torch.equal(small[0, :, 0, 0, 0], large[0, :, 0, 0, 0])


def test_what_stands_still_is_zero():
    assert structure_clip(torch.zeros(1, 1, 1, 8, 8), torch.zeros(1, 2, 1, 8, 8))[:, :2].eq(0).all()
