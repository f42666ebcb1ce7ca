import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from videopoet import cli
from videopoet.media.types import Audio, Image, Video


class FakePoet:
    """Stands for the model: remembers what was asked of it, and gives a picture, a clip or a caption for each step."""

    def __init__(self):
        self.asked = []

    def from_pretrained(self, model=None, **options):
        return self

    def chain(self, steps, *, seed, on_result):
        self.asked.append((steps, seed))
        results = []
        for index, step in enumerate(steps):
            media = {
                "text_to_image": Image(torch.zeros(3, 8, 8, dtype=torch.uint8)),
                "video_captioning": "a red ball",
            }.get(step["task"], Video(torch.zeros(3, 1, 8, 8, dtype=torch.uint8), 8.0, Audio(torch.zeros(1, 8), 64)))
            results.append(
                SimpleNamespace(media=media, metadata={"task": step["task"]}, warnings=("w",), save=self.save)
            )
            on_result(index, results[-1])
        return results

    def save(self, path, metadata=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"metadata={metadata}")


@pytest.fixture
def poet(stand_in):
    return stand_in(FakePoet())


def test_steps_are_written_as_words(poet, capsys):
    first = "text-to-video prompt='a red ball, zoom in' seconds=2 --top-k=5 sound=false"
    second = "outpainting box=0.2,0.2,0.8,0.8 mask=a.png start=1.5"
    assert cli.run(["chain", "--step", first, "--step", second, "--seed", "4"]) == 0
    steps, seed = poet.asked[0]
    assert seed == 4
    assert steps[0] == {
        "task": "text-to-video",
        "prompt": "a red ball, zoom in",
        "seconds": 2.0,
        "top_k": 5,
        "sound": False,
    }
    assert steps[1] == {"task": "outpainting", "box": (0.2, 0.2, 0.8, 0.8), "mask": "a.png", "start": 1.5}
    captured = capsys.readouterr()
    assert captured.out == "outputs/chain-4.mp4\n" and Path("outputs/chain-4.mp4").exists()
    assert captured.err.splitlines() == ["videopoet: warning: step 1: w", "videopoet: warning: step 2: w"]


def test_all_results_are_kept_on_request(poet, capsys):
    steps = [{"task": "text_to_image", "prompt": "a"}, {"task": "image_to_video"}, {"task": "video_captioning"}]
    Path("chain.json").write_text(json.dumps(steps))
    assert cli.run(["chain", "chain.json", "--keep", "kept", "--no-metadata", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["kept"] == ["kept/1-text_to_image.png", "kept/2-image_to_video.mp4", "kept/3-video_captioning.txt"]
    assert all(Path(file).read_text() == "metadata=False" for file in answer["kept"])
    assert answer["text"] == "a red ball" and answer["output"] is None
    assert poet.asked[0][0] == steps


def test_a_gif_loses_the_sound_of_the_last_clip_and_says_so(poet, capsys):
    assert cli.run(["chain", "--step", "text_to_video prompt=a", "-o", "a.gif"]) == 0
    assert "warning: a .gif holds no sound" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["chain"], "no steps are given"),
        (["chain", "chain.json", "--step", "outpainting"], "given twice"),
        (["chain", "none.json"], "'none.json' cannot be read"),
        (["chain", "--step", "text_to_video prompt='a"], "quotes"),
        (["chain", "--step", "text_to_video a"], "'a' in the step"),
        (["chain", "--step", "text_to_vdeo"], "text_to_video"),
        (["chain", "--step", "text_to_image prompt=a", "-o", "a.mp4"], "'.mp4'; .png"),
        (["chain", "--step", "text_to_video prompt=a", "--keep", "note.txt"], "is a file"),
        (["chain", "--step", "outpainting video=own.mp4", "-o", "own.mp4"], "output 'own.mp4' is the input"),
        (["chain", "--step=inpainting mask=own.mp4 video=a.mp4", "--step=outpainting", "-o", "own.mp4"], "the input"),
        (["chain", "steps.txt", "-o", "steps.txt"], "output 'steps.txt' is the input"),
        (
            ["chain", "--step", "image-to-video image=a.png", "--step=outpainting video=2-outpainting.mp4", "--keep=."],
            "kept result '2-outpainting.mp4' is the input",
        ),
    ],
)
def test_a_chain_that_cannot_be_run_is_one_line(poet, capsys, arguments, said):
    Path("note.txt").touch()
    Path("chain.json").write_text("[]")
    Path("steps.txt").write_text('[{"task": "video_captioning", "video": "a.mp4"}]')
    for name in ("own.mp4", "2-outpainting.mp4"):
        Path(name).touch()
    assert cli.run(arguments) == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert said in line
    assert poet.asked == []
