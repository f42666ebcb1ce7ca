import sys

import pytest


@pytest.fixture
def cost(benchmark):
    return benchmark("generate_cost")


def test_a_run_knows_its_peak_memory(cost):
    measured = cost.run([sys.executable, "-c", "b'1' * 1_000_000_000"])
    assert 1_000_000_000 < measured.peak_bytes < 1_200_000_000
    assert measured.seconds > 0


def test_a_command_that_fails_ends_the_benchmark(cost):
    with pytest.raises(SystemExit, match="ended with 3"):
        cost.run([sys.executable, "-c", "raise SystemExit(3)"])
