import json
import shutil

import pytest
import torch

from videopoet.data import toybox
from videopoet.data.clips import Config as ClipsConfig
from videopoet.data.mixture import MixtureConfig, Share, TaskBatches
from videopoet.data.prepare import prepare
from videopoet.data.prepared import Dataset, PreparedClips
from videopoet.data.shards import Shards
from videopoet.data.tokenizer_batches import AudioBatches, Sounds, Stage, VideoBatches
from videopoet.data.upscaling import PairBatches, PairsConfig
from videopoet.data.world import open_worlds
from videopoet.errors import DataError
from videopoet.media.types import Audio
from videopoet.sequence import layout, vocabulary
from videopoet.sequence.tasks import TASKS, find_task
from videopoet.text_encoders.own_tokens import OwnTokens

SMALL = toybox.Config(height=32, width=32, num_frames=9)


@pytest.fixture(scope="module")
def world(dataset):
    return PreparedClips(Dataset(dataset[0]), SMALL)


@pytest.fixture(scope="module")
def batches_on(tokenizers):
    """What makes task batches on a world, with the smallest tokenizers."""
    video, audio = tokenizers

    def make(world, tasks=tuple(TASKS), seed=0):
        encoder = OwnTokens.from_words(world.words())
        joint = vocabulary.Vocabulary(
            vocabulary.Config(text_size=encoder.size, visual_codes=16, audio_codebook_size=8, audio_quantizers=2)
        )
        shares = tuple(Share(task=task, batch_size=3, weight=1.0) for task in tasks)
        config = MixtureConfig(shares=shares, pool_clips=12, pool_batches=4, text_drop=0.0)
        return TaskBatches(world, config, video, audio, encoder, joint, seed=seed)

    return make


@pytest.fixture
def prepared(tmp_path, make):
    """What prepares a few clips, each given as its caption (or None) and whether it has sound."""

    def prepare_these(*given, **more):
        folder = tmp_path / "footage"
        shutil.rmtree(folder, ignore_errors=True)
        for number, (caption, has_sound) in enumerate(given):
            make.moving(1.3, tint=number / 4 - 0.5, sound=0.4 if has_sound else -1).save(folder / f"{number}.mp4")
            if caption:
                (folder / f"{number}.txt").write_text(caption)
        prepare(folder, tmp_path / "data", ClipsConfig(height=32, width=32, num_frames=9, **more))
        return Dataset(tmp_path / "data")

    return prepare_these


def test_counting_goes_through_every_clip_of_the_split_and_round_again(dataset, world):
    kept = map(world.dataset.row, range(len(world.dataset)))
    train = [row["id"] for row in kept if row["split"] == "train"]
    seen = [world.dataset.row(world.scene(number).number)["id"] for number in range(2 * len(world))]
    assert seen == train + train and len(world) == dataset[1]["split"]["train"]


def test_what_is_measured_on_is_spread_over_all_clips_or_all_that_are_heard(prepared):
    given = [(None, number in (5, 8)) for number in range(10)]
    world = PreparedClips(prepared(*given, validation=0.01, keep=("duplicate",)), SMALL)
    ids = lambda scenes: [world.dataset.row(scene.number)["source"] for scene in scenes]  # noqa: E731
    everything = ids(world.scene(number) for number in range(len(world)))
    assert len(everything) == 9
    assert ids(world.spread(3)) == everything[::3]
    assert ids(world.spread(9)) == everything and ids(world.spread(11)) == everything + everything[:2]
    heard = [world.dataset.row(scene.number)["heard"] for scene in world.spread(4, heard=True)]
    assert heard == 4 * ["sound"] and set(ids(world.spread(4, heard=True))) <= {"5.mp4", "8.mp4"}
    assert toybox.ToyBox().spread(2) == [toybox.ToyBox().scene(0), toybox.ToyBox().scene(1)]


def test_a_world_of_another_size_is_made_once(world):
    smaller = world.of_size(16, 16)
    assert (smaller.config.height, smaller.config.width) == (16, 16) != (world.config.height, world.config.width)
    assert (
        world.of_size(16, 16) is smaller
        and smaller.at_scale(2) is smaller.of_size(32, 32)
        and world.at_scale(1) is world
    )


def test_training_and_validation_share_no_source(dataset):
    train, validation = open_worlds(str(dataset[0]), SMALL)
    sources = [
        {one.dataset.row(one.scene(number).number)["source"] for number in range(len(one))}
        for one in (train, validation)
    ]
    assert sources[0] and sources[1] and not sources[0] & sources[1]


