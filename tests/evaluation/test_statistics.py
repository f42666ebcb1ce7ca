import math

import numpy as np
import pytest

from videopoet.errors import DataError
from videopoet.evaluation import statistics

RANDOM = np.random.default_rng(0)


def gaussian(mean, spread, count=20_000):
    return mean + spread * np.random.default_rng(1).standard_normal((count, 2))


def test_equal_sets_are_no_distance_apart():
    features = RANDOM.standard_normal((50, 4))
    assert statistics.frechet_distance(features, features) == pytest.approx(0, abs=1e-6)


def test_a_shift_alone_is_its_square_apart():
    features = RANDOM.standard_normal((50, 3))
    moved = features + [3.0, 0.0, 4.0]
    assert statistics.frechet_distance(features, moved) == pytest.approx(25, rel=1e-6)


def test_two_gaussians_are_as_far_apart_as_the_closed_form_says():
    distance = statistics.frechet_distance(gaussian(0.0, 1.0), gaussian(1.0, 3.0))
    assert distance == pytest.approx(2 * 1.0 + 2 * (3 - 1) ** 2, rel=0.03)


def test_correlated_gaussians_agree_with_the_matrix_root_of_scipy():
    linalg = pytest.importorskip("scipy.linalg")
    one, other = RANDOM.standard_normal((40, 5)) @ RANDOM.standard_normal((5, 5)), RANDOM.standard_normal((60, 5))
    first, second = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    shift = one.mean(0) - other.mean(0)
    expected = shift @ shift + np.trace(first + second - 2 * linalg.sqrtm(first @ second).real)
    assert statistics.frechet_distance(one, other) == pytest.approx(expected, rel=1e-6)


def test_fewer_clips_than_features_still_have_a_distance():
    one, other = RANDOM.standard_normal((5, 30)), RANDOM.standard_normal((6, 30)) + 10
    assert 3000 < statistics.frechet_distance(one, other) < 3500


def test_a_scaled_distance_knows_no_units_and_no_spread_below_the_least():
    one, other = gaussian(0.0, 1.0, 500), gaussian(0.5, 2.0, 500)
    units = np.array([1000.0, 0.001])
    expected = statistics.scaled_frechet_distance(one, other)
    assert statistics.scaled_frechet_distance(one * units, other * units) == pytest.approx(expected, rel=1e-6)
    still = np.zeros((5, 2))
    assert statistics.scaled_frechet_distance(still + 1, still, 0.5) == pytest.approx(8)


@pytest.mark.parametrize("shapes", [((1, 3), (5, 3)), ((5, 3), (5, 4)), ((5,), (5, 1))])
@pytest.mark.parametrize("distance", [statistics.frechet_distance, statistics.maximum_mean_discrepancy])
def test_sets_that_cannot_be_compared_are_refused(distance, shapes):
    with pytest.raises(DataError):
        distance(*(np.zeros(shape) for shape in shapes))


def test_discrepancy_is_about_zero_for_one_law_and_more_for_two():
    def draw(seed, mean):
        return mean + np.random.default_rng(seed).standard_normal((300, 3))

    assert abs(statistics.maximum_mean_discrepancy(draw(1, 0), draw(2, 0))) < 0.01
    assert statistics.maximum_mean_discrepancy(draw(1, 0), draw(2, 1)) > 0.1


@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (2, 5), (5, 2), (6, 6), (0, 3)])
def test_matching_costs_as_little_as_scipy_finds(shape):
    optimize = pytest.importorskip("scipy.optimize")
    for seed in range(20):
        costs = np.random.default_rng(seed).integers(0, 9, shape).astype(float)
        pairs = statistics.assign(costs)
        rows, columns = optimize.linear_sum_assignment(costs)
        assert len(pairs) == min(shape) == len({row for row, _ in pairs}) == len({column for _, column in pairs})
        assert sum(costs[pair] for pair in pairs) == costs[rows, columns].sum()


