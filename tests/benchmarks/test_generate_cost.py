import resource
import sys

import pytest


@pytest.fixture
def cost(benchmark):
    return benchmark("generate_cost")


def test_a_run_knows_its_peak_memory(cost):
    measured = cost.run([sys.executable, "-c", "b'1' * 1_000_000_000"])
    # Linux counts what the starting process held, too; the benchmark itself holds little.
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    assert 1_000_000_000 < measured.peak_bytes < max(1_200_000_000, 1.1 * own)
    assert measured.seconds > 0


def test_a_command_that_fails_ends_the_benchmark(cost):
    with pytest.raises(SystemExit, match="ended with 3"):
        cost.run([sys.executable, "-c", "raise SystemExit(3)"])
