import contextlib
import os
import signal

import pytest
import torch

from tests.training.test_loop import Regression, batches, config
from videopoet import cli, presets
from videopoet.config import override
from videopoet.training import journal, loop, run, run_folder
from videopoet.training.ending import Ended, Ending


def told(number, at):
    """Batches during which the process is sent a signal."""

    def read(index):
        if index == at:
            os.kill(os.getpid(), number)
        return batches(index)

    return read


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_step_finish_and_the_run_goes_on_as_if_unbroken(tmp_path, number, caplog):
    whole = Regression()
    loop.train(whole, batches, config(), tmp_path / "whole")
    handlers = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]
    with pytest.raises(Ended, match="after step 6 of 12 because SIG") as caught:
        loop.train(Regression(), told(number, 5), config(), tmp_path / "ended")
    assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)] == handlers
    assert caught.value.signal == number and "ends after this step" in caplog.text
    resumed = Regression()
    loop.train(resumed, batches, config(), tmp_path / "ended", resume=True)
    assert all(torch.equal(one, resumed.model.state_dict()[key]) for key, one in whole.model.state_dict().items())
    assert len([entry for entry in journal.read(tmp_path / "ended") if entry["kind"] == "train"]) == 12


def test_a_second_signal_ends_at_once():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), Ending().told_by_signals():
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_sigterm_that_comes_twice_at_once_is_one(monkeypatch):
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    ending = Ending()
    try:
        with pytest.raises(KeyboardInterrupt), ending.told_by_signals():
            for _ in range(3):
                os.kill(os.getpid(), signal.SIGTERM)
            assert ending.is_due()
            monkeypatch.setattr("videopoet.training.ending.REPEATED_SECONDS", 0.0)
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_run_takes_its_minutes_in_slices(tmp_path):
    slices = 0
    while not (tmp_path / "checkpoint-0000012").exists():
        slices += 1
        with pytest.raises(Ended, match="its time is up") if slices < 12 else contextlib.nullcontext():
            loop.train(Regression(), batches, config(), tmp_path, resume=True, ending=Ending(minutes=0))
    assert slices == 12


@pytest.mark.parametrize(("number", "exit_code"), [(None, 0), (signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_the_command_says_what_ended_it(monkeypatch, tmp_path, capsys, number, exit_code):
    def end(*_, **__):
        raise Ended("training ended after step 3 of 9", number)

    monkeypatch.setattr(run, "train", end)
    assert cli.run(["train", "-o", str(tmp_path / "run")]) == exit_code
    assert "after step 3 of 9" in capsys.readouterr().err


def test_a_size_that_is_none_is_refused_before_anything_is_trained(tmp_path, capsys):
    assert cli.run(["train", "-o", str(tmp_path / "run"), "--max-shard-size", "small"]) == 2
    assert "'small' is no size; one such as 16MB" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_the_command_ends_in_time_with_success_and_no_poet(tmp_path, capsys):
    settings = ["video_tokenizer.training.num_steps=2", "audio_tokenizer.training.num_steps=2"]
    stages = ("video_tokenizer", "audio_tokenizer")
    arguments = ["train", "--preset", "tiny", "--stages", ",".join(stages), "-o", str(tmp_path), "--resume"]
    arguments += [word for setting in settings for word in ("--set", setting)]
    assert cli.run([*arguments, "--minutes", "0"]) == 0
    shown = capsys.readouterr()
    assert not shown.out and "after step 1 of 2 because its time is up" in shown.err
    config = override(presets.preset("tiny"), settings).model_copy(update={"stages": stages})
    with pytest.raises(Ended, match="step 1 of 2"):
        run.train(config, tmp_path, resume=True, minutes=0)
    run.train(config, tmp_path, resume=True)
    assert all(run_folder.is_finished(tmp_path, stage) for stage in stages)
