import numpy
import pytest
import torch

from videopoet.errors import MediaError, TaskError
from videopoet.generation import given_structure
from videopoet.generation.request import Request
from videopoet.generation.window import Window
from videopoet.media import signals
from videopoet.media.types import Image, Video

pytest.importorskip("cv2")


def structure(poet, **inputs):
    """The structure clip of a request, the sound, the warnings and the facts for the metadata."""
    warnings: list[str] = []
    facts: dict[str, object] = {}
    request = Request(task="stylization", prompt="a red ball", **inputs)
    clip, sound = given_structure.structure(request, Window(poet.parts), warnings, facts)
    return clip, sound, warnings, facts


def ramp(height=16, width=16) -> torch.Tensor:
    """Depth that is nearest on the right, in [0, 1]."""
    return torch.linspace(0, 1, width).expand(height, width)


def test_any_clip_is_stylized_by_its_motion_alone_and_that_is_said(poet, random_clip, random_sound, tmp_path):
    random_clip(13, height=24, width=40, audio=random_sound(13 / 8)).save(tmp_path / "clip.mp4")
    result = poet.generate("stylization", prompt="a red ball", video=tmp_path / "clip.mp4", seed=1)
    assert (result.media.num_frames, result.media.height, result.media.width) == (13, 16, 16)
    assert result.media.audio is not None
    cut, depth = result.warnings
    assert "40x24" in cut and "--depth-model" in depth
    assert result.metadata["depth"] == "absent"


def test_without_depth_its_channel_is_empty(poet, random_clip):
    clip, _, _, _ = structure(poet, video=random_clip(5))
    assert clip.shape == (3, 5, 16, 16)
    assert clip[2].eq(0).all() and not clip[:2].eq(0).all()


def test_the_motion_is_that_of_the_clip_as_the_model_sees_it(poet):
    picture = torch.rand(1, 3, 16, 40, generator=torch.Generator().manual_seed(0)) * 255
    picture = torch.nn.functional.interpolate(picture, (128, 320), mode="bicubic")[0].clamp(0, 255).to(torch.uint8)
    moving = Video(torch.stack([picture[:, :, 8 * k : 8 * k + 256] for k in range(4)], dim=1), 8.0)
    clip, _, _, _ = structure(poet, video=moving)
    # 8 of the middle 128 columns a frame, a half of the full scale, to the left.
    assert clip[0, :3, 4:-4, 4:-4].median() == pytest.approx(-0.5, abs=0.05)
    assert clip[1, :3, 4:-4, 4:-4].median() == pytest.approx(0.0, abs=0.05)


@pytest.mark.parametrize("kind", ["picture", "clip", "array", "arrays", "tensor"])
def test_depth_comes_from_a_file_or_an_array(poet, random_clip, tmp_path, kind):
    shades = ramp().mul(255).round().to(torch.uint8).expand(3, 16, 16).contiguous()
    if kind == "picture":
        Image(shades).save(depth := tmp_path / "depth.png")
    elif kind == "clip":
        depth = Video(shades[:, None].expand(-1, 5, -1, -1).contiguous(), 8.0)
    elif kind == "tensor":
        depth = ramp() * 30 + 2
    else:
        maps = ramp() if kind == "array" else ramp().expand(5, -1, -1)
        numpy.save(depth := tmp_path / "depth.npy", maps.numpy() * 100)
    clip, _, warnings, facts = structure(poet, video=random_clip(5), depth=depth)
    torch.testing.assert_close(clip[2], (ramp() * 2 - 1).expand(5, 16, 16), atol=0.01, rtol=0)
    assert warnings == [] and facts == {"depth": "given"}


def test_depth_is_cut_like_the_clip(poet, random_clip):
    clip, _, _, _ = structure(poet, video=random_clip(3, height=20, width=60), depth=ramp(40, 120))
    middle = torch.linspace(-1, 1, 16).expand(3, 16, 16)
    torch.testing.assert_close(clip[2], middle, atol=0.05, rtol=0)


def test_depth_comes_from_a_model(poet, random_clip, monkeypatch):
    asked = []

    def estimated(frames, model, device):
        asked.append((tuple(frames.shape), model))
        return ramp(*frames.shape[2:]).expand(1, *frames.shape[1:])

    monkeypatch.setattr(given_structure, "estimated_depth", estimated)
    clip, _, warnings, facts = structure(poet, video=random_clip(3), depth_model="org/depth")
    assert asked == [((3, 3, signals.LEAST_FLOW_SIDE, signals.LEAST_FLOW_SIDE), "org/depth")]
    torch.testing.assert_close(clip[2, 0, 0, [0, -1]], torch.tensor([-1.0, 1.0]))
    assert warnings == [] and facts == {"depth": "estimated"}


@pytest.mark.parametrize(
    ("depth", "code"),
    [
        (torch.full((16, 16), float("nan")), "control_invalid"),
        (torch.zeros(3, 16, 16), "control_invalid"),
        (torch.zeros(1, 1, 16, 16), "control_invalid"),
        (torch.zeros(0, 16, 16), "control_invalid"),
        (torch.zeros(16, 40), "depth_shape"),
        (Video(torch.zeros(3, 2, 16, 16, dtype=torch.uint8), 8.0), "depth_too_short"),
    ],
)
def test_bad_depth_is_refused(poet, random_clip, depth, code):
    with pytest.raises(TaskError, match="depth") as caught:
        structure(poet, video=random_clip(5), depth=depth)
    assert caught.value.code == code
    assert str(caught.value).count(";") == 2


def test_a_file_of_depth_that_is_missing_or_no_array_is_refused(poet, random_clip, tmp_path):
    (tmp_path / "text.npy").write_text("no array")
    numpy.save(tmp_path / "words.npy", numpy.array(["near", "far"]))
    for name, said in (("none.npy", "no such file"), ("text.npy", "no array"), ("words.npy", "no array")):
        with pytest.raises(MediaError, match=said) as caught:
            structure(poet, video=random_clip(5), depth=tmp_path / name)
        assert str(caught.value).count(";") == 2
