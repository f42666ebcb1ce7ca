import gc
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from videopoet.errors import MediaError, TaskError
from videopoet.generation import composition
from videopoet.generation import film as films
from videopoet.generation.film_folder import FilmFolder, kept_seed

STORY = [{"prompt": "a red ball", "seconds": 4}, {"prompt": "a blue star flies", "seconds": 3}]


class Stopped(Exception):
    pass


@pytest.fixture(autouse=True)
def few_at_once(monkeypatch):
    monkeypatch.setattr(composition, "ROWS_AT_ONCE", 3)


@pytest.fixture(scope="module")
def unbroken(poet, tmp_path_factory):
    """The bytes of the film that nothing interrupts."""
    path = tmp_path_factory.mktemp("unbroken") / "film.mp4"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(composition, "ROWS_AT_ONCE", 3)
        poet.film(STORY, seed=7).save(path)
    return path.read_bytes()


def make(poet, folder, until=1.0, story=STORY, **inputs):
    """Make the film, or only so much of it."""

    def stop(done, total):
        if done > until * total:
            raise Stopped

    film = poet.film(story, on_step=stop, **{"seed": 7, **inputs})
    film.save(folder / "film.mp4", keep=folder / "film.parts")


def begun(poet, folder, until=0.5, **inputs):
    with pytest.raises(Stopped):
        make(poet, folder, until, **inputs)


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_an_interrupted_film_becomes_what_it_would_have_been(poet, tmp_path, unbroken):
    (tmp_path / "film.mp4").write_text("an earlier one")
    for until in (0.1, 0.3, 0.35, 0.8, 0.99):
        begun(poet, tmp_path, until)
        assert (tmp_path / "film.mp4").read_text() == "an earlier one"
        assert sorted(file.name for file in tmp_path.iterdir()) == ["film.mp4", "film.parts"]
    make(poet, tmp_path)
    assert contents(tmp_path) == {"film.mp4": unbroken}


def test_what_is_kept_is_not_made_again(poet, tmp_path, monkeypatch):
    begun(poet, tmp_path, until=0.8)
    num_kept = len(list((tmp_path / "film.parts").glob("*.safetensors")))
    asked, decode = [], poet.decoder.decode
    monkeypatch.setattr(poet.decoder, "decode", lambda *given: asked.append(given) or decode(*given))
    make(poet, tmp_path)
    assert num_kept >= 5 and len(asked) == 6 + 2 - num_kept  # windows, and their sounds three by three


