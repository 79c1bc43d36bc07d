"""What a run achieved, computed from its log alone; knows neither policies nor hardware.

Rates (tokens/s, requests/s, busy and idle fractions) are taken over the *window*, a stretch of time
without warm-up and cool-down. Latencies, SLO attainment and the counts of completed, failed and
unfinished requests are taken over the *counted requests*, each followed to its end. Both are chosen
without looking at who served whom, so every policy is judged on the same requests:

                     window                                   counted requests
backlog (rate None)  warm-up over .. nothing waits any more   all
open loop            the arrival at 10 % .. the last arrival  those that arrive in the window

A closed loop is a backlog whose arrivals are the releases of its requests. Without a usable window
the whole run is measured, and `Window.is_steady` is False.

TTFT = first token - arrival              E2E = end - arrival
TPOT = (end - first token)/(output - 1)   latency per token = E2E / output
ITL  = gap between consecutive tokens of a request, over the whole run

Arrival is the scheduled arrival, so queueing never hides. In a backlog it is t = 0 for everybody:
TTFT, E2E and latency per token then measure mostly how many requests the tester queued.

Output throughput counts tokens when they are produced. Request throughput is output throughput
times completed requests per produced token of the whole run. Completions in the window would be
biased: a request deferred to the CPU takes minutes and many of them began together, so that their
ends come in waves long after the work became steady. In the long run both agree.

Goodput = requests/s that completed and met every target. Open loop: conforming requests / window.
Backlog: request throughput * conforming / completed. Attainment = conforming / counted. Failed,
rejected and unfinished requests do not conform; cancelled ones are left out of both sides.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

import numpy as np

from apexbench.records import (
    IDLE_REASONS,
    LANES,
    NS_PER_S,
    STRATEGIES,
    Checkpoint,
    Request,
    RequestRecord,
    RequestStatus,
    RunLog,
)
from apexbench.result import (
    Comparison,
    Lanes,
    Metrics,
    Quantiles,
    Run,
    Series,
    Slo,
    TierLatency,
    Window,
)
from apexbench.statistics import (
    PERCENTILES,
    FloatArray,
    paired_log_ratio,
    quantiles,
    samples_needed,
    verdict,
    weighted_quantiles,
)

Tier = Literal["gpu", "cpu"]
TIERS: tuple[Tier, ...] = ("gpu", "cpu")

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

MAX_BACKLOG = 0.10
"""Share of the counted requests that may wait at the end of a steady open-loop window."""

MAX_SERIES_POINTS = 200
CDF_POINTS = 101


@dataclass(frozen=True, slots=True)
class Measurement:
    """Everything the result document says about one run that follows from its log.

    `decisions` and `series.strategy_share` name the strategies that occurred, over the whole run,
    as do `failures` (reason -> requests). `latency_cdf` holds CDF_POINTS values at equally spaced
    quantiles 0..1 per latency with at least two samples, keyed as in Metrics. `warnings` are
    sentences about what could not be said.
    """

    window: Window
    metrics: Metrics
    latency_by_tier: dict[Tier, TierLatency | None]
    decisions: dict[str, int]
    lanes: Lanes
    gpu_idle: dict[str, float]
    overlap_s: float
    latency_cdf: dict[str, tuple[float, ...]]
    failures: dict[str, int]
    served_set_sha256: str
    series: Series | None
    warnings: tuple[str, ...]


def measure(
    log: RunLog,
    workload_requests: Sequence[Request] | None,
    slo: Slo,
    *,
    rate_rps: float | None,
    is_deferring: bool,
) -> Measurement:
    """Measure one run as the module docstring defines.

    `workload_requests` that have no record count as unfinished. `rate_rps` None means backlog or
    closed loop. `is_deferring` says that CPU rows may take many steps per token, so that rows on
    the CPU are part of the warm-up even before their first token.
    """
    is_open = rate_rps is not None
    records = _all_records(log, workload_requests or ())
    totals = _Totals(log.checkpoints)
    window = _open_window(log, records) if is_open else _backlog_window(log, records, is_deferring)
    span = _Span(totals, window.start_ns, window.end_ns)
    counted = _counted(records, window) if is_open else records
    samples = _latency_samples(counted)
    metrics = _metrics(log, span, samples, _tally(records, counted, slo, is_open))
    return Measurement(
        window=_described(window, _unsteady(span, records, counted, is_open)),
        metrics=metrics,
        latency_by_tier={tier: _tier_latency(counted, tier) for tier in TIERS},
        decisions=_decisions(log.checkpoints),
        lanes=Lanes(**{lane: span.fraction(f"busy_{lane}") for lane in LANES}),
        gpu_idle={reason: span.fraction(f"idle_{reason}") for reason in IDLE_REASONS},
        overlap_s=span.count("overlap_ns") / NS_PER_S,
        latency_cdf=_latency_cdf(samples),
        failures=_failures(records),
        served_set_sha256=_served_set_sha256(records),
        series=_series(log, totals),
        warnings=_refused_percentiles(metrics),
    )


def _all_records(log: RunLog, requests: Iterable[Request]) -> list[RequestRecord]:
    """Records by (arrival, id); a request the run never saw is unfinished."""
    known = {record.id for record in log.requests}
    unseen = [_unseen(request) for request in requests if request.id not in known]
    return sorted([*log.requests, *unseen], key=lambda record: (record.arrival_ns, record.id))


def _unseen(request: Request) -> RequestRecord:
    return RequestRecord(
        id=request.id,
        status=RequestStatus.UNFINISHED,
        prompt_tokens=request.prompt_tokens,
        output_tokens=0,
        arrival_ns=request.arrival_ns,
        start_ns=None,
        first_token_ns=None,
        end_ns=None,
        cpu_decode_tokens=0,
        preemptions=0,
        swaps=0,
    )


# --- running totals -------------------------------------------------------------------------------


class _Totals:
    """The checkpoints of a run as columns; linear between them, exact at them."""

    def __init__(self, checkpoints: Sequence[Checkpoint]) -> None:
        # Of checkpoints at one instant only the last counts: it has seen all of that instant.
        rows = list({point.time_ns: point for point in checkpoints}.values())
        self.time_ns = np.array([row.time_ns for row in rows] or [0], dtype=np.float64)
        self._columns: dict[str, FloatArray] = {
            name: np.array([getattr(row, name) for row in rows] or [0], dtype=np.float64)
            for name in _SCALARS
        }
        for field, prefix, names in _VECTORS:
            values = [getattr(row, field) for row in rows] or [[0] * len(names)]
            for name, column in zip(names, np.array(values, dtype=np.float64).T, strict=True):
                self._columns[f"{prefix}_{name}"] = column

    def at(self, name: str, time_ns: FloatArray) -> FloatArray:
        values: FloatArray = np.interp(time_ns, self.time_ns, self._columns[name])
        return values

    def means(self, name: str, edges_ns: FloatArray) -> FloatArray:
        """Time averages of a state over consecutive intervals."""
        values = self._columns[name]
        areas = (values[1:] + values[:-1]) / 2 * np.diff(self.time_ns)
        integral = np.concatenate([[0.0], np.cumsum(areas)])
        averages: FloatArray = np.diff(np.interp(edges_ns, self.time_ns, integral))
        return averages / np.diff(edges_ns)


_SCALARS = (
    "output_tokens", "prompt_tokens", "completed", "overlap_ns",
    "waiting", "gpu_rows", "cpu_resident",
)  # fmt: skip
_VECTORS = (
    ("busy_ns", "busy", LANES),
    ("idle_ns", "idle", IDLE_REASONS),
    ("strategy_steps", "steps", STRATEGIES),
)


class _Span:
    """Growth of the totals between two instants; every rate of an empty span is 0."""

    def __init__(self, totals: _Totals, start_ns: float, end_ns: float) -> None:
        self._totals, self._start_ns, self._end_ns = totals, start_ns, end_ns
        self.duration_s = (end_ns - start_ns) / NS_PER_S

    def count(self, name: str) -> float:
        first, last = self._totals.at(name, np.array([self._start_ns, self._end_ns]))
        return float(last - first)

    def rate(self, name: str) -> float:
        """Per second."""
        return self.count(name) / self.duration_s if self.duration_s > 0 else 0.0

    def fraction(self, name: str) -> float:
        """Share of the span, of a total in nanoseconds."""
        return self.rate(name) / NS_PER_S

    def halves(self) -> tuple["_Span", "_Span"]:
        middle = (self._start_ns + self._end_ns) / 2
        return (
            _Span(self._totals, self._start_ns, middle),
            _Span(self._totals, middle, self._end_ns),
        )

    def state_at_end(self, name: str) -> float:
        return float(self._totals.at(name, np.array([self._end_ns]))[0])


# --- window ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Stretch:
    """The measured part of a run; `fault` says why it is the whole run instead of a window."""

    start_ns: int
    end_ns: int
    fault: str | None = None


def _whole_run(log: RunLog, fault: str) -> _Stretch:
    return _Stretch(0, log.end_ns, fault)


def _open_window(log: RunLog, records: Sequence[RequestRecord]) -> _Stretch:
    """From the arrival at WARM_UP_FRACTION of the requests to the last one within the run."""
    if not records:
        return _whole_run(log, "there are no requests")
    start_ns = records[int(len(records) * WARM_UP_FRACTION)].arrival_ns
    end_ns = min(records[-1].arrival_ns, log.end_ns)
    if end_ns <= start_ns:
        return _whole_run(log, "the requests arrive in too short a time")
    return _Stretch(start_ns, end_ns)


def _counted(records: Sequence[RequestRecord], window: _Stretch) -> Sequence[RequestRecord]:
    if window.fault is not None:
        return records
    return [r for r in records if window.start_ns <= r.arrival_ns <= window.end_ns]


def _backlog_window(log: RunLog, records: Sequence[RequestRecord], is_deferring: bool) -> _Stretch:
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
    return _Stretch(start.time_ns, end_ns)


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


def _described(window: _Stretch, unsteady: str | None) -> Window:
    reason = unsteady
    if window.fault is not None:
        reason = f"the whole run was measured, ramps included: {window.fault}; serve more requests"
    return Window(
        start_s=window.start_ns / NS_PER_S,
        end_s=window.end_ns / NS_PER_S,
        is_steady=reason is None,
        reason=reason,
    )


def _unsteady(
    span: _Span,
    records: Sequence[RequestRecord],
    counted: Sequence[RequestRecord],
    is_open: bool,
) -> str | None:
    """The first criterion that the window misses, as a sentence."""
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
    return _overloaded(span, counted) if is_open else _drifting(span)


def _slowest_residence_s(records: Sequence[RequestRecord]) -> float:
    """Median time from first step to end, of the slower tier with at least MIN_TIER_SHARE."""
    completed = [r for r in records if r.status is RequestStatus.COMPLETED]
    slowest = 0.0
    for tier in TIERS:
        times = [
            r.end_ns - r.start_ns
            for r in completed
            if _tier(r) == tier and r.end_ns is not None and r.start_ns is not None
        ]
        if times and len(times) >= MIN_TIER_SHARE * len(completed):
            slowest = max(slowest, median(times) / NS_PER_S)
    return slowest


def _drifting(span: _Span) -> str | None:
    first, second = (half.rate("output_tokens") for half in span.halves())
    if abs(second - first) <= MAX_DRIFT * span.rate("output_tokens"):
        return None
    return (
        f"the output rate still changes: {first:.4g} tokens/s in the first half of the window, "
        f"{second:.4g} in the second: serve more requests"
    )


def _overloaded(span: _Span, counted: Sequence[RequestRecord]) -> str | None:
    waiting = span.state_at_end("waiting")
    if waiting <= MAX_BACKLOG * len(counted):
        return None
    return (
        f"requests arrive faster than they are served: {waiting:.0f} wait when the last one "
        "arrives, so latency grows with the length of the run: lower the rate"
    )


# --- requests -------------------------------------------------------------------------------------


def _ttft_s(record: RequestRecord) -> float | None:
    if record.first_token_ns is None:
        return None
    return (record.first_token_ns - record.arrival_ns) / NS_PER_S


def _tpot_s(record: RequestRecord) -> float | None:
    """None for a single token: it has no gap."""
    if record.end_ns is None or record.first_token_ns is None or record.output_tokens <= 1:
        return None
    return (record.end_ns - record.first_token_ns) / (record.output_tokens - 1) / NS_PER_S


def _e2e_s(record: RequestRecord) -> float | None:
    return None if record.end_ns is None else (record.end_ns - record.arrival_ns) / NS_PER_S


def _latency_per_token_s(record: RequestRecord) -> float | None:
    e2e_s = _e2e_s(record)
    return None if e2e_s is None or record.output_tokens == 0 else e2e_s / record.output_tokens


_LATENCIES: Mapping[str, Callable[[RequestRecord], float | None]] = {
    "ttft_s": _ttft_s,
    "tpot_s": _tpot_s,
    "e2e_s": _e2e_s,
    "latency_per_token_s": _latency_per_token_s,
}


def _latency_samples(records: Iterable[RequestRecord]) -> dict[str, FloatArray]:
    """Ascending values per latency, of completed requests for which it is defined."""
    completed = [r for r in records if r.status is RequestStatus.COMPLETED]
    return {
        name: np.sort([value for r in completed if (value := latency(r)) is not None])
        for name, latency in _LATENCIES.items()
    }


def _latency_cdf(samples: Mapping[str, FloatArray]) -> dict[str, tuple[float, ...]]:
    grid = np.linspace(0, 1, CDF_POINTS)
    return {
        name: tuple(np.quantile(values, grid).tolist())
        for name, values in samples.items()
        if values.size > 1
    }


def _tier(record: RequestRecord) -> Tier:
    """Where more than half of the decode tokens (all but the first) were made."""
    return "cpu" if 2 * record.cpu_decode_tokens > max(record.output_tokens - 1, 1) else "gpu"


def _tier_latency(records: Iterable[RequestRecord], tier: Tier) -> TierLatency | None:
    """None where the tier completed nothing."""
    served = [r for r in records if r.status is RequestStatus.COMPLETED and _tier(r) == tier]
    if not served:
        return None
    samples = _latency_samples(served)
    return TierLatency(
        requests=len(served),
        **{name: quantiles(samples[name]) for name in ("ttft_s", "tpot_s", "e2e_s")},
    )


def _is_conforming(record: RequestRecord, slo: Slo) -> bool:
    """Completed within every target; a latency the request does not have cannot miss one."""
    if record.status is not RequestStatus.COMPLETED:
        return False
    targets = ((_ttft_s, slo.ttft_s), (_tpot_s, slo.tpot_s), (_e2e_s, slo.e2e_s))
    return all(
        target is None or (value := latency(record)) is None or value <= target
        for latency, target in targets
    )


def _failures(records: Iterable[RequestRecord]) -> dict[str, int]:
    reasons = Counter(r.reason or r.status.value for r in records if r.status in _FAILED)
    return dict(sorted(reasons.items()))


_FAILED = (RequestStatus.FAILED, RequestStatus.REJECTED)


def _served_set_sha256(records: Iterable[RequestRecord]) -> str:
    ids = sorted(record.id for record in records if record.status is RequestStatus.COMPLETED)
    return hashlib.sha256("\n".join(map(str, ids)).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class _Tally:
    """Requests by outcome among the counted, and what relates them to tokens."""

    completed: int
    failed: int
    unfinished: int
    conforming: int
    requests_per_token: float  # completed requests per produced token, whole run
    is_open: bool


def _tally(
    records: Sequence[RequestRecord], counted: Sequence[RequestRecord], slo: Slo, is_open: bool
) -> _Tally:
    statuses = Counter(record.status for record in counted)
    tokens = sum(record.output_tokens for record in records)
    served = sum(record.status is RequestStatus.COMPLETED for record in records)
    return _Tally(
        completed=statuses[RequestStatus.COMPLETED],
        failed=sum(statuses[status] for status in _FAILED),
        unfinished=statuses[RequestStatus.UNFINISHED],
        conforming=sum(_is_conforming(record, slo) for record in counted),
        requests_per_token=served / tokens if tokens else 0.0,
        is_open=is_open,
    )


def _metrics(log: RunLog, span: _Span, samples: Mapping[str, FloatArray], tally: _Tally) -> Metrics:
    output_tok_s = span.rate("output_tokens")
    request_rps = output_tok_s * tally.requests_per_token
    accountable = tally.completed + tally.failed + tally.unfinished
    gaps = np.array(log.token_gaps.gap_ns, dtype=np.float64) / NS_PER_S
    return Metrics(
        duration_s=span.duration_s,
        completed=tally.completed,
        failed=tally.failed,
        unfinished=tally.unfinished,
        request_throughput_rps=request_rps,
        output_throughput_tok_s=output_tok_s,
        total_throughput_tok_s=output_tok_s + span.rate("prompt_tokens"),
        goodput_rps=_goodput_rps(tally, span.duration_s, request_rps),
        slo_attainment=tally.conforming / accountable if accountable else None,
        itl_s=weighted_quantiles(gaps, log.token_gaps.counts),
        **{name: quantiles(values) for name, values in samples.items()},
    )


def _goodput_rps(tally: _Tally, duration_s: float, request_rps: float) -> float:
    if tally.is_open:
        return tally.conforming / duration_s if duration_s > 0 else 0.0
    return request_rps * tally.conforming / tally.completed if tally.completed else 0.0


def _refused_percentiles(metrics: Metrics) -> tuple[str, ...]:
    """One sentence per percentile that some latency has too few samples for."""
    latencies = ("ttft_s", "tpot_s", "itl_s", "e2e_s", "latency_per_token_s")
    sentences = []
    for name, q in PERCENTILES.items():
        short = [
            f"{latency} has {summary.n}"
            for latency in latencies
            if getattr(summary := getattr(metrics, latency), name) is None
        ]
        if short:
            needed = samples_needed(q)
            sentences.append(f"{name} needs {needed} samples and is left out: {', '.join(short)}")
    return tuple(sentences)


# --- decisions and series -------------------------------------------------------------------------


def _decisions(checkpoints: Sequence[Checkpoint]) -> dict[str, int]:
    """Steps of the whole run by strategy, for those that occurred."""
    if not checkpoints:
        return {}
    steps = zip(STRATEGIES, checkpoints[-1].strategy_steps, strict=True)
    return {strategy: count for strategy, count in steps if count > 0}


def _series(log: RunLog, totals: _Totals) -> Series | None:
    """The whole run in at most MAX_SERIES_POINTS equal intervals; None for a run without length.

    `t_s` are the middles of the intervals; states are averages over them.
    """
    num_intervals = min(MAX_SERIES_POINTS, len(log.checkpoints) - 1)
    if num_intervals < 1 or log.end_ns <= 0:
        return None
    edges_ns = np.linspace(0, log.end_ns, num_intervals + 1)
    tokens = np.diff(totals.at("output_tokens", edges_ns))
    states = {
        name: tuple(totals.means(name, edges_ns).tolist())
        for name in ("gpu_rows", "cpu_resident", "waiting")
    }
    return Series(
        t_s=tuple(((edges_ns[1:] + edges_ns[:-1]) / 2 / NS_PER_S).tolist()),
        output_tok_s=tuple((tokens / np.diff(edges_ns) * NS_PER_S).tolist()),
        strategy_share=_strategy_shares(totals, edges_ns, _decisions(log.checkpoints)),
        **states,
    )


def _strategy_shares(
    totals: _Totals, edges_ns: FloatArray, strategies: Iterable[str]
) -> dict[str, tuple[float, ...]]:
    """Share of the steps of each interval; all zero where no step was made."""
    steps = {name: np.diff(totals.at(f"steps_{name}", edges_ns)) for name in strategies}
    every = np.sum(list(steps.values()), axis=0)
    divisor = np.where(every > 0, every, 1.0)
    return {name: tuple((counts / divisor).tolist()) for name, counts in steps.items()}


# --- comparisons ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ComparedMetric:
    """How to read a metric off a run, and which way is up."""

    higher_is_better: bool
    value: Callable[[Run], float | None]


def _rate(name: str) -> ComparedMetric:
    return ComparedMetric(True, lambda run: float(getattr(run.metrics, name)))


def _latency(name: str, percentile: str) -> ComparedMetric:
    def value(run: Run) -> float | None:
        summary: Quantiles = getattr(run.metrics, name)
        found: float | None = getattr(summary, percentile)
        return found

    return ComparedMetric(False, value)


COMPARED_METRICS: Mapping[str, ComparedMetric] = {
    "output_throughput_tok_s": _rate("output_throughput_tok_s"),
    "request_throughput_rps": _rate("request_throughput_rps"),
    "goodput_rps": _rate("goodput_rps"),
    "ttft_p50_s": _latency("ttft_s", "p50"),
    "ttft_p90_s": _latency("ttft_s", "p90"),
    "tpot_p50_s": _latency("tpot_s", "p50"),
    "tpot_p90_s": _latency("tpot_s", "p90"),
    "e2e_p50_s": _latency("e2e_s", "p50"),
    "latency_per_token_p50_s": _latency("latency_per_token_s", "p50"),
}

_Pairs = Sequence[tuple[Run, Run]]


def comparisons(
    runs: Sequence[Run], baseline: str = "gpu-only"
) -> tuple[tuple[Comparison, ...], tuple[str, ...]]:
    """Every other variant against `baseline`, per setting and metric, paired by seed.

    A candidate whose served set differs from the baseline's under any common seed is left out as a
    whole: keeping only the seeds that agree would select the ones it coped with. What is left out
    is said in the second part, one sentence each.
    """
    found: list[Comparison] = []
    warnings: list[str] = []
    for setting, variants in _by_setting(runs).items():
        references = variants.pop(baseline, {})
        for candidate, by_seed in variants.items():
            name = f"{setting}: '{candidate}' against '{baseline}'"
            pairs = [(run, references[seed]) for seed, run in by_seed.items() if seed in references]
            fault = _pairing_fault(pairs)
            if fault is not None:
                warnings.append(f"{name} is not compared: {fault}")
                continue
            rows, gaps = _compare(pairs, setting, baseline, candidate)
            found += rows
            warnings += [f"{name}: {gap}" for gap in gaps]
    return tuple(found), tuple(warnings)


def _by_setting(runs: Iterable[Run]) -> dict[str, dict[str, dict[int, Run]]]:
    """setting -> variant -> seed -> run, in order of appearance and of seed."""
    table: dict[str, dict[str, dict[int, Run]]] = {}
    for run in sorted(runs, key=lambda run: run.seed):
        table.setdefault(run.setting, {}).setdefault(run.variant, {})[run.seed] = run
    return table


def _pairing_fault(pairs: _Pairs) -> str | None:
    if not pairs:
        return "they have no seed in common"
    unequal = [c.seed for c, b in pairs if c.served_set_sha256 != b.served_set_sha256]
    if unequal:
        seeds = ", ".join(map(str, unequal))
        return f"they did not complete the same requests (seed {seeds})"
    return None


def _compare(
    pairs: _Pairs, setting: str, baseline: str, candidate: str
) -> tuple[list[Comparison], list[str]]:
    rows, gaps = [], []
    if any(run.window.is_steady != reference.window.is_steady for run, reference in pairs):
        gaps.append("only one side is steady, so throughput is measured on unlike terms")
    for name, metric in COMPARED_METRICS.items():
        ratio = paired_log_ratio(
            [metric.value(run) for run, _ in pairs], [metric.value(run) for _, run in pairs]
        )
        if ratio.dropped:
            gaps.append(f"{name} has no positive value in {ratio.dropped} of {len(pairs)} pairs")
        if ratio.ratio is not None:
            rows.append(
                Comparison(
                    setting=setting,
                    baseline=baseline,
                    candidate=candidate,
                    metric=name,
                    ratio=ratio.ratio,
                    ci_low=ratio.ci_low,
                    ci_high=ratio.ci_high,
                    n=ratio.n,
                    verdict=verdict(ratio, metric.higher_is_better),
                )
            )
    return rows, gaps
