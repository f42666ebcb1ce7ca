"""Every fault and load that a server is to survive, a few times each; the benchmark runs them at their counts."""

import sys

import pytest

for name in ("fastapi", "uvicorn", "python_multipart", "prometheus_client", "httpx"):
    pytest.importorskip(name)

COUNTS = {
    "F15": 2,
    "F16": 2,
    "F17": 2,
    "F18": 4,
    "F19": 5,
    "F20": 1,
    "F21": 1,
    "F22": 20,
    "F23": 10,
    "F24": 1,
    "F25": 4,
    "F26": 3,
    "L01": 10,
    "L02": 16,
    "L03": 50,
    "L04": 10,
}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes as Linux lists them")
@pytest.mark.parametrize("name", list(COUNTS))
def test_a_server_survives(benchmark, name):
    faults = benchmark("serving_faults")
    assert faults.CASES.keys() == COUNTS.keys()
    figures = {}
    assert faults.CASES[name][1](COUNTS[name], figures) == COUNTS[name]
    if name == "L02":
        assert figures["same_seed_same_bytes"] == COUNTS[name] // 2
