"""Arrivals replayed from a trace's own timestamps: windows, laps and stretching; no lengths."""

import math

import numpy as np

from apexbench.errors import InputError
from apexbench.workloads.arrivals import check_count
from apexbench.workloads.lengths import FloatArray, IntArray
from apexbench.workloads.sampling import Demand, Sample, choose, everything
from apexbench.workloads.trace import Trace

REPEATED = "served again because the trace is shorter"


def replay(trace: Trace, rate_rps: float | None, demand: Demand) -> tuple[Sample, FloatArray]:
    """Requests of a trace with timestamps and their arrival times [s] from 0, shape [n].

    Without a bound all rows from the first; otherwise a contiguous window from a seeded row,
    going round as often as it takes. With a rate the window is stretched to that mean rate.
    """
    if demand.num_requests is not None:
        sample = choose(trace, trace.name, demand.num_requests, demand)
    elif demand.duration_s is None:
        sample = everything(trace, trace.name, demand.limit)
    else:
        count = _num_within(trace, rate_rps, demand.duration_s)
        sample = choose(trace, trace.name, count, demand)
    times = _stretched(trace, _window_times(trace, sample.positions), rate_rps)
    if demand.duration_s is not None:
        times = times[times < demand.duration_s]
    return sample.head(len(times)), times


def num_repeated(trace: Trace, positions: IntArray) -> int:
    """Requests of a window that are rows served before."""
    return len(positions) - len(np.unique(positions % len(trace)))


def _num_within(trace: Trace, rate_rps: float | None, duration_s: float) -> int:
    """Enough rows to fill the duration: dropped rows only spread the others out further."""
    if rate_rps is not None:
        count = max(1.0, duration_s * rate_rps)
    else:
        count = (duration_s // _period_s(trace) + 2) * len(trace)
    check_count(count)
    return math.ceil(count)


def _window_times(trace: Trace, positions: IntArray) -> FloatArray:
    """Times of places in the endless lap sequence, from 0, never falling."""
    if trace.arrival_s is None:
        raise InputError(f"trace '{trace.name}' has no timestamps")
    laps, rows = np.divmod(positions, len(trace))
    times = trace.arrival_s[rows]
    if laps.any():
        times = times + laps * _period_s(trace)
    since_first: FloatArray = times - times[0]
    return since_first


def _period_s(trace: Trace) -> float:
    """One lap: the span and one mean gap, so that the last row does not meet the first."""
    if trace.span_s <= 0:
        raise _burst(trace)
    return trace.span_s * len(trace) / (len(trace) - 1)


def _stretched(trace: Trace, times: FloatArray, rate_rps: float | None) -> FloatArray:
    """Mean rate = gaps / span: n requests span (n - 1) / rate."""
    if rate_rps is None or len(times) == 1:
        return times
    if times[-1] <= 0:
        raise _burst(trace)
    return times * ((len(times) - 1) / rate_rps / float(times[-1]))


def _burst(trace: Trace) -> InputError:
    return InputError(
        f"the rows of trace '{trace.name}' all arrive at the same moment, so they have no rate;"
        " serve them all at once or with Poisson arrivals"
    )
