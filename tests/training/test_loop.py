import errno
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from torch import nn

from videopoet import checkpoint
from videopoet.errors import CheckpointError, ConfigError, DataError
from videopoet.training import journal, loop, optimizer
from videopoet.training.loop import Config, Losses, Objective


class Regression(Objective):
    """A linear map learns another, with noise drawn from the step's generator; its adversary learns a scalar."""

    def __init__(self, with_adversary: bool = False):
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
        self.adversary = nn.ModuleDict({"judge": nn.Linear(2, 1)}) if with_adversary else None

    def __call__(self, batch, step, generator):
        noise = 0.1 * torch.randn(batch.shape, generator=generator)
        made = self.model(batch + noise)
        return Losses((made - batch[:, :2]).square().mean(), {"noise": noise.std()}, made=made)

    def adversary_loss(self, batch, made, step):
        assert self.adversary is not None
        return Losses(self.adversary["judge"](made).square().mean(), {})

    def validate(self, folder):
        return {"constant": 1.0}


def batches(index):
    return torch.randn(8, 4, generator=torch.Generator().manual_seed(index))


def config(num_steps=12, **values):
    settings = optimizer.Config(name="muon", learning_rate=1e-2, warmup_steps=2)
    usual = {"checkpoint_every": 4, "validate_every": 6, "log_every": 1, "bf16": False}
    return Config(num_steps=num_steps, optimizer=settings, **(usual | values))


@pytest.mark.parametrize("with_adversary", [False, True])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_resumed_run_equals_an_unbroken_one_bit_for_bit(tmp_path, with_adversary, accumulation):
    unbroken = Regression(with_adversary)
    loop.train(unbroken, batches, config(accumulation=accumulation), tmp_path / "unbroken")

    class Stop(Exception):
        pass

    def stopping(at):
        def read(index):
            if index == at * accumulation:
                raise Stop
            return batches(index)

        return read

    folder = tmp_path / "broken"
    for number, at in enumerate((6, 11)):
        with pytest.raises(Stop):
            loop.train(
                Regression(with_adversary), stopping(at), config(accumulation=accumulation), folder, resume=number > 0
            )
    resumed = Regression(with_adversary)
    loop.train(resumed, batches, config(accumulation=accumulation), folder, resume=True)
    for name, tensor in unbroken.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name
    losses = [[e["loss"] for e in journal.read(f) if e["kind"] == "train"] for f in (tmp_path / "unbroken", folder)]
    assert losses[0] == losses[1] and len(losses[0]) == 12


def test_a_killed_run_resumes_to_the_same_weights(tmp_path):
    script = tmp_path / "run.py"
    script.write_text(
        textwrap.dedent(
            """
            import os, signal, sys
            sys.path.insert(0, os.environ["TESTS"])
            from test_loop import Regression, batches, config
            from videopoet.training import loop

            def read(index):
                if index == 7 and "kill" in sys.argv:
                    os.kill(os.getpid(), signal.SIGKILL)
                return batches(index)

            loop.train(Regression(), read, config(), sys.argv[1], resume="resume" in sys.argv)
            """
        )
    )
    environment = {**os.environ, "TESTS": os.path.dirname(__file__)}

    def run(*arguments):
        return subprocess.run([sys.executable, script, *arguments], env=environment, capture_output=True).returncode

    assert run(tmp_path / "killed", "kill") == -signal.SIGKILL
    assert run(tmp_path / "killed", "resume") == 0
    assert run(tmp_path / "whole") == 0
    last = "checkpoint-0000012/model.safetensors"
    killed, whole = (checkpoint.load_tensors(tmp_path / name / last) for name in ("killed", "whole"))
    assert all(torch.equal(killed[name], whole[name]) for name in whole)


def test_a_broken_newest_checkpoint_is_passed_over(tmp_path, caplog):
    loop.train(Regression(), batches, config(), tmp_path)
    weights = tmp_path / "checkpoint-0000012" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    resumed, whole = Regression(), Regression()
    loop.train(resumed, batches, config(), tmp_path, resume=True)
    assert "checkpoint-0000012: model.safetensors has changed since it was written" in caplog.text
    loop.train(whole, batches, config(), tmp_path / "whole")
    assert torch.equal(resumed.model[0].weight, whole.model[0].weight)


def test_a_run_with_only_broken_checkpoints_is_not_started_anew(tmp_path):
    loop.train(Regression(), batches, config(), tmp_path)
    for manifest in tmp_path.glob("checkpoint-*/manifest.json"):
        manifest.unlink()
    with pytest.raises(CheckpointError, match="no manifest"):
        loop.train(Regression(), batches, config(), tmp_path, resume=True)


def test_a_folder_that_holds_a_run_is_not_overwritten(tmp_path):
    loop.train(Regression(), batches, config(), tmp_path)
    with pytest.raises(ConfigError, match="--resume"):
        loop.train(Regression(), batches, config(), tmp_path)


def test_a_loss_that_is_not_a_number_stops_before_the_weights_change(tmp_path):
    objective = Regression()
    before = {name: tensor.clone() for name, tensor in objective.model.state_dict().items()}
    with pytest.raises(
        DataError, match="not a number for 10 steps.*the last good checkpoint is checkpoint-0000008"
    ) as caught:
        loop.train(objective, lambda index: torch.full((8, 4), float("nan")), config(), tmp_path)
    assert caught.value.exit_code == 5
    assert all(torch.equal(before[name], tensor) for name, tensor in objective.model.state_dict().items())


