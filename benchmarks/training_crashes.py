"""Does training survive what happens to it? Kills, broken checkpoints, spoilt numbers, other numbers of processes.

A case passes when a run (`training_stand`) goes on to the end by `resume` alone and its last checkpoint and journal
equal those of the run that nothing happened to, bit for bit where nothing else is said.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from report import report
from torch import Tensor
from training_stand import NUM_STEPS, Runs, Spoil, batches, difference, read_part, settings

from videopoet import checkpoint
from videopoet.training import journal, optimizer

FAULTS = ("F01", "F02", "F05", "F07", "F12")


def killed_at_steps(runs: Runs, num_chains: int) -> Iterator[str | None]:
    """F01: chains of five kills at random batches, alone and on two processes, divided and not."""
    for number in range(num_chains):
        num_processes, sharding = ((1, "none"), (2, "none"), (2, "full"))[number % 3]
        config = settings(sharding=sharding, accumulation=2 // num_processes)
        whole = runs.new()
        assert not any(runs.train(whole, config, num_processes, resume=False))
        place, numbers = runs.new(), sorted(runs.numbers.sample(range(2 * NUM_STEPS), 5))
        wrong = None
        for fatal in numbers:
            ends = runs.train(place, config, num_processes, read=killing(fatal))
            if -signal.SIGKILL not in ends:
                wrong = f"a run that was to be killed at batch {fatal} ended with {ends}"
        ends = runs.train(place, config, num_processes)
        yield wrong or (f"the last run ended with {ends}" if any(ends) else difference(place, whole))


def killing(fatal: int) -> Callable[[int], tuple[Tensor, Tensor]]:
    """Batches of which one kills who reads it; a step begins again at a batch of a checkpoint, so its step does."""

    def read(index: int) -> tuple[Tensor, Tensor]:
        if index == fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        return batches(index)

    return read


def killed_in_writing(runs: Runs, num_points: int, num_times: int) -> Iterator[str | None]:
    """F02: a kill before and after every call that changes the disk, and at random times."""
    config = settings(checkpoint_every=3)
    whole = runs.new()
    began = time.perf_counter()
    tally = runs.folder / "tally"
    assert not any(runs.train(whole, config, resume=False, before=lambda rank: disk_calls(tally=tally)))
    seconds = time.perf_counter() - began
    num_calls = len(tally.read_text())
    points = [(call, when) for call in range(num_calls) for when in ("before", "half", "after")]
    for call, when in runs.numbers.sample(points, min(num_points, len(points))):
        place = runs.new()
        ends = runs.train(place, config, before=lambda rank, c=call, w=when: disk_calls(fatal=c, when=w))
        if ends != [-signal.SIGKILL]:
            yield f"a run that was to be killed {when} call {call} ended with {ends}"
            continue
        ends = runs.train(place, config)
        yield f"the resumed run ended with {ends}" if any(ends) else difference(place, whole)
        shutil.rmtree(place)
    for _ in range(num_times):
        place = runs.new()
        runs.train(place, config, kill_after=runs.numbers.uniform(0, seconds))
        ends = runs.train(place, config)
        yield f"the resumed run ended with {ends}" if any(ends) else difference(place, whole)
        shutil.rmtree(place)


def disk_calls(fatal: int | None = None, when: str = "before", tally: Path | None = None) -> None:
    """Count this process's calls that change the disk, and die at one of them."""
    import videopoet.checkpoint as module

    count = [0]

    def watched(function: Callable) -> Callable:
        def call(*arguments: object, **named: object) -> object:
            number, count[0] = count[0], count[0] + 1
            if tally is not None:
                with tally.open("a") as file:
                    file.write(".")
            if number == fatal and when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            try:
                return function(*arguments, **named)
            finally:
                if number == fatal:
                    if when == "half" and function is write_file:
                        os.truncate(arguments[1], os.path.getsize(arguments[1]) // 2)  # pyright: ignore
                    os.kill(os.getpid(), signal.SIGKILL)

        return call

    write_file = module.save_file
    module.save_file = watched(module.save_file)
    for owner, names in ((os, ("fsync", "replace", "rmdir", "mkdir")), (Path, ("write_text",)), (shutil, ("rmtree",))):
        for name in names:
            setattr(owner, name, watched(getattr(owner, name)))


def broken_checkpoints(runs: Runs, per_kind: int) -> Iterator[str | None]:
    """F05: the newest checkpoint is broken in one of seven ways; the one before is used. With none left, it is said."""
    config = settings(keep_checkpoints=3)
    whole, other = runs.new(), runs.new()
    assert not any(runs.train(whole, config, resume=False))
    assert not any(runs.train(other, settings(seed=1), resume=False))
    last = f"checkpoint-{NUM_STEPS:07d}"
    for kind in ("truncated", "flipped", "missing", "empty", "no manifest", "cut manifest", "other manifest"):
        for _ in range(per_kind):
            place = runs.new()
            shutil.copytree(whole, place)
            files = [path for path in sorted((place / last).iterdir()) if path.name != checkpoint.MANIFEST]
            harm(kind, runs.numbers.choice(files), place / last, other / last, runs.numbers)
            ends = runs.train(place, config)
            yield f"after {kind} the run ended with {ends}" if any(ends) else difference(place, whole)
            shutil.rmtree(place)
    for folder in whole.glob("checkpoint-*"):
        (folder / checkpoint.MANIFEST).unlink()
    ends = runs.train(whole, config)
    yield None if ends == [3] else f"with no intact checkpoint the run ended with {ends}"


def harm(kind: str, file: Path, folder: Path, other: Path, numbers: random.Random) -> None:
    data, manifest = bytearray(file.read_bytes()), folder / checkpoint.MANIFEST
    if kind == "truncated":
        file.write_bytes(data[: numbers.randrange(len(data))])
    elif kind == "flipped":
        data[numbers.randrange(len(data))] ^= 1 << numbers.randrange(8)
        file.write_bytes(data)
    elif kind == "missing":
        file.unlink()
    elif kind == "empty":
        file.write_bytes(b"")
    elif kind == "no manifest":
        manifest.unlink()
    elif kind == "cut manifest":
        manifest.write_text(manifest.read_text()[: numbers.randrange(manifest.stat().st_size)])
    else:
        shutil.copy(other / checkpoint.MANIFEST, manifest)


def other_numbers_of_processes(runs: Runs, num_rounds: int) -> Iterator[str | None]:
    """F07: begun by two processes, ended by one, and back; losses to a millionth of themselves."""
    for number in range(num_rounds):
        sharding = ("full", "none")[number % 2]
        both = [settings(sharding=sharding, accumulation=2 // n, optimizer=adamw()) for n in (1, 2)]
        whole, place = runs.new(), runs.new()
        assert not any(runs.train(whole, both[0], resume=False))
        order = ((1, 2), (2, 1), (2, 1, 2))[number // 2 % 3]
        for turn, num_processes in enumerate(order):
            fatal = None if turn == len(order) - 1 else NUM_STEPS * 2 * (turn + 1) // len(order) + 1
            runs.train(place, both[num_processes - 1], num_processes, read=killing(-1 if fatal is None else fatal))
        losses = [[entry["loss"] for entry in journal.read(run) if entry["kind"] == "train"] for run in (whole, place)]
        if len(losses[0]) != len(losses[1]):
            yield f"{len(losses[1])} steps instead of {len(losses[0])}"
            continue
        apart = max(abs(one - other) / abs(one) for one, other in zip(*losses, strict=True))
        yield None if apart <= 1e-6 else f"the losses are {apart:.1e} apart"


def adamw() -> optimizer.Config:
    return optimizer.Config(learning_rate=1e-2, warmup_steps=2)


def spoilt_numbers(runs: Runs, per_kind: int) -> Iterator[str | None]:
    """F12: a number that is none, or a hundredfold loss, changes nothing; ten in a row stop the run with code 5."""
    config = settings(checkpoint_every=1, keep_checkpoints=99)
    for kind in ("loss", "gradient", "input", "spike"):
        for number in range(per_kind):
            fatal = 3 + runs.numbers.randrange(NUM_STEPS - 4)
            place = runs.new()
            num_processes = 1 + number % 2
            spoil = spoiling(kind, (float("nan"), float("inf"))[number % 2], lambda step, fatal=fatal: step == fatal)
            ends = runs.train(place, config, num_processes, resume=False, spoil=spoil)
            if any(ends):
                yield f"{kind} at step {fatal}: the run ended with {ends}"
                continue
            before, after = (place / f"checkpoint-{step:07d}" for step in (fatal, fatal + 1))
            pairs = [(read_part(before, name), read_part(after, name)) for name in ("model", "mean", "optimizer")]
            same = all(torch.equal(tensor, new[key]) for old, new in pairs for key, tensor in old.items())
            counts = [entry["skipped"] for entry in journal.read(place) if entry["kind"] == "train"]
            counted = counts == [int(step >= fatal) for step in range(NUM_STEPS)]
            yield None if same and counted else f"{kind} at step {fatal}: weights moved or the step was not counted"
    place = runs.new()
    ends = runs.train(place, config, resume=False, spoil=spoiling("loss", float("nan"), lambda step: step >= 2))
    yield None if ends == [5] else f"ten spoilt steps in a row ended with {ends}"


def spoiling(kind: str, value: float, fatal: Callable[[int], bool]) -> Spoil:
    def spoil(place: str, step: int, tensor: Tensor) -> Tensor:
        if not fatal(step):
            return tensor
        if kind == "spike" and place == "loss":
            return 100 * tensor
        return tensor * value if kind == place else tensor

    return spoil


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", default=",".join(FAULTS), help="Which, by their names.")
    parser.add_argument("--share", type=float, default=1.0, help="Of all cases, for a quick look.")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    failed = 0
    for fault in arguments.faults.split(","):
        with tempfile.TemporaryDirectory() as folder:
            outcomes = list(cases(fault, Runs(Path(folder)), arguments.share))
        wrong = [outcome for outcome in outcomes if outcome is not None]
        failed += len(wrong)
        report("training_crashes", fault=fault, passed=len(outcomes) - len(wrong), of=len(outcomes), wrong=wrong[:5])
    sys.exit(failed > 0)


def cases(fault: str, runs: Runs, share: float = 1.0) -> Iterator[str | None]:
    """What went wrong in each case of a fault, None where nothing did."""

    def some(count: int) -> int:
        return max(1, round(share * count))

    if fault == "F01":
        return killed_at_steps(runs, some(20))
    if fault == "F02":
        return killed_in_writing(runs, some(50), some(150))
    if fault == "F05":
        return broken_checkpoints(runs, some(10))
    if fault == "F07":
        return other_numbers_of_processes(runs, some(6))
    if fault == "F12":
        return spoilt_numbers(runs, some(5))
    raise SystemExit(f"unknown fault '{fault}'; there are {', '.join(FAULTS)}")


if __name__ == "__main__":
    main()
