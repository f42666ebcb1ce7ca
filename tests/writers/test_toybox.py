import pytest

from videopoet import write_storyboard
from videopoet.data.toybox_captions import words as toybox_words
from videopoet.errors import TaskError
from videopoet.writers.toybox import Toybox
from videopoet.writers.toybox_words import Named, understand

IDEAS = [
    "a raccoon travels to the sea",
    "A small blue fish swims from the sea to the moon!",
    "a red ball and a green star meet in the city and dance",
    "three rockets fly to the stars",
    "an orange diamond falls from the sky, grows and rests in the snow",
    "two balls play",
    "the forest",
]


def prompts(idea, scenes=5, **fields):
    return [scene.prompt for scene in write_storyboard(idea, scenes=scenes, **fields).scenes]


@pytest.mark.parametrize("idea", IDEAS)
@pytest.mark.parametrize("scenes", [1, 2, 5, 9])
def test_every_word_of_a_scene_is_one_that_the_model_knows(idea, scenes):
    known = set(toybox_words())
    for seed in range(5):
        board = write_storyboard(idea, scenes=scenes, seed=seed)
        assert len(board.scenes) == scenes
        for scene in board.scenes:
            said = scene.prompt.replace(",", " ,").split()
            assert set(said) <= known, scene.prompt
            assert len(said) <= 64


def test_the_subject_and_its_looks_are_in_every_scene():
    assert all("a small blue fish" in prompt for prompt in prompts("a tiny azure fish swims to the beach", 8))
    assert all("a big purple star" in prompt for prompt in prompts("A huge violet star", 4))


@pytest.mark.parametrize("seed", range(6))
def test_the_way_leads_from_one_place_to_the_other(seed):
    said = prompts("a red raccoon walks from the forest through the snow to the sea", 6, seed=seed)
    places = [
        next(kind for kind, words in {"forest": ("forest", "woods"), "snow": ("snow",), "sea": ("sea", "water")}.items()
             if any(word in prompt.split() for word in words))
        for prompt in said
    ]  # fmt: skip
    assert places[0] == "forest" and places[-1] == "sea" and "snow" in places
    assert places == sorted(places, key=("forest", "snow", "sea").index)


def test_a_way_without_a_beginning_begins_elsewhere():
    for seed in range(6):
        said = prompts("a raccoon travels to the sea", seed=seed)
        assert not {"sea", "water"} & set(said[0].split())
        assert {"sea", "water"} & set(said[-1].split())


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        ("bounces", {"bounces", "jumps"}),
        ("hopping", {"bounces", "jumps"}),
        ("fell", {"falls", "drops"}),
        ("grows", {"grows", "gets", "becomes"}),
        ("slept", {"stands", "stays", "rests", "does"}),
        ("spins", {"circles", "orbits", "moves", "flies"}),
    ],
)
def test_a_verb_is_what_happens(verb, words):
    said = prompts(f"a red ball {verb} on the grass", 3)
    assert words & set(said[0].split()) and words & set(said[1].split())


def test_motions_come_in_the_order_of_the_idea():
    said = prompts("a ball falls, then grows, then shrinks", 3)
    verbs = [("falls", "drops"), ("grows", "bigger"), ("shrinks", "smaller")]
    assert all(any(word in prompt for word in one) for prompt, one in zip(said, verbs, strict=True))


def test_several_subjects_are_seen_alone_and_then_together():
    said = prompts("a red ball and a green star meet in the city", 4)
    assert ["ball" in one for one in said] == [True, False, True, True]
    assert ["star" in one for one in said] == [False, True, True, True]


def test_a_direction_and_a_camera_are_followed():
    board = write_storyboard("a red ball rolls left on the street, zoom out", scenes=3)
    assert any("left" in scene.prompt for scene in board.scenes) and board.scenes[0].camera == "zoom out"


def test_what_is_not_understood_is_said():
    writer = Toybox()
    board = write_storyboard("a wizard seeks a lamp in the forest", writer)
    assert "'wizard', 'lamp'" in writer.warnings[0]
    assert "names no subject" in writer.warnings[1]
    assert all({"forest", "woods"} & set(scene.prompt.split()) for scene in board.scenes)
    write_storyboard("a raccoon travels to the sea", writer)
    assert writer.warnings == ()


def test_a_seed_decides_what_the_idea_leaves_open():
    idea = "a raccoon travels to the sea"
    assert write_storyboard(idea, seed=1) == write_storyboard(idea, seed=1)
    assert len({tuple(prompts(idea, seed=seed)) for seed in range(5)}) > 1


@pytest.mark.parametrize(
    ("idea", "fields", "said"),
    [
        ("", {}, "the idea is empty"),
        ("x " * 300, {}, "600 characters long"),
        ("ein Waschbär reist ans Meer", {}, "knows no word of the idea"),
        ("a ball " + "y" * 41, {}, "has 41 characters; 40 are the most"),
        ("a ball", {"scenes": 0}, "scenes is 0"),
        ("a ball", {"seconds": -1.0}, "seconds is -1"),
        ("a ball", {"shape": "round"}, "shape of the storyboard is 'round'"),
    ],
)
def test_an_idea_that_cannot_be_written_is_refused(idea, fields, said):
    with pytest.raises(TaskError, match=said):
        write_storyboard(idea, **fields)


def test_lengths_are_shared_and_fields_kept():
    board = write_storyboard("a ball", scenes=4, seconds=10, shape="square", title="Mine", transition="cut")
    assert [scene.seconds for scene in board.scenes] == [2.5] * 4
    assert (board.title, board.shape, board.transition, board.writer) == ("Mine", "square", "cut", "built-in")


def test_ideas_are_read():
    found = understand("A small red ball's friend, the ball, flies from the house to the stars")
    assert found.subjects == [Named("ball", "red", "small")]
    assert found.places == [("room", "start"), ("night", "end")]
    assert found.in_the_air and found.unknown == ["friend"]
