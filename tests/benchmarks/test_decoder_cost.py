def test_a_difference_is_taken_prompt_by_prompt(benchmark):
    difference = benchmark("decoder_cost").difference
    ones, others = [True, True, False, True] * 16, [True, False, False, True] * 16
    mean, low, high = difference(ones, others)
    assert mean == 25.0
    assert 5 < low < mean < high < 45
    assert difference(ones, ones) == (0.0, 0.0, 0.0)
