import shutil

import pytest
import torch

from videopoet.errors import MediaError, TaskError
from videopoet.generation import movie as movies
from videopoet.generation.decoders.autoregressive import Autoregressive
from videopoet.generation.take_store import TakeStore, fingerprint
from videopoet.media import framing
from videopoet.media.files import probe, read_video

BOARD = {
    "title": "A Red Ball",
    "scenes": [
        {"prompt": "a red ball", "seconds": 1.25},
        {"prompt": "a blue star flies", "seconds": 1.25, "camera": "zoom in"},
        {"prompt": "a ball bounces", "seconds": 1.0, "transition": "cut"},
    ],
    "title_seconds": 1.0,
    "seed": 7,
}


SMALL = {"portrait": (64, 36), "square": (48, 48), "landscape": (36, 64)}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Movies small enough to be made in a moment."""
    monkeypatch.setattr(movies, "SHAPES", SMALL)


@pytest.fixture(scope="module")
def all_made(poet, tmp_path_factory):
    """The scenes of `BOARD`, and the frames of the movie of them."""
    folder = tmp_path_factory.mktemp("made") / "scenes"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(movies, "SHAPES", SMALL)
        made = poet.movie(BOARD, takes=folder)
        frames, _ = whole(made)
    assert made.made == [True] * 3
    return folder, frames


@pytest.fixture
def kept(all_made, tmp_path):
    """A folder of a test's own with the scenes of `BOARD`."""
    return shutil.copytree(all_made[0], tmp_path / "kept")


def board(**changes):
    return {**BOARD, **changes}


def scenes(*changes):
    return [{**scene, **change} for scene, change in zip(BOARD["scenes"], changes, strict=True)]


def whole(made):
    parts = list(made)
    return torch.cat([part.frames for part in parts], dim=1), parts


def test_a_movie_is_its_title_and_its_scenes_with_their_sound(poet, tmp_path):
    made = poet.movie(BOARD)
    made.save(tmp_path / "movie.mp4")
    facts = probe(tmp_path / "movie.mp4")
    assert (facts.width, facts.height, facts.frame_rate) == (36, 64, 24.0)
    # title, two fades of 10 frames, and a cut
    assert facts.num_frames == made.num_frames == 24 + 30 + 30 + 24 - 20
    assert facts.metadata["storyboard"]["scenes"][1]["prompt"] == "a blue star flies"
    seen = read_video(tmp_path / "movie.mp4")
    assert seen.audio.seconds == pytest.approx(made.seconds, abs=0.1)
    assert seen.audio.samples[:, : round(0.5 * seen.audio.sample_rate)].abs().max() < 0.01  # under the title


def test_a_scene_is_what_generate_makes(poet):
    one = poet.movie(board(title="", scenes=scenes({"seed": 5}, {}, {})[:1], shape="square", transition="cut"))
    own = poet.generate("text_to_video", prompt="a red ball", seconds=1.25, seed=5).media
    (part,) = list(one)
    assert part.num_frames == own.num_frames * 3
    for first in range(3):
        assert torch.equal(part.frames[:, first::3], framing.place(own.frames, 48, 48))
    assert torch.equal(part.audio.samples[:, 1000:-1000], own.audio.samples[:, 1000:-1000])


def test_scenes_already_made_are_not_made_again(poet, all_made, kept):
    again = poet.movie(BOARD, takes=kept)
    assert torch.equal(whole(again)[0], all_made[1])
    assert again.made == [False] * 3


@pytest.mark.parametrize(
    ("change", "made"),
    [
        ({"title": "Other"}, [False] * 3),
        ({"shape": "landscape", "fit": "crop", "transition": "cut"}, [False] * 3),
        ({"scenes": scenes({}, {"prompt": "a blue ball"}, {})}, [False, True, False]),
        ({"scenes": scenes({}, {"camera": None}, {})}, [False, True, False]),
        ({"scenes": scenes({}, {}, {"seed": 1})}, [False, False, True]),
        ({"scenes": scenes({"seconds": 1.5}, {}, {})}, [True, False, False]),
        ({"scenes": scenes({}, {}, {})[::-1]}, [False] * 3),
        ({"temperature": 0.5}, [True] * 3),
        ({"sound": False}, [True] * 3),
        ({"seed": 8}, [True] * 3),
    ],
)
def test_only_what_changes_is_made_again(poet, kept, change, made):
    after = poet.movie(board(**change), takes=kept)
    found = [after.store.load(key) for key in after.keys]
    assert [clip is None for clip in found] == made


def test_the_same_model_loaded_again_finds_its_scenes(make_poet, kept):
    again = make_poet().movie(BOARD, takes=kept)
    assert all(again.store.load(key) is not None for key in again.keys)


def test_another_decoder_makes_its_own_scenes(make_poet, kept):
    other = make_poet()
    other.decoder = Autoregressive()
    assert all(movie.store.load(key) is None for movie in [other.movie(BOARD, takes=kept)] for key in movie.keys)


