"""Attention jobs as a line or as a curve, how far each is off, and how sure they are."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import median

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from apexbench.engine.attention_curve import AttentionCurve, curve_through
from apexbench.engine.executors.profiling.measurements import AttentionPoint
from apexbench.errors import InputError

Floats = NDArray[np.float64]

# A line that is off by more than this at one of the measured lengths may need corrections.
MAX_LINE_ERROR = 0.05
# Constants of a line: dispatch, row, rate.
LINE_PARAMETERS = 3
# No point is trusted to be better than this, however small its own spread: the memory of most
# machines wanders by that much from minute to minute.
LEAST_SPREAD = 0.03
# Of a normal distribution the interquartile range is this many standard deviations.
IQR_PER_SIGMA = 1.349
NUM_DRAWS, SEED = 64, 0
# Squared errors in units of the points' spread: below this a fit is exact.
NO_ERROR = 1e-12
# Bytes that explain less of the largest job do not determine a rate.
LEAST_SHARE_OF_BYTES = 0.01
# A constant of which nothing is known but its sign has this relative uncertainty.
MOST_SIGMA = 1.0


@dataclass(frozen=True, slots=True)
class Errors:
    """Relative errors of predictions: the median of their sizes, the largest, and how many."""

    median: float
    largest: float
    n: int


@dataclass(frozen=True, slots=True)
class Line:
    """A job takes dispatch_s + rows x row_s + KV bytes / bytes_per_s."""

    dispatch_s: float
    row_s: float
    bytes_per_s: float

    def seconds(self, point: AttentionPoint) -> float:
        """What the job of `point` should take."""
        return self.dispatch_s + point.rows * self.row_s + point.kv_bytes / self.bytes_per_s


@dataclass(frozen=True)
class FittedCurve:
    """What a profile will say of one dtype, GQA group and number of threads.

    `factors` at `tokens` correct the line (see engine.measured_attention); all are 1 where the line
    is good enough, or too little was measured to tell. `dispatch_s` goes with them. Sigmas are
    relative.
    """

    line: Line
    dispatch_s: float
    tokens: tuple[int, ...]
    factors: tuple[float, ...]
    bytes_per_token: float
    rate_sigma: float = 0.0
    row_sigma: float = 0.0
    dispatch_sigma: float = 0.0

    @property
    def is_corrected(self) -> bool:
        """Whether it is more than a line."""
        return any(factor != 1 for factor in self.factors)

    def seconds(self, point: AttentionPoint) -> float:
        """What the job of `point` should take, rows of unequal lengths taken as equal ones."""
        return self.dispatch_s + self._rows.job_seconds(point.rows, point.kv_tokens)

    @cached_property
    def _rows(self) -> AttentionCurve:
        seconds = [
            factor * (self.line.row_s + length * self.bytes_per_token / self.line.bytes_per_s)
            for length, factor in zip(self.tokens, self.factors, strict=True)
        ]
        return curve_through(self.tokens, seconds)


def fit(points: Sequence[AttentionPoint]) -> FittedCurve:
    """The curve of jobs of equal rows of one dtype, group and number of threads.

    Sigmas add up what the points' own spreads make of the constants (seeded draws), what the rounds
    differ by, and for the rate how far the curve misses its points. InputError when the points do
    not determine a rate.
    """
    seconds = np.array([point.seconds for point in points])
    curve = _curve(points)
    sigmas = np.hypot(_drawn_sigmas(points, seconds), _round_sigmas(points))
    missed = float(np.sqrt(np.mean([_error(curve, point) ** 2 for point in points])))
    rate, row, dispatch = np.minimum(sigmas, MOST_SIGMA).tolist()
    return replace(
        curve,
        rate_sigma=min(MOST_SIGMA, float(np.hypot(rate, missed))),
        row_sigma=row,
        dispatch_sigma=dispatch,
    )


def errors_of(model: Line | FittedCurve, points: Sequence[AttentionPoint]) -> Errors | None:
    """How far `model` is off on these points; None without any."""
    if not points:
        return None
    found = [abs(_error(model, point)) for point in points]
    return Errors(median(found), max(found), len(found))


def fit_line(points: Sequence[AttentionPoint], seconds: Floats) -> Line:
    """Least squares of relative errors, weighted by the points' spreads, no constant negative."""
    dispatch_s, row_s, s_per_byte = _line_terms(points, seconds)
    largest = max(points, key=lambda point: point.kv_bytes)
    if s_per_byte * largest.kv_bytes < LEAST_SHARE_OF_BYTES * largest.seconds:
        raise InputError(
            "CPU attention took no longer for more KV, so no rate can be told; end other programs"
            " and measure again"
        )
    return Line(dispatch_s, row_s, 1.0 / s_per_byte)


