"""Number formats of q, K, V and out in float64 arithmetic; written from their definitions."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

INT8_ZERO = 128  # int8 elements are stored with 128 added
INT8_MAX = 127
FP8_NAN = 0x7F


@dataclass(frozen=True, slots=True)
class FloatFormat:
    """A binary format: significand bits with the hidden one, smallest normal exponent, range."""

    name: str
    precision: int
    min_exponent: int
    largest: float
    is_saturating: bool = False

    @property
    def unit_roundoff(self) -> float:
        """Largest relative error of rounding a normal number to nearest."""
        return 2.0**-self.precision

    @property
    def quantum(self) -> float:
        """Smallest positive number, a denormal."""
        return 2.0 ** (self.min_exponent - self.precision + 1)


FP32 = FloatFormat("fp32", 24, -126, (2 - 2.0**-23) * 2.0**127)
FP16 = FloatFormat("fp16", 11, -14, 65504.0)
BF16 = FloatFormat("bf16", 8, -126, (2 - 2.0**-7) * 2.0**127)
FP8 = FloatFormat("fp8", 4, -6, 448.0, is_saturating=True)
FORMATS = {each.name: each for each in (FP32, FP16, BF16, FP8)}


def rounded(values: NDArray[np.floating], form: FloatFormat) -> Floats:
    """To nearest, ties to even; beyond the range to infinity, or to the largest if saturating."""
    exact = np.asarray(values, dtype=np.float64)
    finite = np.where(np.isfinite(exact), exact, 0.0)
    _, exponent = np.frexp(finite)  # |x| in [2^(e-1), 2^e)
    step = np.maximum(exponent - 1, form.min_exponent) - (form.precision - 1)
    nearest = np.ldexp(np.rint(np.ldexp(finite, -step)), step)
    nearest = np.where(np.isfinite(exact), nearest, exact)
    if form.is_saturating:
        return np.asarray(np.clip(nearest, -form.largest, form.largest))
    return np.where(np.abs(nearest) > form.largest, np.copysign(np.inf, nearest), nearest)


def encoded(values: Floats, form: FloatFormat) -> NDArray[np.unsignedinteger]:
    """Bit patterns of values that the format holds exactly (see `rounded`)."""
    with np.errstate(over="raise"):
        if form is FP32:
            return values.astype(np.float32).view(np.uint32)
        if form is FP16:
            return values.astype(np.float16).view(np.uint16)
        if form is BF16:
            return (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    return encoded_fp8(values)


def encoded_fp8(values: Floats) -> NDArray[np.uint8]:
    """OCP e4m3fn: sign, 4 exponent bits with bias 7, 3 bits; no infinity, NaN is 0x7f."""
    magnitude = np.abs(np.where(np.isnan(values), 0.0, values))
    _, exponent = np.frexp(magnitude)
    exponent = np.where(magnitude == 0, FP8.min_exponent, exponent - 1)
    exponent = np.maximum(exponent, FP8.min_exponent)
    eighths = np.ldexp(magnitude, 3 - exponent)  # 8..15 for normal numbers, 0..7 for denormal ones
    code = (exponent - FP8.min_exponent) * 8 + eighths
    code += np.where(np.signbit(values), 128, 0)
    return np.where(np.isnan(values), FP8_NAN, code).astype(np.uint8)


def decoded(bits: NDArray[np.unsignedinteger], form: FloatFormat) -> Floats:
    """Values of bit patterns; every NaN is the usual quiet one."""
    if form is FP8:
        return np.take(fp8_values(), bits)
    if form is BF16:
        numbers: NDArray[np.floating] = (bits.astype(np.uint32) << 16).view(np.float32)
    else:
        numbers = bits.view(np.float32 if form is FP32 else np.float16)
    with np.errstate(invalid="ignore"):  # signalling ones
        values = numbers.astype(np.float64)
    return np.where(np.isnan(values), np.nan, values)


def fp8_values() -> Floats:
    """The 256 values of e4m3fn by code."""
    code = np.arange(256)
    exponent, fraction = (code >> 3) & 15, code & 7
    value = np.where(
        exponent == 0,
        np.ldexp(fraction / 8, FP8.min_exponent),
        np.ldexp(1 + fraction / 8, exponent - 7),
    )
    value = np.where((code & 127) == FP8_NAN, np.nan, value)
    return np.where(code >= 128, -value, value)


@dataclass(frozen=True, slots=True)
class Quantised:
    """Symmetric int8 vectors: codes [..., head_dim] with 128 added, one scale each [...]."""

    codes: NDArray[np.uint8]
    scales: Floats

    @property
    def values(self) -> Floats:
        """What attention sees."""
        return self.scales[..., None] * (self.codes.astype(np.float64) - INT8_ZERO)


def quantised(vectors: Floats, scale_format: FloatFormat) -> Quantised:
    """The stored scale is max|x| / 127 in fp32, then rounded; elements are x / scale in fp32."""
    exact = np.asarray(vectors, dtype=np.float32)
    is_finite = np.asarray(np.isfinite(exact).all(axis=-1))
    exact = np.where(is_finite[..., None], exact, np.float32(0))
    largest = np.abs(exact).max(axis=-1) / np.float32(INT8_MAX)
    scales = np.minimum(rounded(largest, scale_format), scale_format.largest)
    divisor = np.where(scales == 0, 1, scales).astype(np.float32)[..., None]
    with np.errstate(over="ignore"):  # infinity is clamped too
        steps = np.clip(np.rint(exact / divisor), -INT8_MAX, INT8_MAX)
    steps = np.where(scales[..., None] == 0, 0, steps)
    codes = (steps + INT8_ZERO).astype(np.uint8)
    return Quantised(codes, np.where(is_finite, scales, np.nan))
