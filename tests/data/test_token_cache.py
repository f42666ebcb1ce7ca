import json
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from videopoet import ranks, runtime
from videopoet.data import tokenize as tokenizing
from videopoet.data import toybox
from videopoet.data.clips import Config as ClipsConfig
from videopoet.data.prepare import prepare
from videopoet.data.prepared import Dataset, PreparedClips, stretch
from videopoet.data.shards import read_lines
from videopoet.data.token_cache import TokenCache, Views, fingerprint, starts, tensor_name
from videopoet.data.tokenize import finish, tokenize
from videopoet.errors import DataError, MediaError

VIEWS = Views(sizes=((32, 32), (48, 32)), num_frames=9)


def files_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def make_cache(data, tokenizers, folder=None, views=VIEWS, **more):
    tokenize(data, views, *tokenizers, folder, **more)
    return finish(data, views, folder)


@pytest.fixture(scope="module")
def cached(dataset, tokenizers, tmp_path_factory):
    """The dataset, and its tokens in a folder of their own; tests leave them as they are."""
    folder = tmp_path_factory.mktemp("cache") / "tokens"
    data = Dataset(dataset[0])
    return data, folder, make_cache(data, tokenizers, folder)


@pytest.fixture
def own(dataset, cached, tmp_path):
    """A copy of dataset and tokens that a test may spoil, with the tokens where they usually are."""
    shutil.copytree(dataset[0], tmp_path / "data")
    shutil.copytree(cached[1], tmp_path / "data" / "tokens")
    return tmp_path / "data"


def test_every_clip_is_there_in_every_view_that_it_is_large_enough_for(cached):
    data, folder, counts = cached
    assert counts["clips"] == len(data) and counts["bytes"] > 0
    cache = TokenCache(data, folder)
    wide = 0
    for number in range(len(data)):
        assert cache.codes([number], [0], "video", (32, 32)).shape == (1, 3, 4, 4)
        assert cache.codes([number], [0], "audio", (32, 32)).shape[:2] == (1, 2)
        if data.sizes[2 * number] >= 48 and data.sizes[2 * number + 1] >= 32:
            assert cache.codes([number], [0], "video", (48, 32)).shape == (1, 3, 6, 4)
            wide += 1
    assert 0 < wide < len(data)


def test_codes_are_those_that_training_would_make(cached, tokenizers):
    data, folder, _ = cached
    cache, world = TokenCache(data, folder), PreparedClips(data, VIEWS.world((32, 32)))
    scenes = [world.scene(number) for number in range(len(world))]
    with torch.no_grad(), runtime.autocast("cpu"):
        clips = world.render(scenes)
        video, audio = tokenizers[0].encode(clips.video), tokenizers[1].encode(clips.audio)
    numbers = [scene.number for scene in scenes]
    assert torch.equal(cache.codes(numbers, [0] * len(numbers), "video", (32, 32)), video)
    assert torch.equal(cache.codes(numbers, [0] * len(numbers), "audio", (32, 32)), audio)
    assert len(video.unique()) > 2


def test_tokenizing_again_changes_nothing(own, tokenizers):
    before = files_of(own)
    times = {path: path.stat().st_mtime_ns for path in own.glob("tokens/shards/*/*")}
    (own / "tokens" / "shards" / ".DS_Store").touch()
    make_cache(Dataset(own), tokenizers)
    (own / "tokens" / "shards" / ".DS_Store").unlink()
    assert files_of(own) == before and len(times) > 2
    assert times == {path: path.stat().st_mtime_ns for path in own.glob("tokens/shards/*/*")}


def test_two_processes_divide_the_shards_and_make_the_same_cache(cached, tokenizers, tmp_path):
    data, folder, counts = cached
    tokenize(data, VIEWS, *tokenizers, tmp_path / "two", rank=0, num_ranks=2)
    half = len(list((tmp_path / "two" / "shards").iterdir()))
    with pytest.raises(DataError, match="missing"):
        finish(data, VIEWS, tmp_path / "two")
    tokenize(data, VIEWS, *tokenizers, tmp_path / "two", rank=1, num_ranks=2)
    assert 0 < half < counts["shards"]
    finish(data, VIEWS, tmp_path / "two")
    assert files_of(tmp_path / "two") == files_of(folder)


