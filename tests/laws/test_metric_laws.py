"""Laws of measuring: what must hold for every log, whatever produced it."""

import dataclasses
import math
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apexbench.metrics.measure import Measurement, measure
from apexbench.records import (
    NS_PER_S,
    Checkpoint,
    RequestRecord,
    RequestStatus,
    RunLog,
    TokenGaps,
)
from apexbench.result import Quantiles, Slo
from apexbench.statistics import paired_log_ratio, quantiles

MS = 1_000_000
RATES = st.sampled_from([None, 2.0])


@st.composite
def request_records(draw: st.DrawFn) -> list[RequestRecord]:
    """Up to 60 requests with consistent times and any outcome; backlog or spread arrivals."""
    is_backlog = draw(st.booleans())
    num = draw(st.integers(0, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    fates = draw(st.lists(st.sampled_from(list(RequestStatus)), min_size=1, max_size=4))
    return [_request(i, rng, fates[i % len(fates)], is_backlog) for i in range(num)]


def _request(
    id_: int, rng: np.random.Generator, status: RequestStatus, is_backlog: bool
) -> RequestRecord:
    output = int(rng.integers(1, 50))
    arrival = 0 if is_backlog else int(rng.integers(0, 60_000)) * MS
    start = arrival + int(rng.integers(0, 20_000)) * MS
    first = start + int(rng.integers(1, 500)) * MS
    end = first + (output - 1) * int(rng.integers(1, 300)) * MS
    has_run = status is not RequestStatus.REJECTED
    has_ended = status in (RequestStatus.COMPLETED, RequestStatus.FAILED)
    return RequestRecord(
        id=id_,
        status=status,
        prompt_tokens=int(rng.integers(1, 500)),
        output_tokens=output if has_run else 0,
        arrival_ns=arrival,
        start_ns=start if has_run else None,
        first_token_ns=first if has_run else None,
        end_ns=end if has_ended else None,
        cpu_decode_tokens=int(rng.integers(0, output)) if has_run else 0,
        preemptions=0,
        swaps=0,
    )


def log_of(records: Sequence[RequestRecord], scale: int = 1) -> RunLog:
    """A log that agrees with its records: totals at every event, all times multiplied."""
    records = [_scaled(record, scale) for record in records]
    times = sorted({0, *(time for record in records for time in _times(record))})
    end_ns = times[-1]
    return RunLog(
        requests=tuple(records),
        checkpoints=tuple(_checkpoint(time, records) for time in times),
        token_gaps=TokenGaps((3 * MS * scale, 70 * MS * scale), (600, 200)),
        timelines=(),
        gpu_kv_tokens=1,
        cpu_kv_tokens=1,
        num_steps=0,
        end_ns=end_ns,
    )


def _times(record: RequestRecord) -> Iterator[int]:
    instants = (record.arrival_ns, record.start_ns, record.first_token_ns, record.end_ns)
    return (time for time in instants if time is not None)


def _scaled(record: RequestRecord, scale: int) -> RequestRecord:
    names = ("arrival_ns", "start_ns", "first_token_ns", "end_ns")
    times = {name: getattr(record, name) for name in names}
    return dataclasses.replace(
        record, **{name: time * scale for name, time in times.items() if time is not None}
    )


def _checkpoint(time: int, records: Sequence[RequestRecord]) -> Checkpoint:
    def reached(instant: int | None) -> bool:
        return instant is not None and instant <= time

    ended = [r for r in records if reached(r.end_ns) and r.status is RequestStatus.COMPLETED]
    started = [r for r in records if reached(r.first_token_ns)]
    waiting = sum(r.arrival_ns <= time and not reached(r.start_ns) for r in records if r.start_ns)
    return Checkpoint(
        time_ns=time,
        output_tokens=sum(r.output_tokens for r in started),
        prompt_tokens=sum(r.prompt_tokens for r in started),
        completed=len(ended),
        cpu_completed=sum(r.cpu_decode_tokens > 0 for r in ended),
        waiting=waiting,
        gpu_rows=len(started) - len(ended),
        cpu_resident=len(started) // 2,
        busy_ns=(time, time // 2, 0, 0, 0),
        overlap_ns=time // 2,
        idle_ns=(0, 0, time // 4, 0),
        strategy_steps=(len(started), 0, 0, len(ended), 0),
    )


def measured(log: RunLog, rate_rps: float | None, slo: Slo | None = None) -> Measurement:
    return measure(log, None, slo or Slo(), rate_rps=rate_rps, is_deferring=True)


def latencies(found: Measurement) -> list[Quantiles]:
    metrics = found.metrics
    return [metrics.ttft_s, metrics.tpot_s, metrics.itl_s, metrics.e2e_s,
            metrics.latency_per_token_s]  # fmt: skip


@given(request_records(), RATES, st.randoms(use_true_random=False))
def test_order_of_requests_never_matters(records, rate_rps, random) -> None:
    shuffled = random.sample(records, len(records))
    assert measured(log_of(records), rate_rps) == measured(log_of(shuffled), rate_rps)


@given(request_records(), RATES, st.integers(2, 50))
def test_slower_clock_scales_times_up_and_rates_down(records, rate_rps, k) -> None:
    once, scaled = measured(log_of(records), rate_rps), measured(log_of(records, k), rate_rps)
    assert scaled.window.start_s == pytest.approx(k * once.window.start_s)
    assert scaled.window.is_steady == once.window.is_steady
    for name in ("output_throughput_tok_s", "request_throughput_rps", "goodput_rps"):
        expected = getattr(once.metrics, name) / k
        assert getattr(scaled.metrics, name) == pytest.approx(expected)
    for before, after in zip(latencies(once), latencies(scaled), strict=True):
        assert (after.mean is None) == (before.mean is None)
        if before.mean is not None:
            assert after.mean == pytest.approx(k * before.mean)
    assert scaled.lanes.cpu == pytest.approx(once.lanes.cpu)


@given(request_records(), RATES, st.floats(0, 30), st.floats(0, 30))
def test_looser_targets_never_lower_goodput(records, rate_rps, target, slack) -> None:
    log = log_of(records)
    tight = measured(log, rate_rps, Slo(ttft_s=target, tpot_s=target / 10, e2e_s=target))
    loose = measured(log, rate_rps, Slo(ttft_s=target + slack, tpot_s=target, e2e_s=None))
    assert loose.metrics.goodput_rps >= tight.metrics.goodput_rps
    assert (loose.metrics.slo_attainment or 0) >= (tight.metrics.slo_attainment or 0)


@given(request_records())
def test_every_request_of_a_backlog_has_one_outcome(records) -> None:
    found = measured(log_of(records), None)
    cancelled = Counter(r.status for r in records)[RequestStatus.CANCELLED]
    metrics = found.metrics
    assert metrics.completed + metrics.failed + metrics.unfinished + cancelled == len(records)
    by_tier = sum(tier.requests for tier in found.latency_by_tier.values() if tier)
    assert by_tier == metrics.completed
    refused = (RequestStatus.FAILED, RequestStatus.REJECTED)
    assert sum(found.failures.values()) == sum(r.status in refused for r in records)


@given(request_records(), st.integers(1, 20))
def test_open_loop_judges_every_policy_on_the_same_requests(records, slowdown) -> None:
    """Service times differ, arrivals do not: as many requests are counted."""
    slower = [
        dataclasses.replace(r, end_ns=r.end_ns and r.end_ns + slowdown * NS_PER_S) for r in records
    ]
    first, second = (measured(log_of(rows), 2.0).metrics for rows in (records, slower))
    for name in ("completed", "failed", "unfinished"):
        assert getattr(first, name) == getattr(second, name)


@given(request_records(), RATES)
def test_window_lies_in_the_run_and_holds_no_more_than_it(records, rate_rps) -> None:
    log = log_of(records)
    found = measured(log, rate_rps)
    assert 0 <= found.window.start_s <= found.window.end_s <= log.end_ns / NS_PER_S
    assert found.metrics.duration_s == pytest.approx(found.window.end_s - found.window.start_s)
    assert found.window.is_steady == (found.window.reason is None)
    tokens = found.metrics.output_throughput_tok_s * found.metrics.duration_s
    assert -1e-6 <= tokens <= log.checkpoints[-1].output_tokens + 1e-6


@given(request_records(), RATES)
def test_fractions_and_percentiles_are_in_order(records, rate_rps) -> None:
    found = measured(log_of(records), rate_rps, Slo(ttft_s=5))
    fractions = [*found.lanes.model_dump().values(), *found.gpu_idle.values()]
    assert all(-1e-9 <= fraction <= 1 + 1e-9 for fraction in fractions)
    assert 0 <= (found.metrics.slo_attainment or 0) <= 1
    for summary in latencies(found):
        known = [p for p in (summary.p50, summary.p90, summary.p99) if p is not None]
        assert known == sorted(known)
    for values in found.latency_cdf.values():
        assert list(values) == sorted(values)


@given(request_records(), RATES)
def test_series_adds_up_to_the_run(records, rate_rps) -> None:
    log = log_of(records)
    series = measured(log, rate_rps).series
    if series is None:
        assert log.end_ns == 0 or len(log.checkpoints) < 2
        return
    width_s = log.end_ns / NS_PER_S / len(series.t_s)
    last, first = log.checkpoints[-1].output_tokens, log.checkpoints[0].output_tokens
    assert sum(series.output_tok_s) * width_s == pytest.approx(last - first)
    shares = np.sum(list(series.strategy_share.values()), axis=0)
    assert np.all(np.isclose(shares, 0) | np.isclose(shares, 1))


POSITIVE = st.floats(1e-3, 1e3)


@given(st.lists(st.tuples(POSITIVE, POSITIVE), min_size=1, max_size=6))
def test_swapping_sides_inverts_the_ratio(pairs) -> None:
    candidate, baseline = [c for c, _ in pairs], [b for _, b in pairs]
    there, back = paired_log_ratio(candidate, baseline), paired_log_ratio(baseline, candidate)
    assert there.ratio is not None
    assert there.ratio * (back.ratio or 0) == pytest.approx(1)
    if there.ci_low is not None and there.ci_high is not None:
        assert there.ci_low <= there.ratio * (1 + 1e-9)
        assert there.ratio <= there.ci_high * (1 + 1e-9)
        assert there.ci_low * (back.ci_high or 0) == pytest.approx(1)


@given(st.lists(POSITIVE, min_size=2, max_size=6), POSITIVE)
def test_common_factors_of_a_pair_cancel(values, factor) -> None:
    """A harder workload slows both sides: the ratio and its interval do not see it."""
    found = paired_log_ratio([factor * value for value in values], values)
    assert found.ratio == pytest.approx(factor)
    assert found.ci_high == pytest.approx(factor)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_interval_covers_the_truth_as_often_as_it_says(n: int) -> None:
    rng = np.random.default_rng(20_26)
    truth, trials = math.log(1.3), 2_000
    covered = 0
    for noise in rng.normal(truth, 0.2, size=(trials, n)):
        found = paired_log_ratio(np.exp(noise).tolist(), [1.0] * n)
        covered += (found.ci_low or 0) <= 1.3 <= (found.ci_high or math.inf)
    three_sigma = 3 * math.sqrt(0.95 * 0.05 / trials)
    assert covered / trials == pytest.approx(0.95, abs=three_sigma)


@given(st.lists(st.floats(0, 1e6), max_size=800), st.floats(0.01, 100))
def test_quantiles_scale_and_lie_within_the_sample(values, k) -> None:
    once, scaled = quantiles(values), quantiles([k * value for value in values])
    for name in ("mean", "p50", "p90", "p99"):
        before, after = getattr(once, name), getattr(scaled, name)
        assert (before is None) == (after is None)
        if before is not None:
            assert after == pytest.approx(k * before)
            assert min(values) <= before * (1 + 1e-12)
            assert before <= max(values) * (1 + 1e-12)
