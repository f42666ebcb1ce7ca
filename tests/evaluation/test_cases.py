import pytest
import torch

from videopoet.evaluation.cases import Take
from videopoet.evaluation.suites import SUITES
from videopoet.generation.request import Request


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


@pytest.mark.parametrize("suite", SUITES)
def test_an_answer_that_holds_given_pixels_is_looked_at_through_the_tokenizer(cases_of, suite):
    case = cases_of(suite)[0]
    seen = case.looked_at(case.right).seen
    if suite in ("video_continuation", "inpainting", "outpainting"):
        assert seen is not None and case.through_tokens.video is not None
        assert torch.equal(seen.frames, case.through_tokens.video.frames)
    else:
        assert seen is None


def test_what_is_looked_at_is_what_the_oracle_reads(cases_of):
    case = cases_of("video_continuation")[0]
    truth, ceiling = case.right.video, case.through_tokens.video
    plain, looked_at = Take(video=truth).reading, Take(video=ceiling, seen=truth).reading
    assert plain is not None and looked_at is not None
    assert looked_at.reason == plain.reason and looked_at.camera == plain.camera
    assert torch.equal(looked_at.subjects[0].track.nan_to_num(-1), plain.subjects[0].track.nan_to_num(-1))


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