def test_a_kill_loses_one_shard_at_most(own, tokenizers, tmp_path):
    """Killed once a shard is on disk and others are not: what is half written never counts."""
    whole = files_of(own / "tokens")
    shutil.rmtree(own / "tokens")
    for name, tokenizer in zip(("video", "audio"), tokenizers, strict=True):
        tokenizer.save(tmp_path / name)
    code = (
        "import sys, time\n"
        "from videopoet.data import tokenize\n"
        "from videopoet.data.prepared import Dataset\n"
        "from videopoet.tokenizers.magvit_v2 import MagvitV2\n"
        "from videopoet.tokenizers.soundstream import SoundStream\n"
        "save = tokenize.checkpoint.save_tensors\n"
        "def slowly(*given):\n"
        "    save(*given)\n"
        "    time.sleep(0.3)\n"
        "tokenize.checkpoint.save_tensors = slowly\n"
        f"views = tokenize.Views.from_dict({VIEWS.to_dict()!r})\n"
        "video, audio = MagvitV2.load(sys.argv[2]), SoundStream.load(sys.argv[3])\n"
        "tokenize.tokenize(Dataset(sys.argv[1]), views, video, audio)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(own), str(tmp_path / "video"), str(tmp_path / "audio")])
    while child.poll() is None and not list(own.glob("tokens/shards/[!.]*")):
        time.sleep(0.01)
    assert child.poll() is None, "it ended before it could be killed"
    child.send_signal(signal.SIGKILL)
    child.wait()
    finished = {path: path.stat().st_mtime_ns for path in own.glob("tokens/shards/[!.]*/manifest.json")}
    assert finished and len(finished) < sum("manifest" in name for name in whole)
    with pytest.raises(DataError, match="not finished"):
        TokenCache(Dataset(own))
    make_cache(Dataset(own), tokenizers)
    assert finished == {path: path.stat().st_mtime_ns for path in finished}
    assert files_of(own / "tokens") == whole


def test_a_shard_that_was_changed_is_refused_and_made_again(own, tokenizers):
    before = files_of(own)
    shard = next(own.glob("tokens/shards/*/codes.safetensors"))
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    data = Dataset(own)
    cache = TokenCache(data)
    with pytest.raises(DataError, match="videopoet tokenize") as caught:
        for number in range(len(data)):
            cache.codes([number], [0], "video", (32, 32))
    assert caught.value.code == "shard_corrupt" and shard.parent.name in str(caught.value)
    make_cache(data, tokenizers)
    assert files_of(own) == before


@pytest.mark.parametrize("fault", ["missing", "short"])
def test_a_shard_that_is_missing_or_short_is_refused_at_once(own, fault):
    shard = next(own.glob("tokens/shards/*/codes.safetensors"))
    if fault == "missing":
        shard.unlink()
    else:
        shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(DataError, match=shard.parent.name):
        TokenCache(Dataset(own))


def test_an_index_that_is_none_is_refused(own):
    for text in ("{", "[]", '{"format": "videopoet tokens", "version": 99}'):
        (own / "tokens" / "tokens.json").write_text(text)
        with pytest.raises(DataError, match="--overwrite"):
            TokenCache(Dataset(own))


def test_processes_wait_for_each_other_before_the_first_shard(own, tokenizers, monkeypatch):
    waited = []
    monkeypatch.setattr(ranks, "wait", lambda: waited.append(True))
    monkeypatch.setattr(tokenizing.TokenizeShard, "__call__", lambda *_: waited.append(False) or 1)
    tokenize(Dataset(own), VIEWS, *tokenizers, rank=1, num_ranks=2)
    assert waited[0] and len(waited) > 1


def test_codes_of_another_tokenizer_are_refused_by_name_and_count(own, cached, tokenizers, another):
    data = Dataset(own)
    TokenCache(data).check_tokenizers(*tokenizers)
    with pytest.raises(DataError, match=rf"{len(data)} clips as codes of another video tokenizer") as caught:
        TokenCache(data).check_tokenizers(another, tokenizers[1])
    assert caught.value.code == "tokens_mismatch"
    assert fingerprint(another)[:12] in str(caught.value) and fingerprint(tokenizers[0])[:12] in str(caught.value)
    before = files_of(own)
    with pytest.raises(DataError, match="--overwrite"):
        tokenize(data, VIEWS, another, tokenizers[1])
    with pytest.raises(DataError, match="--overwrite"):
        tokenize(data, VIEWS, another, tokenizers[1], rank=1, num_ranks=2)
    assert files_of(own) == before
    make_cache(data, (another, tokenizers[1]), overwrite=True)
    TokenCache(data).check_tokenizers(another, tokenizers[1])


def test_a_fingerprint_is_the_weights_and_not_where_they_lie(tokenizers, another, tmp_path):
    tokenizers[0].save(tmp_path)
    assert fingerprint(type(tokenizers[0]).load(tmp_path)) == fingerprint(tokenizers[0]) != fingerprint(another)


def test_the_fingerprint_of_a_published_tokenizer_is_that_of_its_weights_too(tokenizers, monkeypatch):
    config = type(tokenizers[0].config)
    values = tokenizers[0].config.to_dict()
    found = set()
    for place, version in (("here", "5.1"), ("there", "5.2")):
        described = {**values, "_name_or_path": place, "transformers_version": version}
        monkeypatch.setattr(config, "to_dict", lambda self, described=described: described)
        found.add(fingerprint(tokenizers[0]))
    assert len(found) == 1


def test_other_views_than_are_kept_are_refused_with_the_sizes_to_ask_for(cached):
    cache = TokenCache(cached[0], cached[1])
    cache.check_views(Views(sizes=((32, 32),), num_frames=9))
    with pytest.raises(DataError, match="--size 48x48"):
        cache.check_views(Views(sizes=((48, 48),), num_frames=9))
    with pytest.raises(DataError, match="5 frames"):
        cache.check_views(Views(sizes=((32, 32),), num_frames=5))


def test_new_footage_is_noticed_and_costs_its_own_shards_only(make, tokenizers, tmp_path, monkeypatch):
    monkeypatch.setattr("videopoet.data.prepare.LARGEST_PART", 1)
    views = Views(sizes=((32, 32),), num_frames=9)
    config = ClipsConfig(height=32, width=32, num_frames=9)
    for name, tint in (("a", 0.0), ("b", 0.5)):
        make.moving(1.3, tint=tint).save(tmp_path / "footage" / f"{name}.mp4")
    prepare(tmp_path / "footage", tmp_path / "data", config)
    make_cache(Dataset(tmp_path / "data"), tokenizers, views=views)
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "data").glob("tokens/shards/*/*")}
    make.moving(1.3, tint=-0.5).save(tmp_path / "footage" / "c.mp4")
    prepare(tmp_path / "footage", tmp_path / "data", config)
    with pytest.raises(DataError, match=r"lacks the codes of 1 of 3 clips \(such as 'c.mp4"):
        TokenCache(Dataset(tmp_path / "data"))
    make_cache(Dataset(tmp_path / "data"), tokenizers, views=views)
    assert len(TokenCache(Dataset(tmp_path / "data")).dataset) == 3
    assert times == {path: path.stat().st_mtime_ns for path in times}


