import json

import pytest

from videopoet.errors import TaskError
from videopoet.generation.storyboard import Storyboard

SCENES = [{"prompt": "a red ball"}, {"prompt": "a blue star flies"}]


def test_a_storyboard_survives_its_file(tmp_path):
    board = Storyboard.of({"title": "Café", "scenes": SCENES, "shape": "square", "temperature": 0.5}).completed()
    board.save(tmp_path / "movie.json")
    assert Storyboard.read(tmp_path / "movie.json") == board
    assert "Café" in (tmp_path / "movie.json").read_text(encoding="utf-8")


def test_scenes_keep_their_seeds_when_they_are_moved():
    def seeds(scenes):
        return {scene.prompt: scene.seed for scene in Storyboard.of({"scenes": scenes, "seed": 3}).completed().scenes}

    assert seeds(SCENES) == seeds(SCENES[::-1])
    assert seeds([{"prompt": "a ball"}, *SCENES])["a red ball"] == seeds(SCENES)["a red ball"]


def test_scenes_of_the_same_words_have_seeds_of_their_own():
    board = Storyboard.of({"scenes": [SCENES[0]] * 3}).completed()
    assert len({scene.seed for scene in board.scenes}) == 3


def test_a_seed_that_is_given_stays():
    assert Storyboard.of({"scenes": [{**SCENES[0], "seed": 0}]}).completed().scenes[0].seed == 0


def test_scenes_that_continue_are_one_take():
    scenes = [{"prompt": "a", "transition": one} for one in ("continue", "continue", "fade", "cut", "continue")]
    assert Storyboard.of({"scenes": scenes}).takes == [[0, 1], [2], [3, 4]]
    assert Storyboard.of({"scenes": SCENES, "transition": "continue"}).takes == [[0, 1]]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([], "the storyboard is []"),
        ({}, "the storyboard lacks 'scenes'"),
        ({"scenes": []}, "scenes of the storyboard are 0; there must be 1 to 100"),
        ({"scenes": SCENES, "titel": "x"}, "the storyboard has 'titel'; it takes title"),
        ({"scenes": ["a ball"]}, "scene 1 is 'a ball'"),
        ({"scenes": [SCENES[0], {}]}, "scene 2 lacks 'prompt'"),
        ({"scenes": [SCENES[0], {"prompt": " "}]}, "scene 2 is ' '; it says nothing"),
        ({"scenes": [{"prompt": "a " + "b" * 41}]}, "the word 'bbbbbbbbbbbbbbbbbbbb...' has 41 characters, 40"),
        ({"scenes": [{"prompt": "a " * 1001}]}, "prompt of scene 1 has 2002 characters; the most is 2000"),
        ({"scenes": [{**SCENES[0], "camera": "spin"}]}, "camera of scene 1 is 'spin'; there are pan left"),
        ({"scenes": [{**SCENES[0], "transition": "wipe"}]}, "transition of scene 1 is 'wipe'; there are cut, fade"),
        ({"scenes": [{**SCENES[0], "seconds": True}]}, "it is a truth value"),
        ({"scenes": [{**SCENES[0], "seconds": 0}]}, "seconds of scene 1 is 0"),
        ({"scenes": [{**SCENES[0], "seed": -1}]}, "seed of scene 1 is -1"),
        ({"scenes": [{**SCENES[0], "seconds": 0.7}, SCENES[1]], "title": "x"}, "scene 1 lasts 0.7 .* at each end"),
        ({"scenes": [{**SCENES[0], "seconds": 0.3}]}, "scene 1 lasts 0.3 .* at one end"),
        ({"scenes": SCENES, "title": "x", "title_seconds": 0.5}, "the title is shown for 0.5"),
        ({"scenes": [{**SCENES[0], "seconds": 60}] * 11}, "660 seconds together; 600 are the most"),
        ({"scenes": SCENES, "title": "x" * 81}, "title of the storyboard has 81|the word"),
    ],
)
def test_a_bad_storyboard_is_refused_in_a_sentence(values, said):
    with pytest.raises(TaskError, match=said.replace("[]", r"\[\]")) as caught:
        Storyboard.of(values)
    assert caught.value.code == "storyboard_invalid"


def test_short_scenes_may_be_cut():
    board = Storyboard.of({"scenes": [{**SCENES[0], "seconds": 0.2}, SCENES[1]], "transition": "cut"})
    assert board.takes == [[0], [1]]


@pytest.mark.parametrize(
    ("text", "code"), [(None, "storyboard_missing"), ("{", "storyboard_invalid"), ("3", "storyboard_invalid")]
)
def test_a_file_that_is_no_storyboard_is_refused(tmp_path, text, code):
    if text is not None:
        (tmp_path / "movie.json").write_text(text)
    with pytest.raises(TaskError) as caught:
        Storyboard.read(tmp_path / "movie.json")
    assert caught.value.code == code


def test_a_huge_file_is_not_read(tmp_path):
    (tmp_path / "movie.json").write_text(json.dumps({"title": "x" * 2**20}))
    with pytest.raises(TaskError, match="at most 1048576"):
        Storyboard.read(tmp_path / "movie.json")
