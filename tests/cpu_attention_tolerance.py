"""How far a kernel's result may be from the exact one: one table, and the bounds it gives.

Every source of error is bounded from the data of the case, not by a fixed number, so that the same
table serves scores of 1e4, denormal values and contexts of one token or thousands:

- dot products, sums and P.V are fp32: n additions err by at most n * 2^-24 of the sum of absolute
  terms. The sum of a head's weights, the division and the change to log2 units are a few more.
- exp2 is a polynomial of about fp32 accuracy.
- what a format does to q and to the weights p is in the table: relative to each element, or to
  the largest of its vector (q of a head; up to 64 weights times v scales).
- out is rounded once to its own format.

Roundings of many elements are independent, so their sum is bounded by `SIGMAS` standard deviations
of uniform errors where that is less than the sum of all bounds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tests.cpu_attention_numbers import BF16, FP32, INT8_MAX, FloatFormat, Floats
from tests.cpu_attention_reference import KvFormat, RowAttention

SIGMAS = 8 / 3**0.5  # the standard deviation of a uniform error is its bound / sqrt(3)
MOST_DIGITS = 8255  # int8: q and weights are integers up to 64 * 128 + 63
DIGIT_STEP = 0.5 / MOST_DIGITS
SMALLEST_NORMAL = 2.0**FP32.min_exponent
TILE_TOKENS = 64  # int8: so many weights at most share the scale of their maximum
EXP2_ERROR = 2.0**-21
MOST_EXPONENT = 300.0  # enough to say that a weight may be anything
FEW_ROUNDINGS = 16  # merging pieces, rescaling, dividing, changing units: fp32 roundings besides n


@dataclass(frozen=True, slots=True)
class Tolerance:
    """What products take of q, K, V and the weights p; all zero where they are exact in fp32."""

    q_relative: float = 0.0  # rounding of each element of q
    q_of_largest: float = 0.0  # rounding, relative to the largest element of the head's q
    q_lost: float = 0.0  # elements of q up to this count as zero
    kv_lost: float = 0.0  # elements of K and V, and sums, up to this count as zero
    p_relative: float = 0.0  # rounding of each weight
    p_of_largest: float = 0.0  # rounding, relative to the largest weight times v scale
    p_lost: float = 0.0  # weights times v scales up to this count as zero


TOLERANCES = {
    # (KV dtype, level). K, V and q are exact in fp32, sums are fp32.
    ("fp32", "any"): Tolerance(),
    ("fp16", "any"): Tolerance(),
    ("fp8", "any"): Tolerance(),
    ("bf16", "any"): Tolerance(),
    # bf16 dot products: q is a sum of two bf16 (2^-8 squared), a weight is one bf16; the
    # instruction reads denormal numbers as zero and writes zero for them.
    ("bf16", "avx512x"): Tolerance(
        q_relative=BF16.unit_roundoff**2,
        q_lost=SMALLEST_NORMAL,
        kv_lost=SMALLEST_NORMAL,
        p_relative=BF16.unit_roundoff,
    ),
    # Integer dot products: two digits each of q and of p times the v scale; the unit of the digits
    # is a normal fp32 number, so what is less than 8255 of the smallest one may count as zero.
    ("int8", "any"): Tolerance(
        q_of_largest=DIGIT_STEP,
        q_lost=MOST_DIGITS * SMALLEST_NORMAL,
        p_of_largest=DIGIT_STEP,
        p_lost=MOST_DIGITS * SMALLEST_NORMAL,
    ),
}


def tolerance_of(form: KvFormat, level: str) -> Tolerance:
    """The row of the table for a KV format on a level."""
    return TOLERANCES.get((form.name, level), TOLERANCES[form.name, "any"])


def summed(errors: Floats) -> Floats:
    """Bound of a sum of independent roundings [..., n], each within its own bound."""
    deviations = SIGMAS * np.sqrt(np.square(errors).sum(axis=-1))
    bounds: Floats = np.minimum(errors.sum(axis=-1), deviations)
    return bounds


def finite_parts(row: RowAttention) -> RowAttention:
    """The row with zeros for what is not finite: bounds are about the rest."""
    names = ("q", "k", "v", "out", "lse", "weights", "scores")
    return replace(
        row, **{name: np.nan_to_num(getattr(row, name), posinf=0, neginf=0) for name in names}
    )


def score_errors(row: RowAttention, tolerance: Tolerance) -> Floats:
    """Bounds on the error of each scaled score [heads, tokens]."""
    q, k = np.abs(row.q)[:, None, :], np.abs(row.k)
    products = q * k
    rounding = summed(tolerance.q_relative * products)
    rounding += summed(tolerance.q_of_largest * q.max(axis=2, keepdims=True) * k)
    smallest = tolerance.q_lost + FP32.quantum  # q may be multiplied by the scale beforehand
    rounding += smallest * k.sum(axis=-1) + tolerance.kv_lost * (1 + q.sum(axis=-1))
    roundings = row.q.shape[1] + FEW_ROUNDINGS
    rounding += roundings * FP32.unit_roundoff * products.sum(axis=-1)
    bounds: Floats = abs(row.softmax_scale) * rounding + FP32.quantum * roundings
    return bounds


def exponent_errors(row: RowAttention, tolerance: Tolerance) -> Floats:
    """Bounds on the error of each weight's logarithm [heads, tokens] before it is rounded."""
    spread = np.abs(row.scores - row.scores.max(axis=1, keepdims=True))
    error = score_errors(row, tolerance) + 4 * FP32.unit_roundoff * spread + EXP2_ERROR
    bounds: Floats = np.minimum(error, MOST_EXPONENT)
    return bounds