def test_longer_clips_are_kept_from_several_places(dataset, tokenizers, tmp_path):
    data = Dataset(dataset[0])
    views = Views(sizes=((32, 32),), num_frames=1)
    world = PreparedClips(data, views.world((32, 32)))
    assert starts(world) == [0, 3, 5, 8]
    make_cache(data, tokenizers, tmp_path, views)
    cache = TokenCache(data, tmp_path)
    number = world.scene(0).number
    for first in starts(world):
        with torch.no_grad(), runtime.autocast("cpu"):
            made = tokenizers[0].encode(world.render([stretch(data, number, first)]).video)
        assert torch.equal(cache.codes([number], [first], "video", (32, 32)), made)


def test_what_stylization_is_given_is_kept_where_it_is_asked_for(dataset, tokenizers, tmp_path):
    pytest.importorskip("cv2")
    data = Dataset(dataset[0])
    views = Views(sizes=((32, 32),), num_frames=9, structure=True)
    make_cache(data, tokenizers, tmp_path, views)
    cache = TokenCache(data, tmp_path)
    assert cache.has("structure", (32, 32)) and not cache.has("structure", (48, 48))
    assert cache.codes([0], [0], "structure", (32, 32)).shape == (1, 3, 4, 4)


def test_a_shard_names_its_clips_and_needs_no_pickle(cached):
    data, folder, _ = cached
    named = []
    for path in sorted((folder / "shards").iterdir()):
        about = json.loads((path / "about.json").read_text())
        named += about["ids"]
        assert load_file(path / "codes.safetensors")["rows"].tolist() == about["rows"]
    assert sorted(named) == sorted(row["id"] for row in read_lines(data.folder / "clips.jsonl"))


def test_a_cache_is_never_read_with_a_world_of_another_length(cached):
    assert TokenCache(cached[0], cached[1]).views.world((32, 32)) == toybox.Config(height=32, width=32, num_frames=9)
    assert tensor_name("video", (48, 32)) == "video 32x48"


def test_a_mistake_leaves_the_codes_that_are_there(own, tokenizers):
    before = files_of(own)
    with pytest.raises(DataError, match="--size 256x256"):
        tokenize(Dataset(own), Views(sizes=((256, 256),), num_frames=9), *tokenizers)
    with pytest.raises(MediaError, match="off the grid"):
        tokenize(Dataset(own), Views(sizes=((32, 32),), num_frames=8), *tokenizers)
    assert files_of(own) == before
