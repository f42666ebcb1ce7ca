import pytest


@pytest.fixture
def held_out(benchmark):
    return benchmark("held_out")


@pytest.mark.parametrize(("hits", "expected"), [([True, False, True, True], 75.0), ([False], 0.0), ([], None)])
def test_percent_counts_what_is_right(held_out, hits, expected):
    assert held_out.percent(hits) == expected


def test_an_interval_holds_the_share_and_narrows_with_more(held_out):
    few, many = (held_out.interval([True, False] * count) for count in (10, 1000))
    for low, high in (few, many):
        assert low < 50 < high
    assert many[1] - many[0] < 8 < few[1] - few[0]
    assert held_out.interval([True] * 10) == (100.0, 100.0)
    assert held_out.interval([]) is None
