import pytest
import torch

from videopoet import runtime
from videopoet.errors import MediaError, TaskError
from videopoet.generation import painting
from videopoet.generation.given import SAME_SHAPE, clip
from videopoet.generation.request import Request
from videopoet.generation.window import Window
from videopoet.media.files import probe, read_video
from videopoet.media.quality import psnr
from videopoet.media.types import Image, Video
from videopoet.sequence.conditions import REGIONS, keep_mask

both_tasks = pytest.mark.parametrize("task", ["inpainting", "outpainting"])


def picture_of(marked: torch.Tensor) -> Image:
    """White where `marked`, bool (H, W), says so."""
    return Image(marked.to(torch.uint8).mul(255).expand(3, *marked.shape).contiguous())


def corner(height=16, width=16) -> torch.Tensor:
    marked = torch.zeros(height, width, dtype=torch.bool)
    marked[height // 2 :, width // 2 :] = True
    return marked


def canvas(poet, **inputs) -> tuple[painting.Canvas, list[str]]:
    warnings: list[str] = []
    request = Request(**inputs)
    return painting.canvas(request, Window(poet.parts, request.height, request.width), warnings), warnings


def paint(poet, task="inpainting", **inputs):
    return poet.generate(task, seed=1, sound=False, progress=False, **inputs)


# What comes back


@both_tasks
@pytest.mark.parametrize("mask", REGIONS)
def test_the_kept_part_comes_back_exactly_and_the_rest_is_painted(poet, random_clip, task, mask):
    given = random_clip(17)
    made = paint(poet, task, video=given, mask=mask).media.frames
    keep = keep_mask(REGIONS[mask], "hide_region" if task == "inpainting" else "keep_region", 17, 16, 16)
    assert torch.equal(made[:, keep], given.frames[:, keep])
    assert (made[:, ~keep] != given.frames[:, ~keep]).float().mean() > 0.5


@pytest.mark.parametrize(("mask", "share"), [("half", 0.5), ("edge", 0.5625), ("moving_box", 0.75), ("bottom", 0.5)])
def test_regions_have_the_names_that_people_try_first(poet, random_clip, mask, share):
    painted, _ = canvas(poet, task="inpainting", video=random_clip(17), mask=mask)
    assert painted.facts["mask"] == mask and painted.facts["kept_share"] == share


def test_of_a_file_the_kept_part_is_what_the_file_shows_at_the_models_size(poet, random_clip, tmp_path):
    random_clip(30, height=40, width=72, frame_rate=15.0).save(tmp_path / "clip.mp4")
    seen = clip(tmp_path / "clip.mp4", Window(poet.parts))
    made = paint(poet, video=tmp_path / "clip.mp4", mask="top_left").media.frames
    keep = keep_mask(REGIONS["top_left"], "hide_region", seen.num_frames, 16, 16)
    assert torch.equal(made[:, keep], seen.frames[:, keep])


def test_a_smooth_clip_keeps_45_db_through_the_written_file(poet, tmp_path):
    rows = torch.linspace(40, 200, 16).view(1, 1, 16, 1).expand(3, 17, 16, 16)
    given = Video(rows.round().to(torch.uint8).contiguous(), 8.0)
    paint(poet, video=given, box=(0.0, 0.0, 0.25, 0.25)).save(tmp_path / "made.mp4")
    made = read_video(tmp_path / "made.mp4").frames
    assert psnr(made[..., 8:], given.frames[..., 8:]) >= 45


def test_a_clip_full_of_detail_keeps_every_pixel_through_a_lossless_file(poet, random_clip, tmp_path):
    given = random_clip(17)
    paint(poet, video=given, mask="top_left").save(tmp_path / "made.mkv")
    keep = keep_mask(REGIONS["top_left"], "hide_region", 17, 16, 16)
    assert torch.equal(read_video(tmp_path / "made.mkv").frames[:, keep], given.frames[:, keep])


def test_what_was_to_be_replaced_does_not_shine_through_the_seam():
    stream = runtime.generator("blend")
    original, made = (torch.rand(3, 2, 16, 16, generator=stream) * 2 - 1 for _ in range(2))
    keep = (~corner()).expand(2, 16, 16)
    other = torch.where(keep, original, -original)
    assert torch.equal(painting.blended(original, made, keep), painting.blended(other, made, keep))


def test_what_is_off_by_a_constant_meets_the_kept_part_without_an_edge():
    original = torch.zeros(3, 1, 64, 64)
    keep = (~corner(64, 64)).expand(1, 64, 64)
    blended = painting.blended(original, original + 0.5, keep)
    middle = blended[0, 0, 48]
    assert (middle[:32] == 0).all()
    assert (middle.diff().abs() <= 0.11).all() and middle[40:].eq(0.5).all()


def test_nothing_changes_where_what_was_made_agrees():
    made = torch.rand(3, 2, 16, 16, generator=runtime.generator("agree"))
    assert torch.equal(painting.blended(made, made, (~corner()).expand(2, 16, 16)), made)


@pytest.mark.parametrize(
    ("inputs", "facts"),
    [
        ({"mask": "central"}, {"mask": "central", "kept_share": 0.75}),
        ({}, {"mask": "central", "kept_share": 0.75}),
        ({"box": (0.5, 0.5, 1.0, 1.0)}, {"box": [0.5, 0.5, 1.0, 1.0], "kept_share": 0.75}),
        ({"mask": picture_of(corner())}, {"mask": "picture", "kept_share": 0.75}),
    ],
)
def test_the_metadata_says_what_was_kept(poet, random_clip, inputs, facts):
    metadata = paint(poet, video=random_clip(), **inputs).metadata
    assert {name: metadata[name] for name in (*facts, "seam_pixels")} == {**facts, "seam_pixels": 1}


def test_a_masks_file_is_not_named(poet, random_clip, tmp_path):
    picture_of(corner()).save(tmp_path / "secret.png")
    metadata = paint(poet, video=random_clip(), mask=str(tmp_path / "secret.png")).metadata
    assert metadata["mask"] == "picture" and "secret" not in str(metadata)


# Masks


@both_tasks
def test_white_is_replaced_whatever_the_task(poet, random_clip, task):
    painted, _ = canvas(poet, task=task, video=random_clip(), mask=picture_of(corner()))
    assert torch.equal(painted.keep[0], ~corner())


def test_a_mask_clip_says_for_each_frame_what_is_replaced(poet, random_clip, tmp_path):
    frames = torch.zeros(3, 17, 16, 16, dtype=torch.uint8)
    for number in range(8, 17):
        frames[:, number, :, :8] = 255
    Video(frames, 8.0).save(tmp_path / "mask.mp4")
    painted, _ = canvas(poet, task="inpainting", video=random_clip(17), mask=tmp_path / "mask.mp4")
    assert painted.keep[:8].all() and not painted.keep[8:, :, :8].any() and painted.keep[8:, :, 8:].all()


def test_a_mask_of_another_size_marks_every_pixel_that_its_white_touches(poet, random_clip):
    marked = torch.zeros(160, 160, dtype=torch.bool)
    marked[40:121, 57] = True  # a stroke one pixel wide, of ten that become one
    painted, _ = canvas(poet, task="inpainting", video=random_clip(), mask=picture_of(marked))
    expected = torch.ones(16, 16, dtype=torch.bool)
    expected[4:13, 5] = False
    assert torch.equal(painted.keep[0], expected)


def test_a_mask_of_the_clips_shape_is_cut_like_the_clip(poet, random_clip):
    marked = torch.zeros(20, 40, dtype=torch.bool)
    marked[:, 20:] = True
    painted, _ = canvas(poet, task="inpainting", video=random_clip(height=40, width=80), mask=picture_of(marked))
    assert painted.keep[0, :, :8].all() and not painted.keep[0, :, 8:].any()


def test_a_mask_of_the_results_shape_is_taken_as_it_is(poet, random_clip):
    painted, _ = canvas(
        poet, task="inpainting", video=random_clip(height=40, width=80), mask=picture_of(corner(32, 32))
    )
    assert torch.equal(painted.keep[0], ~corner())


def test_a_mask_clip_may_end_a_frame_early_and_no_more(poet, random_clip):
    frames = picture_of(corner()).frame[:, None].expand(-1, 16, -1, -1).contiguous()
    painted, _ = canvas(poet, task="inpainting", video=random_clip(17), mask=Video(frames, 8.0))
    assert torch.equal(painted.keep[-1], ~corner())
    with pytest.raises(TaskError, match="12 frames.*the clip 17") as caught:
        canvas(poet, task="inpainting", video=random_clip(17), mask=Video(frames[:, :12], 8.0))
    assert caught.value.code == "mask_too_short"


@both_tasks
@pytest.mark.parametrize(
    ("mask", "code", "said"),
    [
        (torch.zeros(16, 16), "mask_empty", "replaces nothing"),
        (torch.ones(16, 16), "mask_full", "replaces everything"),
        (torch.zeros(16, 48), "mask_shape", "48x16.*20x20.*16x16"),
    ],
)
def test_a_mask_that_leaves_nothing_to_do_is_refused(poet, random_clip, task, mask, code, said):
    with pytest.raises(TaskError, match=said) as caught:
        paint(poet, task, video=random_clip(height=20, width=20), mask=picture_of(mask.bool()))
    assert caught.value.code == code
    assert str(caught.value).count(";") == 2


def test_a_mask_that_is_missing_or_no_picture_is_refused(poet, random_clip, random_sound, tmp_path):
    with pytest.raises(MediaError, match="no such file"):
        paint(poet, video=random_clip(), mask=tmp_path / "none.png")
    random_sound().save(tmp_path / "sound.wav")
    with pytest.raises(MediaError, match="sound only"):
        paint(poet, video=random_clip(), mask=tmp_path / "sound.wav")


# Boxes


@pytest.mark.parametrize(
    ("box", "rows", "columns"),
    [
        ((0.25, 0.5, 0.75, 1.0), (8, 16), (4, 12)),
        ((16, 0, 48, 16), (0, 8), (0, 16)),  # pixels of a clip of 64x32, whose middle 32x32 become 16x16
        ((20, 4, 21, 5), (2, 3), (2, 3)),
        ((0, 0, 24, 32), (0, 16), (0, 4)),
    ],
)
def test_inpainting_replaces_a_box_of_the_given_clip(poet, random_clip, box, rows, columns):
    height, width = (32, 32) if max(box) <= 1 else (32, 64)
    painted, _ = canvas(poet, task="inpainting", video=random_clip(height=height, width=width), box=box)
    expected = torch.ones(16, 16, dtype=torch.bool)
    expected[slice(*rows), slice(*columns)] = False
    assert torch.equal(painted.keep, expected.expand(17, 16, 16))


@pytest.mark.parametrize("box", [(0.25, 0.0, 0.75, 0.5), (4, 0, 12, 8)])
def test_outpainting_puts_the_whole_clip_into_its_box(poet, random_clip, box):
    given = random_clip(17, height=8, width=8)
    made = paint(poet, "outpainting", video=given, box=box).media.frames
    assert torch.equal(made[:, :, 0:8, 4:12], given.frames)


def test_a_clip_of_another_shape_than_its_box_is_cut_and_that_is_said(poet, random_clip):
    painted, warnings = canvas(poet, task="outpainting", video=random_clip(17, height=8, width=20), box=(0, 0, 8, 8))
    assert painted.keep.sum() == 17 * 64
    assert "20x8" in warnings[0] and "8x8" in warnings[0]


@pytest.mark.parametrize(("height", "width", "kept"), [(9, 16, "rows"), (16, 9, "columns")])
def test_outpainting_keeps_a_clip_of_another_shape_whole(poet, random_clip, height, width, kept):
    given = random_clip(17, height=height, width=width)
    result = paint(poet, "outpainting", video=given)
    middle = slice(3, 12)
    frames = result.media.frames[:, :, middle] if kept == "rows" else result.media.frames[:, :, :, middle]
    assert torch.equal(frames, given.frames)
    assert result.metadata["box"] == ([0.0, 0.1875, 1.0, 0.75] if kept == "rows" else [0.1875, 0.0, 0.75, 1.0])


def test_a_clip_that_hardly_differs_in_shape_counts_as_of_the_same(poet, random_clip):
    painted, _ = canvas(poet, task="outpainting", video=random_clip(height=100, width=100 + int(100 * SAME_SHAPE)))
    assert painted.facts["mask"] == "central"


@pytest.mark.parametrize(
    ("task", "box", "said"),
    [
        ("inpainting", (0, 0, 65, 32), "beyond the picture, which is 64x32"),
        ("inpainting", (0, 0, 10, 32), "cut off"),
        ("outpainting", (0, 0, 17, 16), "beyond the picture, which is 16x16"),
        ("outpainting", (0, 0, 4, 16), "4x16.*at least 8"),
        ("inpainting", (0, 0, 64, 32), "replaces everything"),
        ("outpainting", (0, 0, 16, 16), "replaces nothing"),
    ],
)
def test_a_box_that_does_not_fit_the_clip_is_refused(poet, random_clip, task, box, said):
    with pytest.raises(TaskError, match=said) as caught:
        paint(poet, task, video=random_clip(height=32, width=64), box=box)
    assert caught.value.code in ("box_invalid", "mask_full", "mask_empty")


# Clips


def test_of_a_long_file_only_the_first_window_is_read(poet, random_clip, tmp_path):
    random_clip(8 * 70, height=16, width=16).save(tmp_path / "long.mp4")
    result = paint(poet, video=tmp_path / "long.mp4")
    assert probe(tmp_path / "long.mp4").seconds == pytest.approx(70, abs=0.5)
    assert result.media.num_frames == 17
    assert "more than 17 frames" in result.warnings[0] and "first 17; --start" in result.warnings[0]
    later = paint(poet, video=tmp_path / "long.mp4", start=65.0)
    assert later.media.num_frames == 17 and "now at 65 s" in later.warnings[0]


def test_a_painted_clip_may_be_shorter_than_the_given_one(poet, random_clip):
    given = random_clip(17)
    made = paint(poet, video=given, num_frames=9).media.frames
    keep = keep_mask(REGIONS["central"], "hide_region", 9, 16, 16)
    assert made.shape[1] == 9 and torch.equal(made[:, keep], given.frames[:, :9][:, keep])
