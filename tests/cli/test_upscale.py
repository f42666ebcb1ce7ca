import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from videopoet import cli
from videopoet.media.types import Audio, Image, Video


class FakePoet:
    """Stands for the model: remembers what was asked of it."""

    def __init__(self):
        self.asked = []
        self.made = None

    def from_pretrained(self, model=None, device=None):
        self.asked.append((model, device))
        return self

    def upscale(self, media, factor, **given):
        self.asked.append((media, factor, given))
        return SimpleNamespace(media=self.made, metadata={"upscale": factor}, save=self.save)

    def save(self, path, metadata=True):
        Path(path).write_text(f"metadata={metadata}")


@pytest.fixture
def poet(stand_in):
    return stand_in(FakePoet())


def test_what_is_given_reaches_the_model_and_nothing_else(poet):
    assert cli.run(["upscale", "clip.mp4", "-o", "big.mp4", "--seed", "3"]) == 0
    assert poet.asked == [(None, None), (Path("clip.mp4"), 2, {"prompt": None, "start": None, "seed": 3})]
    arguments = ["--factor", "4", "--prompt", "a ball", "--num_steps", "6", "--text-guidance", "2.5", "--model", "mine"]
    arguments += ["--start", "1.5"]
    assert cli.run(["upscale", "clip.mp4", "-o", "big.mp4", "--seed", "3", "--no-metadata", *arguments]) == 0
    assert poet.asked[2] == ("mine", None)
    given = {"prompt": "a ball", "start": 1.5, "seed": 3, "num_steps": 6, "text_guidance": 2.5}
    assert poet.asked[3][1:] == (4, given)
    assert Path("big.mp4").read_text() == "metadata=False"


def test_a_picture_is_read_as_one(poet, capsys):
    Image(torch.zeros(3, 8, 12, dtype=torch.uint8)).save("small.png")
    assert cli.run(["upscale", "small.png", "-o", "big.png", "--json"]) == 0
    assert isinstance(poet.asked[1][0], Image) and poet.asked[1][0].width == 12
    answer = json.loads(capsys.readouterr().out)
    assert answer["output"] == "big.png" and answer["seed"] == poet.asked[1][2]["seed"]


def test_a_clip_becomes_the_picture_of_its_first_frame(poet):
    frames = torch.full((3, 4, 8, 12), 200, dtype=torch.uint8)
    frames[:, 0] = 40
    for name in ("clip.mkv", "clip.gif"):
        Video(frames, 8.0).save(name)
        assert cli.run(["upscale", name, "-o", "big.png"]) == 0
        picture = poet.asked[-1][0]
        assert isinstance(picture, Image) and (picture.frame.int() - 40).abs().max() <= 2


def test_the_picture_of_a_clip_is_of_the_frame_at_start(poet, capsys):
    frames = torch.full((3, 4, 8, 12), 40, dtype=torch.uint8)
    frames[:, 2] = 200
    Video(frames, 8.0).save("clip.mkv")
    assert cli.run(["upscale", "clip.mkv", "-o", "big.png", "--start", "0.25"]) == 0
    picture, _, given = poet.asked[-1]
    assert (picture.frame.int() - 200).abs().max() <= 2 and given["start"] is None
    for start, said, code in (("2", "ends after 0.50 s", 3), ("-1", "start is -1.0; it must be from 0 to 1e+06", 2)):
        assert cli.run(["upscale", "clip.mkv", "-o", "big.png", "--start", start]) == code
        assert said in capsys.readouterr().err
    picture.save("small.png")  # a picture has no later moment, which the model says
    assert cli.run(["upscale", "small.png", "-o", "big.png", "--start", "1"]) == 0
    assert poet.asked[-1][2]["start"] == 1


def test_a_gif_loses_the_sound_and_says_so(poet, capsys):
    poet.made = Video(torch.zeros(3, 2, 8, 8, dtype=torch.uint8), 8.0, Audio(torch.zeros(1, 8), 16))
    assert cli.run(["upscale", "clip.mp4", "-o", "big.gif"]) == 0
    assert "a .gif holds no sound" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["clip.mp4"], "--output"),
        (["clip.mp4", "-o", "big.wav"], "'.wav'"),
        (["clip.mp4", "-o", "."], "is a folder"),
        (["clip.mp4", "-o", "./clip.mp4"], "output 'clip.mp4' is the input"),
    ],
)
def test_an_output_that_could_not_be_written_is_refused_before_the_model_is_read(poet, capsys, arguments, said):
    Path("clip.mp4").touch()
    assert cli.run(["upscale", *arguments]) == 2
    assert said in capsys.readouterr().err and not poet.asked
