"""Percentiles, paired ratios and verdicts; pure functions that know nothing about serving.

A number the sample cannot support is None, and "no significant difference" is an answer.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from apexbench.errors import UsageError
from apexbench.result import Quantiles, Verdict

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

PERCENTILES = {"p50": 0.50, "p90": 0.90, "p99": 0.99}

QUANTILE_CONFIDENCE = 0.99
"""How sure we want to be that two samples lie beyond a quantile before we report it."""

MIN_RELEVANT_EFFECT = 0.01
"""Ratios within 1 % of 1 are never called better or worse.

Seeds of a simulator can agree to many digits, so an interval alone would call a difference of
0.01 % significant; the step program itself is only held to 1 % of its closed formulas.
"""


@cache
def samples_needed(q: float) -> int:
    """Fewest independent samples that support the q-quantile, 0 < q < 1.

    The smallest n with P(Binomial(n, min(q, 1 - q)) <= 1) <= 1 - QUANTILE_CONFIDENCE, so that with
    99 % confidence at least two samples lie beyond the true quantile and no single outlier is the
    answer: 11 for p50, 64 for p90, 662 for p99. This is the early-stopping rule of MLPerf Inference
    (LoadGen, single stream: 64 queries for p90, 662 for p99). Samples of one run depend on each
    other, which makes it a lower bound.
    """
    tail = min(q, 1 - q)
    if not tail > 0:
        raise UsageError(f"quantile {q} cannot be estimated; give a number between 0 and 1")
    n = 1
    while (1 - tail) ** (n - 1) * (1 - tail + n * tail) > 1 - QUANTILE_CONFIDENCE:
        n += 1
    return n


def percentile(sorted_values: ArrayLike, q: float) -> float | None:
    """The q-quantile of ascending values, or None below `samples_needed(q)` samples.

    Linear interpolation between order statistics (Hyndman and Fan 1996, type 7; numpy's default).
    """
    values = np.asarray(sorted_values, dtype=np.float64)
    return _percentile(values, np.arange(1, values.size + 1), q)


def quantiles(values: ArrayLike) -> Quantiles:
    """Mean, p50, p90 and p99 of values in any order; the unit is theirs."""
    array = np.sort(np.asarray(values, dtype=np.float64))
    return _summary(array, np.arange(1, array.size + 1))


def weighted_quantiles(values: ArrayLike, counts: ArrayLike) -> Quantiles:
    """The same summary of a histogram: equal to `quantiles` of each value repeated `counts` times.

    values, counts: [bins]; counts are non-negative integers.
    """
    array = np.asarray(values, dtype=np.float64)
    repeats = np.asarray(counts, dtype=np.int64)
    order = np.argsort(array, kind="stable")
    return _summary(array[order], np.cumsum(repeats[order]))


def _summary(ascending: FloatArray, cumulative: IntArray) -> Quantiles:
    """`cumulative[i]` samples are at most `ascending[i]`."""
    n = int(cumulative[-1]) if cumulative.size else 0
    if n == 0:
        return Quantiles(mean=None, p50=None, p90=None, p99=None, n=0)
    mean = float(np.sum(ascending * np.diff(cumulative, prepend=0)) / n)
    values = {name: _percentile(ascending, cumulative, q) for name, q in PERCENTILES.items()}
    return Quantiles(mean=mean, **values, n=n)


def _percentile(ascending: FloatArray, cumulative: IntArray, q: float) -> float | None:
    n = int(cumulative[-1]) if cumulative.size else 0
    if n < samples_needed(q):
        return None
    position = (n - 1) * q
    low, high = math.floor(position), math.ceil(position)
    below, above = ascending[np.searchsorted(cumulative, [low, high], side="right")]
    return float(below + (above - below) * (position - low))


@dataclass(frozen=True, slots=True)
class PairedRatio:
    """candidate / baseline over `n` pairs; `dropped` pairs had no positive value on both sides.

    `ratio` is None when no pair is left; the interval is None below two pairs.
    """

    ratio: float | None
    ci_low: float | None
    ci_high: float | None
    n: int
    dropped: int = 0


def paired_log_ratio(
    candidate: Sequence[float | None],
    baseline: Sequence[float | None],
    confidence: float = 0.95,
) -> PairedRatio:
    """Geometric mean of candidate[i] / baseline[i] with Student's t-interval on the log ratios.

    Pairing (same seed, same requests) takes the variation between workloads out of the interval;
    logs make swapping the two sides give exactly the inverse. Both sequences have equal length.
    """
    if not 0 < confidence < 1:
        raise UsageError(f"confidence {confidence} is not between 0 and 1; 0.95 is usual")
    paired = [_log_ratio(c, b) for c, b in zip(candidate, baseline, strict=True)]
    logs = [value for value in paired if value is not None]
    dropped = len(paired) - len(logs)
    if not logs:
        return PairedRatio(None, None, None, 0, dropped)
    mean = math.fsum(logs) / len(logs)
    if len(logs) == 1:
        return PairedRatio(math.exp(mean), None, None, 1, dropped)
    margin = _t_margin(logs, mean, confidence)
    low, high = math.exp(mean - margin), math.exp(mean + margin)
    return PairedRatio(math.exp(mean), low, high, len(logs), dropped)


def _t_margin(values: Sequence[float], mean: float, confidence: float) -> float:
    """Half width of the t-interval: t(n - 1) * s / sqrt(n)."""
    from scipy.special import stdtrit  # noqa: PLC0415 - slow to import, needed by comparisons only

    n = len(values)
    variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
    return float(stdtrit(n - 1, (1 + confidence) / 2)) * math.sqrt(variance / n)


def _log_ratio(candidate: float | None, baseline: float | None) -> float | None:
    """None where a side is missing, zero, negative or not finite: such a pair has no ratio."""
    if candidate is None or baseline is None:
        return None
    if not (0 < candidate < math.inf and 0 < baseline < math.inf):
        return None
    return math.log(candidate) - math.log(baseline)


def verdict(ratio: PairedRatio, higher_is_better: bool) -> Verdict:
    """Better or worse only if the interval excludes 1 and the effect is relevant.

    The effect must also be at least MIN_RELEVANT_EFFECT either way: being certain of a difference
    does not make it matter. One pair has no interval and so no verdict.
    """
    if ratio.ratio is None or ratio.ci_low is None or ratio.ci_high is None:
        return "no_significant_difference"
    if ratio.ci_low <= 1 <= ratio.ci_high:
        return "no_significant_difference"
    if abs(math.log(ratio.ratio)) < math.log1p(MIN_RELEVANT_EFFECT):
        return "no_significant_difference"
    return "better" if (ratio.ratio > 1) == higher_is_better else "worse"
