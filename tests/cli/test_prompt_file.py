import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from videopoet import cli
from videopoet.media.types import Image


class FakePoet:
    """Stands for the model: remembers the requests, and writes their prompts and seeds."""

    def __init__(self):
        self.batches = []

    def from_pretrained(self, model=None, **options):
        return self

    def generate_batch(self, requests):
        self.batches.append(requests)
        return [SimpleNamespace(save=self._saving(request), warnings=["a word"]) for request in requests]

    @staticmethod
    def _saving(request):
        def save(path, metadata):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_text(f"{request.prompt} {request.seed} {request.sound}")

        return save


@pytest.fixture
def poet(stand_in):
    return stand_in(FakePoet())


def test_every_prompt_has_files_of_its_name_and_seeds_of_its_own(poet, capsys):
    Path("prompts.txt").write_text("a red ball\n\n  a cat/dog \na red ball\n")
    arguments = ["generate", "--prompt-file", "prompts.txt", "--count", "2", "--seed", "5", "--no-sound"]
    assert cli.run([*arguments, "-o", "made", "--json"]) == 0
    shown = capsys.readouterr()
    results = json.loads(shown.out)["results"]
    assert [each["output"] for each in results] == [
        f"made/{name}.mp4" for name in ("a red ball-0", "a red ball-1", "a cat_dog-0", "a cat_dog-1")
    ]
    assert [Path(each["output"]).read_text() for each in results] == [
        "a red ball 5 False",
        "a red ball 6 False",
        "a cat/dog 5 False",
        "a cat/dog 6 False",
    ]
    assert shown.err.count("warning") == 1


def test_what_is_there_is_left_and_large_files_go_in_batches(poet, capsys):
    Path("many.txt").write_text("\n".join(f"ball {number}" for number in range(40)))
    Path("outputs/many").mkdir(parents=True)
    Path("outputs/many/ball 3-0.mp4").write_text("mine")
    assert cli.run(["generate", "--prompt-file", "many.txt"]) == 0
    assert [len(batch) for batch in poet.batches] == [32, 7]
    assert Path("outputs/many/ball 3-0.mp4").read_text() == "mine"
    shown = capsys.readouterr()
    assert shown.out == "outputs/many\n" and "1 of 40 files are there already" in shown.err


def test_what_is_there_is_told_with_its_own_seed_or_none(poet, capsys):
    Path("p.txt").write_text("\n".join("abcde"))
    picture = Image(torch.zeros(3, 8, 8, dtype=torch.uint8))
    for name, metadata in (("a", {"seed": 11}), ("b", None), ("c", {"seed": "x"})):
        picture.save(f"made/{name}-0.png", metadata)
    Path("made/d-0.png").write_text("broken")
    assert cli.run(["generate", "--task=text_to_image", "--prompt-file=p.txt", "-o", "made", "--json"]) == 0
    seeds = [each["seed"] for each in json.loads(capsys.readouterr().out)["results"]]
    assert seeds[:4] == [11, None, None, None] and seeds[4] == poet.batches[0][0].seed


@pytest.mark.parametrize(
    ("content", "more", "said"),
    [
        (None, [], "is missing or no text; one prompt on each line fits"),
        (b"\xff\xfe\x00", [], "is missing or no text"),
        (b" \n", [], "has no prompt"),
        (b"a/b\na_b", [], "would share a file: 'a/b' and 'a_b'"),
        (b"a", ["a ball"], "and a prompt ('a ball') are both given"),
        (b"a", ["--preview", "seen.gif"], "and --preview ('seen.gif') are both given"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_before_a_model_is_loaded(poet, capsys, content, more, said):
    if content is not None:
        Path("p.txt").write_bytes(content)
    assert cli.run(["generate", *more, "--prompt-file", "p.txt"]) == 2
    assert said in capsys.readouterr().err
    assert not poet.batches and not Path("outputs").exists()


def test_what_the_task_does_not_take_is_refused_before_anything_is_made(poet, capsys):
    Path("p.txt").write_text("a ball")
    assert cli.run(["generate", "--task", "unconditional", "--prompt-file", "p.txt"]) == 2
    assert "prompt" in capsys.readouterr().err
    assert not poet.batches and not Path("outputs").exists()


def test_long_names_of_any_letters_fit_a_file_system(poet):
    Path("p.txt").write_text("ü" * 150, encoding="utf-8")
    assert cli.run(["generate", "--prompt-file", "p.txt", "-o", "made"]) == 0
    (made,) = Path("made").iterdir()
    assert made.name == "ü" * 90 + "-0.mp4"
