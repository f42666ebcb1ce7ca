import pytest

from videopoet.data.toybox_world import COLOURS, MATERIALS, SHAPES, is_held_out
from videopoet.errors import ConfigError
from videopoet.evaluation import prompts, suites
from videopoet.evaluation.prompts import NUM_PAIRS
from videopoet.evaluation.suites import (
    REFERENCE_PROMPTS,
    SUITES,
    cases,
    fingerprint,
    left_out,
    num_frozen,
    num_prompts,
    suites_of,
    world_of,
)
from videopoet.sequence.tasks import TASKS


def slots_of(asked):
    """Every slot that a prompt with one subject could name, by the number of its subject; the clip's own under -1."""
    (subject,) = asked.subjects
    return {(0, name): value for name, value in subject.items()} | {
        (-1, "scenery"): asked.scenery,
        (-1, "camera"): asked.camera,
    }


def test_equal_seeds_give_equal_cases_and_others_do_not(world, window):
    one, same, other = (list(cases("inpainting", world, window, range(2), seed)) for seed in (0, 0, 5))
    assert [fingerprint(case) for case in one] == [fingerprint(case) for case in same]
    assert not {fingerprint(case) for case in one} & {fingerprint(case) for case in other}


def test_a_case_does_not_depend_on_those_before_it(world, window, cases_of):
    (alone,) = cases("text_to_video", world, window, range(1, 2), 0)
    assert fingerprint(alone) == fingerprint(cases_of("text_to_video")[1])


def test_a_minimal_pair_differs_in_one_slot_of_words_and_of_the_true_scene(cases_of):
    found = cases_of("minimal_pairs", 24)
    assert {case.changed[1] for case in found} == {"colour", "shape", "motion", "size", "scenery", "camera"}
    for case in found:
        subject, slot = case.changed
        words, others = (slots_of(each.asked) for each in (case, case.other))
        assert {name for name in words if words[name] != others[name]} == {(subject, slot)}
        for each, said in ((case, words), (case.other, others)):
            scene = each.truth.scene
            true = {(0, name): getattr(scene.subjects[0], name) for name in ("shape", "colour", "motion", "size")}
            true |= {(-1, "scenery"): scene.kind, (-1, "camera"): scene.camera}
            assert {name: value for name, value in said.items() if value is not None}.items() <= true.items()


def test_a_smaller_word_makes_a_smaller_truth_and_another_shape_another_sound(world, window):
    for number in range(NUM_PAIRS):
        if (pair := prompts.minimal_pairs()[number]).slot == "size":
            break
    (case,) = cases("minimal_pairs", world, window, range(number, number + 1), 0)
    radii = [each.truth.scene.subjects[0].radius for each in (case, case.other)]
    assert (radii[0] < radii[1]) == (pair.values == ("small", "big"))
    for number, pair in enumerate(prompts.minimal_pairs()):
        (subject,) = world.scene(pair.seed, num_subjects=1, camera="still").subjects
        if pair.slot == "shape" and subject.motion == "bounce":
            (case,) = cases("minimal_pairs", world, window, range(number, number + 1), 0)
            assert case.other.truth.materials == {MATERIALS[pair.values[1]]}
            return
    raise AssertionError("no pair has a bouncing subject of another shape")


def test_an_open_prompt_names_no_colour_and_no_scenery(cases_of):
    for case in cases_of("open_prompts", 4):
        assert case.asked.subjects[0]["colour"] is None and case.asked.scenery is None
        assert case.asked.subjects[0]["motion"] == case.truth.scene.subjects[0].motion


@pytest.mark.parametrize("split", prompts.SPLITS)
def test_prompts_are_the_frozen_ones_in_every_task_and_each_comes_once(window, split):
    world = world_of(window, split)
    frozen = {one.texts[0]: one for one in prompts.prompts(split)}
    for case in cases("text_to_video", world, window, range(4), 3, split):
        asked = frozen[case.prompt]
        assert case.truth.scene.seed == asked.seed and case.truth.scene.kind == asked.scenery
        assert case.asked.camera == (asked.camera or "still") == case.truth.scene.camera
        said = {(one["shape"], one["colour"], one["motion"]) for one in case.asked.subjects}
        assert said == {(one.shape, one.colour, one.motion) for one in asked.subjects}
        assert said == {one.triple for one in case.truth.scene.subjects}
    (other,) = cases("video_continuation", world, window, range(1), 3, split)
    (first,) = cases("text_to_video", world, window, range(1), 3, split)
    assert other.truth.scene == first.truth.scene


