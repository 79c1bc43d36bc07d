"""Which stretch of a run is measured, and whether it is steady; measures nothing itself."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from apexbench.metrics.latencies import TIERS, tier_of
from apexbench.metrics.totals import Growth
from apexbench.records import NS_PER_S, Checkpoint, RequestRecord, RequestStatus, RunLog
from apexbench.result import Window

WARM_UP_FRACTION = 0.1
"""Share of the requests that must have completed (backlog) or arrived (open loop) first."""

PLATEAU = 0.9
"""A window opens once the CPU tier holds this share of the population it has later (the median of
the later half of the wait): filling it costs prefill time and leaves the CPU short of rows."""

MIN_COMPLETIONS = 30
"""Completions a steady window holds at least: the usual size from which a mean is trusted."""

MIN_RESIDENCES = 2
"""A steady window replaces its running requests at least so often: length / median residence."""

MIN_TIER_SHARE = 0.05
"""A tier with a smaller share of the requests does not set the residence time that is demanded."""

MAX_DRIFT = 0.10
"""Largest relative difference of the output rates of the two halves of a steady backlog window."""

OVERLOAD = "requests arrive faster than they are served"
"""How the reason of an open-loop window begins when no longer run would be steady either."""

MAX_BACKLOG = 0.10
"""Share of the counted requests that may wait at the end of a steady open-loop window."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """The measured part of a run; `fault` says why it is the whole run instead of a window."""

    start_ns: int
    end_ns: int
    fault: str | None = None


def _whole_run(log: RunLog, fault: str) -> Stretch:
    return Stretch(0, log.end_ns, fault)


def open_window(log: RunLog, records: Sequence[RequestRecord]) -> Stretch:
    """From the arrival at WARM_UP_FRACTION of the requests to the last one within the run."""
    if not records:
        return _whole_run(log, "there are no requests")
    start_ns = records[int(len(records) * WARM_UP_FRACTION)].arrival_ns
    end_ns = min(records[-1].arrival_ns, log.end_ns)
    if end_ns <= start_ns:
        return _whole_run(log, "the requests arrive in too short a time")
    return Stretch(start_ns, end_ns)


def counted_requests(records: Sequence[RequestRecord], window: Stretch) -> Sequence[RequestRecord]:
    if window.fault is not None:
        return records
    return [r for r in records if window.start_ns <= r.arrival_ns <= window.end_ns]


def backlog_window(log: RunLog, records: Sequence[RequestRecord], is_deferring: bool) -> Stretch:
    """From the end of the warm-up to the last moment at which a request waits or is released."""
    end_ns = _supply_end_ns(log, records)
    warm = _warm(log.checkpoints, records, _is_cpu_used(log, is_deferring))
    if not warm:
        return _whole_run(log, "it ended in its warm-up")
    inside = [point for point in warm if point.time_ns <= end_ns]
    if not inside:
        return _whole_run(log, "no request waited any more when the warm-up ended")
    plateau = PLATEAU * median(point.cpu_resident for point in inside[len(inside) // 2 :])
    start = next(point for point in inside if point.cpu_resident >= plateau)
    completed = inside[-1].completed - start.completed
    if completed < MIN_COMPLETIONS:
        return _whole_run(log, f"only {completed} completed after warm-up while others waited")
    return Stretch(start.time_ns, end_ns)


def _supply_end_ns(log: RunLog, records: Sequence[RequestRecord]) -> int:
    """Afterwards the batch only drains."""
    queued = max((point.time_ns for point in log.checkpoints if point.waiting > 0), default=0)
    released = max((record.arrival_ns for record in records), default=0)
    return min(max(queued, released), log.end_ns)


def _is_cpu_used(log: RunLog, is_deferring: bool) -> bool:
    if any(record.cpu_decode_tokens > 0 for record in log.requests):
        return True
    return is_deferring and any(point.cpu_resident > 0 for point in log.checkpoints)


def _warm(
    checkpoints: Sequence[Checkpoint], records: Sequence[RequestRecord], is_cpu_used: bool
) -> list[Checkpoint]:
    """Checkpoints past the warm-up: WARM_UP_FRACTION of the servable requests and one that the CPU
    served have completed, and the median residence in the slower tier has passed.

    The first rows are admitted all at once and only then start to make room for others. Until they
    have been replaced fewer prompts are processed than in a steady state, and decoding gets the
    time: a window that opened with the first CPU-served completion would show up to 20 % too many
    output tokens.
    """
    resident_ns = _slowest_residence_s(records) * NS_PER_S
    refused = (RequestStatus.REJECTED, RequestStatus.CANCELLED)
    servable = sum(record.status not in refused for record in records)
    enough = max(1, math.ceil(servable * WARM_UP_FRACTION))
    return [
        point
        for point in checkpoints
        if point.completed >= enough
        and point.time_ns >= resident_ns
        and (point.cpu_completed > 0 or not is_cpu_used)
    ]


def described(window: Stretch, unsteady: str | None) -> Window:
    reason = unsteady
    if window.fault is not None:
        reason = f"the whole run was measured, ramps included: {window.fault}; serve more requests"
    return Window(
        start_s=window.start_ns / NS_PER_S,
        end_s=window.end_ns / NS_PER_S,
        is_steady=reason is None,
        reason=reason,
    )


def unsteady(
    span: Growth,
    records: Sequence[RequestRecord],
    counted: Sequence[RequestRecord],
    is_open: bool,
) -> str | None:
    """The first criterion that the window misses, as a sentence."""
    overload = _overloaded(span, counted) if is_open else None
    if overload is not None:
        return overload  # first, because more requests would only make it worse
    completed = span.count("completed")
    if completed < MIN_COMPLETIONS:
        return (
            f"{completed:.0f} requests completed in the window, a steady one holds at least "
            f"{MIN_COMPLETIONS}: serve more requests"
        )
    residence_s = _slowest_residence_s(records)
    if span.duration_s < MIN_RESIDENCES * residence_s:
        return (
            f"the window of {span.duration_s:.3g} s is shorter than {MIN_RESIDENCES} times the "
            f"{residence_s:.3g} s a request runs on the slower tier: serve more requests"
        )
    return None if is_open else _drifting(span)


def _slowest_residence_s(records: Sequence[RequestRecord]) -> float:
    """Median time from first step to end, of the slower tier with at least MIN_TIER_SHARE."""
    completed = [r for r in records if r.status is RequestStatus.COMPLETED]
    slowest = 0.0
    for tier in TIERS:
        times = [
            r.end_ns - r.start_ns
            for r in completed
            if tier_of(r) == tier and r.end_ns is not None and r.start_ns is not None
        ]
        if times and len(times) >= MIN_TIER_SHARE * len(completed):
            slowest = max(slowest, median(times) / NS_PER_S)
    return slowest


def _drifting(span: Growth) -> str | None:
    first, second = (half.rate("output_tokens") for half in span.halves())
    if abs(second - first) <= MAX_DRIFT * span.rate("output_tokens"):
        return None
    return (
        f"the output rate still changes: {first:.4g} tokens/s in the first half of the window, "
        f"{second:.4g} in the second: serve more requests"
    )


def _overloaded(span: Growth, counted: Sequence[RequestRecord]) -> str | None:
    waiting = span.state_at_end("waiting")
    if waiting <= MAX_BACKLOG * len(counted):
        return None
    return (
        f"{OVERLOAD}: {waiting:.0f} wait when the last one "
        "arrives, so latency grows with the length of the run: lower the rate"
    )
