"""`videopoet look` and `videopoet tokenize` on a dataset."""

import json

import pytest

from videopoet.cli import run
from videopoet.data.prepared import Dataset
from videopoet.data.token_cache import TokenCache
from videopoet.media.files import read_image, read_video
from videopoet.media.types import Image


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Three clips of the toy box, prepared in the size of the model that ships."""
    folder = tmp_path_factory.mktemp("look")
    assert run(["toybox", "--count", "3", "-o", str(folder / "footage")]) == 0
    assert run(["prepare", str(folder / "footage"), "-o", str(folder / "data")]) == 0
    return folder / "data"


@pytest.fixture(scope="module")
def tokens(data):
    assert run(["tokenize", str(data), "--device", "cpu"]) == 0
    return data / "tokens"


def test_looking_prints_counts_captions_and_the_crop_and_draws_a_sheet(data, tmp_path, capsys):
    path = tmp_path / "sheet.png"
    assert run(["look", str(data), "-o", str(path), "--size", "32x64"]) == 0
    printed = capsys.readouterr().out
    caption = Dataset(data).row(0)["caption"]
    assert caption[:60] in printed and "50% of the picture" in printed and "hours in all" in printed
    assert printed.splitlines()[-1] == str(path) and read_image(path).frame.shape[1] > 200


def test_looking_as_json_says_the_same(data, tmp_path, capsys):
    assert run(["look", str(data), "-o", str(tmp_path / "sheet.png"), "--count", "2", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert len(facts["shown_clips"]) == 2 and facts["clips"]["kept"] == len(Dataset(data))
    assert facts["training"]["shown"] == [{"size": "64x64", "clips": len(Dataset(data)), "seen": 1.0}]
    assert all(clip["caption"] for clip in facts["shown_clips"])


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [(["-o", "sheet.txt"], 2, ".png"), (["--size", "big"], 2, "width x height"), (["--count", "0"], 2, "count")],
)
def test_a_mistake_in_looking_is_one_line(data, tmp_path, capsys, arguments, code, says):
    assert run(["look", str(data), *arguments]) == code
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1


def test_looking_at_what_was_not_prepared_says_so(tmp_path, capsys):
    assert run(["look", str(tmp_path)]) == 3
    assert "videopoet prepare" in capsys.readouterr().err


def test_tokens_are_written_beside_the_clips_and_looked_at(data, tokens, tmp_path, capsys):
    cache = TokenCache(Dataset(data))
    assert cache.folder == tokens and cache.views.sizes[0] == (64, 64) and cache.views.num_frames == 17
    assert run(["look", str(data), "-o", str(tmp_path / "sheet.png"), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["tokens"]["usable"] and facts["tokens"]["clips"] == len(Dataset(data))
    assert run(["tokenize", str(data), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tokens"] == cache.counts["tokens"]


def test_tokenizing_in_a_size_that_the_clips_lack_is_refused(data, capsys):
    assert run(["tokenize", str(data), "--size", "256x256"]) == 3
    assert "--size 256x256" in capsys.readouterr().err


def test_workers_without_a_cluster_are_refused(data, capsys):
    assert run(["tokenize", str(data), "--workers", "4"]) == 2
    assert "--workers is 4 and --engine is local" in capsys.readouterr().err


def test_a_run_that_trains_a_tokenizer_refuses_codes_of_another_before_it_begins(data, tokens, tmp_path, capsys):
    train = ["train", "--data", str(data), "--preset", "tiny", "-o", str(tmp_path / "run")]
    assert run(train) == 3
    error = capsys.readouterr().err
    assert "3 clips as codes" in error and "--stages language_model" in error
    assert not (tmp_path / "run" / "video_tokenizer").exists()


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Two clips of the toy box with a picture and a sound of each, prepared."""
    folder = tmp_path_factory.mktemp("mixed")
    assert run(["toybox", "--count", "2", "-o", str(folder / "footage")]) == 0
    for path in sorted((folder / "footage").glob("*.mp4")):
        clip = read_video(path)
        Image(clip.frames[:, 0]).save(path.with_suffix(".png"))
        clip.audio.save(path.with_suffix(".wav"))
    return folder


def test_preparing_and_looking_count_pictures_and_sounds(mixed, tmp_path, capsys):
    command = ["prepare", str(mixed / "footage"), "--size", "32x32", "-o"]
    assert run([*command, str(mixed / "data")]) == 0
    printed = capsys.readouterr().out
    assert "files   6 = 6 kept" in printed and "pictures 2 = 2 kept" in printed and "sounds  2 = 2 kept" in printed
    assert run(["look", str(mixed / "data"), "-o", str(tmp_path / "sheet.png")]) == 0
    printed = capsys.readouterr().out
    assert "of pictures 2 of 32x32" in printed and "pictures on the sheet\n    1  000000.png#0.000" in printed
    heights = [read_image(tmp_path / "sheet.png").frame.shape[1]]
    assert run([*command, str(tmp_path / "clips"), "--kind", "clip"]) == 0
    assert "(4 other files left alone)" in capsys.readouterr().out
    assert run(["look", str(tmp_path / "clips"), "-o", str(tmp_path / "sheet.png")]) == 0
    heights.append(read_image(tmp_path / "sheet.png").frame.shape[1])
    assert heights[0] > heights[1]


def test_sounds_alone_have_no_sheet_and_no_codes(mixed, tmp_path, capsys):
    assert run(["prepare", str(mixed / "footage"), "-o", str(tmp_path / "data"), "--kind", "sound"]) == 0
    assert run(["look", str(tmp_path / "data")]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "no sheet: there is only sound"
    assert not (tmp_path / "data" / "contact-sheet.png").exists()
    assert run(["tokenize", str(tmp_path / "data")]) == 3
    assert "has no clips, and codes are kept of clips alone" in capsys.readouterr().err


def test_a_kind_that_there_is_not_is_refused(mixed, tmp_path, capsys):
    assert run(["prepare", str(mixed / "footage"), "-o", str(tmp_path / "data"), "--kind", "film"]) == 2
    assert "--kind is 'film'; clip, picture, sound fit" in capsys.readouterr().err
