import pytest

from videopoet.data.toybox import Config, ToyBox
from videopoet.evaluation.caption_reading import read_caption

WORLD = ToyBox(Config(split="test"))


def test_what_is_read_of_a_full_caption_is_in_its_scene():
    for seed in range(150):
        scene = WORLD.scene(seed)
        for caption in scene.captions:
            read = read_caption(caption)
            assert (read.scenery, read.camera, len(read.subjects)) == (scene.kind, scene.camera, len(scene.subjects))
            for said, subject in zip(read.subjects, scene.subjects, strict=True):
                assert (said["shape"], said["colour"], said["motion"]) == subject.triple
                assert said["size"] in (subject.size, None)
                assert said["size"] is not None or subject.size == "medium" or len(scene.subjects) == 3


@pytest.mark.parametrize(
    ("caption", "subject"),
    [
        ("a ball bounces", {"shape": "ball", "colour": None, "motion": "bounce", "size": None}),
        ("a big red fish", {"shape": "fish", "colour": "red", "motion": None, "size": "big"}),
        ("red red the of star falls down falls", {"shape": "star", "colour": "red", "motion": "fall", "size": None}),
    ],
)
def test_what_a_caption_leaves_out_is_none(caption, subject):
    read = read_caption(caption)
    assert [dict(one) for one in read.subjects] == [subject] and read.scenery is None and read.camera == "still"


@pytest.mark.parametrize("caption", ["", "the of and", "dfkj 123"])
def test_a_caption_that_says_nothing_has_no_subject(caption):
    assert read_caption(caption).subjects == ()


def test_a_verb_after_several_subjects_is_of_all_that_have_none():
    read = read_caption("a red ball flies left and a blue star and a pink fish rise in the woods, zoom in")
    assert [one["motion"] for one in read.subjects] == ["left", "up", "up"]
    assert (read.scenery, read.camera) == ("forest", "zoom in")