def _line_terms(points: Sequence[AttentionPoint], seconds: Floats) -> list[float]:
    """Seconds of a job, of a row and of a byte."""
    terms = np.array([[1.0, point.rows, point.kv_bytes] for point in points])
    return _solve(terms, seconds, points)


def interpolated(points: Sequence[AttentionPoint]) -> FittedCurve:
    """The line with its corrections, whether it needs them or not."""
    seconds = np.array([point.seconds for point in points])
    line = fit_line(points, seconds)
    bytes_per_token = points[0].kv_bytes / points[0].kv_tokens
    tokens, dispatch_s, per_row = _knots(points, seconds)
    expected = [line.row_s + length * bytes_per_token / line.bytes_per_s for length in tokens]
    factors = [value / line_s for value, line_s in zip(per_row, expected, strict=True)]
    return FittedCurve(line, dispatch_s, tokens, tuple(factors), bytes_per_token)


def _curve(points: Sequence[AttentionPoint]) -> FittedCurve:
    """With corrections only where the line needs them."""
    found = interpolated(points)
    if _needs_corrections(found, points):
        return found
    return replace(found, dispatch_s=found.line.dispatch_s, factors=(1.0,) * len(found.tokens))


def _needs_corrections(curve: FittedCurve, points: Sequence[AttentionPoint]) -> bool:
    """Whether the line is off somewhere, and by more than noise explains."""
    if max(abs(factor - 1) for factor in curve.factors) <= MAX_LINE_ERROR:
        return False
    by_curve = _information(curve, points, 1 + len(curve.tokens))
    return by_curve < _information(curve.line, points, LINE_PARAMETERS)


def _information(
    model: Line | FittedCurve, points: Sequence[AttentionPoint], num_parameters: int
) -> float:
    """Akaike's criterion for small samples (Hurvich and Tsai, 1989): smaller is better.

    Of weighted relative errors; their variance is one parameter more.
    """
    n, k = len(points), num_parameters + 1
    if n <= k + 1:
        return math.inf
    squares = sum((_error(model, point) / _spread(point)) ** 2 for point in points)
    fit_term = n * math.log(max(squares / n, NO_ERROR))
    return fit_term + 2 * k + 2 * k * (k + 1) / (n - k - 1)


def _knots(
    points: Sequence[AttentionPoint], seconds: Floats
) -> tuple[tuple[int, ...], float, tuple[float, ...]]:
    """Lengths, seconds of a dispatch, and seconds per row of each length, all fitted together."""
    tokens = tuple(sorted({point.lengths[0] for point in points}))
    terms = np.zeros((len(points), 1 + len(tokens)))
    terms[:, 0] = 1.0
    for index, point in enumerate(points):
        terms[index, 1 + tokens.index(point.lengths[0])] = point.rows
    dispatch_s, *per_row = _solve(terms, seconds, points)
    return tokens, dispatch_s, curve_through(tokens, per_row).seconds


def _solve(terms: Floats, seconds: Floats, points: Sequence[AttentionPoint]) -> list[float]:
    weights = 1.0 / (seconds * np.array([_spread(point) for point in points]))
    found, _ = nnls(terms * weights[:, None], seconds * weights)
    return [float(value) for value in found]


def _drawn_sigmas(points: Sequence[AttentionPoint], seconds: Floats) -> Floats:
    """Relative deviations of (rate, row, dispatch) when points are drawn within their spreads."""
    rng = np.random.default_rng(SEED)
    spreads = np.array([_spread(point) for point in points])
    draws = np.exp(spreads * rng.standard_normal((NUM_DRAWS, len(points))))
    return _deviations([_line_terms(points, seconds * draw) for draw in draws])


def _round_sigmas(points: Sequence[AttentionPoint]) -> Floats:
    """Relative deviations between the fits of each round alone; zero of a single round."""
    rounds = sorted({point.round for point in points})
    alone = [[point for point in points if point.round == number] for number in rounds]
    found = [_line_terms(group, np.array([p.seconds for p in group])) for group in alone]
    return _deviations(found)


def _deviations(terms: Sequence[Sequence[float]]) -> Floats:
    """Of (rate, row, dispatch), from seconds per (job, row, byte): deviation over mean.

    0 for one sample, and where all are zero; a rate deviates relatively as its inverse does.
    """
    values = np.array(terms)[:, ::-1]
    means = values.mean(axis=0)
    spread = values.std(axis=0, ddof=1) if len(values) > 1 else np.zeros(values.shape[1])
    found: Floats = np.divide(spread, means, out=np.zeros_like(means), where=means > 0)
    return found


def _spread(point: AttentionPoint) -> float:
    return max(LEAST_SPREAD, point.spread / IQR_PER_SIGMA)


def _error(model: Line | FittedCurve, point: AttentionPoint) -> float:
    return model.seconds(point) / point.seconds - 1
