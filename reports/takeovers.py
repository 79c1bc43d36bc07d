"""Where one policy overtakes another along a swept value; draws nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import exp, log

LEAD = 1.01
"""Least ratio at which the next best counts as ahead: below 1 % the simulator decides nothing."""

Curve = Mapping[float, float]  # swept value -> throughput, all positive


@dataclass(frozen=True, slots=True)
class Takeover:
    """From about `value` on `name` is ahead of all, where `previous` was."""

    value: float
    previous: str
    name: str


def takeovers(curves: Mapping[str, Curve]) -> tuple[Takeover, ...]:
    """Changes of the best policy from value to value, at values that all curves have.

    The place is where straight lines between two values cross, on logarithmic axes.
    """
    values = _shared(curves)
    found: list[Takeover] = []
    if not values:
        return ()
    leader = _best(curves, values[0])
    for before, value in pairwise(values):
        best = _best(curves, value)
        if curves[best][value] > LEAD * curves[leader][value]:
            crossing = _crossing(curves[leader], curves[best], before, value)
            found.append(Takeover(crossing, leader, best))
            leader = best
    return tuple(found)


def leader_at(curves: Mapping[str, Curve]) -> str | None:
    """The best policy at the smallest shared value."""
    values = _shared(curves)
    return _best(curves, values[0]) if values else None


def _shared(curves: Mapping[str, Curve]) -> Sequence[float]:
    if not curves:
        return ()
    return sorted(set.intersection(*(set(curve) for curve in curves.values())))


def _best(curves: Mapping[str, Curve], value: float) -> str:
    return max(curves, key=lambda name: curves[name][value])


def _crossing(old: Curve, new: Curve, before: float, after: float) -> float:
    """The old one may already trail a little at `before`, by less than LEAD."""
    behind, ahead = (log(new[value] / old[value]) for value in (before, after))
    share = max(0.0, -behind / (ahead - behind))
    return exp(log(before) + share * log(after / before))
