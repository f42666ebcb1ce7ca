import time

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from videopoet import ranks
from videopoet.training import pace
from videopoet.training.pace import Pace

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def peak(monkeypatch):
    monkeypatch.setattr(pace, "peak_flops", lambda device, bf16: 1e9)


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is moved."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return lambda seconds: now.__setitem__(0, now[0] + seconds)


def test_figures_are_of_the_steps_since_the_last_time(clock):
    run = Pace(CPU, bf16=False)

    def slow(index):
        clock(1.0)
        return index

    for _ in range(2):
        run.begin()
        assert run.wait(slow, 5) == 5
        run.read(tokens=90, padding=10)
        clock(3.0)
        run.end()
        clock(100.0)  # validation is no part of a step
    figures = run.figures()
    assert figures == {
        "steps_per_second": 0.25, "mfu": 0.0, "loader_wait": 0.25, "tokens_per_second": 22.5, "padding": 0.1
    }  # fmt: skip
    run.begin()
    clock(1.0)
    run.end()
    assert run.figures() == {"steps_per_second": 1.0, "mfu": 0.0, "loader_wait": 0.0}


def test_tokens_of_all_processes_count(clock, monkeypatch):
    run = Pace(CPU, bf16=False)
    run.begin()
    run.read(tokens=10, padding=0)
    clock(2.0)
    run.end()
    monkeypatch.setattr(ranks, "sum_over_ranks", lambda tensor: tensor.mul_(4))
    monkeypatch.setattr(ranks, "count", lambda: 4)
    assert run.figures()["tokens_per_second"] == 20.0


def test_operations_are_three_times_those_of_the_forward_pass_whether_counted_or_known(clock):
    model = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.Linear(32, 16))
    run = Pace(CPU, bf16=False)
    with FlopCounterMode(display=False) as counted:
        model(torch.zeros(8, 64))
    for batch in (torch.zeros(8, 64), torch.ones(8, 64), torch.zeros(16, 64)):
        run.counted(model, batch).sum().backward()
    run.begin()
    clock(1.0)
    run.end()
    assert run.figures()["mfu"] * 1e9 == pytest.approx(3 * 4 * counted.get_total_flops())


def test_counting_changes_no_result_and_no_gradient():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Tanh(), torch.nn.Linear(8, 8))
    batch, run, gradients = torch.randn(4, 8), Pace(CPU, bf16=False), []
    for _ in range(2):
        model.zero_grad()
        run.counted(model, batch).square().sum().backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    assert all(torch.equal(first, second) for first, second in zip(*gradients, strict=True))


def test_what_was_counted_is_compiled_afterwards():
    graphs = []

    def compiler(graph, inputs):
        graphs.append(graph)
        return graph.forward

    double = torch.compile(lambda x: x * 2, backend=compiler)
    run = Pace(CPU, bf16=False)
    batch = torch.ones(3)
    assert torch.equal(run.counted(double, batch), batch * 2) and not graphs
    assert torch.equal(run.counted(double, batch), batch * 2) and len(graphs) == 1
