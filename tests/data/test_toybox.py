import math

import pytest
import torch

from videopoet.data.toybox import STYLES, Config, ToyBox, is_held_out, words
from videopoet.data.toybox_captions import split_words
from videopoet.data.toybox_picture import RGB
from videopoet.data.toybox_shapes import EXTENT, fields
from videopoet.data.toybox_sound import ambience
from videopoet.data.toybox_world import CAMERAS, COLOURS, KINDS, MOTIONS, SHAPES, SIZES, foot, pose
from videopoet.errors import ConfigError


@pytest.fixture(scope="module")
def toybox() -> ToyBox:
    return ToyBox(Config())


@pytest.fixture(scope="module")
def clips(toybox):
    return toybox.render([toybox.scene(seed) for seed in range(8)], truth=True)


def scenes_of(toybox: ToyBox, count: int, **slots):
    """Scenes with these slots fixed, whatever combinations the split lacks."""
    scenes, seed = [], 0
    while len(scenes) < count:
        scenes.append(toybox.scene(seed, **slots))
        seed += 1
    return scenes


def test_a_clip_has_the_promised_shapes_and_ranges(clips):
    assert clips.video.shape == (8, 3, 17, 64, 64) and clips.video.dtype == torch.float32
    assert clips.video.abs().max() <= 1 + 1e-5
    assert clips.audio.shape == (8, 1, 34_000) and clips.audio.abs().max() <= 1
    assert clips.depth.shape == (8, 1, 17, 64, 64) and 0 <= clips.depth.min() and clips.depth.max() <= 1
    assert clips.flow.shape == (8, 2, 17, 64, 64) and clips.flow.isfinite().all()
    assert clips.masks.shape == (8, 3, 17, 64, 64) and clips.tracks.shape == (8, 3, 17, 2)


def test_a_seed_gives_the_same_clip_again_whatever_the_global_seed(toybox, clips):
    torch.manual_seed(123)
    again = ToyBox(Config())
    scenes = [again.scene(seed) for seed in range(8)]
    assert scenes == list(clips.scenes)
    rendered = again.render(scenes)
    assert torch.equal(rendered.video, clips.video) and torch.equal(rendered.audio, clips.audio)


def test_a_clip_does_not_depend_on_its_batch(toybox, clips):
    for order in ([[seed] for seed in range(8)], [list(range(7, -1, -1))]):
        for seeds in order:
            some = toybox.render([toybox.scene(seed) for seed in seeds], truth=True)
            for name in ("video", "audio", "depth", "flow"):
                torch.testing.assert_close(getattr(some, name), getattr(clips, name)[seeds], atol=2e-6, rtol=0)
            assert torch.equal(some.masks, clips.masks[seeds])


def test_splits_draw_different_scenes_from_equal_seeds():
    drawn = [
        {(scene.subjects, scene.kind) for scene in map(ToyBox(Config(split=split)).scene, range(50))}
        for split in ("train", "validation", "test")
    ]
    assert not (drawn[0] & drawn[1] or drawn[0] & drawn[2] or drawn[1] & drawn[2])


def test_a_fifth_of_the_combinations_is_held_out_and_never_trained_on(toybox):
    triples = [(shape, colour, motion) for shape in SHAPES for colour in COLOURS for motion in MOTIONS]
    assert sum(is_held_out(*triple) for triple in triples) / len(triples) == pytest.approx(0.2, abs=0.04)
    seen = [subject.triple for seed in range(500) for subject in toybox.scene(seed).subjects]
    assert not any(is_held_out(*triple) for triple in seen)
    held_out = ToyBox(Config(split="test", combinations="held_out"))
    unseen = [subject.triple for seed in range(100) for subject in held_out.scene(seed).subjects]
    assert all(is_held_out(*triple) for triple in unseen)


def test_every_shape_colour_and_motion_is_trained_on(toybox):
    subjects = [subject for seed in range(600) for subject in toybox.scene(seed).subjects]
    assert {subject.shape for subject in subjects} == set(SHAPES)
    assert {subject.colour for subject in subjects} == set(COLOURS)
    assert {subject.motion for subject in subjects} == set(MOTIONS)
    assert {subject.size for subject in subjects} == set(SIZES)
    scenes = [toybox.scene(seed) for seed in range(600)]
    assert {scene.kind for scene in scenes} == set(KINDS) and {scene.camera for scene in scenes} == set(CAMERAS)
    assert sum(len(scene.subjects) == 1 for scene in scenes) / 600 == pytest.approx(0.7, abs=0.08)
    assert sum(scene.camera != "still" for scene in scenes) / 600 == pytest.approx(0.35, abs=0.08)


