import json
import sys

import pytest


@pytest.fixture
def report(root, monkeypatch):
    monkeypatch.syspath_prepend(str(root / "benchmarks"))
    import report

    yield report
    sys.modules.pop("report")


def test_a_report_is_one_json_line_that_says_where_it_was_measured(report, capsys):
    report.report("decode_speed", tokens_per_second=12.5)
    (line,) = capsys.readouterr().out.splitlines()
    answer = json.loads(line)
    assert answer["question"] == "decode_speed"
    assert answer["tokens_per_second"] == 12.5
    assert {"machine", "videopoet", "commit"} <= answer.keys()
    assert {"processor", "cores", "python", "torch"} <= answer["machine"].keys()


def test_warm_up_calls_are_not_timed(report, monkeypatch):
    clock = iter([100.0, 101.0, 200.0, 203.0, 300.0, 302.0])
    monkeypatch.setattr(report.time, "perf_counter", lambda: next(clock))
    calls = []
    timing = report.timed(lambda: calls.append(1), warmup=2, repeats=3)
    assert timing == (2.0, 2.0, 3)
    assert len(calls) == 5
