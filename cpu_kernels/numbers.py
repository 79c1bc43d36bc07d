"""Number formats in NumPy: how fp16, bf16, fp8 and int8 are read and written; for the fallback.

The same roundings as csrc/numbers.h, bit for bit. bf16 and fp8 are kept as uint16 and uint8, which
NumPy has; every conversion goes through float32.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from apexbench.cpu_kernels.geometry import KvDtype, ScaleDtype

Float32 = NDArray[np.float32]
Elements = NDArray[Any]

# What an element is in memory.
STORED_DTYPES: dict[KvDtype, type[np.generic]] = {
    "fp32": np.float32,
    "fp16": np.float16,
    "bf16": np.uint16,
    "int8": np.uint8,
    "fp8": np.uint8,
}
INT8_ZERO = 128
INT8_MAX = np.float32(127)
FP16_MAX = np.float32(65504)

# fp8 e4m3fn: 4 exponent bits of bias 7, 3 mantissa bits, the largest value is 448, 0x7f is NaN.
_FP8_MAX_BITS = np.float32(448).view(np.uint32)
_FP8_SMALLEST_NORMAL_BITS = np.float32(2.0**-6).view(np.uint32)
_FP8_NAN, _FP8_MAX = 0x7F, 0x7E
# Added to a value below 2^-6 it leaves multiples of 2^-9, the steps of fp8's denormals.
_FP8_ROUNDER = np.float32(2.0**14)
_INFINITY_BITS = 0x7F800000


def widen(elements: Elements, dtype: KvDtype) -> Float32:
    """float32 of elements as they are in memory; int8 without its scale."""
    if dtype == "bf16":
        return (elements.astype(np.uint32) << 16).view(np.float32)
    if dtype == "int8":
        return elements.astype(np.float32) - np.float32(INT8_ZERO)
    if dtype == "fp8":
        return _FP8_VALUES[elements]
    return elements.astype(np.float32)


def narrow(values: Float32, dtype: KvDtype) -> Elements:
    """Elements of fp32, fp16, bf16 or fp8, rounded to nearest even."""
    if dtype == "bf16":
        return _to_bf16(values)
    if dtype == "fp8":
        return _to_fp8(values)
    with np.errstate(over="ignore"):
        return values.astype(STORED_DTYPES[dtype])


def quantise(values: Float32, scale_dtype: ScaleDtype) -> tuple[Elements, Elements]:
    """int8 elements and scales of rows: float32 [..., head_dim] → uint8 the same, scales [...].

    scale = max |x| / 127, rounded to its dtype first. A row with an element that is not finite gets
    the scale NaN; a row of zeros gets scale 0.
    """
    largest = np.abs(values).max(axis=-1)
    scale = np.where(np.isfinite(largest), largest / INT8_MAX, np.float32(np.nan))
    stored: Elements = scale
    if scale_dtype == "fp16":
        stored = np.where(scale > FP16_MAX, FP16_MAX, scale).astype(np.float16)
    read = stored.astype(np.float32)[..., None]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        levels = np.rint(np.clip(values / read, -INT8_MAX, INT8_MAX))
    levels = np.where(read > 0, levels, np.float32(0))
    return (levels + np.float32(INT8_ZERO)).astype(np.uint8), stored


def _to_bf16(values: Float32) -> NDArray[np.uint16]:
    bits = values.view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    quiet_nan = (bits >> 16) | 0x40
    return np.where(np.isnan(values), quiet_nan, rounded).astype(np.uint16)


def _to_fp8(values: Float32) -> NDArray[np.uint8]:
    """Saturating, infinities too; NaN is 0x7f whatever its sign."""
    bits = values.view(np.uint32)
    magnitude = bits & 0x7FFFFFFF
    normal = (magnitude - (120 << 23) + 0x7FFFF + ((magnitude >> 20) & 1)) >> 20
    small = np.where(magnitude < _FP8_SMALLEST_NORMAL_BITS, magnitude, 0).view(np.float32)
    denormal = (small + _FP8_ROUNDER).view(np.uint32) - _FP8_ROUNDER.view(np.uint32)
    finite = np.where(magnitude < _FP8_SMALLEST_NORMAL_BITS, denormal, normal)
    saturated = np.where(magnitude >= _FP8_MAX_BITS, _FP8_MAX, finite)
    signed = ((bits >> 24) & 0x80) | saturated
    return np.where(magnitude > _INFINITY_BITS, _FP8_NAN, signed).astype(np.uint8)


def _fp8_values() -> Float32:
    """The value of each of the 256 bytes."""
    byte = np.arange(256)
    exponent, mantissa = (byte >> 3) & 15, byte & 7
    normal = (1 + mantissa / 8) * 2.0 ** (exponent - 7)
    value = np.where(exponent == 0, mantissa / 8 * 2.0**-6, normal)
    value[byte & _FP8_NAN == _FP8_NAN] = np.nan
    return np.where(byte & 0x80, -value, value).astype(np.float32)


_FP8_VALUES = _fp8_values()
