"""Numbers behind the figures: intervals, distances between sets, one-to-one matching, agreement. Nothing of video."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from videopoet.errors import DataError

DRAWS = 2000
"""Redraws behind an interval."""
Floats = NDArray[np.float64]


class Interval(NamedTuple):
    """Where 95 of 100 repetitions of the measurement would lie."""

    low: float
    high: float


def ratio(parts: Floats) -> float:
    """Sum of numerators over sum of denominators, of (N, 2); a mean has denominators of 1. NaN of nothing."""
    below = float(parts[:, 1].sum())
    return float(parts[:, 0].sum()) / below if below else math.nan


def median(parts: Floats) -> float:
    """The middle numerator, of (N, 2) with denominators of 1; NaN of nothing."""
    return float(np.median(parts[:, 0])) if len(parts) else math.nan


def bootstrap_median(parts: Floats, draws: int = DRAWS, seed: int = 0) -> Interval | None:
    """Between which values 95 of 100 redraws of the rows put `median` of (N, 2); None of nothing.

    A row is all that belongs to one prompt: prompts are redrawn, not clips.
    """
    if not len(parts):
        return None
    chosen = np.random.default_rng(seed).integers(len(parts), size=(draws, len(parts)))
    low, high = np.percentile(np.median(parts[:, 0][chosen], axis=1), [2.5, 97.5])
    return Interval(float(low), float(high))


def bootstrap_ratio(parts: Floats, draws: int = DRAWS, seed: int = 0, *, is_share: bool = True) -> Interval | None:
    """The same for `ratio`.

    Where all of N rows of a share hit, or none does, redraws know nothing of the misses that might be: there the open
    end is what 19 of 20 such samples allow, 1 - 0.05^(1/N), about 3 / N. Of what is no share, such as a mean of levels
    that are all 0, nothing is known of how far a rare one would be off, and both ends are the value.
    """
    if not len(parts) or not parts[:, 1].any():
        return None
    random = np.random.default_rng(seed)
    numerators, denominators = np.empty(draws), np.empty(draws)
    for start in range(0, draws, 250):  # in parts, so that the redraws of many prompts need little memory
        chosen = random.integers(len(parts), size=(min(250, draws - start), len(parts)))
        numerators[start : start + 250], denominators[start : start + 250] = parts[chosen].sum(axis=1).T
    values = numerators[denominators > 0] / denominators[denominators > 0]
    low, high = np.percentile(values, [2.5, 97.5])
    if is_share and np.isin(parts[:, 0] / np.where(parts[:, 1] > 0, parts[:, 1], 1), (0, 1)).all() and low == high:
        unseen = 1 - 0.05 ** (1 / int((parts[:, 1] > 0).sum()))
        low, high = (0.0, unseen) if not high else (1 - unseen, 1.0)
    return Interval(float(low), float(high))


def interval_around(value: float, redraws: Sequence[float]) -> Interval | None:
    """The value and 1.96 standard errors to both sides, as the spread of redraws has them; None where they are all one.

    The standard interval of Efron and Tibshirani (1993, chapter 12). Figures of sets, such as evenness or distances,
    depend on how many different clips a set holds. Redraws hold fewer and lie to one side of the value, so that their
    percentiles miss it: only their spread is taken. How far the value itself lies off that of an endless set stands
    beside it, in the value of as many true clips.
    """
    spread = float(np.std(redraws, ddof=1)) if len(redraws) > 1 else 0.0
    return Interval(value - 1.959964 * spread, value + 1.959964 * spread) if spread else None


def share_interval(hits: int, count: int) -> Interval:
    """Wilson's interval of a share: what `count` independent trials with `hits` successes say."""
    if not count:
        return Interval(0.0, 1.0)
    z = 1.959964
    share, spread = hits / count, 1 + z * z / count
    middle = (share + z * z / (2 * count)) / spread
    half = z / spread * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return Interval(max(0.0, middle - half), min(1.0, middle + half))


