"""How the requests of a run ended, and the scalar metrics that follow; draws no curves."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from apexbench.metrics.latencies import is_conforming
from apexbench.metrics.totals import Growth
from apexbench.records import NS_PER_S, RequestRecord, RequestStatus, RunLog
from apexbench.result import Metrics, Slo
from apexbench.statistics import FloatArray, quantiles, weighted_quantiles


def failures(records: Iterable[RequestRecord]) -> dict[str, int]:
    """Requests by the reason for which they failed or were refused, in order of the reasons."""
    reasons = Counter(r.reason or r.status.value for r in records if r.status in _FAILED)
    return dict(sorted(reasons.items()))


_FAILED = (RequestStatus.FAILED, RequestStatus.REJECTED)


def served_set_sha256(records: Iterable[RequestRecord]) -> str:
    """Identifies which requests completed, whatever their times."""
    ids = sorted(record.id for record in records if record.status is RequestStatus.COMPLETED)
    return hashlib.sha256("\n".join(map(str, ids)).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Tally:
    """Requests by outcome among the counted, and what relates them to tokens."""

    completed: int
    failed: int
    unfinished: int
    conforming: int
    requests_per_token: float  # completed requests per produced token, whole run
    is_open: bool


def tally_of(
    records: Sequence[RequestRecord], counted: Sequence[RequestRecord], slo: Slo, is_open: bool
) -> Tally:
    """Outcomes of the counted requests, tokens of all of them."""
    statuses = Counter(record.status for record in counted)
    tokens = sum(record.output_tokens for record in records)
    served = sum(record.status is RequestStatus.COMPLETED for record in records)
    return Tally(
        completed=statuses[RequestStatus.COMPLETED],
        failed=sum(statuses[status] for status in _FAILED),
        unfinished=statuses[RequestStatus.UNFINISHED],
        conforming=sum(is_conforming(record, slo) for record in counted),
        requests_per_token=served / tokens if tokens else 0.0,
        is_open=is_open,
    )


def metrics_of(
    log: RunLog, span: Growth, samples: Mapping[str, FloatArray], tally: Tally
) -> Metrics:
    """`span` is the window; `samples` are the latencies of the counted requests, ascending."""
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


def _goodput_rps(tally: Tally, duration_s: float, request_rps: float) -> float:
    if tally.is_open:
        return tally.conforming / duration_s if duration_s > 0 else 0.0
    return request_rps * tally.conforming / tally.completed if tally.completed else 0.0