def test_clips_come_out_as_they_were_stored_their_middle_cut(dataset):
    wide = 0
    for world in open_worlds(str(dataset[0]), SMALL):
        scenes = [world.scene(number) for number in range(len(world))]
        clips = world.render(scenes)
        assert clips.video.shape == (len(scenes), 3, 9, 32, 32) and clips.audio.shape == (len(scenes), 1, 18_000)
        for clip, scene in zip(clips.video, scenes, strict=True):
            row = world.dataset.row(scene.number)
            left = (row["width"] - 32) // 2
            top = (row["height"] - 32) // 2
            stored = world.dataset.tensor(row, "video")[..., top : top + 32, left : left + 32]
            assert torch.equal(((clip + 1) * 127.5).round().to(torch.uint8), stored)
            wide += row["width"] == 56
    assert wide


def test_a_clip_is_the_same_in_any_batch(world):
    scenes = [world.scene(number) for number in range(3)]
    assert torch.equal(world.render(scenes).video[2], world.render(scenes[2:]).video[0])


def test_a_shorter_smaller_and_slower_run_shows_parts_of_the_clips(dataset):
    data = Dataset(dataset[0])
    slow = PreparedClips(data, SMALL.model_copy(update={"height": 16, "width": 16, "num_frames": 3, "frame_rate": 4.0}))
    whole = PreparedClips(data, SMALL)
    scene = slow.scene(3 * len(slow))
    assert scene.first_frame == 3
    clip = slow.render([scene])
    assert clip.video.shape == (1, 3, 3, 16, 16) and clip.audio.shape == (1, 1, 12_000)
    larger = whole.render([whole.scene(0)])
    small = torch.nn.functional.avg_pool2d(larger.video[0, :, 3:8:2], 2)
    assert (clip.video[0] - small).abs().mean() < 0.05
    assert torch.equal(clip.audio[0, 0, :6000], larger.audio[0, 0, 6000:12_000])


@pytest.mark.parametrize(
    ("change", "remedy"),
    [
        ({"height": 64, "width": 64}, "--size 64x64"),
        ({"num_frames": 17}, "--seconds 2.125"),
        ({"frame_rate": 6.0}, "--fps 6"),
        ({"frame_rate": 16.0}, "--fps 16"),
        ({"sample_rate": 24_000}, "--sample-rate 24000"),
    ],
)
def test_a_run_that_wants_more_than_was_prepared_is_refused_with_the_remedy(dataset, change, remedy):
    with pytest.raises(DataError, match=remedy) as caught:
        PreparedClips(Dataset(dataset[0]), SMALL.model_copy(update=change))
    assert caught.value.code == "data_mismatch"


@pytest.mark.parametrize("task", TASKS)
def test_every_task_makes_rows_of_footage(batches_on, world, task):
    batches = batches_on(world)
    rows = batches.batch(find_task(task), 3, batches.pool(0, 12), torch.Generator().manual_seed(0)).rows
    assert rows.targets.any(dim=1).all() and (rows.tokens != layout.UNKNOWN).all()


def test_a_batch_depends_on_its_number_alone(batches_on, world):
    batches = batches_on(world)
    forwards = [batches(index) for index in (0, 5, 9)]
    batches._pools.clear()
    backwards = [batches(index) for index in (9, 5, 0)][::-1]
    for one, other in zip(forwards, backwards, strict=True):
        assert one.task == other.task and torch.equal(one.rows.tokens, other.rows.tokens)


def test_tokenizers_get_windows_and_sounds(world):
    stages = (Stage(num_batches=1, batch_size=4, num_frames=1), Stage(num_batches=1, batch_size=2, num_frames=5))
    video = VideoBatches(world, stages, seed=0)
    assert video(0).video.shape == (4, 3, 1, 32, 32) and video(1).video.shape == (2, 3, 5, 32, 32)
    assert video(0).subjects is None
    sound = AudioBatches(world, Sounds(batch_size=4, num_samples=4000), seed=0)(0)
    assert sound.shape == (4, 1, 4000) and (sound.square().mean((1, 2)) > 1e-4).all()


def test_super_resolution_gets_pairs_also_of_clips_without_words(prepared, batches_on):
    data = prepared((None, False), (None, False), ("a disc", False))
    small = PreparedClips(data, SMALL.model_copy(update={"height": 16, "width": 16}))
    batches = batches_on(small)
    pairs = PairBatches(
        small, PairsConfig(batch_size=2, pool_clips=4), batches.video_tokenizer, batches.text_encoder, 0
    )
    assert pairs(0).codes.shape[-1] == 2 * pairs(0).low_codes.shape[-1]