def test_a_killed_process_leaves_what_another_goes_on_with(tmp_path, unbroken):
    script = tmp_path / "film.py"
    script.write_text(
        f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from conftest import make_poet
from videopoet.generation import composition

composition.ROWS_AT_ONCE = 3
def on_step(done, total):
    if done >= int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
make_poet().film({STORY!r}, seed=7, on_step=on_step).save("film.mp4", keep="film.parts")
"""
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def run(kill_at):
        command = [sys.executable, script, str(kill_at)]
        return subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True).returncode

    assert run(150) == -signal.SIGKILL
    assert sorted(file.name for file in tmp_path.iterdir()) == ["film.parts", "film.py"]
    assert any(".partial." in file.name for file in (tmp_path / "film.parts").iterdir())
    assert run(10**9) == 0
    assert sorted(file.name for file in tmp_path.iterdir()) == ["film.mp4", "film.py"]
    assert (tmp_path / "film.mp4").read_bytes() == unbroken


def test_a_film_killed_while_it_is_put_in_its_place_is_made_of_what_is_kept(poet, tmp_path, unbroken, monkeypatch):
    def killed(*_):
        raise Stopped

    with monkeypatch.context() as patched:
        patched.setattr(films.shutil, "move", killed)
        begun(poet, tmp_path, until=1.0)
    assert not (tmp_path / "film.mp4").exists() and (tmp_path / "film.parts" / "film.mp4").exists()
    make(poet, tmp_path)
    assert contents(tmp_path) == {"film.mp4": unbroken}


def test_rows_that_are_broken_or_of_another_film_are_made_again(poet, tmp_path, unbroken):
    begun(poet, tmp_path, until=0.9)
    files = sorted((tmp_path / "film.parts").glob("*.safetensors"))
    files[1].write_bytes(files[1].read_bytes()[:-5])
    files[2].write_bytes(files[0].read_bytes())
    files[3].unlink()
    make(poet, tmp_path)
    assert contents(tmp_path) == {"film.mp4": unbroken}


@pytest.mark.parametrize("beginning", ["image", "video"])
def test_a_film_that_begins_with_something_goes_on_from_that_alone(poet, tmp_path, materials, beginning):
    other = {"image": type(materials["image"])(255 - materials["image"].frame), "video": None}
    clip = materials["video"]
    other["video"] = type(clip)(255 - clip.frames, clip.frame_rate)
    begun(poet, tmp_path, **{beginning: materials[beginning]})
    with pytest.raises(TaskError, match=f"{beginning} was"):
        make(poet, tmp_path, **{beginning: other[beginning]})
    make(poet, tmp_path, **{beginning: materials[beginning]})
    poet.film(STORY, seed=7, **{beginning: materials[beginning]}).save(tmp_path / "own.mp4")
    assert (tmp_path / "film.mp4").read_bytes() == (tmp_path / "own.mp4").read_bytes()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": 8}, "seed was 7 and is 8"),
        ({"story": STORY[:1]}, "story was"),
        ({"temperature": 0.5}, "temperature was 1.0 and is 0.5"),
        ({"negative_prompt": "a star"}, "negative_prompt was not given and is 'a star'"),
        ({"sound": False}, "sound was True and is False"),
    ],
)
def test_another_film_is_refused_and_what_is_kept_stays(poet, tmp_path, change, said):
    begun(poet, tmp_path)
    before = contents(tmp_path / "film.parts")
    with pytest.raises(TaskError, match=said) as caught:
        make(poet, tmp_path, **change)
    assert caught.value.code == "film_changed" and "remove that folder to begin anew" in str(caught.value)
    assert contents(tmp_path / "film.parts") == before


def test_another_model_does_not_go_on_with_a_film(make_poet, poet, tmp_path):
    begun(poet, tmp_path)
    other = make_poet()
    other.parts.language_model.head_weight.data[0] += 1
    with pytest.raises(TaskError, match="weights was"):
        make(other, tmp_path)


def test_a_folder_of_something_else_is_refused_and_left_alone(poet, tmp_path):
    (tmp_path / "film.parts").mkdir()
    (tmp_path / "film.parts" / "mine.txt").write_text("mine")
    with pytest.raises(TaskError, match="'mine.txt', which is no part of a film") as caught:
        make(poet, tmp_path)
    assert caught.value.code == "film_folder_used"
    assert contents(tmp_path / "film.parts") == {"mine.txt": b"mine"}


def test_a_file_that_somebody_puts_there_meanwhile_stays(tmp_path):
    with FilmFolder(tmp_path / "film.parts", {"seed": 7}) as folder:
        (folder.path / "mine.txt").write_text("mine")
        folder.done = True
    assert contents(tmp_path / "film.parts") == {"mine.txt": b"mine"}


def test_one_at_a_time_makes_a_film(poet, tmp_path):
    with FilmFolder(tmp_path / "film.parts", {"seed": 7}):
        with pytest.raises(TaskError, match="another process makes the film") as caught:
            make(poet, tmp_path)
        assert caught.value.code == "film_in_use"
    make(poet, tmp_path)


def test_a_film_of_which_nothing_is_made_leaves_nothing(poet, tmp_path):
    begun(poet, tmp_path, until=0.0)
    with pytest.raises(MediaError, match="'.gif'"):
        poet.film(STORY, seed=7).save(tmp_path / "film.gif", keep=tmp_path / "film.parts")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_knows_its_seed(poet, tmp_path):
    assert kept_seed(tmp_path / "film.parts") is None
    begun(poet, tmp_path)
    assert kept_seed(tmp_path / "film.parts") == 7
    for text in ("{", "[7]", json.dumps({"seed": "7"})):
        (tmp_path / "film.parts" / "film.json").write_text(text)
        assert kept_seed(tmp_path / "film.parts") is None


def test_going_on_holds_no_more_the_longer_the_film_is(poet, tmp_path, monkeypatch):
    def watch(parts, path, metadata):
        for part in parts:
            del part
            alive = [one.numel() * one.element_size() for one in gc.get_objects() if type(one) is torch.Tensor]
            most.append(sum(alive))
        raise Stopped

    most = []
    monkeypatch.setattr(composition, "ROWS_AT_ONCE", 2)
    monkeypatch.setattr(films, "write_parts", watch)
    held = []
    for seconds in (6.1, 10.1):
        story = [{"prompt": "a red ball", "seconds": seconds}]
        for _ in range(2):  # the second time of what is kept alone
            most.clear()
            begun(poet, tmp_path / str(seconds), until=1.0, story=story)
        held.append(max(most))
    assert held[1] <= held[0] * 1.01
    kept = sum(file.stat().st_size for file in (tmp_path / "10.1" / "film.parts").iterdir())
    assert kept < 10.1 * 1500