def test_another_model_makes_its_own_scenes(make_poet, poet, kept):
    other = make_poet()
    assert fingerprint(other.parts) == fingerprint(poet.parts)
    with torch.no_grad():
        next(other.parts.video_tokenizer.parameters()).add_(0.01)
    changed = other.movie(BOARD, takes=kept)
    next(iter(changed))
    assert changed.made[0]


@pytest.mark.parametrize("damage", [b"", b"x" * 100])
def test_a_broken_scene_is_made_again(poet, all_made, kept, damage):
    next(kept.iterdir()).write_bytes(damage)
    after = poet.movie(BOARD, takes=kept)
    assert torch.equal(whole(after)[0], all_made[1])
    assert sum(after.made) == 1


def test_scenes_of_another_folder_are_taken_over(poet, kept, tmp_path):
    made = poet.movie(BOARD, takes=TakeStore(poet.parts, tmp_path / "own", also=[kept]))
    whole(made)
    assert made.made == [False] * 3
    assert {file.name for file in (tmp_path / "own").iterdir()} == {file.name for file in kept.iterdir()}


def test_a_movie_that_is_stopped_keeps_what_is_finished_and_leaves_no_file(poet, tmp_path):
    class Stopped(Exception):
        pass

    def stop(done, total):
        if done > total // 2:
            raise Stopped

    with pytest.raises(Stopped):
        poet.movie(BOARD, takes=tmp_path / "scenes", on_step=stop).save(tmp_path / "movie.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["scenes"]
    assert len(list((tmp_path / "scenes").iterdir())) == 1


def test_progress_rises_to_its_end(poet):
    told = []
    whole(poet.movie(BOARD, on_step=lambda done, total: told.append((done, total))))
    assert told[-1] == (300, 300)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert len({done for done, _ in told}) > 20


def test_scenes_that_continue_are_the_film_of_them(poet):
    timeline = board(title="", scenes=scenes({}, {"transition": "continue"}, {"transition": "continue"}))
    made = poet.movie(timeline)
    assert len(made.films) == 1
    film = poet.film(
        [{name: scene.get(name) for name in ("prompt", "seconds", "camera")} for scene in BOARD["scenes"]],
        seed=made.films[0].seed,
    )
    frames = torch.cat([part.frames for part in film], dim=1)
    assert made.num_frames == 3 * frames.shape[1] == 3 * 28
    other = board(title="", scenes=scenes({}, {"transition": "continue"}, {"transition": "continue", "seed": 3}))
    assert poet.movie(other).films[0].seed != made.films[0].seed


@pytest.mark.parametrize(
    ("shape", "fit", "size", "said"),
    [
        ("portrait", "pad", (64, 36), "made at 16x16, shown whole in 36x64 before a blurred copy"),
        ("portrait", "crop", (64, 36), "made at 16x16, cut to 36x64"),
        ("square", "pad", (48, 48), "made at 16x16, shown at 48x48"),
        ("landscape", "pad", (36, 64), "made at 16x16, shown whole in 64x36 before a blurred copy"),
    ],
)
def test_a_shape_that_the_model_lacks_is_padded_or_cut_and_said(poet, shape, fit, size, said):
    made = poet.movie(board(shape=shape, fit=fit, scenes=BOARD["scenes"][:1], title=""))
    frames, _ = whole(made)
    assert tuple(frames.shape[2:]) == size and made.framing == said


def test_pictures_larger_than_a_shape_are_not_made_smaller():
    assert movies._canvas("portrait", 64, 64) == (114, 64)
    assert movies._canvas("portrait", 16, 16) == (64, 36)


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"scenes": scenes({}, {"prompt": "<bov_o>"}, {})}, TaskError, "scene 2: .*bov_o"),
        ({"scenes": scenes({}, {}, {"prompt": "a " * 70})}, TaskError, "scene 3: the prompt has 70 tokens"),
        (
            {"scenes": scenes({"seconds": 0.5}, {"transition": "continue"}, {"transition": "continue"}), "title": ""},
            TaskError,
            "scenes 1 to 3: the film changes after 4 frames",
        ),
        ({"title": "The 漢字"}, MediaError, "the font has no letter '漢'"),
        ({"negative_prompt": "blue", "guidance_scale": 1.0}, TaskError, "scene 1: negative_prompt"),
    ],
)
def test_what_cannot_be_made_is_refused_before_anything_is(poet, tmp_path, change, error, said):
    with pytest.raises(error, match=said):
        poet.movie(board(**change), takes=tmp_path / "scenes")
    assert list(tmp_path.iterdir()) == []


def test_words_that_the_model_does_not_know_are_said_once(poet):
    made = poet.movie(board(scenes=scenes({"prompt": "a red fox"}, {"prompt": "a blue fox", "camera": None}, {})))
    assert made.warnings == ("the model does not know the word 'fox'; the result may be without it",)
