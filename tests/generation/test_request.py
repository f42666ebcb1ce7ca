from pathlib import Path

import pytest
import torch

from videopoet.errors import ConfigError, TaskError
from videopoet.generation.request import Request, Settings
from videopoet.sequence.cameras import CAMERA_MOVES
from videopoet.sequence.tasks import TASKS

every_task = pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))


@every_task
def test_a_task_takes_what_the_table_says(task, given):
    Request(task=task.name, **given(task))


@every_task
def test_what_a_task_requires_is_missed(task, given):
    for name in task.requires:
        rest = {key: value for key, value in given(task).items() if key not in (name, "structure")}
        with pytest.raises(TaskError, match=name) as caught:
            Request(task=task.name, **rest)
        assert caught.value.code == ("prompt_required" if name == "prompt" else "input_missing")


@every_task
def test_what_a_task_has_no_place_for_is_refused(task, given, materials):
    for name in materials.keys() - {*task.takes, "structure"}:
        with pytest.raises(TaskError, match=f"{name}.*no place for it") as caught:
            Request(task=task.name, **given(task), **{name: materials[name]})
        assert caught.value.code == "input_unexpected"


@pytest.mark.parametrize(
    ("field", "values", "code"),
    [
        ("start", [-1.0, float("nan"), 1e9], "range"),
        ("start", ["0:30", True], "type"),
        ("num_frames", [0, -1, 2**31, 10**12], "range"),
        ("num_frames", [1.5, "8", True], "type"),
        ("seconds", [0, -1.0, 61.0, float("nan"), float("inf")], "range"),
        ("seconds", ["4"], "type"),
        ("height", [0, -64, 100_000], "range"),
        ("width", [64.0, "64"], "type"),
        ("seed", [-1, 2**64], "range"),
        ("seed", ["x", 1.0], "type"),
        ("temperature", [-1, float("nan"), 1e9], "range"),
        ("top_k", [0, -5, 10**9], "range"),
        ("top_p", [0, 1.1, float("nan")], "range"),
        ("guidance_scale", [-1, float("nan"), 1e6], "range"),
        ("prompt", [5, ["a"], {"a": 1}, b"a"], "type"),
        ("sound", [1], "type"),
    ],
)
def test_a_bad_value_is_named_with_what_fits(field, values, code):
    for value in values:
        with pytest.raises(TaskError) as caught:
            Request(**({"task": "text_to_video", "prompt": "a red ball"} | {field: value}))
        assert caught.value.code == code
        assert field in str(caught.value) and str(value)[:20] in str(caught.value).replace("\\", "")
        assert str(caught.value).count(";") == 2


