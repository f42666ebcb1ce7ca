import shutil
import threading

import pytest
import torch

from videopoet import runtime
from videopoet.data.mixture import MixtureConfig, Share, TaskBatches
from videopoet.data.prepared import Dataset, PreparedClips
from videopoet.data.token_batches import CachedBatches, Prefetched, cache_for, views_of
from videopoet.data.token_cache import TokenCache, Views
from videopoet.data.tokenize import finish, tokenize
from videopoet.errors import DataError
from videopoet.sequence import vocabulary
from videopoet.sequence.tasks import TASKS, find_task
from videopoet.text_encoders.own_tokens import OwnTokens

VIEWS = Views(sizes=((32, 32),), num_frames=9)
TASKS_READ = ("text_to_video", "video_to_audio", "unconditional", "image_to_video")


@pytest.fixture(scope="module")
def cache(dataset, tokenizers, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache") / "tokens"
    data = Dataset(dataset[0])
    tokenize(data, VIEWS, *tokenizers, folder)
    finish(data, VIEWS, folder)
    return TokenCache(data, folder)


@pytest.fixture(scope="module")
def world(cache):
    return PreparedClips(cache.dataset, VIEWS.world((32, 32)))


def mixture(tasks=TASKS_READ, **more):
    shares = tuple(Share(task=task, batch_size=2, weight=1.0) for task in tasks)
    return MixtureConfig(shares=shares, **{"pool_clips": 4, "pool_batches": 3, **more})


@pytest.fixture(scope="module")
def parts(tokenizers, world):
    encoder = OwnTokens.from_words(world.words())
    joint = vocabulary.Vocabulary(
        vocabulary.Config(text_size=encoder.size, visual_codes=16, audio_codebook_size=8, audio_quantizers=2)
    )
    return (*tokenizers, encoder, joint)


@pytest.fixture
def make(cache, world, parts):
    def make_batches(config=None, seed=0):
        return CachedBatches(cache, world, config or mixture(), *parts, seed)

    return make_batches


def same(one, other):
    return one.task == other.task and torch.equal(one.rows.tokens, other.rows.tokens)


@pytest.mark.parametrize("task", TASKS)
def test_rows_from_the_cache_are_those_that_tokenizing_gives(make, cache, world, parts, task):
    """Also of tasks whose clips are masked first, which are still tokenized."""
    cached, made = make(), TaskBatches(world, mixture(), *parts, 0)
    pool = cached.pool(0, 4)
    with torch.no_grad(), runtime.autocast("cpu"):
        clips = world.render(pool.scenes)
        codes = {"video": parts[0].encode(clips.video), "audio": parts[1].encode(clips.audio)}
    plain = type(pool)(pool.scenes, pool.texts, codes, pool.world, pool.resolution)
    if pool.suited(find_task(task)):
        one = cached.batch(find_task(task), 2, pool, torch.Generator().manual_seed(0))
        other = made.batch(find_task(task), 2, plain, torch.Generator().manual_seed(0))
        assert same(one, other)


def test_every_clip_comes_once_before_any_comes_again(make, world):
    batches = make()
    orders = []
    for epoch in range(3):
        places = range(epoch * len(world), (epoch + 1) * len(world))
        orders.append([batches.scene(world, place).number for place in places])
        assert len(set(orders[-1])) == len(world)
    assert len({tuple(order) for order in orders}) > 1


def test_pools_go_on_where_the_last_ended(make, world):
    batches = make()
    drawn = [scene.number for number in range(len(world)) for scene in batches.pool(number, 4).scenes]
    assert all(drawn.count(number) == 4 for number in set(drawn)) and len(set(drawn)) == len(world)


def test_going_on_from_any_batch_gives_what_an_unbroken_run_gives(make):
    """A chain of five resumes, in the middle of pools and of the rounds through the clips."""
    whole = make()
    unbroken = [whole(index) for index in range(20)]
    resumed = []
    for first, last in ((0, 4), (4, 5), (5, 11), (11, 12), (12, 17), (17, 20)):
        fresh = make()
        resumed += [fresh(index) for index in range(first, last)]
    assert all(map(same, unbroken, resumed))
    assert len({batch.task for batch in unbroken}) > 1


def test_two_processes_share_the_batches_of_one(make):
    whole, ranks = make(), (make(), make())
    for step in range(8):
        mine = [ranks[rank](2 * step + rank) for rank in range(2)]
        assert same(mine[0], whole(2 * step)) and same(mine[1], whole(2 * step + 1))


def test_another_seed_draws_others(make):
    one, other = make(seed=0), make(seed=1)
    assert not all(same(one(index), other(index)) for index in range(6))


@pytest.mark.parametrize("num_workers", [1, 3])
def test_batches_made_ahead_are_the_same_on_any_number_of_threads(make, num_workers):
    whole = make()
    with Prefetched(make(), num_ahead=5, num_workers=num_workers) as ahead:
        for index in (0, 1, 2, 3, 9, 10, 11, 2, 3):
            assert same(ahead(index), whole(index))


def test_a_process_makes_only_its_own_batches_ahead():
    asked, lock = set(), threading.Lock()

    def batches(index):
        with lock:
            asked.add(index)
        return index

    with Prefetched(batches, stride=2, num_ahead=3) as ahead:
        assert [ahead(index) for index in (1, 3, 5)] == [1, 3, 5]
    assert asked <= {1, 3, 5, 7, 9, 11} and {1, 3, 5} <= asked


def test_nothing_is_made_ahead_of_what_a_run_asks_for_at_last():
    asked = []
    with Prefetched(lambda index: asked.append(index) or index, num_ahead=8, num_workers=1, end=5) as ahead:
        assert [ahead(index) for index in (2, 3, 4)] == [2, 3, 4]
        assert ahead(7) == 7
    assert asked == [2, 3, 4, 7]


def test_what_goes_wrong_in_a_thread_is_raised_where_its_batch_is_asked_for():
    def batches(index):
        if index == 2:
            raise DataError("a shard is broken", code="shard_corrupt")
        return index

    with Prefetched(batches) as ahead:
        assert [ahead(0), ahead(1)] == [0, 1]
        with pytest.raises(DataError, match="shard is broken"):
            ahead(2)
        assert ahead(3) == 3


def test_a_run_that_sees_every_clip_keeps_its_codes_and_reads_them(world, tokenizers, tmp_path):
    few = cache_for(world, mixture(), 1, *tokenizers, tmp_path / "run")
    assert few is None and not (tmp_path / "run").exists()
    kept = cache_for(world, mixture(), 60, *tokenizers, tmp_path / "run")
    assert kept is not None and kept.folder == tmp_path / "run" and kept.counts["clips"] == len(world.dataset)


def test_codes_beside_the_clips_are_read_or_refused(dataset, tokenizers, another, tmp_path):
    shutil.copytree(dataset[0], tmp_path / "data")
    data = Dataset(tmp_path / "data")
    tokenize(data, VIEWS, *tokenizers)
    world = PreparedClips(data, VIEWS.world((32, 32)))
    with pytest.raises(DataError, match="not finished"):
        cache_for(world, mixture(), 1, *tokenizers, tmp_path / "run")
    finish(data, VIEWS)
    found = cache_for(world, mixture(), 1, *tokenizers, tmp_path / "run")
    assert found is not None and found.folder == tmp_path / "data" / "tokens"
    with pytest.raises(DataError, match="another video tokenizer"):
        cache_for(world, mixture(), 1, another, tokenizers[1], tmp_path / "run")
    with pytest.raises(DataError, match="--size 32x32 --size 32x48"):
        cache_for(world, mixture(sizes=((48, 32),)), 1, *tokenizers, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_views_are_those_that_the_tasks_need(world):
    assert not views_of(world.config, mixture()).structure
    assert views_of(world.config, mixture(("stylization",))).structure
    assert views_of(world.config, mixture(sizes=((48, 32),))).sizes == ((32, 32), (48, 32))


def test_pictures_and_sounds_beside_cached_clips_are_tokenized_as_they_are_drawn(mixed_dataset, parts, tmp_path):
    data = Dataset(mixed_dataset[0])
    tokenize(data, VIEWS, *parts[:2], tmp_path / "tokens")
    finish(data, VIEWS, tmp_path / "tokens")
    cache, world = TokenCache(data, tmp_path / "tokens"), PreparedClips(data, VIEWS.world((32, 32)))
    assert cache.counts["clips"] == len(data) == 3
    config = mixture(("text_to_image", "text_to_audio"))
    cached, plain = CachedBatches(cache, world, config, *parts, 0), TaskBatches(world, config, *parts, 0)
    made = [(cached(index), plain(index)) for index in range(12)]
    assert {one.task for one, _ in made} == {"text_to_image", "text_to_audio"}
    kinds = [{pool.world.dataset.kind for pool in batches._pools_beside.values()} for batches in (cached, plain)]
    assert kinds == [{"picture", "sound"}] * 2
    assert all(same(one, other) for one, other in made if one.task == "text_to_audio")
