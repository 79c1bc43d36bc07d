"""What repeated measurements say: medians, spreads, ratios to a limit; measures nothing itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import harmonic_mean

import numpy as np
from numpy.typing import NDArray

# A kernel cannot read memory faster than memory can be read: beyond this the yardstick is wrong.
VOID_RATIO = 1.02
GB = 1e9


@dataclass(frozen=True, slots=True)
class Summary:
    """Median and quartiles of at least one value, in the unit of the values."""

    median: float
    lower: float
    upper: float
    n: int

    @property
    def spread(self) -> float:
        """Interquartile range as a fraction of the median; 0 of a median of 0."""
        return (self.upper - self.lower) / self.median if self.median else 0.0


def summarise(values: Sequence[float] | NDArray[np.float64]) -> Summary:
    """Median and quartiles, by linear interpolation between the sorted values."""
    lower, median, upper = np.quantile(values, (0.25, 0.5, 0.75))
    return Summary(float(median), float(lower), float(upper), len(values))


@dataclass(frozen=True, slots=True)
class Pass:
    """One timed pass: KV bytes, counted once however often they were read, and how long it took."""

    seconds: float
    num_bytes: int

    @property
    def gbps(self) -> float:
        """10^9 bytes per second."""
        return self.num_bytes / self.seconds / GB


@dataclass(frozen=True, slots=True)
class Probe:
    """What each reader made of the same number of bytes at one moment; GB/s by reader."""

    gbps: dict[str, float]


@dataclass(frozen=True, slots=True)
class Repeat:
    """A pass with the reads before and after it."""

    measured: Pass
    before: Probe
    after: Probe
    # Times that the system took a CPU from this process during the pass, for somebody else.
    preemptions: int = 0

    @property
    def limit_gbps(self) -> float:
        """The read limit at that time: the best reader's rate over the reads on both sides."""
        return max(
            harmonic_mean((before, self.after.gbps[reader]))
            for reader, before in self.before.gbps.items()
        )

    @property
    def ratio(self) -> float:
        """The pass as a fraction of the limit around it."""
        return self.measured.gbps / self.limit_gbps


@dataclass(frozen=True, slots=True)
class Rate:
    """All repeats of one contestant."""

    repeats: tuple[Repeat, ...]

    @property
    def gbps(self) -> Summary:
        """GB/s of the passes."""
        return summarise([repeat.measured.gbps for repeat in self.repeats])

    @property
    def seconds(self) -> Summary:
        """Seconds of the passes."""
        return summarise([repeat.measured.seconds for repeat in self.repeats])

    @property
    def limit_gbps(self) -> Summary:
        """GB/s of the limits around them."""
        return summarise([repeat.limit_gbps for repeat in self.repeats])

    @property
    def ratio(self) -> float:
        """Median rate over median limit."""
        return self.gbps.median / self.limit_gbps.median

    @property
    def paired_ratio(self) -> Summary:
        """Of each pass to the limit around itself: steadier where the limit moves."""
        return summarise([repeat.ratio for repeat in self.repeats])

    @property
    def num_preempted(self) -> int:
        """Repeats during which others got a CPU of ours: their rates are too low."""
        return sum(repeat.preemptions > 0 for repeat in self.repeats)

    @property
    def is_void(self) -> bool:
        """Faster than memory can be read: then the yardstick was wrong, and all is withdrawn."""
        return self.ratio > VOID_RATIO


def ratio_of(numerators: Sequence[float], denominators: Sequence[float]) -> Summary:
    """Ratios of values measured in turn in the same repeats, pair by pair."""
    return summarise([one / other for one, other in zip(numerators, denominators, strict=True)])