def test_tracks_lie_where_the_colour_is():
    toybox = ToyBox(Config(num_frames=5))
    for colour in ("red", "blue", "purple"):
        scenes = scenes_of(
            toybox, 4, num_subjects=1, shape="plus", colour=colour, camera="still", motion="up", size="big"
        )
        clips = toybox.render(scenes, audio=False, truth=True)
        paint = torch.tensor(RGB[colour]).view(1, 3, 1, 1, 1) * 2 - 1
        near = ((clips.video - paint).square().sum(dim=1) < 0.25).float()
        weight = near.sum(dim=(2, 3))
        assert weight.min() > 20
        columns = (near.sum(dim=2) * torch.arange(64)).sum(dim=-1) / weight
        rows = (near.sum(dim=3) * torch.arange(64)).sum(dim=-1) / weight
        found = torch.stack([columns, rows], dim=-1)
        assert (found - clips.tracks[:, 0]).norm(dim=-1).median() < 1.0


def test_a_straight_move_goes_a_quarter_of_the_picture_in_the_direction_it_is_called(toybox):
    for motion, axis, sign in (("left", 0, -1), ("right", 0, 1), ("up", 1, -1), ("down", 1, 1)):
        scenes = scenes_of(toybox, 6, num_subjects=1, motion=motion, camera="still")
        tracks = toybox.render(scenes, audio=False, truth=True).tracks[:, 0]
        assert ((tracks[:, -1] - tracks[:, 0])[:, axis] * sign).min() >= 16


def test_one_subject_stays_in_the_picture(toybox):
    scenes = scenes_of(toybox, 24, num_subjects=1)
    tracks = toybox.render(scenes, audio=False, truth=True).tracks[:, 0]
    assert tracks.min() >= 2 and tracks.max() <= 61


@pytest.mark.parametrize("camera", CAMERAS)
def test_flow_carries_each_frame_to_the_next(toybox, camera):
    scenes = scenes_of(toybox, 4, num_subjects=1, camera=camera)
    clips = toybox.render(scenes, audio=False, truth=True)
    video, flow = clips.video.transpose(1, 2), clips.flow.transpose(1, 2)
    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    there = torch.stack([columns, rows]) + flow[:, :-1]
    grid = (there.permute(0, 1, 3, 4, 2) + 0.5) / 32 - 1
    warped = torch.nn.functional.grid_sample(video[:, 1:].flatten(0, 1), grid.flatten(0, 1), align_corners=False)
    error = (warped - video[:, :-1].flatten(0, 1)).abs().mean(dim=1)
    inside = (grid.flatten(0, 1).abs() <= 1).all(dim=-1)
    unmoved = (video[:, 1:] - video[:, :-1]).abs().mean()
    assert error[inside].quantile(0.9) < 0.08
    assert error[inside].mean() < max(0.6 * unmoved, 0.02)


def test_nearer_things_are_nearer_in_the_depth_map(clips):
    subject = clips.masks[:, :1]
    sky = clips.depth[:, :, :, 0]
    assert clips.depth[subject].min() > sky.max()


def test_an_impact_is_heard_when_it_happens_and_stands_out(toybox):
    checked = 0
    for motion in ("bounce", "fall"):
        for scene in scenes_of(toybox, 12, num_subjects=1, motion=motion):
            sound = toybox.render([scene]).audio[0, 0]
            first = scene.impacts[0]
            start = round(first.seconds * 16_000)
            if start < 1_600 or start > 33_000:
                continue
            loud = (sound.abs() > 0.1).nonzero()[0].item()
            assert abs(loud - start) / 16_000 < 0.010
            before, after = sound[start - 1_600 : start], sound[start : start + 480]
            assert 20 * math.log10(after.square().mean().sqrt() / before.square().mean().sqrt()) >= 20
            checked += 1
    assert checked > 10


def test_a_bouncing_subject_touches_the_ground_at_its_impacts(toybox):
    for scene in scenes_of(toybox, 8, num_subjects=1, motion="bounce"):
        subject = scene.subjects[0]
        for impact in scene.impacts:
            place = pose(subject, scene.stage, impact.seconds)
            assert place.y + foot(subject) * subject.radius * place.height == pytest.approx(subject.ground, abs=1e-6)


