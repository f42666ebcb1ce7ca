from dataclasses import astuple

import pytest

from videopoet.data.toybox import words
from videopoet.data.toybox_captions import split_words
from videopoet.data.toybox_world import is_held_out
from videopoet.errors import DataError
from videopoet.evaluation import prompts
from videopoet.evaluation.caption_reading import read_caption


@pytest.mark.parametrize("split", prompts.SPLITS)
def test_a_split_has_five_hundred_prompts_in_three_ways(split):
    found = prompts.prompts(split)
    assert len(found) == 500 and all(len(one.texts) == 3 for one in found)
    assert len({one.seed for one in found}) == 500


def test_combinations_are_held_out_of_training_and_the_others_are_not():
    held = {
        split: {
            is_held_out(one.shape, one.colour, one.motion)
            for prompt in prompts.prompts(split)
            for one in prompt.subjects
        }
        for split in prompts.SPLITS
    }
    assert held == {"in": {False}, "combinations": {True}, "outside": {False}}


def test_every_word_is_known_to_the_model():
    known = set(words())
    texts = [text for split in prompts.SPLITS for one in prompts.prompts(split) for text in one.texts]
    texts += [text for pair in prompts.minimal_pairs() for text in pair.texts]
    assert {word for text in texts for word in split_words(text)} <= known


@pytest.mark.parametrize("split", prompts.SPLITS)
def test_prompts_say_their_slots(split):
    for one in prompts.prompts(split)[::7]:
        for text in one.texts:
            asked = read_caption(text)
            said = {(each["shape"], each["colour"], each["motion"]) for each in asked.subjects}
            assert said == {(each.shape, each.colour, each.motion) for each in one.subjects}, text
            assert (asked.scenery, asked.camera) == (one.scenery, one.camera or "still"), text


def test_a_minimal_pair_differs_in_one_word():
    pairs, fresh = prompts.minimal_pairs(), tuple(map(prompts.fresh_pair, range(500, 560)))
    assert len({pair.seed for pair in (*pairs, *fresh)}) == 260
    assert len(pairs) == 200 and {pair.slot for pair in pairs} == {
        "colour",
        "shape",
        "motion",
        "size",
        "scenery",
        "camera",
    }
    for pair in (*pairs, *fresh):
        one, other = (split_words(text) for text in pair.texts)
        assert len(one) == len(other) and sum(a != b for a, b in zip(one, other, strict=True)) == 1, pair
        assert pair.values[0] != pair.values[1]


def test_prompts_are_what_the_committed_seeds_draw():
    for split in prompts.SPLITS:
        for number in (0, 3, 77, 499):
            one = prompts.prompts(split)[number]
            scene = prompts.scene(split, one.seed, number)
            assert scene.captions[:3] == one.texts and scene.kind == one.scenery
            assert [subject.triple for subject in scene.subjects] == [
                (s.shape, s.colour, s.motion) for s in one.subjects
            ]


def test_outside_is_faster_than_training_shows():
    one = prompts.prompts("outside")[5]
    (subject,) = prompts.scene("outside", one.seed, 5).subjects
    assert subject.span > 0.6
    assert astuple(one)


def test_a_changed_file_is_refused(tmp_path, monkeypatch):
    changed = tmp_path / "prompts.json"
    changed.write_bytes(prompts.FILE.read_bytes().replace(b"red", b"blue", 1))
    monkeypatch.setattr(prompts, "FILE", changed)
    prompts._committed.cache_clear()
    with pytest.raises(DataError, match="restore"):
        prompts.prompts("in")
    prompts._committed.cache_clear()