def test_no_two_cases_of_a_split_are_one_scene_before_after_and_far_behind_the_frozen_ones(window):
    for split in prompts.SPLITS:
        world = world_of(window, split)
        scenes = [suites._scene(world, split, number) for number in (*range(520), REFERENCE_PROMPTS)]
        assert len({scene.seed for scene in scenes}) == len(scenes)
        frozen = {one.seed for one in prompts.prompts(split)}
        assert {scene.seed for scene in scenes[:500]} == frozen and not {s.seed for s in scenes[500:]} & frozen


def test_few_prompts_name_every_shape_and_colour(window):
    world = world_of(window, "in")
    subjects = [suites._scene(world, "in", number).subjects[0] for number in range(50)]
    assert {one.shape for one in subjects} == set(SHAPES) and {one.colour for one in subjects} == set(COLOURS)


def test_splits_hold_what_they_say(window):
    spans = {}
    for split in prompts.SPLITS:
        world = world_of(window, split)
        scenes = [suites._scene(world, split, number) for number in (*range(8), 600)]
        held = {is_held_out(*one.triple) for scene in scenes for one in scene.subjects}
        assert held == {split == "combinations"}
        spans[split] = max(
            one.span for scene in scenes for one in scene.subjects if one.motion in ("left", "right", "up", "down")
        )
    assert spans["outside"] > 0.6 > spans["in"]


def test_pairs_go_round_and_no_more_of_them_are_asked_than_there_are(world, window):
    (first,), (again,) = (cases("minimal_pairs", world, window, range(n, n + 1), 0) for n in (0, NUM_PAIRS))
    assert first.prompt == again.prompt and first.truth.scene == again.truth.scene
    assert num_prompts("minimal_pairs", 1000) == NUM_PAIRS and num_prompts("text_to_video", 1000) == 1000


def test_no_pair_is_frozen_where_no_prompt_is(world, window):
    frozen = {pair.texts for pair in prompts.minimal_pairs()}
    found = list(cases("minimal_pairs", world, window, range(6), prompts.PER_SPLIT))
    assert not {(case.prompt, case.other.prompt) for case in found} & frozen
    assert {case.changed[1] for case in found} == {"colour", "shape", "motion", "size", "scenery", "camera"}
    (last,) = cases("minimal_pairs", world, window, range(5, 6), prompts.PER_SPLIT)
    assert fingerprint(last) == fingerprint(found[5])


@pytest.mark.parametrize(
    ("suite", "count", "seed", "frozen"),
    [
        ("text_to_video", 50, 0, 50),
        ("text_to_video", 50, 480, 20),
        ("text_to_video", 50, 900, 0),
        ("minimal_pairs", 900, 7, 200),
        ("minimal_pairs", 50, 480, 20),
        ("minimal_pairs", 200, 500, 0),
        ("open_prompts", 50, 0, 0),
    ],
)
def test_a_report_says_how_many_prompts_are_frozen(suite, count, seed, frozen):
    assert num_frozen(suite, count, seed) == frozen


def test_a_suite_that_a_split_does_not_have_is_left_out_with_the_reason():
    assert {(suite, split) for suite in SUITES for split in prompts.SPLITS if left_out(suite, split)} == {
        ("minimal_pairs", "combinations"),
        ("minimal_pairs", "outside"),
        ("open_prompts", "outside"),
    }


def test_an_unknown_split_or_task_is_refused(window):
    with pytest.raises(ConfigError, match="'ood'.*in, combinations, outside"):
        world_of(window, "ood")
    with pytest.raises(ConfigError, match="'text_to_vdeo'"):
        suites_of(["text_to_vdeo"])


def test_the_suites_of_all_tasks_are_all_suites():
    assert set(suites_of([*TASKS, "tokenizer"])) == set(SUITES)
    assert suites_of(["text_to_video"]) == ["text_to_video", "minimal_pairs", "open_prompts"]
    assert suites_of(["tokenizer"]) == ["tokenizer"]