def out_errors(row: RowAttention, tolerance: Tolerance, out_format: FloatFormat) -> Floats:
    """Bounds on the error of out [heads, head_dim].

    With weights p_t e^d_t, out is off by sum_t p_t (e^d_t - 1) (v_t - out) / sum_t p_t e^d_t.
    """
    exponents = exponent_errors(row, tolerance)[:, None, :]
    weights, v = row.weights[:, None, :], np.swapaxes(row.v, 1, 2)
    distance = np.abs(v - row.out[:, :, None])
    sinks = 1 - row.weights.sum(axis=1)[:, None]
    error = (weights * np.expm1(exponents) * distance).sum(axis=-1)
    error /= (weights * np.exp(-exponents)).sum(axis=-1) + np.maximum(sinks, 0.0)
    error = np.minimum(error, distance.max(axis=-1))  # out is an average, whatever the weights
    error += sink_error(row)[:, None] * np.abs(row.out)
    error += summed(tolerance.p_relative * weights * distance)
    error += summed(digit_errors(row, tolerance))
    num_tokens = row.weights.shape[1]
    absolute = (weights * np.abs(v)).sum(axis=-1)
    error += (num_tokens + FEW_ROUNDINGS) * FP32.unit_roundoff * absolute
    error += num_tokens * lost_per_token(row, tolerance)
    error += out_format.unit_roundoff * (np.abs(row.out) + error)
    bounds: Floats = error + 0.5 * out_format.quantum
    return bounds


def sink_error(row: RowAttention) -> Floats:
    """Bounds on the error of a sink logit's share of the denominator [heads]."""
    share = np.maximum(1 - row.weights.sum(axis=1), 0.0)
    largest = np.abs(row.scores).max(axis=1)
    bounds: Floats = share * (FEW_ROUNDINGS * FP32.unit_roundoff * (1 + largest) + EXP2_ERROR)
    return bounds


def digit_errors(row: RowAttention, tolerance: Tolerance) -> Floats:
    """Bounds on each token's error [heads, head_dim, tokens] where weights become integers."""
    scales = np.abs(row.v).max(axis=2)
    integers = np.abs(row.v) / np.where(scales == 0, 1.0, scales)[:, :, None]
    own = row.weights * scales
    error = np.minimum(tolerance.p_of_largest * neighbours_max(own), own)  # or rounded to nothing
    return np.swapaxes(error[:, :, None] * integers, 1, 2)


def neighbours_max(weights: Floats) -> Floats:
    """The largest weight that may share a token's scale; tiles begin wherever they like."""
    reach = TILE_TOKENS - 1
    wide = np.pad(weights, ((0, 0), (reach, reach)))
    bounds: Floats = np.lib.stride_tricks.sliding_window_view(wide, 2 * reach + 1, axis=1).max(
        axis=2
    )
    return bounds


def lost_per_token(row: RowAttention, tolerance: Tolerance) -> float:
    """What a token's weight or product too small for a normal fp32 number may lose."""
    largest = float(np.abs(row.v).max(initial=0.0))
    lost = SMALLEST_NORMAL * largest + 2 * FP32.quantum
    return lost + tolerance.kv_lost + INT8_MAX * min(tolerance.p_lost, largest)


def lse_errors(row: RowAttention, tolerance: Tolerance) -> Floats:
    """Bounds on the error of the log-sum-exp [heads]."""
    error = (row.weights * np.expm1(exponent_errors(row, tolerance))).sum(axis=1)
    error += sink_error(row) + summed(tolerance.p_relative * row.weights)
    roundings = row.weights.shape[1] + FEW_ROUNDINGS
    bounds: Floats = error + roundings * FP32.unit_roundoff * (1 + np.abs(row.lse))
    return bounds


@dataclass(frozen=True, slots=True)
class Expectation:
    """Exact results of a batch and how far a kernel may be off.

    out [rows, heads, head_dim], lse [rows, heads], and their bounds alike.
    """

    out: Floats
    lse: Floats
    out_bounds: Floats
    lse_bounds: Floats

    def check(self, out: Floats, lse: Floats) -> None:
        """NaN must be NaN, an infinity the same infinity, all else within the bounds."""
        assert_near(out, self.out, self.out_bounds)
        assert_near(lse, self.lse, self.lse_bounds)


def expectation(
    rows: Sequence[RowAttention], tolerance: Tolerance, out_format: FloatFormat
) -> Expectation:
    """Of all rows; one without tokens must be exact."""
    out_bounds, lse_bounds = [], []
    for row in rows:
        is_empty = row.weights.shape[1] == 0
        tame = finite_parts(row)
        zeros = np.zeros_like(row.out)
        out_bounds.append(zeros if is_empty else out_errors(tame, tolerance, out_format))
        lse_bounds.append(zeros[:, 0] if is_empty else lse_errors(tame, tolerance))
    return Expectation(
        np.stack([row.out for row in rows]),
        np.stack([row.lse for row in rows]),
        np.stack(out_bounds),
        np.stack(lse_bounds),
    )


def assert_near(actual: Floats, exact: Floats, bounds: Floats) -> None:
    """Element by element; the message names the worst one."""
    assert np.isfinite(bounds).all()
    is_finite = np.isfinite(exact)
    np.testing.assert_array_equal(actual[~is_finite], exact[~is_finite])
    with np.errstate(invalid="ignore"):
        excess = np.where(is_finite, np.abs(actual - exact), 0.0) / np.maximum(bounds, 1e-300)
    excess = np.where(np.isnan(excess), np.inf, excess)
    if (excess > 1).any():
        worst = tuple(int(i) for i in np.unravel_index(np.argmax(excess), excess.shape))
        raise AssertionError(
            f"{int((excess > 1).sum())} of {excess.size} elements are off; at {worst}:"
            f" {actual[worst]} instead of {exact[worst]}, allowed {bounds[worst]:.3g}"
        )
