import pytest
import torch

from videopoet import runtime
from videopoet.data.mixture import MixtureConfig, Share, TaskBatches, _drawn
from videopoet.data.token_batches import Prefetched
from videopoet.data.toybox import Config, ToyBox, words
from videopoet.sequence import layout, vocabulary
from videopoet.sequence.tasks import TASKS, find_task
from videopoet.text_encoders.own_tokens import OwnTokens
from videopoet.tokenizers import magvit_v2, soundstream


@pytest.fixture(scope="module")
def world():
    return ToyBox(Config(height=32, width=32, num_frames=9))


@pytest.fixture(scope="module")
def batches(world):
    torch.manual_seed(0)
    video = magvit_v2.MagvitV2(
        magvit_v2.Config(
            num_bits=4, patch_size=8, channels=(8, 8), strides=((4, 1),), num_blocks=1, num_middle_blocks=0
        )
    ).eval()
    audio = soundstream.SoundStream(
        soundstream.Config(patch=40, strides=(2, 4), channels=4, dim=4, codebook_size=8, num_quantizers=2)
    ).eval()
    encoder = OwnTokens.from_words(words())
    joint = vocabulary.Vocabulary(
        vocabulary.Config(text_size=encoder.size, visual_codes=16, audio_codebook_size=8, audio_quantizers=2)
    )
    config = MixtureConfig(
        shares=tuple(Share(task=task, batch_size=3, weight=1.0) for task in TASKS), pool_clips=12, pool_batches=4
    )
    return TaskBatches(world, config, video, audio, encoder, joint, seed=0)


def test_a_batch_depends_on_its_number_alone(batches):
    forwards = [batches(index) for index in (0, 5, 9)]
    batches._pools.clear()
    backwards = [batches(index) for index in (9, 5, 0)][::-1]
    for one, other in zip(forwards, backwards, strict=True):
        assert one.task == other.task and torch.equal(one.rows.tokens, other.rows.tokens)


@pytest.mark.parametrize("task", TASKS)
def test_every_task_makes_rows_with_something_to_predict(batches, task):
    pool = batches.pool(0, 12)
    rows = batches.batch(find_task(task), 3, pool, torch.Generator().manual_seed(0)).rows
    assert len(rows.tokens) == 3 and rows.targets.any(dim=1).all()
    assert (rows.tokens != layout.UNKNOWN).all()
    low, high = rows.ranges.unbind(-1)
    assert ((rows.tokens >= low) & (rows.tokens < high))[rows.targets].all()


def test_sound_is_tokenized_only_for_batches_that_hear(batches, monkeypatch):
    heard = []
    encode = batches.audio_tokenizer.encode
    monkeypatch.setattr(batches.audio_tokenizer, "encode", lambda sound: heard.append(len(sound)) or encode(sound))
    pool = batches.pool(0, 12)
    batches.batch(find_task("text_to_video"), 3, pool, torch.Generator().manual_seed(0))
    assert not heard
    batches.batch(find_task("video_to_audio"), 3, pool, torch.Generator().manual_seed(0))
    assert heard == [3]
    sound = batches.world.sound([pool.scenes[7], pool.scenes[2]])
    with runtime.autocast(torch.device("cpu")):
        assert torch.equal(pool.codes["audio"][[7, 2]], encode(sound))


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_batches_with_sound_are_of_clips_with_impacts_as_often_as_the_config_says(batches, monkeypatch, share):
    pool = batches.pool(0, 12)
    # So few clips of the toy box have impacts that what strikes is said here.
    monkeypatch.setattr(type(batches.world), "strikes", lambda world, scene: scene in (pool.scenes[3], pool.scenes[8]))
    for name in ("video_to_audio", "text_to_video"):
        task = find_task(name)
        chosen = {
            number for seed in range(20) for number in _drawn(pool, task, 3, share, torch.Generator().manual_seed(seed))
        }
        assert chosen == ({3, 8} if share and task.hears else set(range(12)))
    monkeypatch.setattr(type(batches.world), "strikes", lambda world, scene: False)
    assert len(_drawn(pool, find_task("video_to_audio"), 3, share, torch.Generator())) == 3


def test_a_batch_beyond_its_pool_is_refused(batches):
    with pytest.raises(Exception, match="pool_clips"):
        batches.batch(find_task("text_to_video"), 13, batches.pool(0, 12), torch.Generator())


