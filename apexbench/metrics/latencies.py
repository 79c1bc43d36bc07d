"""Latencies of requests: per request, over a run, by tier, against targets. Knows no window."""

from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import numpy as np

from apexbench.records import NS_PER_S, RequestRecord, RequestStatus
from apexbench.result import Slo, TierLatency
from apexbench.statistics import FloatArray, quantiles

Tier = Literal["gpu", "cpu"]
TIERS: tuple[Tier, ...] = ("gpu", "cpu")
TIER_LATENCIES = ("ttft_s", "tpot_s", "e2e_s", "latency_per_token_s")

CDF_POINTS = 101


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


def latency_samples(records: Iterable[RequestRecord]) -> dict[str, FloatArray]:
    """Ascending values per latency, of completed requests for which it is defined."""
    completed = [r for r in records if r.status is RequestStatus.COMPLETED]
    return {
        name: np.sort([value for r in completed if (value := latency(r)) is not None])
        for name, latency in _LATENCIES.items()
    }


def latency_cdf(samples: Mapping[str, FloatArray]) -> dict[str, tuple[float, ...]]:
    grid = np.linspace(0, 1, CDF_POINTS)
    return {
        name: tuple(np.quantile(values, grid).tolist())
        for name, values in samples.items()
        if values.size > 1
    }


def tier_of(record: RequestRecord) -> Tier:
    """Where more than half of the decode tokens (all but the first) were made."""
    return "cpu" if 2 * record.cpu_decode_tokens > max(record.output_tokens - 1, 1) else "gpu"


def tier_latency(records: Iterable[RequestRecord], tier: Tier) -> TierLatency | None:
    """None where the tier completed nothing."""
    served = [r for r in records if r.status is RequestStatus.COMPLETED and tier_of(r) == tier]
    if not served:
        return None
    samples = latency_samples(served)
    return TierLatency(
        requests=len(served),
        **{name: quantiles(samples[name]) for name in TIER_LATENCIES},
    )


def is_conforming(record: RequestRecord, slo: Slo) -> bool:
    """Completed within every target; a latency the request does not have cannot miss one."""
    if record.status is not RequestStatus.COMPLETED:
        return False
    targets = ((_ttft_s, slo.ttft_s), (_tpot_s, slo.tpot_s), (_e2e_s, slo.e2e_s))
    return all(
        target is None or (value := latency(record)) is None or value <= target
        for latency, target in targets
    )
