import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from videopoet import cli
from videopoet.generation.storyboard import Storyboard
from videopoet.text_encoders.own_tokens import OwnTokens
from videopoet.writers import endpoint


class FakePoet:
    """Stands for the model: remembers what was asked of it."""

    def __init__(self):
        self.asked, self.loaded = [], 0
        self.parts = SimpleNamespace(text_encoder=OwnTokens.from_words(["a", "red", "ball"]))

    def from_pretrained(self, model=None, **options):
        self.loaded += 1
        return self

    def movie(self, board, **given):
        self.asked.append((board, given))
        made = SimpleNamespace(storyboard=board.completed(), warnings=("no sound",), seconds=9.0, width=36, height=64)
        made.frame_rate, made.framing, made.made = 24.0, "made at 8x8", [True, False]
        made.save = lambda path, metadata: Path(path).write_text(f"metadata={metadata}")
        return made


@pytest.fixture
def poet(stand_in):
    return stand_in(FakePoet())


def test_an_idea_becomes_a_storyboard_and_a_movie(poet, capsys):
    assert cli.run(["movie", "a raccoon travels to the sea", "-o", "x.mp4", "--seed", "3", "--no-metadata"]) == 0
    board, given = poet.asked[0]
    assert (board.title, board.seed, len(board.scenes)) == ("A Raccoon Travels to the Sea", 3, 5)
    assert given == {"takes": Path("x.scenes"), "font": None}
    assert Storyboard.read("x.json") == board
    assert Path("x.mp4").read_text() == "metadata=False"
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err == "videopoet: warning: no sound\n"


def test_options_are_in_the_storyboard(poet, capsys):
    arguments = ["--scenes=2", "--seconds=5", "--title=", "--shape=square", "--fit=crop", "--transition=cut"]
    assert cli.run(["movie", "a ball", *arguments, "--no-sound", "--json", "-o", "x.mp4", "--keep", "scenes"]) == 0
    board, given = poet.asked[0]
    assert [scene.seconds for scene in board.scenes] == [2.5, 2.5]
    assert (board.title, board.shape, board.fit, board.transition, board.sound) == ("", "square", "crop", "cut", False)
    assert given["takes"] == Path("scenes")
    answer = json.loads(capsys.readouterr().out)
    assert (answer["output"], answer["storyboard"], answer["writer"]) == ("x.mp4", "x.json", "built-in")
    assert (answer["takes_made"], answer["takes_kept"], answer["warnings"]) == (1, 1, ["no sound"])


def test_an_edited_storyboard_is_made_and_left_as_it_is(poet):
    text = json.dumps({"scenes": [{"prompt": "a red ball"}]})
    Path("movie.json").write_text(text)
    assert cli.run(["movie", "movie.json", "-o", "movie.mp4"]) == 0
    assert Path("movie.json").read_text() == text
    assert poet.asked[0][0].scenes[0].prompt == "a red ball"
    assert cli.run(["movie", "movie.json", "-o", "other.mp4"]) == 0
    assert Storyboard.read("other.json") == Storyboard.of(json.loads(text)).completed()


def test_a_draft_is_a_storyboard_alone(poet, capsys):
    assert cli.run(["movie", "a red ball bounces", "--draft", "--seed=1"]) == 0
    assert capsys.readouterr().out == "outputs/movie-1.json\n"
    assert len(Storyboard.read("outputs/movie-1.json").scenes) == 5
    assert poet.loaded == 0 and not Path("outputs/movie-1.mp4").exists()


def test_a_storyboard_that_was_edited_is_not_written_over(poet, capsys):
    idea = ["movie", "a red ball bounces", "-o", "x.mp4"]
    assert cli.run([*idea, "--seed=1"]) == 0
    assert cli.run([*idea, "--seed=1"]) == 0  # the same one
    capsys.readouterr()
    assert cli.run([*idea, "--seed=2"]) == 2
    assert "'x.json' is there already and is another storyboard" in capsys.readouterr().err
    assert Storyboard.read("x.json").seed == 1
    assert cli.run([*idea, "--seed=2", "--overwrite"]) == 0
    assert Storyboard.read("x.json").seed == 2


def test_what_the_built_in_writer_does_not_know_is_said(poet, capsys):
    assert cli.run(["movie", "a wizard in the forest", "--draft"]) == 0
    assert "warning: the built-in writer does not know 'wizard'" in capsys.readouterr().err


def test_a_server_writes_with_the_words_that_the_model_knows(poet, monkeypatch):
    seen = []

    def answer(self, messages):
        seen.append((self._url, self._key_variable, messages[0]["content"]))
        return json.dumps({"title": "T", "scenes": [{"prompt": "a red ball"}]})

    monkeypatch.setattr(endpoint.Endpoint, "answer", answer)
    flags = ["--writer-url", "http://127.0.0.1:9/v1", "--writer-model", "qwen", "--writer-key-variable", "MY_KEY"]
    assert cli.run(["movie", "a ball", "--scenes=1", "-o", "x.mp4", *flags]) == 0
    url, variable, instructions = seen[0]
    assert (url, variable) == ("http://127.0.0.1:9/v1/chat/completions", "MY_KEY")
    assert "a ball red" in instructions
    assert Storyboard.read("x.json").writer == "qwen at 127.0.0.1:9"
    assert poet.loaded == 1


@pytest.mark.parametrize(
    ("arguments", "said", "code"),
    [
        ([], "IDEA|STORYBOARD.json", 2),
        (["none.json"], "'none.json' cannot be read", 2),
        (["bad.json"], "scene 1 lacks 'prompt'", 2),
        (["bad.json", "--title", "x"], "leave --title out", 2),
        (["a ball", "-o", "x.gif"], "'.gif'; .mp4", 2),
        (["ein waschbär"], "knows no word of the idea", 2),
        (["a " + "b" * 50], "has 50 characters; 40 are the most", 2),
        (["a ball", "--shape", "round"], "'round'; there are portrait, square, landscape", 2),
        (["a ball", "--font", "none.ttf"], "the font 'none.ttf' is no file", 2),
        (["a ball", "--writer-url", "http://127.0.0.1:9/v1"], "--writer-model is missing", 2),
        (["a ball", "--writer-key-variable", "X"], "no server to send a key to", 2),
        (["a ball", "--writer-model", "m", "--writer-key-variable", "X"], "no server to send a key to", 2),
        (["bad.json", "--writer-key-variable", "X"], "leave --writer-key-variable out", 2),
        (["a ball", "--writer-url", "http://127.0.0.1:9/v1", "--writer-model", "m"], "cannot be reached", 2),
        (["a ball", "--writer-model", "no/folder/of/one"], "cannot be had", 3),
    ],
)
def test_a_movie_that_cannot_be_made_is_one_line(poet, capsys, arguments, said, code):
    Path("bad.json").write_text(json.dumps({"scenes": [{}]}))
    assert cli.run(["movie", *arguments]) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert said.lower() in line.lower()
    assert poet.asked == [] and not Path("outputs").exists()