@pytest.mark.parametrize(
    ("task", "values", "code", "said"),
    [
        ("text_to_vdeo", {}, "task_unknown", "text_to_video"),
        ("text_to_video", {"prompt": "a" * 2001}, "prompt_too_long", "2001 characters; the most is 2000"),
        ("text_to_video", {"prompt": "a", "negative_prompt": "a" * 2001}, "prompt_too_long", "negative prompt"),
        ("text_to_video", {"prompt": "a", "seconds": 1.0, "num_frames": 9}, "input_unexpected", "given twice"),
        (
            "text_to_video",
            {"prompt": "a", "negative_prompt": "b", "guidance_scale": 1},
            "input_unexpected",
            "no guidance",
        ),
        ("unconditional", {"guidance_scale": 2.0}, "input_unexpected", "without a prompt"),
        ("unconditional", {"negative_prompt": "a"}, "input_unexpected", "no place"),
        ("image_to_video", {"image": "a.png", "negative_prompt": "a"}, "input_unexpected", "without a prompt"),
        ("text_to_image", {"prompt": "a", "num_frames": 5}, "input_unexpected", "num_frames"),
        ("text_to_audio", {"prompt": "a", "height": 64}, "input_unexpected", "height"),
        ("video_to_audio", {"video": "a.mp4", "seconds": 1.0}, "input_unexpected", "seconds"),
        ("audio_to_video", {"audio": "a.wav", "seconds": 1.0}, "input_unexpected", "seconds"),
        ("image_to_video", {"image": "a.png", "start": 1.0}, "input_unexpected", "no clip or sound to begin in"),
        ("inpainting", {"video": "a.mp4", "mask": "centre"}, "mask_unknown", "central"),
        ("image_to_video", {"image": 3}, "type", "a path or an Image"),
        ("inpainting", {"video": "a.mp4", "mask": 3}, "type", "a path, an Image or a Video"),
        ("inpainting", {"video": "a.mp4", "mask": "central", "box": (0, 0, 1, 1)}, "input_unexpected", "mask and box"),
        ("inpainting", {"video": "a.mp4", "box": 5}, "type", "four numbers"),
        ("text_to_video", {"prompt": "a", "box": (0, 0, 1, 1)}, "input_unexpected", "no place"),
        ("inpainting", {"video": "a.mp4", "depth": "a.png"}, "input_unexpected", "no place"),
        ("stylization", {"prompt": "a", "depth": "a.png"}, "input_missing", "video"),
        (
            "stylization",
            {"prompt": "a", "video": "a.mp4", "depth": "a.png", "depth_model": "b"},
            "input_unexpected",
            "depth and depth_model",
        ),
        (
            "stylization",
            {"prompt": "a", "video": "a.mp4", "structure": torch.zeros(3, 1, 16, 16)},
            "input_unexpected",
            "structure and video",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused(task, values, code, said):
    with pytest.raises(TaskError, match=said) as caught:
        Request(task=task, **values)
    assert caught.value.code == code


def test_an_unknown_field_is_refused():
    with pytest.raises(TypeError, match="callback"):
        Request(task="text_to_video", prompt="a", callback="http://example.org")


def test_a_long_value_is_not_repeated_whole():
    with pytest.raises(TaskError) as caught:
        Request(task="unconditional", prompt="a" * 1000)
    assert len(str(caught.value)) < 250


def test_settings_fill_in_what_a_request_leaves_open():
    settings = Settings(height=32, width=64, temperature=0.5, top_k=7, top_p=0.8, guidance_scale=4.0)
    completed = Request(task="text_to_video", prompt="a", top_p=0.9).completed(settings)
    assert (completed.height, completed.width) == (32, 64)
    sampling = completed.sampling
    assert (sampling.temperature, sampling.top_k, sampling.top_p, sampling.guidance_scale) == (0.5, 7, 0.9, 4.0)


def test_a_task_may_choose_in_its_own_way_unless_a_request_says_otherwise():
    own = {"image_to_video": {"temperature": 0.3, "guidance_scale": 1.5}}
    settings = Settings.from_dict({"temperature": 0.5, "top_p": 0.8, "guidance_scale": 4.0, "task_sampling": own})

    def chosen(**given):
        sampling = Request(image="a.png", **given).completed(settings).sampling
        return sampling.temperature, sampling.top_p, sampling.guidance_scale

    assert chosen(task="image_to_video", prompt="a") == (0.3, 0.8, 1.5)
    assert chosen(task="image_to_video") == (0.3, 0.8, 1.0)
    assert chosen(task="image_to_video", prompt="a", temperature=0.7, guidance_scale=2.0) == (0.7, 0.8, 2.0)
    other = Request(task="text_to_video", prompt="a").completed(settings).sampling
    assert (other.temperature, other.guidance_scale) == (0.5, 4.0)


@pytest.mark.parametrize("own", [{"video_captionning": {}}, {"inpainting": {"temperature": -1}}])
def test_a_way_to_choose_that_no_task_could_take_is_refused(own):
    with pytest.raises(ConfigError, match="no task 'video_captionning'|temperature"):
        Settings(task_sampling=own)


def test_a_caption_is_the_likeliest_one():
    assert Request(task="video_captioning", video="a.mp4").completed(Settings()).sampling.temperature == 0


@every_task
def test_without_a_prompt_there_is_no_guidance(task, given):
    values = {name: value for name, value in given(task).items() if name != "prompt"}
    if "prompt" in task.requires:
        return
    assert Request(task=task.name, **values).completed(Settings()).sampling.guidance_scale == 1.0


def test_structure_stands_in_for_the_clip():
    Request(task="stylization", prompt="a", structure=torch.zeros(3, 17, 16, 16))
    with pytest.raises(TaskError, match="video"):
        Request(task="stylization", prompt="a")


# Camera moves


def test_a_camera_move_is_added_to_the_prompt_or_is_the_prompt():
    def words(**given):
        return Request(task="image_to_video", image="a.png", **given).words

    assert words(prompt="a red ball", camera="zoom in") == "a red ball, zoom in"
    assert words(prompt="a red ball, zoom in", camera="zoom in") == "a red ball, zoom in"
    assert words(camera="zoom in") == "zoom in"
    assert words(prompt="a red ball") == "a red ball"
    assert words() is None
    assert words(prompt=" ", camera="zoom in") == " "


@pytest.mark.parametrize(("written", "move"), [("Zoom In", "zoom in"), ("FPV", "fpv shot"), ("arc_shot", "arc shot")])
def test_a_camera_move_may_be_written_otherwise(written, move):
    assert Request(task="text_to_video", prompt="a ball", camera=written).camera == move


def test_an_unknown_camera_move_is_refused_and_the_known_ones_are_named():
    with pytest.raises(TaskError, match="'spin'.*pan left.*dolly zoom.*fpv shot") as caught:
        Request(task="text_to_video", prompt="a ball", camera="spin")
    assert caught.value.code == "camera_unknown"


@pytest.mark.parametrize("task", ["text_to_image", "text_to_audio", "unconditional"])
def test_a_camera_has_no_place_where_no_clip_follows_words(task):
    with pytest.raises(TaskError, match="camera") as caught:
        Request(task=task, camera="zoom in", **({"prompt": "a ball"} if "text" in task else {}))
    assert caught.value.code == "input_unexpected"


def test_the_toy_box_moves_its_camera_by_the_same_words():
    from videopoet.data.toybox_world import CAMERAS

    assert CAMERAS == ("still", *CAMERA_MOVES)


@pytest.mark.parametrize(
    ("box", "said"),
    [
        ((0, 0, 1), "not four numbers"),
        ((0, 0, 1, "1"), "not four numbers"),
        ((0, 0, True, 1), "not four numbers"),
        ((0, 0, float("nan"), 1), "not four numbers"),
        ((0, 0, float("inf"), 1), "not four numbers"),
        ((-0.1, 0, 1, 1), "not four numbers from 0 on"),
        ((0.5, 0, 0.5, 1), "empty"),
        ((0, 0.7, 1, 0.2), "empty"),
        ((0, 0, 0, 0), "empty"),
        ((0.5, 0, 30, 40), "not whole numbers"),
    ],
)
@pytest.mark.parametrize("task", ["inpainting", "outpainting"])
def test_a_box_that_is_none_is_refused(task, box, said):
    with pytest.raises(TaskError, match=said) as caught:
        Request(task=task, video="a.mp4", box=box)
    assert caught.value.code == "box_invalid"
    assert str(caught.value).count(";") == 2


@pytest.mark.parametrize("box", [(0, 0, 1, 1), [0.25, 0, 0.75, 1.0], (10, 20, 30, 40), (0.0, 0.0, 64.0, 32.0)])
def test_a_box_is_in_shares_or_in_pixels(box):
    Request(task="inpainting", video="a.mp4", box=box)


@pytest.mark.parametrize("mask", ["central", "mask.png", "folder/mask.mp4", Path("mask")])
def test_a_mask_is_a_region_or_a_file(mask):
    Request(task="inpainting", video="a.mp4", mask=mask)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"seed": 2**64}, "from 0 to 18446744073709551615;"),
        ({"top_p": 1.5}, "from 1e-06 to 1;"),
        ({"seconds": 1e5}, "from 0.001 to 60;"),
        ({"video": Path("clip.mp4")}, "video ('clip.mp4')"),
    ],
)
def test_what_is_refused_is_named_as_it_was_given_and_limits_as_they_are(given, said):
    with pytest.raises(TaskError) as caught:
        Request(task="text_to_video", prompt="a ball", **given)
    assert said in str(caught.value)
