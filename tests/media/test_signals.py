import sys

import pytest
import torch

from videopoet import runtime
from videopoet.data.toybox import Config, ToyBox
from videopoet.errors import CheckpointError, MediaError
from videopoet.media import signals
from videopoet.media.signals import estimated_depth, optical_flow, structure_clip
from videopoet.media.types import Video


def test_flow_and_depth_become_three_channels_in_range():
    depth = torch.rand(2, 1, 5, 16, 32)
    flow = torch.randn(2, 2, 5, 16, 32) * 10
    clip = structure_clip(depth, flow)
    assert clip.shape == (2, 3, 5, 16, 32)
    assert clip.abs().max() <= 1.0


def test_depth_of_any_scale_fills_the_range_of_its_clip():
    depth = torch.rand(2, 1, 5, 16, 16, generator=runtime.generator("depth"))
    flow = torch.zeros(2, 2, 5, 16, 16)
    clip = structure_clip(depth, flow)
    assert (clip[:, 2].amax((1, 2, 3)) == 1).all() and (clip[:, 2].amin((1, 2, 3)) == -1).all()
    torch.testing.assert_close(structure_clip(depth * 40 + 7, flow), clip, atol=1e-5, rtol=0)


def test_depth_that_is_absent_is_no_depth_at_all():
    flow = torch.randn(1, 2, 3, 8, 8)
    absent = structure_clip(None, flow)
    assert absent[:, 2].eq(0).all()
    assert torch.equal(absent[:, :2], structure_clip(torch.rand(1, 1, 3, 8, 8), flow)[:, :2])
    assert torch.equal(structure_clip(torch.full((1, 1, 3, 8, 8), 5.0), flow), absent)


def test_a_motion_looks_the_same_at_every_resolution():
    small = structure_clip(torch.zeros(1, 1, 1, 16, 32), torch.full((1, 2, 1, 16, 32), 1.0))
    large = structure_clip(torch.zeros(1, 1, 1, 64, 128), torch.full((1, 2, 1, 64, 128), 4.0))
    assert torch.equal(small[0, :, 0, 0, 0], large[0, :, 0, 0, 0])


def test_what_stands_still_is_zero():
    assert structure_clip(torch.zeros(1, 1, 1, 8, 8), torch.zeros(1, 2, 1, 8, 8))[:, :2].eq(0).all()


# Flow


def noise(height: int, width: int) -> torch.Tensor:
    """Smooth noise, uint8 (3, H, W)."""
    coarse = torch.rand(1, 3, height // 4, width // 4, generator=runtime.generator("noise")) * 255
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic", align_corners=False)[0]
    return smooth.clamp(0, 255).to(torch.uint8)


def test_flow_finds_how_far_everything_moved():
    pytest.importorskip("cv2")
    picture = noise(80, 96)
    frames = torch.stack([picture[:, 8 - 2 * k : 72 - 2 * k, 3 * k : 64 + 3 * k] for k in range(3)], dim=1)
    flow = optical_flow(frames)  # the window goes right and up, what it shows left and down
    assert flow.shape == (2, 3, 64, 64)
    inner = flow[:, :2, 8:-8, 8:-8]
    torch.testing.assert_close(inner[0], torch.full_like(inner[0], -3.0), atol=0.25, rtol=0)
    torch.testing.assert_close(inner[1], torch.full_like(inner[1], 2.0), atol=0.25, rtol=0)
    assert flow[:, -1].eq(0).all()


def test_flow_is_in_pixels_of_the_size_asked_for():
    pytest.importorskip("cv2")
    picture = noise(64, 80)
    frames = torch.stack([picture[:, :, 4 * k : 64 + 4 * k] for k in range(2)], dim=1)
    flow = optical_flow(frames, 32, 16)
    assert flow.shape == (2, 2, 32, 16)
    assert flow[0, 0, 8:-8, 4:-4].mean() == pytest.approx(-1.0, abs=0.1)


def test_a_still_clip_and_a_single_frame_have_no_flow():
    pytest.importorskip("cv2")
    assert optical_flow(noise(64, 64)[:, None].expand(-1, 3, -1, -1)).abs().max() < 0.05
    assert optical_flow(noise(64, 64)[:, None]).eq(0).all()


def test_flow_of_toy_box_clips_is_near_the_true_one():
    pytest.importorskip("cv2")
    world = ToyBox(Config(split="test"))
    scenes = [world.scene(seed, num_subjects=1, motion="right", camera="still") for seed in range(4)]
    clips = world.render(scenes, audio=False, truth=True)
    assert clips.flow is not None and clips.masks is not None
    for video, true, mask in zip(clips.video, clips.flow[:, :, 6:8], clips.masks[:, :, 6:8].any(1), strict=True):
        found = optical_flow(Video.from_pixels(video[:, 6:9], 8.0).frames)[:, :2]
        off = (found - true).square().sum(0).sqrt()
        assert off[mask].mean() < 0.35 * true.square().sum(0).sqrt()[mask].mean()
        assert off[~mask].mean() < 0.35


def test_flow_without_opencv_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MediaError, match=r"pip install 'videopoet\[signals\]'") as caught:
        optical_flow(noise(64, 64)[:, None])
    assert caught.value.code == "library_missing"


