import pytest

import videopoet
from videopoet import cli
from videopoet.errors import TaskError
from videopoet.generation.decoders.row_parallel import RowParallel
from videopoet.generation.decoders.speculative import Speculative
from videopoet.generation.pipeline import VideoPoet


@pytest.fixture
def bundled(monkeypatch, tmp_path):
    """The decoders of the model that ships when it is asked to make something, which it does not."""
    seen = []

    class Watched(VideoPoet):
        def generate(self, *_, **__):
            seen.append(self.decoder)
            raise TaskError("stop here", code="test")

    monkeypatch.setitem(vars(videopoet), "VideoPoet", Watched)
    monkeypatch.chdir(tmp_path)
    return seen


@pytest.mark.parametrize(
    ("given", "expected"),
    [([], Speculative), (["--decoder", "row-parallel"], RowParallel)],
)
def test_the_decoder_is_the_one_that_is_named(bundled, given, expected):
    assert cli.run(["generate", "a red ball", *given]) != 0
    assert type(bundled[0]) is expected


def test_an_unknown_decoder_is_refused_before_a_model_is_loaded(bundled, capsys):
    assert cli.run(["generate", "a red ball", "--decoder", "row_paralel", "--model", "nowhere"]) == 2
    message = capsys.readouterr().err
    assert "row_paralel" in message and "row_parallel" in message
    assert not bundled