def frechet_distance(features: Floats, reference: Floats) -> float:
    """Frechet distance between Gaussians fitted to two sets of features, (N, D) and (M, D); 0 of equal sets.

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) with unbiased covariances. The trace of the root is that of the
    symmetric C1^(1/2) C2 C1^(1/2), so that no complex number occurs.

    Raises:
        DataError: A set has fewer than two rows, or the sets have different widths.
    """
    _check_sets(features, reference)
    shift = features.mean(axis=0) - reference.mean(axis=0)
    first, second = (np.atleast_2d(np.cov(one, rowvar=False)) for one in (features, reference))
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ second @ root).clip(0)).sum()
    return float(max(0.0, shift @ shift + np.trace(first) + np.trace(second) - 2 * cross))


def scaled_frechet_distance(features: Floats, reference: Floats, least: Floats | float = 1e-6) -> float:
    """`frechet_distance` with each feature over its spread in the reference, `least` at least.

    Raises:
        DataError: A set has fewer than two rows, or the sets have different widths.
    """
    return frechet_distance(*over_spread(features, reference, least))


def over_spread(features: Floats, reference: Floats, least: Floats | float = 1e-6) -> tuple[Floats, Floats]:
    """Two sets of rows, (N, D) and (M, D), with each feature over its spread in the reference, `least` at least.

    Raises:
        DataError: A set has fewer than two rows, or the sets have different widths.
    """
    _check_sets(features, reference)
    scale = np.maximum(reference.std(axis=0), least)
    return features / scale, reference / scale


def maximum_mean_discrepancy(features: Floats, reference: Floats, width: float = 1.0) -> float:
    """Unbiased squared MMD of two sets of rows with a Gaussian kernel; around 0, also below, of equal laws.

    Args:
        features: Rows, (N, D).
        reference: Rows, (M, D).
        width: The kernel's, in medians of the rows' squared distances.

    Raises:
        DataError: A set has fewer than two rows, or the sets have different widths.
    """
    _check_sets(features, reference)
    both = np.concatenate([features, reference])
    squares = np.square(both).sum(axis=1)
    distances = (squares[:, None] + squares - 2 * both @ both.T).clip(0)
    wide = float(np.median(distances[~np.eye(len(both), dtype=bool)])) or 1.0
    kernel = np.exp(-distances / (width * wide))
    n, m = len(features), len(reference)
    own, other = kernel[:n, :n], kernel[n:, n:]
    within = (own.sum() - np.trace(own)) / (n * (n - 1)) + (other.sum() - np.trace(other)) / (m * (m - 1))
    return float(within - 2 * kernel[:n, n:].mean())


def assign(costs: Floats) -> list[tuple[int, int]]:
    """The one-to-one pairs of rows and columns, (N, M), of the least total cost, min(N, M) of them (Hungarian method).

    Ties go to the earlier columns; costs must be finite.
    """
    costs = np.asarray(costs, dtype=float)
    if costs.size == 0:
        return []
    if costs.shape[0] > costs.shape[1]:
        return sorted((row, column) for column, row in assign(costs.T))
    num_rows, num_columns = costs.shape
    row_prices, column_prices = np.zeros(num_rows + 1), np.zeros(num_columns + 1)
    owner = np.zeros(num_columns + 1, dtype=int)  # 1-based rows; 0 is free, and column 0 holds the row being placed
    for row in range(1, num_rows + 1):
        owner[0], column = row, 0
        least, came_from = np.full(num_columns + 1, np.inf), np.zeros(num_columns + 1, dtype=int)
        used = np.zeros(num_columns + 1, dtype=bool)
        while owner[column]:
            used[column] = True
            reduced = costs[owner[column] - 1] - row_prices[owner[column]] - column_prices[1:]
            better = ~used[1:] & (reduced < least[1:])
            least[1:][better], came_from[1:][better] = reduced[better], column
            following = 1 + int(np.where(used[1:], np.inf, least[1:]).argmin())
            step = least[following]
            row_prices[owner[used]] += step
            column_prices[used] -= step
            least[~used] -= step
            column = following
        while column:
            owner[column] = owner[came_from[column]]
            column = int(came_from[column])
    return sorted((int(owner[column]) - 1, column - 1) for column in range(1, num_columns + 1) if owner[column])


