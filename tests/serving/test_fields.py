"""HTTP, storyboards and models' settings take the numbers that a request takes: their limits stand in one place."""

from typing import Any

import pytest

from videopoet.errors import TaskError, VideoPoetError
from videopoet.generation.request import RANGES, Request, TaskSampling
from videopoet.generation.storyboard import Scene, Storyboard
from videopoet.serving.fields import limits, parse


@pytest.mark.parametrize("name", RANGES)
def test_http_takes_and_refuses_the_numbers_that_python_does(name):
    least, most = RANGES[name].least, RANGES[name].most
    assert limits(name) == (least, most)
    assert parse({name: least}, {}).fields[name] == least and parse({name: most}, {}).fields[name] == most
    for value in (least - 1, most + 1):
        values: dict[str, Any] = {name: value}
        with pytest.raises(TaskError, match="must be from") as over_http:
            parse(values, {})
        with pytest.raises(TaskError, match="must be from") as in_python:
            Request(task="text_to_video", **values)
        assert over_http.value.code == in_python.value.code == "range"


@pytest.mark.parametrize(
    ("model", "name"),
    [(model, name) for model in (Scene, Storyboard, TaskSampling) for name in RANGES if name in model.model_fields],
)
def test_storyboards_and_settings_take_and_refuse_the_same(model, name):
    def made(value):
        if model is TaskSampling:
            return TaskSampling(**{name: value})
        if model is Scene:
            return Storyboard.of({"scenes": [{"prompt": "a ball", name: value}], "transition": "cut"}).scenes[0]
        return Storyboard.of({"scenes": [{"prompt": "a ball"}], name: value})

    least, most = RANGES[name].least, RANGES[name].most
    assert getattr(made(least), name) == least and getattr(made(most), name) == most
    for value in (least - 1, most + 1):
        with pytest.raises(VideoPoetError, match=name):
            made(value)
