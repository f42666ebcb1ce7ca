import importlib.util
import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

spec = importlib.util.spec_from_file_location("poets", Path(__file__).parents[1] / "generation" / "conftest.py")
poets = importlib.util.module_from_spec(spec)
spec.loader.exec_module(poets)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("growth") / "poet"
    poets.make_poet().save_pretrained(place)
    return str(place)


@pytest.fixture
def growth(benchmark):
    return benchmark("growth")


@pytest.mark.parametrize(("series", "value"), [("frames", 20), ("batch", 2), ("size", 24), ("tokenizer", 24)])
def test_a_point_of_each_series_is_measured(growth, folder, series, value):
    point = json.loads(growth.measure(series, value, folder))
    assert (point["question"], point["series"], point["value"], point["model"]) == ("growth", series, value, folder)
    assert point["seconds"] > 0 and point["processor_seconds"] > 0
    assert point["peak_mb"] >= point["before_mb"] > 1
    assert point["machine"]["torch"]


def point(series, value, seconds, memory):
    return json.dumps({"series": series, "value": value, "processor_seconds": seconds, "peak_mb": memory})


def test_of_equal_points_the_latest_counts(growth):
    lines = [point("frames", 65, 9, 500), point("frames", 17, 2, 400), point("frames", 65, 8, 510)]
    found = growth.latest(lines)
    assert [(each["value"], each["processor_seconds"]) for each in found["frames"]] == [(17, 2), (65, 8)]
    assert found["batch"] == []


def test_what_was_measured_is_drawn_from_zero_within_the_picture(growth):
    lines = [point("frames", 17, 2, 400), point("frames", 34, 4, 400), point("batch", 1, 3, 700)]
    picture = ElementTree.fromstring(growth.drawn(growth.latest(lines)))
    space = "{http://www.w3.org/2000/svg}"
    width, height = int(picture.get("width")), int(picture.get("height"))
    assert height == 2 * growth.HEIGHT, "a row for each series that has points"
    dots = [(float(dot.get("cx")), float(dot.get("cy"))) for dot in picture.iter(f"{space}circle")]
    assert len(dots) == 2 * len(lines)
    assert all(0 < x < width and 0 < y < height for x, y in dots)
    bottom = growth.HEIGHT - growth.MARGIN
    (_, half), (_, whole), (_, first), (_, second) = dots[:4]
    assert bottom - whole == pytest.approx(2 * (bottom - half))
    assert first == second < bottom, "memory is flat"
    said = {text.text for text in picture.iter(f"{space}text")}
    assert {"17", "34", "700"} <= said