@pytest.mark.parametrize(
    ("found", "true", "matched"),
    [
        ([], [1.0], 0),
        ([1.0], [1.05], 1),
        ([1.0], [1.06], 0),
        ([1.0, 1.01], [1.02], 1),
        ([0.96, 1.04], [1.0, 1.08], 2),
        ([0.5, 1.0, 1.5], [0.52, 1.49], 2),
    ],
)
def test_times_are_matched_one_to_one(found, true, matched):
    pairs = statistics.match_times(found, true, 0.0501)
    assert len(pairs) == matched
    assert all(abs(found[i] - true[j]) <= 0.0501 for i, j in pairs)


def test_the_interval_of_a_share_is_as_wide_as_the_binomial_says():
    parts = np.ones((500, 2))
    parts[::2, 0] = 0
    low, high = statistics.bootstrap_ratio(parts)
    assert low == pytest.approx(0.456, abs=0.006) and high == pytest.approx(0.544, abs=0.006)


@pytest.mark.parametrize(("hit", "expected"), [(1.0, (0.994, 1.0)), (0.0, (0.0, 0.006))])
def test_no_failure_of_500_still_allows_some(hit, expected):
    parts = np.column_stack([np.full(500, hit), np.ones(500)])
    assert statistics.bootstrap_ratio(parts) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_a_level_that_is_always_0_or_1_is_no_share_and_opens_no_end(level):
    parts = np.column_stack([np.full(20, level), np.ones(20)])
    assert statistics.bootstrap_ratio(parts, is_share=False) == (level, level)


def test_a_ratio_pools_what_the_prompts_have():
    parts = np.array([[1.0, 4.0], [1.0, 1.0], [0.0, 0.0]])
    assert statistics.ratio(parts) == pytest.approx(0.4)
    assert math.isnan(statistics.ratio(np.zeros((3, 2)))) and statistics.bootstrap_ratio(np.zeros((3, 2))) is None


def test_equal_seeds_give_equal_intervals():
    rows = RANDOM.standard_normal((30, 2))
    assert statistics.bootstrap_median(rows, 100) == statistics.bootstrap_median(rows, 100)
    low, high = statistics.bootstrap_median(rows, 500)
    assert low <= statistics.median(rows) <= high


def test_wilsons_interval_is_the_published_one():
    assert statistics.share_interval(10, 100) == pytest.approx((0.0552, 0.1744), abs=1e-4)
    assert statistics.share_interval(0, 0) == (0.0, 1.0)


def test_entropy_is_0_of_one_value_and_1_of_all_equally_often():
    assert statistics.entropy(["a"] * 5, 4) == 0
    assert statistics.entropy(["a", "b", "c", "d"], 4) == pytest.approx(1)
    assert statistics.entropy(["a", "b"], 4) == pytest.approx(0.5)


def test_total_variation_is_1_where_nothing_is_shared():
    assert statistics.total_variation({"a": 2}, {"b": 5}) == 1
    assert statistics.total_variation({"a": 1, "b": 1}, {"a": 3, "b": 1}) == pytest.approx(0.25)


def test_fleiss_kappa_is_that_of_the_published_example():
    counts = [
        [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
    ]  # fmt: skip
    assert statistics.fleiss_kappa(np.array(counts)) == pytest.approx(0.210, abs=5e-4)
    with pytest.raises(DataError, match="Krippendorff"):
        statistics.fleiss_kappa(np.array([[2, 0], [1, 0]]))


def test_krippendorffs_alpha_is_that_of_the_published_example():
    raters = [
        "* * * * * 3 4 1 2 1 1 3 3 * 3".split(),
        "1 * 2 1 3 3 4 3 * * * * * * *".split(),
        "* * 2 1 3 4 4 * 2 1 1 3 3 * 4".split(),
    ]
    items = [[one[i] for one in raters if one[i] != "*"] for i in range(15)]
    assert statistics.krippendorff_alpha(items) == pytest.approx(0.691, abs=5e-4)
    assert math.isnan(statistics.krippendorff_alpha([["a", "a"], ["a"]]))
