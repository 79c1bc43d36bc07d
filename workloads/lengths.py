"""Distributions of token counts; knows nothing of traces, arrivals or names."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]

# 95th percentile of the standard normal distribution: ln(p95 / p50) = 1.6449 * sigma.
Z95 = 1.6448536269514722


class Distribution(Protocol):
    """Independent token counts, each at least 1."""

    def draw(self, rng: np.random.Generator, count: int) -> IntArray:
        """`count` lengths [tokens]; the first k do not depend on `count`."""
        ...

    @property
    def median(self) -> float:
        """[tokens]"""
        ...


@dataclass(frozen=True, slots=True)
class Fixed:
    """Always the same number of tokens."""

    tokens: int

    def draw(self, rng: np.random.Generator, count: int) -> IntArray:  # noqa: ARG002 - protocol
        return np.full(count, self.tokens, dtype=np.int64)

    @property
    def median(self) -> float:
        return float(self.tokens)


@dataclass(frozen=True, slots=True)
class Uniform:
    """Every whole number from `low` to `high`, both included, equally likely."""

    low: int
    high: int

    def draw(self, rng: np.random.Generator, count: int) -> IntArray:
        return rng.integers(self.low, self.high, size=count, endpoint=True, dtype=np.int64)

    @property
    def median(self) -> float:
        return (self.low + self.high) / 2


@dataclass(frozen=True, slots=True)
class LogNormal:
    """exp(Normal) given by its median and 95th percentile [tokens], rounded, at least 1."""

    p50: int
    p95: int

    def draw(self, rng: np.random.Generator, count: int) -> IntArray:
        sigma = np.log(self.p95 / self.p50) / Z95
        return _whole(self.p50 * np.exp(sigma * rng.standard_normal(count)))

    @property
    def median(self) -> float:
        return float(self.p50)


@dataclass(frozen=True, slots=True)
class Quantiles:
    """An empirical distribution known by its quantiles, linear between them (inverse CDF).

    `probabilities` rise from 0 to 1; `tokens[i]` is the quantile at `probabilities[i]`.
    """

    probabilities: tuple[float, ...]
    tokens: tuple[int, ...]

    def draw(self, rng: np.random.Generator, count: int) -> IntArray:
        return _whole(np.interp(rng.random(count), self.probabilities, self.tokens))

    @property
    def median(self) -> float:
        return float(np.interp(0.5, self.probabilities, self.tokens))


@dataclass(frozen=True, slots=True)
class Marginals:
    """Prompt and output lengths drawn independently of each other.

    Real traffic correlates them a little (see presets.py); use a trace where that matters.
    """

    prompt: Distribution
    output: Distribution


def _whole(lengths: FloatArray) -> IntArray:
    """Rounded, and at least one token."""
    return np.maximum(1, np.rint(lengths).astype(np.int64))