def match_times(found: Sequence[float], true: Sequence[float], tolerance: float) -> list[tuple[int, int]]:
    """The most pairs of times, one partner each, that are at most `tolerance` apart; both are in order."""
    pairs, i, j = [], 0, 0
    while i < len(found) and j < len(true):
        if abs(found[i] - true[j]) <= tolerance:
            pairs.append((i, j))
            i, j = i + 1, j + 1
        elif found[i] < true[j]:
            i += 1
        else:
            j += 1
    return pairs


def entropy(values: Sequence[Hashable], num_possible: int) -> float:
    """How evenly values spread over what is possible, from 0 (always the same) to 1 (all equally often)."""
    if num_possible < 2 or not values:
        return math.nan
    shares = np.array(list(Counter(values).values())) / len(values)
    return abs(float((shares * np.log(shares)).sum() / math.log(num_possible)))


def total_variation(found: Mapping[Hashable, float], expected: Mapping[Hashable, float]) -> float:
    """Half the sum of differences of two distributions, each given as weights: 0 where they are equal, at most 1."""
    sums = sum(found.values()), sum(expected.values())
    keys = found.keys() | expected.keys()
    return 0.5 * sum(abs(found.get(key, 0) / sums[0] - expected.get(key, 0) / sums[1]) for key in keys)


def fleiss_kappa(counts: Floats) -> float:
    """Agreement beyond chance, of how many raters chose each of the answers, (items, answers); NaN where all agree by
    having only one answer.

    Raises:
        DataError: Items have different numbers of raters, or fewer than two.
    """
    counts = np.asarray(counts, dtype=float)
    raters = counts.sum(axis=1)
    if not len(counts) or (raters != raters[0]).any() or raters[0] < 2:
        raise DataError(
            f"items were rated by {sorted(set(raters.astype(int).tolist()))} raters; Fleiss' kappa needs two or more, "
            "the same number for each; use Krippendorff's alpha",
            code="raters_unequal",
        )
    each = ((counts**2).sum(axis=1) - raters) / (raters * (raters - 1))
    chance = float(((counts.sum(axis=0) / counts.sum()) ** 2).sum())
    return float((each.mean() - chance) / (1 - chance)) if chance < 1 else math.nan


def krippendorff_alpha(answers: Sequence[Sequence[Hashable]]) -> float:
    """Agreement beyond chance on nominal answers, a sequence per item, raters missing at will; NaN where there is
    nothing to disagree on: no item with two answers, or one answer everywhere.
    """
    pairable = [list(item) for item in answers if len(item) > 1]
    total = Counter(answer for item in pairable for answer in item)
    count = sum(total.values())
    apart = sum((len(item) ** 2 - sum(n * n for n in Counter(item).values())) / (len(item) - 1) for item in pairable)
    expected = count**2 - sum(n * n for n in total.values())
    return 1 - (count - 1) * apart / expected if expected else math.nan


def _check_sets(features: Floats, reference: Floats) -> None:
    if features.ndim != 2 or reference.ndim != 2 or features.shape[1] != reference.shape[1]:
        raise DataError(
            f"features have shapes {features.shape} and {reference.shape}; two sets of one width compare; compute "
            "both the same way",
            code="features_differ",
        )
    if min(len(features), len(reference)) < 2:
        raise DataError(
            f"the sets have {len(features)} and {len(reference)} clips; a distance needs two or more of each; measure "
            "more clips",
            code="too_few_samples",
        )