@pytest.mark.parametrize("spoilt", [float("nan"), float("inf"), 1e3])
def test_a_step_with_a_spoilt_gradient_changes_nothing_and_is_counted(tmp_path, spoilt):
    class Counted(Regression):
        def __init__(self):
            super().__init__(with_adversary=True)
            self.model.register_buffer("seen", torch.zeros(()))

        def __call__(self, batch, step, generator):
            losses = super().__call__(batch, step, generator)
            self.model.seen += losses.total.detach()
            return losses._replace(total=losses.total * (spoilt if step == 5 else 1))

    settings = config(checkpoint_every=1, keep_checkpoints=99)
    settings = settings.model_copy(update={"optimizer": settings.optimizer.model_copy(update={"skip_above": 20.0})})
    loop.train(Counted(), batches, settings, tmp_path)
    for name in ("model", "mean", "optimizer", "adversary"):
        before, after, later = (
            checkpoint.load_tensors(tmp_path / f"checkpoint-{step:07d}" / f"{name}.safetensors") for step in (5, 6, 7)
        )
        assert all(torch.equal(before[key], after[key]) for key in before), name
        assert not all(torch.equal(later[key], after[key]) for key in after), name
    assert [entry["skipped"] for entry in journal.read(tmp_path) if entry["kind"] == "train"] == [0] * 5 + [1] * 7


def test_a_discriminators_gradient_that_is_not_a_number_is_left_out_too(tmp_path):
    class Judged(Regression):
        def adversary_loss(self, batch, made, step):
            losses = super().adversary_loss(batch, made, step)
            return losses._replace(total=losses.total * (float("nan") if step == 2 else 1))

    objective = Judged(with_adversary=True)
    loop.train(objective, batches, config(), tmp_path)
    assert all(tensor.isfinite().all() for tensor in objective.adversary.state_dict().values())
    assert journal.read(tmp_path)[-2]["skipped"] == 1


def test_skipped_steps_are_remembered_by_a_resumed_run(tmp_path):
    class Spoilt(Regression):
        def __call__(self, batch, step, generator):
            losses = super().__call__(batch, step, generator)
            return losses._replace(total=losses.total * (float("nan") if step in (2, 9) else 1))

    def stopping(index):
        if index == 6:
            raise KeyboardInterrupt
        return batches(index)

    with pytest.raises(KeyboardInterrupt):
        loop.train(Spoilt(), stopping, config(), tmp_path)
    loop.train(Spoilt(), batches, config(), tmp_path, resume=True)
    assert [entry["skipped"] for entry in journal.read(tmp_path) if entry["kind"] == "train"][-4:] == [1, 2, 2, 2]


def test_what_a_killed_run_left_unfinished_is_gone_after_the_next_start(tmp_path):
    loop.train(Regression(), batches, config(), tmp_path)
    (tmp_path / ".checkpoint-0000016.partial-abc").mkdir()
    (tmp_path / ".checkpoint-0000016.partial-abc" / "model.safetensors").write_bytes(b"half")
    loop.train(Regression(), batches, config(), tmp_path, resume=True)
    assert not list(tmp_path.glob(".*"))


def test_a_checkpoint_of_another_model_is_refused_by_name(tmp_path):
    loop.train(Regression(), batches, config(), tmp_path)
    larger = Regression()
    larger.model.append(nn.Linear(2, 2))
    with pytest.raises(CheckpointError, match=r"'3.weight' is absent, needed is \(2, 2\)"):
        loop.train(larger, batches, config(), tmp_path, resume=True)
    smaller = Regression()
    smaller.model = nn.Sequential(*list(smaller.model)[:2])
    with pytest.raises(CheckpointError, match=r"'2.bias' is in no part of this model \(2 such"):
        loop.train(smaller, batches, config(), tmp_path, resume=True)


def test_only_the_newest_checkpoints_are_kept(tmp_path):
    loop.train(Regression(), batches, config(keep_checkpoints=1), tmp_path)
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-0000012"]


def test_the_model_ends_with_its_mean_weights(tmp_path):
    objective = Regression()
    loop.train(objective, batches, config(), tmp_path)
    mean = checkpoint.load_tensors(tmp_path / "checkpoint-0000012" / "mean.safetensors")
    assert torch.equal(objective.model[0].weight, mean["0.weight"])


def test_what_is_frozen_stays_and_the_rest_moves(tmp_path):
    objective = Regression()
    before = {name: tensor.clone() for name, tensor in objective.model.state_dict().items()}
    loop.train(objective, batches, config(frozen=("0",)), tmp_path / "run")
    moved = {name for name, tensor in objective.model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved == {"2.weight", "2.bias"}


def test_a_frozen_name_that_fits_nothing_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"'encoder', with which no parameter begins; they begin with 0, 2"):
        loop.train(Regression(), batches, config(frozen=("encoder",)), tmp_path / "run")


def test_a_disk_that_is_full_when_a_run_resumes_costs_no_line_of_its_journal(tmp_path, monkeypatch):
    book = journal.Journal(tmp_path, 0)
    for step in range(3):
        book.write(step, "train", loss=1.0)
    book.close()
    before = (tmp_path / "journal.jsonl").read_text()
    write_text = Path.write_text

    def half(self, text):
        write_text(self, text[: len(text) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", half)
    with pytest.raises(OSError, match="No space"):
        journal.Journal(tmp_path, 2)
    monkeypatch.undo()
    assert (tmp_path / "journal.jsonl").read_text() == before
    journal.Journal(tmp_path, 2).close()
    assert [entry["step"] for entry in journal.read(tmp_path)] == [0, 1]
