import subprocess
import sys

import pytest


@pytest.fixture
def cost(benchmark):
    return benchmark("generate_cost")


def test_a_run_knows_its_peak_memory(root):
    # In a process of its own: Linux counts what the starting process held, too, and this one has run other tests.
    script = """if True:
        import sys
        from generate_cost import run
        found = run([sys.executable, "-c", "b'1' * 1_000_000_000"])
        print(found.peak_bytes, found.seconds)
    """
    done = subprocess.run([sys.executable, "-c", script], cwd=root / "benchmarks", capture_output=True, check=True)
    peak_bytes, seconds = map(float, done.stdout.split())
    assert 1_000_000_000 < peak_bytes < 1_200_000_000
    assert seconds > 0


def test_a_command_that_fails_ends_the_benchmark(cost):
    with pytest.raises(SystemExit, match="ended with 3"):
        cost.run([sys.executable, "-c", "raise SystemExit(3)"])
