"""How late the lanes ran against the model, in memory that does not grow with the run."""

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

# Bins are 2 % wide: a percentile is off by 1 % at most.
_BIN_WIDTH = math.log(1.02)
_PERCENT = 100


class Lateness(NamedTuple):
    """Nanoseconds between the modelled end of an op and when its lane noticed it."""

    num_ops: int
    p50_ns: int
    p99_ns: int
    max_ns: int


class LatenessMeter:
    """A histogram on a logarithmic scale. One thread adds; anybody may read."""

    __slots__ = ("_bins", "_max_ns")

    def __init__(self) -> None:
        self._bins: dict[int, int] = {}
        self._max_ns = 0

    def add(self, late_ns: int) -> None:
        """An op was noticed `late_ns` after its modelled end."""
        place = int(math.log(late_ns) / _BIN_WIDTH) if late_ns > 0 else -1
        self._bins[place] = self._bins.get(place, 0) + 1
        self._max_ns = max(self._max_ns, late_ns)

    @property
    def bins(self) -> Mapping[int, int]:
        """Number of ops by place on the scale."""
        return dict(self._bins)

    @property
    def max_ns(self) -> int:
        """The latest of all."""
        return self._max_ns


def summarise(meters: Iterable[LatenessMeter]) -> Lateness:
    """All ops of some lanes together."""
    total: dict[int, int] = {}
    max_ns = 0
    for meter in meters:
        max_ns = max(max_ns, meter.max_ns)
        for place, count in meter.bins.items():
            total[place] = total.get(place, 0) + count
    num_ops = sum(total.values())
    p50, p99 = (min(max_ns, _percentile(total, num_ops, percent)) for percent in (50, 99))
    return Lateness(num_ops, p50, p99, max_ns)


def _percentile(bins: Mapping[int, int], num_ops: int, percent: int) -> int:
    """The smallest bin, by its geometric middle, that has so many per cent at or below it."""
    seen = 0
    for place in sorted(bins):
        seen += bins[place]
        if seen * _PERCENT >= num_ops * percent:
            return round(math.exp((place + 0.5) * _BIN_WIDTH)) if place >= 0 else 0
    return 0
