"""From a source and an arrival process to the requests of one run; reads no files."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import repeat

import numpy as np

from apexbench.errors import InputError, UsageError
from apexbench.records import NS_PER_S, Request, Workload
from apexbench.result import LengthSummary, WorkloadSummary
from apexbench.workloads.arrivals import Arrivals, Kind, check_count, to_ns
from apexbench.workloads.context import CLIPPED, DROPPED, ContextLimit, cut_hashes
from apexbench.workloads.lengths import FloatArray, IntArray
from apexbench.workloads.replay import REPEATED, num_repeated, replay
from apexbench.workloads.sampling import Demand, Sample, choose, everything
from apexbench.workloads.sources import Source
from apexbench.workloads.streams import Stream, generator
from apexbench.workloads.trace import PrefixHashes, Trace, hashes_of

__all__ = ["ContextLimit", "build", "summarize", "within"]


def build(
    source: Source,
    *,
    arrivals: Arrivals,
    num_requests: int | None,
    duration_s: float | None,
    seed: int,
    max_context: ContextLimit | None,
) -> Workload:
    """The requests of one run, the same for every policy.

    Bounded by `num_requests` served, by `duration_s` of arrivals, or by both; a trace needs no
    bound and is then served whole. Lengths depend on source, seed and limit only, never on the
    arrivals. UsageError for a contradiction, InputError when no request is left.
    """
    _check_bounds(num_requests, duration_s)
    demand = Demand(num_requests, duration_s, seed, max_context)
    if arrivals.kind is Kind.TRACE:
        sample, times_s = replay(_timed_trace(source), arrivals.rate_rps, demand)
    else:
        sample, times_s = _scheduled(source, arrivals, demand)
    return _workload(source, arrivals, sample, times_s, max_context)


def within(workload: Workload, max_total_tokens: int, *, output_scale: float = 1.0) -> Workload:
    """Only the requests of at most that many prompt and output tokens, numbered afresh.

    What counts are the lengths that `scaled_outputs` gives; they are not changed here. InputError
    when none is left.
    """
    kept = [
        request
        for request in workload.requests
        if request.prompt_tokens + _scaled(request.output_tokens, output_scale) <= max_total_tokens
    ]
    if not kept:
        raise InputError(
            f"every request of '{workload.name}' is longer than {max_total_tokens} tokens, so"
            " there is nothing to serve; give more KV memory or shorter requests"
        )
    if len(kept) == len(workload.requests):
        return workload
    dropped = dict(workload.dropped)
    reason = f"longer than {max_total_tokens} tokens"
    dropped[reason] = dropped.get(reason, 0) + len(workload.requests) - len(kept)
    return replace(
        workload,
        requests=tuple(replace(request, id=i) for i, request in enumerate(kept)),
        sha256=_digest(*_columns(kept)),
        dropped=tuple(dropped.items()),
    )


def scaled_outputs(workload: Workload, factor: float) -> Workload:
    """The same requests with outputs `factor` times as long, of at least one token each."""
    requests = tuple(
        replace(r, output_tokens=_scaled(r.output_tokens, factor)) for r in workload.requests
    )
    return replace(workload, requests=requests, sha256=_digest(*_columns(requests)))


def summarize(workload: Workload) -> WorkloadSummary:
    """Length quantiles [tokens], mean rate [1/s] and coefficient of variation of the gaps.

    Rate and cv are None where arrivals do not happen in time: all at once, or a closed loop.
    """
    arrival_ns, prompt, output = _columns(workload.requests)
    gaps_s = np.diff(arrival_ns) / NS_PER_S
    is_timed = workload.concurrency is None and bool(gaps_s.any())
    return WorkloadSummary(
        name=workload.name,
        source=workload.source,
        is_approximated=workload.is_approximated,
        num_requests=len(workload.requests),
        prompt_tokens=_length_summary(prompt),
        output_tokens=_length_summary(output),
        mean_rate_rps=float(1 / gaps_s.mean()) if is_timed else None,
        interarrival_cv=float(gaps_s.std() / gaps_s.mean()) if is_timed else None,
        dropped=dict(workload.dropped),
    )


def _scaled(output_tokens: int, factor: float) -> int:
    return max(1, round(output_tokens * factor))


def _check_bounds(num_requests: int | None, duration_s: float | None) -> None:
    if num_requests is not None:
        check_count(num_requests)
    if duration_s is not None and not 0 < duration_s < math.inf:
        raise UsageError(f"the duration must be a positive number of seconds, not {duration_s}")


def _timed_trace(source: Source) -> Trace:
    if isinstance(source.lengths, Trace) and source.has_arrivals:
        return source.lengths
    raise UsageError(
        f"workload '{source.name}' has no timestamps to replay; give a rate or serve all at once"
    )


def _scheduled(source: Source, arrivals: Arrivals, demand: Demand) -> tuple[Sample, FloatArray]:
    """Requests at the times of an arrival process; a trace lends its lengths only."""
    if demand.duration_s is not None and arrivals.is_timed:
        times_s = _times_within(arrivals, demand, demand.duration_s)
        return choose(source.lengths, source.name, len(times_s), demand), times_s
    if demand.num_requests is not None:
        sample = choose(source.lengths, source.name, demand.num_requests, demand)
    elif isinstance(source.lengths, Trace):
        sample = everything(source.lengths, source.name, demand.limit)
    else:
        raise UsageError(f"workload '{source.name}' has no end; give a number of requests")
    return sample, arrivals.times_s(len(sample), generator(demand.seed, Stream.ARRIVALS))


def _times_within(arrivals: Arrivals, demand: Demand, duration_s: float) -> FloatArray:
    """Arrival times before `duration_s`, at most as many as demanded."""
    expected = duration_s * (arrivals.rate_rps or 0.0)
    if demand.num_requests is None:
        check_count(max(1.0, expected))
    count = demand.num_requests or math.ceil(expected) + 1
    while True:
        times = arrivals.times_s(count, generator(demand.seed, Stream.ARRIVALS))
        if demand.num_requests is not None or times[-1] >= duration_s:
            return times[times < duration_s]
        count *= 2


def _workload(
    source: Source,
    arrivals: Arrivals,
    sample: Sample,
    times_s: FloatArray,
    limit: ContextLimit | None,
) -> Workload:
    prompt, output = sample.prompt, sample.output
    hashes = _hashes(source, sample)
    dropped = dict(source.lengths.dropped) if isinstance(source.lengths, Trace) else {}
    counts = {DROPPED: sample.num_rejected}
    if isinstance(source.lengths, Trace) and source.has_arrivals:
        counts[REPEATED] = num_repeated(source.lengths, sample.positions)
    if limit is not None:
        counts[CLIPPED] = int(np.count_nonzero(limit.over(prompt, output)))
        prompt, output = limit.clip(prompt, output)
        hashes = hashes and cut_hashes(hashes, sample.prompt, prompt)
    dropped |= {reason: count for reason, count in counts.items() if count}
    arrival_ns = to_ns(times_s)
    columns = (arrival_ns.tolist(), prompt.tolist(), output.tolist(), repeat(None))
    return Workload(
        name=source.name,
        requests=tuple(map(Request, range(len(sample)), *columns, hashes or repeat(None))),
        sha256=_digest(arrival_ns, prompt, output),
        source=source.citation,
        is_approximated=source.is_approximated,
        concurrency=arrivals.concurrency,
        dropped=tuple(dropped.items()),
    )


def _hashes(source: Source, sample: Sample) -> PrefixHashes | None:
    """Those of the trace itself: a row served twice shares its tuple."""
    if not isinstance(source.lengths, Trace):
        return None
    return hashes_of(source.lengths, sample.rows.tolist())


def _columns(requests: Sequence[Request]) -> tuple[IntArray, IntArray, IntArray]:
    """Arrival [ns], prompt and output tokens, each of shape [n]."""
    return (
        np.array([r.arrival_ns for r in requests], dtype=np.int64),
        np.array([r.prompt_tokens for r in requests], dtype=np.int64),
        np.array([r.output_tokens for r in requests], dtype=np.int64),
    )


def _digest(arrival_ns: IntArray, prompt: IntArray, output: IntArray) -> str:
    """SHA-256 over rows of three little-endian 64-bit integers, in serving order."""
    rows = np.stack((arrival_ns, prompt, output), axis=1)
    return hashlib.sha256(rows.astype("<i8").tobytes()).hexdigest()


def _length_summary(tokens: IntArray) -> LengthSummary:
    p50, p95 = np.quantile(tokens, (0.5, 0.95))
    return LengthSummary(
        mean=float(tokens.mean()), p50=float(p50), p95=float(p95), max=float(tokens.max())
    )