def test_a_shape_reaches_down_to_its_foot(toybox):
    bodies = fields(torch.device("cpu"))[:, 0]
    rows = (torch.arange(bodies.shape[1]) + 0.5) / bodies.shape[1] * 2 * EXTENT - EXTENT
    for index, shape in enumerate(SHAPES):
        lowest = rows[(bodies[index] < 0).any(dim=1)].max().item()
        assert lowest == pytest.approx(foot(toybox.scene(0, shape=shape, motion="still").subjects[0]), abs=0.05)


def test_ambience_is_quiet():
    for kind in KINDS:
        assert ambience(kind, 16_000).abs().max() < 0.06


def test_every_word_of_a_caption_is_known(toybox):
    vocabulary = set(words())
    assert words() == sorted(vocabulary)
    for seed in range(600):
        scene = toybox.scene(seed)
        for caption in (scene.caption, *scene.captions):
            assert set(split_words(caption)) <= vocabulary
            assert caption == caption.lower()
    for prompt in ("a red ball bounces on the grass", "a blue star flies over the sea, pan left", "zoom in", *STYLES):
        assert set(split_words(prompt)) <= vocabulary


def test_paraphrases_name_the_subject_the_motion_and_the_camera(toybox):
    for seed in range(200):
        scene = toybox.scene(seed)
        assert scene.caption.strip()
        for caption in scene.captions:
            assert 4 <= len(split_words(caption)) <= 26
            assert all(f"{subject.colour} {subject.shape}" in caption for subject in scene.subjects)
            assert scene.camera == "still" or caption.endswith(f", {scene.camera}")


@pytest.mark.parametrize("height, width", [(64, 64), (112, 64), (64, 112), (50, 90)])
def test_any_size_and_length_can_be_rendered(height, width):
    toybox = ToyBox(Config(height=height, width=width, num_frames=9))
    clips = toybox.render([toybox.scene(seed) for seed in range(3)], truth=True)
    assert clips.video.shape == (3, 3, 9, height, width) and clips.audio.shape == (3, 1, 18_000)
    tracks = clips.tracks[:, 0]
    assert tracks[..., 0].min() > 0 and tracks[..., 0].max() < width
    assert tracks[..., 1].min() > 0 and tracks[..., 1].max() < height


def test_one_frame_is_enough():
    toybox = ToyBox(Config(num_frames=1))
    clips = toybox.render([toybox.scene(3)], truth=True)
    assert clips.video.shape == (1, 3, 1, 64, 64) and clips.audio.shape == (1, 1, 2_000)


@pytest.mark.parametrize("style", STYLES)
def test_a_style_changes_the_picture_and_keeps_its_range(toybox, clips, style):
    styled = toybox.render(clips.scenes[:2], audio=False, style=style).video
    assert styled.shape == (2, 3, 17, 64, 64) and styled.abs().max() <= 1 + 1e-5
    assert (styled - clips.video[:2]).abs().mean() > 0.02


def test_fixed_slots_are_kept(toybox):
    slots = {"shape": "fish", "colour": "blue", "size": "small", "kind": "sea", "camera": "zoom in"}
    scene = toybox.scene(5, num_subjects=2, **slots)
    first = scene.subjects[0]
    assert (first.shape, first.colour, first.size) == ("fish", "blue", "small")
    assert (scene.kind, scene.camera, len(scene.subjects)) == ("sea", "zoom in", 2)


def test_what_the_world_does_not_have_is_refused(toybox):
    held_out = next((s, c, m) for s in SHAPES for c in COLOURS for m in MOTIONS if is_held_out(s, c, m))
    with pytest.raises(ConfigError, match="no shape"):
        toybox.scene(0, shape="cube")
    with pytest.raises(ConfigError, match="held out"):
        toybox.scene(0, shape=held_out[0], colour=held_out[1], motion=held_out[2])
    with pytest.raises(ConfigError, match="held-out"):
        Config(split="train", combinations="held_out")
    with pytest.raises(ConfigError, match="another size"):
        toybox.render([ToyBox(Config(height=128)).scene(0)])
    with pytest.raises(ConfigError, match="unknown style"):
        toybox.render([toybox.scene(0)], style="cubist")


def test_at_twice_the_scale_a_seed_shows_the_same_scene(toybox):
    large = toybox.at_scale(2)
    seen = large.render([large.scene(5)], audio=False).video
    small = toybox.render([toybox.scene(5)], audio=False).video
    assert seen.shape[-2:] == (2 * small.shape[-2], 2 * small.shape[-1])
    shrunk = torch.nn.functional.avg_pool2d(seen.flatten(0, 1), 2).view(small.shape)
    assert (shrunk - small).abs().mean() < 0.02