@pytest.mark.parametrize("drawn", [0.0, 1.0])
def test_painting_batches_hide_what_a_region_or_a_drawn_mask_hides(batches, monkeypatch, drawn):
    monkeypatch.setattr(batches, "config", batches.config.model_copy(update={"drawn_masks": drawn}))
    video = torch.ones(4, 3, 9, 32, 32)
    masked = [batches._masked(video, "hide_region", torch.Generator().manual_seed(seed)) for seed in range(8)]
    alike = [all(torch.equal(one, clips[0]) for one in clips) for clips in masked]
    assert not any(alike) if drawn else all(alike)
    assert all((clips == -1).any() and (clips == 1).any() for clips in masked)


@pytest.mark.parametrize("dropped", [0.0, 1.0])
def test_depth_is_left_out_of_stylization_as_often_as_the_config_says(batches, monkeypatch, dropped):
    seen = []
    monkeypatch.setattr(batches, "config", batches.config.model_copy(update={"depth_drop": dropped}))
    encode = batches.video_tokenizer.encode
    monkeypatch.setattr(batches.video_tokenizer, "encode", lambda pixels: seen.append(pixels) or encode(pixels))
    pool = batches.pool(0, 12)
    seen.clear()
    for seed in range(3):
        batches.batch(find_task("stylization"), 3, pool, torch.Generator().manual_seed(seed))
    structure = seen[::2]  # each is followed by the clip in its style
    assert len(structure) == 3
    for pixels in structure:
        assert pixels[:, 2].eq(0).all() if dropped else pixels[:, 2].amax((1, 2, 3)).eq(1).all()


# Several sizes


@pytest.fixture(scope="module")
def sized(batches):
    """Batches of square, portrait and landscape clips, whose pools hold two batches each."""
    sizes = ((48, 16), (16, 48))
    joint = vocabulary.Vocabulary(batches.vocabulary.config.with_resolutions(sizes))
    config = batches.config.model_copy(update={"sizes": sizes, "pool_batches": 2})
    parts = (batches.video_tokenizer, batches.audio_tokenizer, batches.text_encoder)
    return TaskBatches(batches.world, config, *parts, joint, seed=0)


def test_batches_of_the_toy_box_are_the_same_made_ahead(sized):
    again = TaskBatches(
        sized.world,
        sized.config,
        sized.video_tokenizer,
        sized.audio_tokenizer,
        sized.text_encoder,
        sized.vocabulary,
        seed=0,
    )
    with Prefetched(again, num_ahead=3, num_workers=2) as ahead:
        for index in (0, 1, 2, 3, 4, 9, 1):
            one, other = ahead(index), sized(index)
            assert one.task == other.task and torch.equal(one.rows.tokens, other.rows.tokens)


def test_pools_take_turns_in_size_and_rows_name_theirs(sized):
    grids = [tuple(sized.pool(number, 2).codes["video"].shape[1:]) for number in range(4)]
    assert grids == [(3, 4, 4), (3, 6, 2), (3, 2, 6), (3, 4, 4)]
    portrait, landscape = (sized.vocabulary.special(name) for name in ("<res:48x16>", "<res:16x48>"))
    for index in range(8):
        tokens = sized(index).rows.tokens
        named = [int((tokens == size).any(dim=1).all()) for size in (portrait, landscape)]
        assert named == [[0, 0], [1, 0], [0, 1], [0, 0]][index // 2] or sized(index).task == "text_to_audio"


def test_several_pools_of_the_usual_size_can_come_before_each_other_size(sized):
    config = sized.config.model_copy(update={"usual_pools": 3})
    assert config.turns == [None, None, None, (48, 16), (16, 48)]


@pytest.mark.parametrize("task", TASKS)
def test_every_task_makes_rows_of_every_size(sized, task):
    for number, grid in enumerate([(4, 4), (6, 2), (2, 6)]):
        rows = sized.batch(find_task(task), 2, sized.pool(number, 2), torch.Generator().manual_seed(0)).rows
        places = rows.places[rows.modality == 2]
        if len(places):
            assert tuple((places.amax(dim=0) + 1).tolist())[1:] == grid
        size = [token for name, token in sized.vocabulary.special_tokens.items() if name.startswith("<res:")]
        named = torch.isin(rows.tokens, torch.tensor(size)).sum(dim=1)
        assert (named == (number > 0 and task != "text_to_audio")).all()


def test_without_further_sizes_nothing_changes(batches, sized):
    usual = sized.pool(0, 4)
    assert usual.resolution is None
    assert torch.equal(batches.pool(0, 4).codes["video"], usual.codes["video"])
