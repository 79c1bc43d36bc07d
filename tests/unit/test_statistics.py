import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apexbench.errors import UsageError
from apexbench.statistics import (
    MIN_RELEVANT_EFFECT,
    PairedRatio,
    paired_log_ratio,
    percentile,
    quantiles,
    samples_needed,
    verdict,
    weighted_quantiles,
)


def binomial_at_most_one(n: int, p: float) -> float:
    """Term by term, unlike the closed form under test."""
    return math.fsum(math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in (0, 1))


@pytest.mark.parametrize(("q", "n"), [(0.5, 11), (0.9, 64), (0.99, 662)])
def test_needed_samples_are_those_of_mlperf_and_the_binomial_tail(q: float, n: int) -> None:
    assert samples_needed(q) == n
    assert binomial_at_most_one(n, 1 - q) <= 0.01 < binomial_at_most_one(n - 1, 1 - q)


def test_low_quantiles_need_as_many_as_high_ones() -> None:
    assert samples_needed(0.1) == samples_needed(0.9)


@pytest.mark.parametrize("q", [0.0, 1.0, -0.1, 1.5, math.nan])
def test_extremes_are_not_quantiles(q: float) -> None:
    with pytest.raises(UsageError, match="between 0 and 1"):
        samples_needed(q)


def test_percentile_is_refused_one_sample_early_and_numpys_afterwards() -> None:
    values = np.sort(np.random.default_rng(1).lognormal(size=662))
    assert percentile(values[:63], 0.9) is None
    assert percentile(values[:64], 0.9) == pytest.approx(np.quantile(values[:64], 0.9))
    assert percentile(values[:661], 0.99) is None
    assert percentile(values, 0.99) == pytest.approx(np.quantile(values, 0.99))


def test_summary_of_nothing_is_honest() -> None:
    for summary in (quantiles([]), weighted_quantiles([], []), weighted_quantiles([3.0], [0])):
        assert (summary.mean, summary.p50, summary.p90, summary.p99, summary.n) == (None,) * 4 + (
            0,
        )


def test_summary_of_one_has_a_mean_only() -> None:
    summary = quantiles([2.5])
    assert (summary.mean, summary.p50, summary.n) == (2.5, None, 1)


@given(
    bins=st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 40)), max_size=30),
    seed=st.integers(0, 2**32),
)
def test_a_histogram_says_the_same_as_its_samples(bins: list[tuple[int, int]], seed: int) -> None:
    values = [float(value) for value, _ in bins]
    counts = [count for _, count in bins]
    samples = np.random.default_rng(seed).permutation(np.repeat(values, counts))
    expected, found = quantiles(samples), weighted_quantiles(values, counts)
    assert found.n == expected.n == samples.size
    assert (found.p50, found.p90, found.p99) == (expected.p50, expected.p90, expected.p99)
    assert found.mean == pytest.approx(expected.mean)


def test_t_interval_equals_scipys() -> None:
    from scipy import stats

    candidate, baseline = [2.2, 1.9, 2.4, 2.0], [1.0, 1.1, 1.2, 0.9]
    result = paired_log_ratio(candidate, baseline)
    logs = np.log(candidate) - np.log(baseline)
    low, high = stats.t.interval(0.95, 3, loc=logs.mean(), scale=stats.sem(logs))
    assert result.ratio == pytest.approx(stats.gmean(np.divide(candidate, baseline)))
    assert result.ci_low == pytest.approx(math.exp(low))
    assert result.ci_high == pytest.approx(math.exp(high))
    assert result.n == 4


def test_t_interval_of_two_pairs_by_hand() -> None:
    # logs 0 and ln 4: mean ln 2, s = ln 4 / sqrt 2, s / sqrt n = ln 2, t(1, 0.975) = 12.7062
    result = paired_log_ratio([1.0, 4.0], [1.0, 1.0])
    assert result.ratio == pytest.approx(2.0)
    assert result.ci_high == pytest.approx(2 ** (1 + 12.7062047), rel=1e-6)
    assert result.ci_low == pytest.approx(2 ** (1 - 12.7062047), rel=1e-6)


def test_one_pair_has_no_interval_and_no_verdict() -> None:
    result = paired_log_ratio([3.0], [1.5])
    assert result.ratio == pytest.approx(2.0)
    assert result == PairedRatio(result.ratio, None, None, 1, 0)
    assert verdict(result, higher_is_better=True) == "no_significant_difference"


def test_pairs_without_a_ratio_are_dropped_and_counted() -> None:
    result = paired_log_ratio([None, 0.0, -1.0, math.inf, 4.0], [1.0, 1.0, 1.0, 1.0, 2.0])
    assert (result.ratio, result.n, result.dropped) == (pytest.approx(2.0), 1, 4)
    empty = paired_log_ratio([0.0], [None])
    assert (empty.ratio, empty.n, empty.dropped) == (None, 0, 1)
    assert verdict(empty, higher_is_better=True) == "no_significant_difference"


def test_unequal_lengths_are_not_paired() -> None:
    with pytest.raises(ValueError, match="argument 2 is longer"):
        paired_log_ratio([1.0], [1.0, 2.0])


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0])
def test_confidence_is_a_fraction(confidence: float) -> None:
    with pytest.raises(UsageError, match="is not between 0 and 1"):
        paired_log_ratio([1.0], [1.0], confidence)


@pytest.mark.parametrize(
    ("low", "ratio", "high", "when_higher", "when_lower"),
    [
        (1.1, 1.2, 1.3, "better", "worse"),
        (0.7, 0.8, 0.9, "worse", "better"),
        (0.9, 1.2, 1.6, "no_significant_difference", "no_significant_difference"),
        (1.0, 1.2, 1.5, "no_significant_difference", "no_significant_difference"),
        # certain, but smaller than what matters
        (1.004, 1.005, 1.006, "no_significant_difference", "no_significant_difference"),
        (0.994, 0.995, 0.996, "no_significant_difference", "no_significant_difference"),
    ],
)
def test_verdicts(low: float, ratio: float, high: float, when_higher: str, when_lower: str) -> None:
    found = PairedRatio(ratio, low, high, 3)
    assert verdict(found, higher_is_better=True) == when_higher
    assert verdict(found, higher_is_better=False) == when_lower


def test_relevance_is_symmetric() -> None:
    up = PairedRatio(1.0101, 1.01, 1.0102, 5)
    down = PairedRatio(1 / 1.0101, 1 / 1.0102, 1 / 1.01, 5)
    assert MIN_RELEVANT_EFFECT < 0.0101
    assert (verdict(up, True), verdict(down, True)) == ("better", "worse")