@pytest.fixture(scope="module")
def mixed_world(mixed_dataset):
    """Of clips without sound, pictures and sounds."""
    return PreparedClips(Dataset(mixed_dataset[0]), SMALL)


def ids_of(world, scenes):
    return {world.dataset.row(scene.number)["id"].partition("#")[0] for scene in scenes}


def test_pictures_and_sounds_are_worlds_beside_the_clips(mixed_world, mixed_dataset):
    clips, pictures, sounds = mixed_world, mixed_world.pictures, mixed_world.sounds
    for world, name in ((clips, "clip"), (pictures, "picture"), (sounds, "sound")):
        scenes = [world.scene(number) for number in range(3 * len(world))]
        assert all(source.startswith(name) for source in ids_of(world, scenes))
        assert {scene.first_frame for scene in scenes} == {0}
    assert pictures.render([pictures.scene(0), pictures.scene(1)], audio=False).video.shape == (2, 3, 1, 32, 32)
    heard = sounds.sound([sounds.scene(number) for number in range(3)])
    assert heard.shape == (3, 1, 18_000) and (heard.square().mean((1, 2)) > 1e-2).all()
    assert not clips.has_sound and sounds.has_sound and pictures.pictures is None and sounds.sounds is None
    counts = mixed_dataset[1]
    assert len(pictures) == counts["pictures"]["split"]["train"] and len(sounds) == counts["sounds"]["split"]["train"]


def test_pictures_that_are_too_small_are_not_shown(mixed_world):
    pictures = mixed_world.dataset.pictures
    worlds = open_worlds(str(mixed_world.dataset.folder), SMALL)
    shown = [
        len(PreparedClips(pictures, world.config.model_copy(update={"num_frames": 1, "width": 56}))) for world in worlds
    ]
    assert sum(shown) == 1 and sum(len(world.pictures) for world in worlds) == len(pictures) == 4


def test_a_dataset_without_pictures_and_sounds_draws_no_lot(world):
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    assert world.pictures is None and world.sounds is None
    assert world.for_frames(generator) is world and world.for_sound(generator) is world
    assert torch.equal(generator.get_state(), before)


def test_only_batches_of_single_frames_draw_pictures(mixed_world, monkeypatch):
    drawn = []
    render = PreparedClips.render
    monkeypatch.setattr(
        PreparedClips, "render", lambda self, *given, **more: (drawn.append(self), render(self, *given, **more))[1]
    )
    frames = VideoBatches(mixed_world, (Stage(num_batches=1, batch_size=4, num_frames=1),), seed=0)
    assert {frames(index).video.shape for index in range(12)} == {(4, 3, 1, 32, 32)}
    assert {world.dataset.kind for world in drawn} == {"clip", "picture"}
    drawn.clear()
    clips = VideoBatches(mixed_world, (Stage(num_batches=1, batch_size=2, num_frames=5),), seed=0)
    assert {clips(index).video.shape for index in range(12)} == {(2, 3, 5, 32, 32)}
    assert {world.dataset.kind for world in drawn} == {"clip"}


def test_the_audio_tokenizer_hears_sounds_where_clips_are_silent(mixed_world):
    sound = AudioBatches(mixed_world, Sounds(batch_size=4, num_samples=4000, impact_share=0.5), seed=0)(0)
    assert sound.shape == (4, 1, 4000) and (sound.square().mean((1, 2)) > 1e-2).all()


def test_tasks_that_one_frame_or_sound_suffices_for_draw_pictures_and_sounds(mixed_world, batches_on, monkeypatch):
    batches = batches_on(mixed_world)
    pools, batch = {}, TaskBatches.batch

    def noted(self, task, size, pool, generator):
        pools.setdefault(task.name, set()).add(pool.world.dataset.kind)
        return batch(self, task, size, pool, generator)

    monkeypatch.setattr(TaskBatches, "batch", noted)
    made = [batches(index) for index in range(80)]
    assert pools.pop("text_to_image") == {"clip", "picture"} and pools.pop("text_to_audio") == {"sound"}
    assert all(kinds == {"clip"} for kinds in pools.values()) and "video_to_audio" not in pools
    assert all((one.rows.tokens != layout.UNKNOWN).all() for one in made)
    (some,) = [index for index, one in enumerate(made) if one.task == "text_to_audio"][:1]
    batches._pools.clear(), batches._pools_beside.clear()
    assert torch.equal(batches(some).rows.tokens, made[some].rows.tokens)


