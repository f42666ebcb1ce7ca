"""Looking at what is given before it is made: the same words as making it would end in, and no others."""

import pytest

from videopoet.errors import VideoPoetError
from videopoet.generation.examination import examine
from videopoet.generation.request import Request
from videopoet.generation.window import Window
from videopoet.media.types import Image
from videopoet.sequence.tasks import TASKS


@pytest.fixture
def unfit(random_clip, random_sound, random_picture):
    """Requests that fit the task table, and cannot be made of what they are given."""
    clip, short = random_clip(), random_clip(num_frames=4)
    white = Image(random_picture().frame * 0 + 255)
    return {
        "a length off the grid": Request(task="text_to_video", prompt="a ball", num_frames=8),
        "a continuation off its own grid": Request(task="video_continuation", video=clip, num_frames=9),
        "too little to go on from": Request(task="video_continuation", video=short),
        "too long a sound": Request(task="text_to_audio", prompt="a ball", seconds=20.0),
        "too little sound": Request(
            task="audio_video_continuation", image=random_picture(), audio=random_sound(seconds=0.1)
        ),
        "more frames than the clip has": Request(task="inpainting", video=short, num_frames=9),
        "a start after the end": Request(task="video_captioning", video=clip, start=9.0),
        "a sound that ends before": Request(task="audio_to_video", audio=random_sound(), start=9.0),
        "a box beyond the clip": Request(task="inpainting", video=clip, box=(4, 4, 30, 8)),
        "a mask that hides all": Request(task="inpainting", video=clip, mask=white),
        "a mask of another shape": Request(task="inpainting", video=clip, mask=random_picture(16, 64)),
        "a file that is not there": Request(task="image_to_video", image="nowhere.png"),
        "a mask that is not there": Request(task="outpainting", video=clip, mask="nowhere.png"),
    }


def ending(call):
    try:
        call()
    except VideoPoetError as error:
        return type(error), error.code, str(error)
    return None


def test_what_is_refused_is_what_making_it_would_end_in(poet, unfit):
    for name, request in unfit.items():
        wanted = ending(lambda request=request: poet(request))
        found = ending(lambda request=request: examine(request, Window(poet.parts), poet.parts.settings.tasks))
        assert wanted is not None and found == wanted, name


@pytest.mark.parametrize("task", list(TASKS))
def test_what_can_be_made_passes(poet, given, task):
    examine(Request(task=task, **given(TASKS[task])), Window(poet.parts), poet.parts.settings.tasks)


def test_a_picture_to_be_captioned_passes(poet, random_picture, tmp_path):
    random_picture().save(tmp_path / "picture.png")
    examine(Request(task="video_captioning", video=tmp_path / "picture.png"), Window(poet.parts), TASKS)


def test_a_model_that_cannot_go_on_is_asked_for_one_window_at_most(make_poet):
    poet = make_poet(tasks=("text_to_video",))
    request = Request(task="text_to_video", prompt="a red ball", num_frames=33)
    found = ending(lambda: examine(request, Window(poet.parts), poet.parts.settings.tasks))
    assert found == ending(lambda: poet(request)) and "33 frames" in found[2]
