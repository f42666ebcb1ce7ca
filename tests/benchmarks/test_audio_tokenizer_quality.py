import pytest


@pytest.mark.parametrize(
    ("times", "others", "pairs"),
    [
        ([], [1.0], 0),
        ([1.0], [1.04], 1),
        ([1.0], [1.06], 0),
        ([1.0, 1.02], [1.01], 1),  # one partner each
        ([0.5, 1.0, 1.5], [0.52, 1.2, 1.48], 2),
    ],
)
def test_times_within_fifty_milliseconds_are_paired_once(benchmark, times, others, pairs):
    assert benchmark("audio_tokenizer_quality").num_pairs(times, others) == pairs


def test_f1_counts_what_is_missed_and_what_is_made_up(benchmark):
    f1 = benchmark("audio_tokenizer_quality").f1
    assert f1([([1.0, 2.0], [1.0, 2.0]), ([], [])]) == 100
    assert f1([([1.0], [1.0, 2.0]), ([3.0], [])]) == 50
    assert f1([([], [])]) == 100
