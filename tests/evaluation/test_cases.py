import pytest
import torch

from videopoet.errors import ConfigError
from videopoet.evaluation.cases import Take
from videopoet.evaluation.suites import SUITES, cases, fingerprint, suites_of, world_of
from videopoet.generation.request import Request
from videopoet.sequence.tasks import TASKS


@pytest.mark.parametrize("suite", SUITES)
def test_every_suite_asks_what_its_task_allows_and_has_a_right_answer(cases_of, suite):
    for case in cases_of(suite):
        request = case.request(0)
        assert isinstance(request, Request)
        assert all(getattr(request, name) is not None for name in case.task.requires if name != "video")
        wanted = {"image": "video"}.get(case.task.gives[0], case.task.gives[0])
        assert getattr(case.right, wanted) is not None


@pytest.mark.parametrize("suite", SUITES)
def test_the_truth_through_the_tokenizers_has_the_shape_of_the_truth(cases_of, suite):
    case = cases_of(suite)[0]
    for right, seen in ((case.right, case.through_tokens),):
        assert (right.video is None) == (seen.video is None) and (right.audio is None) == (seen.audio is None)
        if right.video is not None and seen.video is not None:
            assert right.video.frames.shape == seen.video.frames.shape
        if right.audio is not None and seen.audio is not None:
            assert right.audio.samples.shape == seen.audio.samples.shape


def test_equal_seeds_give_equal_cases_and_others_do_not(world, window):
    one, same, other = (list(cases("inpainting", world, window, range(2), seed)) for seed in (0, 0, 5))
    assert [fingerprint(case) for case in one] == [fingerprint(case) for case in same]
    assert not {fingerprint(case) for case in one} & {fingerprint(case) for case in other}


def test_a_case_does_not_depend_on_those_before_it(world, window, cases_of):
    (alone,) = cases("text_to_video", world, window, range(1, 2), 0)
    assert fingerprint(alone) == fingerprint(cases_of("text_to_video")[1])


def test_a_minimal_pair_differs_in_one_word(cases_of):
    for case in cases_of("minimal_pairs", 8):
        words, others = (each.prompt.replace(",", "").split() for each in (case, case.other))
        subject, slot = case.changed
        apart = [(one, other) for one, other in zip(words, others, strict=True) if one != other]
        # "a" becomes "an" before a vowel.
        assert 1 <= len([pair for pair in apart if not set(pair) <= {"a", "an"}]) <= 1
        differing = {
            name
            for name in case.asked.subjects[subject]
            if case.asked.subjects[subject][name] != case.other.asked.subjects[subject][name]
        }
        assert differing == {slot}
        assert (case.asked.scenery, case.asked.camera) == (case.other.asked.scenery, case.other.asked.camera)


def test_an_open_prompt_names_no_colour_and_no_scenery(cases_of):
    for case in cases_of("open_prompts", 4):
        assert case.asked.subjects[0]["colour"] is None and case.asked.scenery is None
        assert case.asked.subjects[0]["motion"] == case.truth.scene.subjects[0].motion


def test_the_held_out_split_has_combinations_that_training_lacks(window):
    from videopoet.data.toybox import is_held_out

    for split, held_out in (("in", False), ("comb", True)):
        world = world_of(window, split)
        for suite in ("text_to_video", "minimal_pairs"):
            for case in cases(suite, world, window, range(3), 0):
                scenes = [case.truth.scene, *([case.other.truth.scene] if case.other else [])]
                assert {is_held_out(*one.triple) for scene in scenes for one in scene.subjects} == {held_out}


def test_an_unknown_split_or_task_is_refused(window):
    with pytest.raises(ConfigError, match="'ood'.*in, comb"):
        world_of(window, "ood")
    with pytest.raises(ConfigError, match="'text_to_vdeo'"):
        suites_of(["text_to_vdeo"])


def test_the_suites_of_all_tasks_are_all_suites():
    assert set(suites_of([*TASKS, "tokenizer"])) == set(SUITES)
    assert suites_of(["text_to_video"]) == ["text_to_video", "minimal_pairs", "open_prompts"]
    assert suites_of(["tokenizer"]) == ["tokenizer"]


def test_landings_that_are_heard_as_one_count_once(cases_of):
    for case in cases_of("video_to_audio", 6):
        times = case.truth.impacts
        assert all(later - earlier > 0.05 for earlier, later in zip(times, times[1:], strict=False))
        assert len(times) <= len(case.truth.scene.impacts)


def test_a_sound_without_a_picture_is_heard(cases_of):
    case = next(case for case in cases_of("video_to_audio", 6) if case.truth.impacts)
    heard = Take(audio=case.truth.plain.audio).heard
    assert heard is not None and len(heard) >= 1
    assert Take(video=case.truth.plain).heard is None and Take(text="a ball").reading is None
    assert torch.isfinite(torch.tensor([one.seconds for one in heard])).all()
