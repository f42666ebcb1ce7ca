"""`generate --preview`: what there is of a result, on disk while it is made."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import videopoet
from videopoet import cli
from videopoet.cli import preview
from videopoet.cli.preview import Preview, film_strip
from videopoet.generation.early_frames import Frames
from videopoet.media.files import read_image, read_video


def grey(first, *values, side=100, **others):
    """Frames that are each of one grey, from the index `first` on."""
    frames = torch.tensor(values, dtype=torch.uint8)[None, :, None, None].expand(3, len(values), side, side)
    return Frames(first, frames, 8.0, **others)


def greys(path):
    """The grey of each frame of an animation."""
    return read_video(path).frames[0, :, 5, 5].tolist()


class FakePoet:
    """Stands for the model: shows three pieces of a clip, and notes which previews there are after each."""

    pieces = (grey(0, 10), grey(1, 20, 30, 40, 50), grey(5, 60, 70, 80, 90))

    def __init__(self):
        self.found, self.error = [], None

    def from_pretrained(self, model=None, device=None):
        return self

    def generate(self, task, on_frames=None, **given):
        for piece in self.pieces:
            if on_frames is not None:
                on_frames(piece)
            self.found.append({str(path): path.stat().st_size for path in Path().rglob("*") if path.is_file()})
        if self.error is not None:
            raise self.error
        return SimpleNamespace(media=None, metadata={}, warnings=(), seed=1, save=self.save)

    def variations(self, task, count, on_frames=None, **given):
        for number in range(count):
            for piece in self.pieces:
                on_frames(number, piece)
        return [self.generate(task) for _ in range(count)]

    def save(self, path, metadata=True):
        Path(path).write_text("clip")


@pytest.fixture
def poet(monkeypatch, tmp_path):
    fake = FakePoet()
    monkeypatch.setitem(vars(videopoet), "VideoPoet", fake)
    monkeypatch.setattr(preview, "MOST_SHARE", 1.0)  # each piece is written, however long that takes
    monkeypatch.chdir(tmp_path)
    return fake


def run(*arguments):
    return cli.run(["generate", "a red ball", "-o", "ball.mp4", *arguments])


def test_an_animation_grows_while_the_clip_is_made(poet, capsys):
    assert run("--preview", "ball.gif", "--json") == 0
    sizes = [found["ball.gif"] for found in poet.found]
    assert sizes[0] < sizes[1] < sizes[2]
    assert greys("ball.gif") == [10, 20, 30, 40, 50, 60, 70, 80, 90]
    assert read_video("ball.gif").frame_rate == 8.0
    assert json.loads(capsys.readouterr().out)["preview"] == "ball.gif"


def test_a_picture_has_a_row_of_frames_for_each_second(poet):
    assert run("--preview", "ball.png") == 0
    strip = read_image("ball.png").frame
    assert strip.shape == (3, 200, 800)
    assert strip[0, 50, 50::100].tolist() == [10, 20, 30, 40, 50, 60, 70, 80]
    assert strip[0, 150, 50::100].tolist() == [90] + 7 * [0]


def test_a_folder_gets_each_frame_as_it_comes(poet):
    assert run("--preview", "frames") == 0
    assert [len(found) for found in poet.found] == [1, 5, 9]
    files = sorted(Path("frames").iterdir())
    assert [file.name for file in files] == [f"frame-{index:05d}.png" for index in range(9)]
    assert [int(read_image(file).frame[0, 0, 0]) for file in files] == [10, 20, 30, 40, 50, 60, 70, 80, 90]


def test_nothing_is_left_beside_a_file_that_grows(poet):
    run("--preview", "ball.gif")
    assert [set(found) for found in poet.found] == [{"ball.gif"}] * 3


def test_what_is_interrupted_leaves_its_preview(poet, capsys):
    poet.error = KeyboardInterrupt()
    assert run("--preview", "ball.gif") == 130
    assert greys("ball.gif") == [10, 20, 30, 40, 50, 60, 70, 80, 90] and not Path("ball.mp4").exists()


def test_each_of_several_results_has_a_preview_of_its_own(poet):
    assert run("--count", "2", "--preview", "ball.gif") == 0
    assert [len(greys(f"ball-{number}.gif")) for number in (1, 2)] == [9, 9]
    assert run("--count", "2", "--preview", "frames") == 0
    assert len(list(Path("frames/1").iterdir())) == len(list(Path("frames/2").iterdir())) == 9


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--preview", "ball.mp4"], ".gif and .png fit"),
        (["--preview", "full"], "an empty or a new one"),
        (["--preview", "ball.gif", "--task", "text-to-audio"], "leave out --preview"),
        (["--preview", "full/other.txt/frames"], "is a file"),
    ],
)
def test_a_preview_that_does_not_fit_is_refused_before_any_work(poet, capsys, arguments, said):
    Path("full").mkdir()
    Path("full/other.txt").touch()
    assert cli.run(["generate", "a red ball", *arguments]) != 0
    assert said in capsys.readouterr().err
    assert poet.found == [] and sorted(map(str, Path().rglob("*"))) == ["full", "full/other.txt"]


def test_upscaled_frames_take_the_place_of_drafts(tmp_path):
    shown = Preview(tmp_path / "ball.gif")
    for piece in (grey(0, 10, draft=True), grey(1, 20, 30, draft=True), grey(0, 11, 21, 31, side=200)):
        shown.show(piece)
    shown.finish()
    assert greys(shown.path) == [11, 21, 31] and read_video(shown.path).width == 200


def test_a_file_is_not_written_so_often_that_it_holds_up_the_work(tmp_path, monkeypatch):
    clock, written = [0.0], []
    monkeypatch.setattr(preview, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(preview.Video, "save", lambda video, path: (written.append(video.num_frames), tick(1.0)))

    def tick(seconds):
        clock[0] += seconds

    shown = Preview(tmp_path / "ball.gif")
    for index in range(10):
        shown.show(grey(index, 10))
        tick(1.0)
    assert written == [1, 5, 9]  # one second of five
    shown.finish()
    shown.finish()
    assert written == [1, 5, 9, 10]


def test_small_frames_are_enlarged_and_large_ones_shrunk(tmp_path):
    assert film_strip(grey(0, 1, 2, 3, side=16).frames, per_row=2).shape == (3, 192, 192)
    shown = Preview(tmp_path / "ball.png")
    shown.show(grey(0, 1, 2, side=1024))
    assert read_image(shown.path).frame.shape == (3, 256, 512)
