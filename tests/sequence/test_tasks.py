import subprocess
import sys

import pytest
import torch

from videopoet.errors import TaskError
from videopoet.sequence.conditions import audio, image, text, video
from videopoet.sequence.tasks import TASKS, find_task


def test_the_table_has_every_task_of_the_paper_and_captioning():
    assert set(TASKS) == {
        *("text_to_video", "text_to_image", "unconditional", "image_to_video", "video_continuation", "inpainting"),
        *("outpainting", "stylization", "video_to_audio", "audio_to_video", "text_to_audio"),
        *("audio_video_continuation", "video_captioning"),
    }


def test_a_task_says_what_a_user_must_and_may_give():
    assert TASKS["text_to_video"].requires == ("prompt",)
    assert TASKS["image_to_video"].requires == ("image",)
    assert TASKS["image_to_video"].optional == ("prompt",)
    assert TASKS["inpainting"].takes == ("video", "prompt", "mask", "box")
    assert TASKS["stylization"].takes == ("prompt", "video", "depth", "depth_model")
    assert TASKS["audio_video_continuation"].takes == ("image", "audio")
    assert TASKS["unconditional"].takes == ()
    assert TASKS["text_to_image"].gives == ("image",)
    assert TASKS["audio_video_continuation"].gives == ("video", "audio")
    assert TASKS["video_captioning"].gives == ("text",)


def test_what_is_given_beside_words_and_a_beginning_says_how_long_a_clip_is():
    of_any_length = {"text_to_video", "unconditional", "image_to_video", "video_continuation"}
    assert {name for name, task in TASKS.items() if task.any_length} == of_any_length


def test_tasks_with_the_same_kind_of_output_share_a_task_token():
    shared = ("text_to_video", "text_to_image", "image_to_video", "unconditional", "video_continuation")
    assert {TASKS[name].task_token for name in shared} == {"<task:video>"}
    assert TASKS["inpainting"].task_token != TASKS["outpainting"].task_token


def test_an_unknown_task_names_the_closest():
    with pytest.raises(TaskError, match="text_to_video") as raised:
        find_task("text2video")
    assert raised.value.code == "task_unknown"
    with pytest.raises(TaskError, match="video_captioning"):
        find_task("q")


def test_a_view_shows_its_part_of_the_codes():
    codes = torch.arange(5 * 2 * 2).view(5, 2, 2)
    assert torch.equal(video.of(codes), codes)
    assert torch.equal(image.of(codes), codes[:1])
    assert torch.equal(video.first_half().of(codes), codes[:3])
    assert torch.equal(video.first_half().of(codes[None]), codes[None, :3])
    assert audio.first_half().of(torch.zeros(4, 106)).shape == (4, 53)
    assert text.of(torch.arange(3)).shape == (3,)


def test_the_table_is_read_without_torch():
    program = "import sys, videopoet.sequence.tasks; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
