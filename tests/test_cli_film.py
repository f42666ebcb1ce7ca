import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from videopoet import cli
from videopoet.media.files import read_image
from videopoet.media.types import Video


class FakePoet:
    """Stands for the model: remembers what was asked of it."""

    def __init__(self):
        self.asked, self.kept, self.interrupted = [], [], False

    def from_pretrained(self, model=None, **options):
        return self

    def film(self, story, **given):
        self.asked.append((story, given))
        return SimpleNamespace(warnings=("no sound",), metadata={"seed": given["seed"]}, save=self.save_film)

    def save_film(self, path, metadata, keep):
        self.kept.append(keep)
        if self.interrupted:
            keep.mkdir(parents=True)
            (keep / "film.json").write_text(json.dumps({"seed": self.asked[-1][1]["seed"]}))
            raise KeyboardInterrupt
        self.save(path, metadata)

    def variations(self, task, *, count, seed, **given):
        self.asked.append((task, {"count": count, "seed": seed, **given}))
        text = task == "video_captioning"
        clip = Video(torch.zeros(3, 8, 32, 32, dtype=torch.uint8), 8.0)
        return [
            SimpleNamespace(
                media=f"caption {k}" if text else clip, seed=seed + k, metadata={}, warnings=("w",), save=self.save
            )
            for k in range(count)
        ]

    def save(self, path, metadata=True):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(f"metadata={metadata}")


@pytest.fixture
def poet(stand_in):
    return stand_in(FakePoet())


# film


def test_scenes_share_the_length(poet, capsys):
    settings = ["--seconds", "12", "--seed=3", "--top-k=5", "--video=a.mp4", "--start=4.5"]
    assert cli.run(["film", "a", "--then", "b", "--then", "c", *settings]) == 0
    story, given = poet.asked[0]
    assert [(scene["prompt"], scene["seconds"]) for scene in story] == [("a", 4), ("b", 4), ("c", 4)]
    assert given == {"seed": 3, "sound": True, "top_k": 5, "video": Path("a.mp4"), "start": 4.5}
    captured = capsys.readouterr()
    assert captured.out == "outputs/film-3.mp4\n" and Path("outputs/film-3.mp4").exists()
    assert captured.err == "videopoet: warning: no sound\n"


def test_a_size_is_height_and_width(poet, capsys):
    assert cli.run(["film", "a", "--size", "48x96"]) == 0
    assert (poet.asked[0][1]["height"], poet.asked[0][1]["width"]) == (96, 48)
    assert cli.run(["film", "a", "--size", "48x96", "--height", "96"]) == 2
    assert "the size is given twice (--size 48x96, --height 96)" in capsys.readouterr().err


def test_a_camera_moves_in_every_scene(poet):
    assert cli.run(["film", "a", "--then", "b", "--camera", "zoom in", "--no-metadata", "-o", "x.mp4"]) == 0
    assert [(scene["camera"], scene["seconds"]) for scene in poet.asked[0][0]] == [("zoom in", 8)] * 2
    assert Path("x.mp4").read_text() == "metadata=False"


def test_a_story_is_a_file(poet, capsys):
    Path("story.json").write_text(json.dumps([{"prompt": "a ball", "seconds": 2}]))
    assert cli.run(["film", "story.json", "-o", "x.mp4", "--json"]) == 0
    (scene,) = poet.asked[0][0]
    assert (scene.prompt, scene.seconds) == ("a ball", 2)
    assert json.loads(capsys.readouterr().out)["output"] == "x.mp4"


def test_what_is_made_is_kept_beside_the_film(poet):
    for arguments in (["-o", "a/x.mp4"], ["--seed=3"]):
        assert cli.run(["film", "a", *arguments]) == 0
    assert poet.kept == [Path("a/x.parts"), Path("outputs/film-3.parts")]


@pytest.mark.parametrize("arguments", [[], ["-o", "x.mp4"], ["--seed=3"], ["--seed=3", "-o", "x.mp4"]])
def test_the_same_command_goes_on_with_an_interrupted_film(poet, capsys, arguments):
    command = ["film", "a", "--then", "b", "--temperature=0.5", *arguments]
    poet.interrupted = True
    assert cli.run(command) == 130
    assert "stopped; what is made is kept in" in capsys.readouterr().err
    poet.interrupted = False
    assert cli.run(command) == 0
    assert "holds an unfinished film" in capsys.readouterr().err
    assert poet.kept[0] == poet.kept[1] and poet.asked[0] == poet.asked[1]


def test_another_command_without_a_name_makes_another_film(poet):
    poet.interrupted = True
    assert cli.run(["film", "a"]) == 130
    poet.interrupted = False
    for other in (["film", "b"], ["film", "a", "--no-sound"], ["film", "a", "--seconds=9"]):
        assert cli.run(other) == 0
    assert len(set(poet.kept)) == 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["film"], "PROMPT|STORY.json"),
        (["film", "none.json"], "'none.json' cannot be read"),
        (["film", "story.json", "--then", "b"], "leave --then out"),
        (["film", "a", "-o", "a.gif"], "'.gif'; .mp4"),
        (["film", "a", "--video=own.mp4", "-o", "own.mp4"], "output 'own.mp4' is the input 'own.mp4' too"),
        (["film", "a", "--video=outputs/film-3.mp4", "--seed=3"], "output 'outputs/film-3.mp4' is the input"),
    ],
)
def test_a_film_that_cannot_be_made_is_one_line(poet, capsys, arguments, said):
    Path("outputs").mkdir()
    for name in ("own.mp4", "outputs/film-3.mp4"):
        Path(name).touch()
    assert cli.run(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said.lower() in line.lower()
    assert poet.asked == []


# generate --count


def test_variations_are_files_and_a_sheet(poet, capsys):
    assert cli.run(["generate", "a ball", "--count", "3", "--seed", "5", "-o", "clip.mp4"]) == 0
    assert poet.asked == [
        ("text_to_video", {"count": 3, "seed": 5, "prompt": "a ball", "sound": True, "progress": True})
    ]
    captured = capsys.readouterr()
    assert captured.out.splitlines() == ["clip-1.mp4", "clip-2.mp4", "clip-3.mp4", "clip-sheet.png"]
    assert captured.err == "videopoet: warning: w\n"
    assert all(Path(name).exists() for name in captured.out.splitlines())
    assert read_image("clip-sheet.png").height > 3 * 96


def test_variations_as_json_name_their_seeds(poet, capsys):
    assert cli.run(["generate", "a ball", "--count", "2", "--seed", "5", "-o", "clip.mp4", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [(each["output"], each["seed"]) for each in answer["results"]] == [("clip-1.mp4", 5), ("clip-2.mp4", 6)]
    assert answer["sheet"] == "clip-sheet.png"


def test_several_captions_are_printed(poet, capsys):
    assert cli.run(["generate", "--task", "video_captioning", "--video", "a.mp4", "--count", "2"]) == 0
    assert capsys.readouterr().out == "caption 0\ncaption 1\n"
    assert list(Path().iterdir()) == []
