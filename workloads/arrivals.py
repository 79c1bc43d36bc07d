"""When requests arrive: arrival processes as data and the times they give; no lengths here."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Self

import numpy as np

from apexbench.errors import UsageError
from apexbench.records import NS_PER_S
from apexbench.workloads.lengths import FloatArray, IntArray

MAX_REQUESTS = 10_000_000  # beyond this a typing error is likelier than an experiment
MAX_SPAN_S = 2**62 / NS_PER_S  # 146 years: nanoseconds must fit 64-bit integers
# One request in 30 years to one per nanosecond: beyond, times leave the clock.
MIN_RATE_RPS, MAX_RATE_RPS = 1e-9, 1e9
MIN_CV, MAX_CV = 0.01, 100.0  # outside, gamma gaps underflow or are constant in all but name


class Kind(StrEnum):
    """How gaps between arrivals come about."""

    ALL_AT_ONCE = "all_at_once"
    CONSTANT = "constant"
    POISSON = "poisson"
    GAMMA = "gamma"
    TRACE = "trace"
    CLOSED_LOOP = "closed_loop"


@dataclass(frozen=True, slots=True)
class Arrivals:
    """An arrival process; use the constructors. Time starts with the first arrival.

    `rate_rps` is the mean rate [requests/s], `cv` the coefficient of variation of the gaps,
    `concurrency` the requests in flight of a closed loop.
    """

    kind: Kind
    rate_rps: float | None = None
    cv: float | None = None
    concurrency: int | None = None

    def __post_init__(self) -> None:
        if self.rate_rps is not None and not MIN_RATE_RPS <= self.rate_rps <= MAX_RATE_RPS:
            raise UsageError(
                "the arrival rate must be a positive number of requests/s"
                f" ({MIN_RATE_RPS:g} to {MAX_RATE_RPS:g}), not {self.rate_rps}"
            )
        if self.cv is not None and not MIN_CV <= self.cv <= MAX_CV:
            raise UsageError(
                f"the cv of gamma arrivals must be from {MIN_CV:g} to {MAX_CV:g}, not {self.cv}"
            )
        if self.concurrency is not None and self.concurrency < 1:
            raise UsageError(f"the concurrency must be 1 or more, not {self.concurrency}")

    @classmethod
    def all_at_once(cls) -> Self:
        """Everything waits at t = 0."""
        return cls(Kind.ALL_AT_ONCE)

    @classmethod
    def constant(cls, rate_rps: float) -> Self:
        """Equal gaps of 1 / rate."""
        return cls(Kind.CONSTANT, rate_rps)

    @classmethod
    def poisson(cls, rate_rps: float) -> Self:
        """Exponential gaps: independent users."""
        return cls(Kind.POISSON, rate_rps)

    @classmethod
    def gamma(cls, rate_rps: float, cv: float) -> Self:
        """Gamma gaps; cv 1 is Poisson, above 1 bursty, below 1 smoother."""
        return cls(Kind.GAMMA, rate_rps, cv)

    @classmethod
    def trace(cls, rate_rps: float | None = None) -> Self:
        """The source's own timestamps, stretched to a mean rate when one is given."""
        return cls(Kind.TRACE, rate_rps)

    @classmethod
    def closed_loop(cls, concurrency: int) -> Self:
        """The next request arrives when one of `concurrency` in flight ends."""
        return cls(Kind.CLOSED_LOOP, concurrency=concurrency)

    @property
    def is_timed(self) -> bool:
        """Whether the process itself says when requests come, so that a duration bounds it."""
        return self.kind in {Kind.CONSTANT, Kind.POISSON, Kind.GAMMA}

    def times_s(self, num_requests: int, rng: np.random.Generator) -> FloatArray:
        """Arrival times [s], shape [num_requests], rising from 0.

        The rate only divides them: the same generator state gives the same shape at every rate,
        and more requests only append. Trace arrivals come from the trace, not from here.
        """
        gaps = _unit_gaps(self, max(0, num_requests - 1), rng)
        times = np.concatenate((np.zeros(1), np.cumsum(gaps)))[:num_requests]
        return times if self.rate_rps is None else times / self.rate_rps


def _unit_gaps(arrivals: Arrivals, count: int, rng: np.random.Generator) -> FloatArray:
    """Gaps of mean 1. Gamma: shape 1/cv^2, scale cv^2, so mean 1 and standard deviation cv."""
    if arrivals.kind is Kind.CONSTANT:
        return np.ones(count)
    if arrivals.kind is Kind.POISSON:
        return rng.standard_exponential(count)
    if arrivals.kind is Kind.GAMMA and arrivals.cv is not None:
        variance = arrivals.cv**2
        return rng.standard_gamma(1.0 / variance, count) * variance
    return np.zeros(count)


def to_ns(times_s: FloatArray) -> IntArray:
    """Rising seconds to integer nanoseconds, rounded; UsageError when they leave the clock."""
    if times_s[-1] > MAX_SPAN_S:
        raise UsageError("arrivals would span more than 146 years; give a higher rate")
    return np.rint(times_s * NS_PER_S).astype(np.int64)


def check_count(num_requests: float) -> None:
    """UsageError unless a workload of that many requests makes sense."""
    if not 1 <= num_requests <= MAX_REQUESTS:
        raise UsageError(
            f"the number of requests must be from 1 to {MAX_REQUESTS:,}, not {num_requests:,.0f}"
        )