def test_super_resolution_sees_pictures_where_it_sees_first_frames(mixed_dataset, batches_on, monkeypatch):
    small = PreparedClips(Dataset(mixed_dataset[0]), SMALL.model_copy(update={"height": 16, "width": 16}))
    batches = batches_on(small)
    parts = batches.video_tokenizer, batches.text_encoder
    pairs = PairBatches(small, PairsConfig(batch_size=2, pool_clips=4, image_share=0.5), *parts, 0)
    shapes = {tuple(pairs(index).codes.shape) for index in range(12)}
    assert shapes == {(2, 3, 4, 4), (2, 1, 4, 4)} and pairs._picture_pools[0].codes.shape == (4, 1, 4, 4)


def test_a_dataset_of_pictures_or_sounds_alone_opens_without_clips(mixed_footage, tmp_path):
    settings = ClipsConfig(height=32, width=32, num_frames=9)
    for kind in ("picture", "sound"):
        prepare(mixed_footage, tmp_path / kind, settings, kinds=(kind,))
        for world in open_worlds(str(tmp_path / kind), SMALL):
            assert not world.has_clips and not world.has_sound and not len(world)
            assert (world.pictures is not None, world.sounds is not None) == (kind == "picture", kind == "sound")
    world, _ = open_worlds(str(tmp_path / "picture"), SMALL)
    batches = VideoBatches(world, (Stage(num_batches=1, batch_size=4, num_frames=1),), seed=0)
    assert batches(0).video.shape == (4, 3, 1, 32, 32)


def test_a_list_of_pictures_that_was_changed_is_refused(mixed_dataset, tmp_path):
    shutil.copytree(mixed_dataset[0], tmp_path / "data")
    path = tmp_path / "data" / "pictures.jsonl"
    path.write_text(path.read_text().replace("picture 1", "picture 9"))
    with pytest.raises(DataError, match="pictures.jsonl"):
        Dataset(tmp_path / "data")


def test_without_sound_there_is_no_batch_of_a_task_that_hears(prepared, batches_on):
    world = PreparedClips(prepared(("a", False), ("b", False), ("c", False)), SMALL)
    assert not world.has_sound
    batches = batches_on(world, tasks=("text_to_video", "video_to_audio", "audio_to_video"))
    made = {batches(index).task for index in range(12)}
    assert "text_to_video" in made and not any("audio" in task for task in made)


def test_without_captions_words_are_left_out_and_nothing_is_told(prepared, batches_on):
    world = PreparedClips(prepared((None, True), (None, True)), SMALL)
    batches = batches_on(world, tasks=("text_to_video", "video_captioning"))
    made = {batches(index).task for index in range(12)}
    assert "text_to_video" in made and "video_captioning" not in made
    rows = batches.batch(find_task("text_to_video"), 3, batches.pool(0, 6), torch.Generator().manual_seed(0)).rows
    assert not (rows.tokens[:, :3] < batches.text_encoder.size).any()


def test_clips_with_and_without_captions_do_not_meet_in_a_batch(prepared, batches_on):
    world = PreparedClips(prepared(("a disc", True), ("a disc", True), (None, True), (None, True)), SMALL)
    batches = batches_on(world)
    pool, told = batches.pool(0, 12), []
    for seed in range(12):
        rows = batches.batch(find_task("text_to_video"), 3, pool, torch.Generator().manual_seed(seed)).rows
        has_words = (rows.tokens < batches.text_encoder.size).any(1)
        assert has_words.all() or not has_words.any()
        told.append(bool(has_words.all()))
    assert any(told) and not all(told)


def test_tasks_that_no_clip_suits_are_an_error_that_says_what_they_need(prepared, batches_on):
    world = PreparedClips(prepared((None, False), (None, False)), SMALL)
    with pytest.raises(DataError, match="need sound or captions"):
        batches_on(world, tasks=("video_to_audio", "video_captioning"))(0)


def test_inpainting_hides_what_a_clips_own_mask_says(tmp_path, make, batches_on):
    folder = tmp_path / "footage"
    make.moving(1.3).save(folder / "a.mp4")
    make.moving(1.3, tint=0.4).save(folder / "b.mp4")
    mask = make.still(1.3, -1.0)
    mask.frames[..., 24:] = 255
    mask.save(folder / "mask.mp4")
    rows = [{"video": name, "video_mask": "mask.mp4"} for name in ("a.mp4", "b.mp4")]
    (folder / "list.jsonl").write_text("\n".join(map(json.dumps, rows)))
    prepare(folder / "list.jsonl", tmp_path / "data", ClipsConfig(height=32, width=32, num_frames=9))
    world = PreparedClips(Dataset(tmp_path / "data"), SMALL)
    clips = world.render([world.scene(0)])
    assert clips.hidden[0][..., 17:].all() and not clips.hidden[0][..., :15].any()
    shown = batches_on(world)._masked(clips.video, "hide_region", torch.Generator(), clips.hidden)
    # What is hidden beside a part that stands still repeats its edge.
    assert (shown[..., 17:] == shown[..., -1:]).all() and torch.equal(shown[..., :15], clips.video[..., :15])
    assert not (clips.video[..., 17:] == clips.video[..., -1:]).all()


