"""`videopoet prepare` on the command line."""

import json

import pytest

from videopoet.cli import run
from videopoet.cli.prepare import lines


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--size", "60x60"], 2, "multiples of 8"),
        (["--seconds", "2.1"], 2, "16.8 frames"),
        (["--seconds", "inf"], 2, "--seconds is inf; a number above 0"),
        (["--fps", "0"], 2, "--fps is 0; a number above 0"),
        (["--fps", "nan"], 2, "--fps is nan; a number above 0"),
        (["--keep", "blurred"], 2, "static"),
        ([], 3, "holds no clip"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_no_dataset(tmp_path, capsys, arguments, code, says):
    (tmp_path / "footage").mkdir()
    output = tmp_path / "data"
    assert run(["prepare", str(tmp_path / "footage"), "-o", str(output), *arguments]) == code
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1 and not output.exists()


def test_a_dataset_is_made_and_its_counts_are_printed(tmp_path, capsys):
    assert run(["toybox", "--count", "3", "-o", str(tmp_path / "footage")]) == 0
    command = ["prepare", str(tmp_path / "footage"), "-o", str(tmp_path / "data"), "--size", "32x32"]
    assert run([*command, "--json"]) == 0
    counts = json.loads(capsys.readouterr().out)
    assert counts["sources"]["found"] == 3 == counts["captioned"] + counts["sources"]["rejected"]
    assert run(command) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[:-1] == lines(counts) and "3 = " in printed


def test_rejects_that_the_next_run_tries_again_are_counted(tmp_path, capsys):
    assert run(["toybox", "--count", "2", "-o", str(tmp_path / "footage")]) == 0
    command = ["prepare", str(tmp_path / "footage"), "-o", str(tmp_path / "data"), "--size", "32x32", "--json"]
    assert run(command) == 0
    counts = json.loads(capsys.readouterr().out)
    assert not any(line.startswith("again") for line in lines(counts))
    counts["rejects"] |= {"media_unreadable": 2, "static": 5}
    counts["sounds"]["rejects"] = {"decoder_crashed": 1}
    assert "again   3 of the rejects may be the machine's fault; the same command tries them again" in lines(counts)
