"""Measuring one run: from its log to everything the result says about it. Compares nothing."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from apexbench.metrics.latencies import TIERS, Tier, latency_cdf, latency_samples, tier_latency
from apexbench.metrics.outcomes import failures, metrics_of, served_set_sha256, tally_of
from apexbench.metrics.series import decisions, series_of
from apexbench.metrics.totals import Growth, Totals
from apexbench.metrics.window import (
    backlog_window,
    counted_requests,
    described,
    open_window,
    unsteady,
)
from apexbench.records import (
    IDLE_REASONS,
    LANES,
    NS_PER_S,
    Request,
    RequestRecord,
    RunLog,
    never_served,
)
from apexbench.result import Lanes, Metrics, Series, Slo, TierLatency, Window


@dataclass(frozen=True, slots=True)
class Measurement:
    """Everything the result document says about one run that follows from its log.

    `decisions` and `series.strategy_share` name the strategies that occurred, over the whole run,
    as do `failures` (reason -> requests). `latency_cdf` holds CDF_POINTS values at equally spaced
    quantiles 0..1 per latency with at least two samples, keyed as in Metrics.
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


def measure(
    log: RunLog,
    workload_requests: Sequence[Request] | None,
    slo: Slo,
    *,
    rate_rps: float | None,
    is_deferring: bool,
) -> Measurement:
    """Measure one run as the docstring of apexbench.metrics defines.

    `workload_requests` that have no record count as unfinished. `rate_rps` None means backlog or
    closed loop. `is_deferring` says that CPU rows may take many steps per token, so that rows on
    the CPU are part of the warm-up even before their first token.
    """
    is_open = rate_rps is not None
    records = _all_records(log, workload_requests or ())
    totals = Totals(log.checkpoints)
    window = open_window(log, records) if is_open else backlog_window(log, records, is_deferring)
    span = Growth(totals, window.start_ns, window.end_ns)
    counted = counted_requests(records, window) if is_open else records
    samples = latency_samples(counted)
    return Measurement(
        window=described(window, unsteady(span, records, counted, is_open)),
        metrics=metrics_of(log, span, samples, tally_of(records, counted, slo, is_open)),
        latency_by_tier={tier: tier_latency(counted, tier) for tier in TIERS},
        decisions=decisions(log.checkpoints),
        lanes=Lanes(**{lane: span.fraction(f"busy_{lane}") for lane in LANES}),
        gpu_idle={reason: span.fraction(f"idle_{reason}") for reason in IDLE_REASONS},
        overlap_s=span.count("overlap_ns") / NS_PER_S,
        latency_cdf=latency_cdf(samples),
        failures=failures(records),
        served_set_sha256=served_set_sha256(records),
        series=series_of(log, totals),
    )


def _all_records(log: RunLog, requests: Iterable[Request]) -> list[RequestRecord]:
    """Records by (arrival, id); a request the run never saw is unfinished."""
    known = {record.id for record in log.requests}
    unseen = [never_served(request) for request in requests if request.id not in known]
    return sorted([*log.requests, *unseen], key=lambda record: (record.arrival_ns, record.id))