def test_stylization_is_given_a_clips_own_reference(tmp_path, make):
    folder = tmp_path / "footage"
    make.moving(1.3).save(folder / "a.mp4")
    make.moving(1.3, tint=0.4).save(folder / "depth.mp4")
    make.moving(1.3, tint=-0.4).save(folder / "b.mp4")
    (folder / "list.csv").write_text("video,reference_video\na.mp4,depth.mp4\nb.mp4,\n")
    prepare(folder / "list.csv", tmp_path / "data", ClipsConfig(height=32, width=32, num_frames=9))
    data = Dataset(tmp_path / "data")
    for split in ("train", "validation"):
        world = PreparedClips(data, SMALL.model_copy(update={"split": split}))
        scene = world.scene(0)
        (structure,) = world.render([scene]).structures
        assert (structure is not None) == (data.row(scene.number)["source"] == "a.mp4")


def test_what_is_no_dataset_or_an_unfinished_one_is_refused(dataset, tmp_path):
    with pytest.raises(DataError, match="it is none") as caught:
        Dataset(tmp_path)
    assert caught.value.code == "data_unprepared"
    with pytest.raises(DataError, match="there is no .*nowhere"):
        Dataset(tmp_path / "nowhere")
    shutil.copytree(dataset[0], tmp_path / "data")
    (tmp_path / "data" / "dataset.json").unlink()
    with pytest.raises(DataError, match="not finished"):
        Dataset(tmp_path / "data")


@pytest.mark.parametrize("fault", ["list", "missing shard", "short shard", "changed shard", "other version", "no json"])
def test_a_dataset_that_was_changed_is_refused_by_name(dataset, tmp_path, fault):
    folder = tmp_path / "data"
    shutil.copytree(dataset[0], folder)
    described = json.loads((folder / "dataset.json").read_text())
    shard = next(iter(described["shards"]))
    if fault == "list":
        (folder / "clips.jsonl").write_text((folder / "clips.jsonl").read_text().replace("a.mp4", "z.mp4"))
    elif fault == "missing shard":
        (folder / shard).unlink()
    elif fault == "short shard":
        (folder / shard).write_bytes((folder / shard).read_bytes()[:-1])
    elif fault == "changed shard":
        data = bytearray((folder / shard).read_bytes())
        data[-1] ^= 1
        (folder / shard).write_bytes(data)
    elif fault == "other version":
        (folder / "dataset.json").write_text(json.dumps({**described, "version": 99}))
    else:
        (folder / "dataset.json").write_text("{")
    with pytest.raises(DataError, match="prepare") as caught:
        Dataset(folder).shards.check(shard)
    assert caught.value.code in ("data_corrupt", "shard_corrupt", "data_version")
    if "shard" in fault:
        assert shard in str(caught.value)


def test_a_shard_that_is_no_safetensors_is_refused_and_nothing_runs(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"cos\nsystem\n(S'touch canary'\ntR.")
    with pytest.raises(DataError, match="cannot be read"):
        Shards(tmp_path).row("a.safetensors", "video", 0)
    assert not (tmp_path / "canary").exists()


def test_a_vocabulary_of_captions_knows_their_words(prepared):
    data = prepared(("A red disc, going round.", True), ("A red disc!", True), ("a RED one", True))
    encoder = OwnTokens.from_words(data.words())
    told = [data.row(number)["caption"] for number in data.numbers["train"]]
    assert told and not any(encoder.unknown_words(caption) for caption in told)


def test_a_caption_that_is_too_long_keeps_its_beginning():
    encoder = OwnTokens.from_words(["red", "ball", ","])
    ids = encoder.encode_caption("red, ball " * 60)
    assert len(ids) <= encoder.longest and ids[:3] == encoder.encode("red, ball")
    assert encoder.encode_caption("") == []


def test_a_clip_without_sound_is_silent(world):
    scene = next(world.scene(number) for number in range(len(world)) if not world.is_heard(world.scene(number)))
    sound = Audio(world.sound([scene])[0], 16_000)
    assert not sound.samples.abs().max() > 1e-3