# Depth


@pytest.fixture(scope="module")
def depth_model(tmp_path_factory):
    """The folder of a tiny Depth Anything of random weights."""
    from transformers import (
        DepthAnythingConfig,
        DepthAnythingForDepthEstimation,
        Dinov2Config,
        DPTImageProcessorPil,
    )

    torch.manual_seed(0)
    backbone = Dinov2Config(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=56,
        patch_size=14,
        out_indices=[1, 2, 3, 4],
        reshape_hidden_states=False,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=16,
        patch_size=14,
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        head_hidden_size=8,
    )
    folder = tmp_path_factory.mktemp("models") / "tiny-depth"
    DepthAnythingForDepthEstimation(config).save_pretrained(folder)
    processor = DPTImageProcessorPil(
        size={"height": 56, "width": 56}, ensure_multiple_of=14, keep_aspect_ratio=True, do_pad=False
    )
    processor.save_pretrained(folder)
    return folder


def test_a_depth_model_is_asked_frame_by_frame(depth_model):
    frames = torch.randint(256, (3, 3, 32, 48), generator=runtime.generator("frames"), dtype=torch.uint8)
    depth = estimated_depth(frames, depth_model)
    assert depth.shape == (1, 3, 32, 48) and depth.isfinite().all()
    assert torch.equal(estimated_depth(frames[:, 1:2], depth_model)[:, 0], depth[:, 1])
    assert not torch.equal(depth[:, 0], depth[:, 1])


def test_of_a_model_that_gives_distances_the_inverse_is_taken(depth_model):
    frames = torch.randint(256, (3, 1, 32, 32), generator=runtime.generator("frames"), dtype=torch.uint8)
    relative = estimated_depth(frames, depth_model)
    network, _ = signals._depth_model(str(depth_model))
    network.config.depth_estimation_type = "metric"
    try:
        torch.testing.assert_close(estimated_depth(frames, depth_model), 1 / relative.clamp_min(1e-3))
    finally:
        network.config.depth_estimation_type = "relative"


def test_what_is_no_depth_model_is_refused(tmp_path):
    frames = torch.zeros(3, 1, 32, 32, dtype=torch.uint8)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="no depth model") as caught:
        estimated_depth(frames, tmp_path / "empty")
    assert caught.value.code == "depth_model_invalid"
    assert str(caught.value).count(";") == 2
    with pytest.raises(CheckpointError, match="no folder '.*none'") as caught:
        estimated_depth(frames, tmp_path / "none")
    assert caught.value.code == "checkpoint_missing"
