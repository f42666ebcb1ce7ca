import json

import pytest

from videopoet.evaluation.figures import Result
from videopoet.evaluation.report_page import HEADLINE
from videopoet.evaluation.suites import SUITES


@pytest.fixture
def headline(benchmark):
    return benchmark("headline")


def figure(metric, name, value, tokenizer, unit="%", better="higher", **more):
    return {
        **dict.fromkeys(Result.__dataclass_fields__),
        "metric": metric,
        "number": "M2",
        "figure": name,
        "unit": unit,
        "better": better,
        "value": value,
        "interval": [value / 2, value * 2],
        "prompts": 48,
        "tokenizer": tokenizer,
        "truth": 1.0,
        **more,
    }


@pytest.fixture
def folder(tmp_path):
    """A small report, made up: of three suites, and one that was left out."""
    report = {
        "model": "mine",
        "model_sha256": "ab" * 32,
        "commit": None,
        "date": "2025-01-31",
        "split": "in",
        "suites": ["text_to_video", "video_continuation", "video_captioning", "tokenizer", "minimal_pairs"],
        "measured": {
            "text_to_video": {
                "figures": [
                    figure("slot_fidelity", "slots", 0.5, 0.6),
                    figure("all_correct", "all_correct", 0.2, 0.5, chance=0.01),
                    figure("temporal_consistency", "identity", 0.0, 0.0),
                ]
            },
            "video_continuation": {"figures": [figure("physics", "position_8", 4.0, 1.0, "px", "lower")]},
            "video_captioning": {"figures": [figure("captioning", "all_correct", 0.1, None)]},
            "tokenizer": {"figures": [figure("reconstruction", "survival", 0.25, 0.25)]},
        },
        "not_measured": {
            "text_to_video: trajectory_frechet": "it needs 400 prompts, there are 48",
            "minimal_pairs": "this model was not trained for text_to_video",
        },
    }
    (tmp_path / "report.json").write_text(json.dumps(report))
    return tmp_path


def test_each_headline_figure_has_its_interval_ceiling_share_and_count(headline, folder, capsys):
    headline.main([str(folder), "--json"])
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    found = {(row["suite"], row["figure"]): row for row in rows if "value" in row}
    assert list(found) == [
        ("text_to_video", "all_correct"),
        ("text_to_video", "identity"),
        ("video_continuation", "position_8"),
        ("video_captioning", "all_correct"),
        ("tokenizer", "survival"),
    ]
    first = found["text_to_video", "all_correct"]
    assert (first["value"], first["interval"], first["prompts"], first["chance"]) == (0.2, [0.1, 0.4], 48, 0.01)
    assert (first["ceiling"], first["share"]) == (0.5, 0.4)
    assert found["video_continuation", "position_8"]["share"] == 0.25  # four times as far off as its ceiling
    assert found["tokenizer", "survival"]["ceiling"] == 1.0 and found["tokenizer", "survival"]["share"] == 0.25
    assert (
        found["text_to_video", "identity"]["share"] is None
        and found["video_captioning", "all_correct"]["share"] is None
    )


def test_what_is_not_measured_is_said_with_the_reason(headline, folder, capsys):
    headline.main([str(folder)])
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == "mine, abababababab, commit unknown, 2025-01-31"
    assert any("tfd" in line and "needs 400 prompts" in line for line in lines)
    assert any("minimal_pairs" in line and "not trained" in line for line in lines)
    assert "20.0% (10.0% to 40.0%)" in lines[0] and "share   40.0%" in lines[0] and lines[0].endswith("N 48")
    assert max(map(len, lines)) < 160


def test_every_suite_that_judges_answers_has_a_headline(headline):
    assert {suite for suite in SUITES if not headline.wanted(suite)} == {"open_prompts"}
    assert {suite for suite, _, _ in HEADLINE} <= set(SUITES)


def test_a_folder_without_a_report_is_refused_in_one_line(headline, tmp_path, capsys):
    with pytest.raises(SystemExit):
        headline.main([str(tmp_path)])
    assert "videopoet evaluate -o" in capsys.readouterr().err.splitlines()[-1]
