import importlib.util

import pytest

from videopoet.generation.window import Window
from videopoet.sequence.tasks import TASKS


@pytest.fixture
def sample_sheet(benchmark):
    return benchmark("sample_sheet")


@pytest.fixture(scope="module")
def poet(root):
    spec = importlib.util.spec_from_file_location("poets", root / "tests" / "generation" / "conftest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.make_poet(height=32, width=32)


def test_every_task_has_its_place_in_a_picture_as_long_as_a_clip(sample_sheet, poet):
    window = Window(poet.parts)
    frames = sample_sheet.task_frames(poet, window)
    assert len(frames) == window.num_frames
    rows = -(-len(TASKS) // sample_sheet.COLUMNS)
    assert frames[0].height > rows * (sample_sheet.SIDE + sample_sheet.STRIP)
    assert frames[0].tobytes() != frames[-1].tobytes(), "it moves"


def test_the_sheet_shows_the_same_prompts_whoever_is_asked(sample_sheet, poet):
    window = Window(poet.parts)
    two, four = (sample_sheet.prompt_sheet(poet, window, count) for count in (2, 4))
    assert four.width == two.width and four.height > two.height
    line = (0, 0, two.width, sample_sheet.GAP + sample_sheet.LINE)
    assert four.crop(line).tobytes() == two.crop(line).tobytes()
