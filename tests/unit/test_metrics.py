import dataclasses
import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from apexbench.metrics.measure import Measurement, measure
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
    TokenGaps,
)
from apexbench.result import Slo

MS = 1_000_000
NO_SLO = Slo()


def record(id_: int, **changes: object) -> RequestRecord:
    """Completed: arrives at 1 s, first token after 0.5 s, 11 tokens 0.1 s apart."""
    base = RequestRecord(
        id=id_,
        status=RequestStatus.COMPLETED,
        prompt_tokens=100,
        output_tokens=11,
        arrival_ns=NS_PER_S,
        start_ns=1_200 * MS,
        first_token_ns=1_500 * MS,
        end_ns=2_500 * MS,
        cpu_decode_tokens=0,
        preemptions=0,
        swaps=0,
    )
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


def checkpoint(time_ns: int, **changes: object) -> Checkpoint:
    base = Checkpoint(
        time_ns=time_ns,
        output_tokens=0,
        prompt_tokens=0,
        completed=0,
        cpu_completed=0,
        waiting=0,
        gpu_rows=0,
        cpu_resident=0,
        busy_ns=(0,) * len(LANES),
        overlap_ns=0,
        idle_ns=(0,) * len(IDLE_REASONS),
        strategy_steps=(0,) * len(STRATEGIES),
    )
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


def run_log(
    records: Sequence[RequestRecord],
    checkpoints: Sequence[Checkpoint] = (),
    gaps: TokenGaps | None = None,
    end_ns: int = 0,
) -> RunLog:
    last = checkpoints[-1].time_ns if checkpoints else 0
    return RunLog(
        requests=tuple(records),
        checkpoints=tuple(checkpoints),
        token_gaps=gaps or TokenGaps((), ()),
        timelines=(),
        gpu_kv_tokens=1,
        cpu_kv_tokens=1,
        num_steps=0,
        end_ns=end_ns or last,
    )


def measured(log: RunLog, slo: Slo = NO_SLO, rate_rps: float | None = None) -> Measurement:
    return measure(log, None, slo, rate_rps=rate_rps, is_deferring=False)


# --- an independent model: slots that produce a token at a fixed pace -----------------------------


@dataclass
class SlotFarm:
    """`gpu` and `cpu` slots, each one token per its pace; a free slot takes the oldest request."""

    gpu_slots: int
    gpu_pace_ns: int
    cpu_slots: int = 0
    cpu_pace_ns: int = 1
    records: list[RequestRecord] = field(default_factory=list)

    @property
    def rate_tok_s(self) -> float:
        return NS_PER_S * (self.gpu_slots / self.gpu_pace_ns + self.cpu_slots / self.cpu_pace_ns)

    def serve(self, lengths: Sequence[int], arrivals_ns: Sequence[int] | None = None) -> RunLog:
        slots = [(0, i, self.gpu_pace_ns) for i in range(self.gpu_slots)]
        slots += [(0, self.gpu_slots + i, self.cpu_pace_ns) for i in range(self.cpu_slots)]
        arrivals = arrivals_ns or [0] * len(lengths)
        for id_, (length, arrival) in enumerate(zip(lengths, arrivals, strict=True)):
            free, slot, pace = heapq.heappop(slots)
            start = max(free, arrival)
            end = start + length * pace
            heapq.heappush(slots, (end, slot, pace))
            self.records.append(
                record(
                    id_,
                    output_tokens=length,
                    arrival_ns=arrival,
                    start_ns=start,
                    first_token_ns=start + pace,
                    end_ns=end,
                    cpu_decode_tokens=length - 1 if slot >= self.gpu_slots else 0,
                )
            )
        return run_log(self.records, self._checkpoints())

    def _checkpoints(self, num: int = 1500) -> list[Checkpoint]:
        rows = self.records
        start = np.array([r.start_ns for r in rows])
        end = np.array([r.end_ns for r in rows])
        arrival = np.array([r.arrival_ns for r in rows])
        tokens = np.array([r.output_tokens for r in rows])
        is_cpu = np.array([r.cpu_decode_tokens > 0 for r in rows])
        pace = (end - start) // tokens
        return [
            checkpoint(
                int(t),
                output_tokens=int(np.clip((t - start) // pace, 0, tokens).sum()),
                prompt_tokens=int(100 * (start <= t).sum()),
                completed=int((end <= t).sum()),
                cpu_completed=int(((end <= t) & is_cpu).sum()),
                waiting=int(((arrival <= t) & (start > t)).sum()),
                cpu_resident=int(((start <= t) & (end > t) & is_cpu).sum()),
            )
            for t in np.linspace(0, end.max(), num).astype(int)
        ]


def lengths(n: int, seed: int = 7) -> list[int]:
    return [int(x) for x in np.random.default_rng(seed).integers(20, 180, n)]


def test_backlog_throughput_is_the_steady_rate_of_one_tier() -> None:
    farm = SlotFarm(gpu_slots=16, gpu_pace_ns=50 * MS)
    found = measured(farm.serve(lengths(800)))
    assert found.window.is_steady, found.window.reason
    assert found.metrics.output_throughput_tok_s == pytest.approx(farm.rate_tok_s, rel=0.01)


def test_slow_tier_biases_neither_throughput() -> None:
    """CPU rows 30 times slower: completions in the window lag far behind the work done."""
    farm = SlotFarm(gpu_slots=8, gpu_pace_ns=60 * MS, cpu_slots=200, cpu_pace_ns=2_000 * MS)
    log = farm.serve(served := lengths(1_500))
    found = measured(log)
    assert found.metrics.output_throughput_tok_s == pytest.approx(farm.rate_tok_s, rel=0.01)
    expected_rps = farm.rate_tok_s / np.mean(served)
    assert found.metrics.request_throughput_rps == pytest.approx(expected_rps, rel=0.01)


def test_completions_in_the_window_come_in_waves() -> None:
    """Why request throughput is not completions / duration."""
    farm = SlotFarm(gpu_slots=8, gpu_pace_ns=60 * MS, cpu_slots=400, cpu_pace_ns=2_000 * MS)
    log = farm.serve(served := lengths(1_500))
    found = measured(log)
    expected_rps = farm.rate_tok_s / np.mean(served)
    inside = [
        r
        for r in log.requests
        if r.end_ns and found.window.start_s < r.end_ns / NS_PER_S <= found.window.end_s
    ]
    counted_rps = len(inside) / found.metrics.duration_s
    assert abs(counted_rps / expected_rps - 1) > 0.03
    assert found.metrics.request_throughput_rps == pytest.approx(expected_rps, rel=0.01)


def test_backlog_window_waits_until_the_slower_tier_has_turned_over() -> None:
    farm = SlotFarm(gpu_slots=8, gpu_pace_ns=20 * MS, cpu_slots=50, cpu_pace_ns=2_000 * MS)
    log = farm.serve(lengths(1_500))
    found = measured(log)
    first_cpu_end = min(r.end_ns or 0 for r in log.requests if r.cpu_decode_tokens)
    assert found.window.start_s >= first_cpu_end / NS_PER_S
    residences = [(r.end_ns or 0) - (r.start_ns or 0) for r in log.requests if r.cpu_decode_tokens]
    assert found.window.start_s >= np.median(residences) / NS_PER_S
    last_start = max(r.start_ns or 0 for r in log.requests)
    assert found.window.end_s <= last_start / NS_PER_S


def test_backlog_window_waits_until_the_cpu_tier_is_full() -> None:
    points = [checkpoint(0, waiting=100)]
    for second in range(1, 101):
        resident = min(second, 60)
        points.append(
            checkpoint(
                second * NS_PER_S,
                output_tokens=10 * second,
                completed=second,
                cpu_completed=second,
                waiting=100 - second,
                cpu_resident=resident,
            )
        )
    records = [record(i, arrival_ns=0, cpu_decode_tokens=10) for i in range(100)]
    found = measured(run_log(records, points))
    assert found.window.start_s == 54.0  # 90 % of the 60 rows that are usual
    assert found.window.end_s == 99.0
    assert found.metrics.output_throughput_tok_s == pytest.approx(10)


def test_window_rates_are_exact_differences() -> None:
    points = [
        checkpoint(0, waiting=50),
        checkpoint(
            10 * NS_PER_S, completed=5, output_tokens=1_000, prompt_tokens=700, waiting=40,
            busy_ns=(9 * NS_PER_S, 0, 0, 0, 0), idle_ns=(0, 0, 0, NS_PER_S), overlap_ns=3,
            strategy_steps=(4, 0, 0, 6, 0),
        ),
        checkpoint(
            30 * NS_PER_S, completed=45, output_tokens=4_000, prompt_tokens=1_700, waiting=1,
            busy_ns=(24 * NS_PER_S, 10 * NS_PER_S, 0, 0, 2 * NS_PER_S),
            idle_ns=(3 * NS_PER_S, 0, 0, 3 * NS_PER_S), overlap_ns=3 + 8 * NS_PER_S,
            strategy_steps=(4, 0, 0, 26, 0),
        ),
        checkpoint(
            90 * NS_PER_S, completed=50, output_tokens=5_000, prompt_tokens=1_800,
            busy_ns=(24 * NS_PER_S, 10 * NS_PER_S, 0, 0, 2 * NS_PER_S),
            idle_ns=(3 * NS_PER_S, 0, 0, 63 * NS_PER_S), overlap_ns=3 + 8 * NS_PER_S,
            strategy_steps=(4, 0, 0, 36, 0),
        ),
    ]  # fmt: skip
    found = measured(run_log([record(i, arrival_ns=0) for i in range(50)], points))
    assert (found.window.start_s, found.window.end_s, found.window.is_steady) == (10, 30, True)
    assert found.metrics.output_throughput_tok_s == 3_000 / 20
    assert found.metrics.total_throughput_tok_s == 4_000 / 20
    assert found.metrics.request_throughput_rps == pytest.approx(150 * 50 / 550)
    assert (found.lanes.gpu, found.lanes.cpu, found.lanes.host) == (15 / 20, 10 / 20, 2 / 20)
    assert found.gpu_idle == {
        "cpu_attention": 3 / 20, "copy": 0, "scheduling": 0, "no_work": 2 / 20,
    }  # fmt: skip
    assert found.overlap_s == 8
    assert found.decisions == {"gpu_only": 4, "deferred": 36}


def test_too_few_completions_are_not_steady() -> None:
    found = measured(SlotFarm(gpu_slots=2, gpu_pace_ns=50 * MS).serve(lengths(25)))
    assert not found.window.is_steady
    assert "serve more requests" in str(found.window.reason)
    assert "only 19 completed" in str(found.window.reason)


def test_window_shorter_than_two_residences_is_not_steady() -> None:
    farm = SlotFarm(gpu_slots=100, gpu_pace_ns=100 * MS)
    found = measured(farm.serve(lengths(220)))
    assert not found.window.is_steady
    assert "a request runs on the slower tier" in str(found.window.reason)


def test_changing_rate_is_not_steady() -> None:
    points = [
        checkpoint(s * NS_PER_S, output_tokens=s * s, completed=s, waiting=100 - s)
        for s in range(101)
    ]
    found = measured(run_log([record(i, arrival_ns=0) for i in range(100)], points))
    assert not found.window.is_steady
    assert "still changes" in str(found.window.reason)


def test_queue_that_never_forms_leaves_the_whole_run() -> None:
    log = SlotFarm(gpu_slots=100, gpu_pace_ns=50 * MS).serve(lengths(50))
    found = measured(log)
    assert (found.window.start_s, found.window.end_s) == (0, log.end_ns / NS_PER_S)
    assert "whole run" in str(found.window.reason)
    assert found.metrics.request_throughput_rps == pytest.approx(50 / (log.end_ns / NS_PER_S))


def test_cpu_rows_that_never_finish_leave_the_whole_run() -> None:
    points = [
        checkpoint(s * NS_PER_S, output_tokens=s, completed=s, waiting=100 - s, cpu_resident=3)
        for s in range(101)
    ]
    log = run_log([record(i, arrival_ns=0) for i in range(100)], points)
    deferring = measure(log, None, NO_SLO, rate_rps=None, is_deferring=True)
    assert "whole run" in str(deferring.window.reason)
    assert measured(log).window.start_s == 10  # parked rows do not matter where none defers


def test_closed_loop_window_ends_with_the_last_release() -> None:
    """Nothing ever waits; requests are released as others end."""
    farm = SlotFarm(gpu_slots=8, gpu_pace_ns=50 * MS)
    backlog = farm.serve(lengths(400))
    released = [dataclasses.replace(r, arrival_ns=r.start_ns or 0) for r in backlog.requests]
    points = [dataclasses.replace(point, waiting=0) for point in backlog.checkpoints]
    found = measured(run_log(released, points))
    assert found.window.is_steady, found.window.reason
    assert found.window.end_s == max(r.arrival_ns for r in released) / NS_PER_S
    assert found.metrics.output_throughput_tok_s == pytest.approx(farm.rate_tok_s, rel=0.01)


def test_open_loop_counts_arrivals_from_ten_percent_on() -> None:
    arrivals = [i * NS_PER_S for i in range(200)]
    farm = SlotFarm(gpu_slots=16, gpu_pace_ns=50 * MS)
    found = measured(farm.serve(lengths(200), arrivals), Slo(ttft_s=1.0), rate_rps=1.0)
    assert found.window.is_steady, found.window.reason
    assert (found.window.start_s, found.window.end_s) == (20, 199)
    assert found.metrics.completed == found.metrics.ttft_s.n == 180
    assert found.metrics.ttft_s.p50 == pytest.approx(0.05)
    assert found.metrics.goodput_rps == pytest.approx(180 / 179)
    assert found.metrics.slo_attainment == 1
    assert found.metrics.request_throughput_rps == pytest.approx(1.0, rel=0.05)


def test_overload_is_not_steady() -> None:
    arrivals = [i * NS_PER_S // 20 for i in range(1_000)]
    farm = SlotFarm(gpu_slots=4, gpu_pace_ns=50 * MS)
    found = measured(farm.serve(lengths(1_000), arrivals), rate_rps=20.0)
    assert not found.window.is_steady
    assert "faster than they are served" in str(found.window.reason)


def test_overload_is_the_reason_even_of_a_short_run() -> None:
    """More requests, the cure for short runs, would make it worse."""
    arrivals = [i * NS_PER_S // 20 for i in range(40)]
    found = measured(SlotFarm(2, 50 * MS).serve(lengths(40), arrivals), rate_rps=20.0)
    assert "lower the rate" in str(found.window.reason)


def test_refused_requests_do_not_prolong_the_warm_up() -> None:
    points = [
        checkpoint(s * NS_PER_S, output_tokens=s, completed=s, waiting=100 - s) for s in range(101)
    ]
    records = [record(i, arrival_ns=0) for i in range(100)]
    records += [record(100 + i, status=RequestStatus.REJECTED) for i in range(100)]
    records += [record(200 + i, status=RequestStatus.CANCELLED) for i in range(100)]
    assert measured(run_log(records, points)).window.start_s == 10


def test_rare_slow_tier_does_not_demand_a_longer_window() -> None:
    log = SlotFarm(gpu_slots=16, gpu_pace_ns=50 * MS).serve(lengths(800))
    slow = [
        dataclasses.replace(r, cpu_decode_tokens=r.output_tokens, start_ns=-(10**15))
        for r in log.requests[:39]
    ]
    rare = dataclasses.replace(log, requests=(*slow, *log.requests[39:]))
    points = [dataclasses.replace(p, cpu_completed=p.completed) for p in log.checkpoints]
    assert measured(dataclasses.replace(rare, checkpoints=tuple(points))).window.is_steady


def test_last_of_two_checkpoints_at_one_instant_counts() -> None:
    points = [
        checkpoint(0),
        checkpoint(0, output_tokens=10),
        checkpoint(10 * NS_PER_S, output_tokens=20),
    ]
    found = measured(run_log([record(0)], points))
    assert found.metrics.output_throughput_tok_s == pytest.approx(1.0)
    assert found.series is not None
    assert found.series.output_tok_s == pytest.approx((1.0, 1.0))


def test_open_loop_run_cut_short_counts_only_what_arrived() -> None:
    records = [record(i, arrival_ns=i * NS_PER_S) for i in range(100)]
    found = measured(run_log(records, [checkpoint(0), checkpoint(50 * NS_PER_S)]), rate_rps=1.0)
    assert (found.window.start_s, found.window.end_s) == (10, 50)
    assert found.metrics.completed == 41


def test_open_loop_warm_up_follows_arrivals_not_ids() -> None:
    records = [record(99 - i, arrival_ns=i * NS_PER_S) for i in range(100)]
    found = measured(run_log(records, [checkpoint(0), checkpoint(200 * NS_PER_S)]), rate_rps=1.0)
    assert (found.window.start_s, found.window.end_s) == (10, 99)


def test_served_set_depends_on_completed_ids_alone() -> None:
    def digest(*records: RequestRecord) -> str:
        return measured(run_log(records)).served_set_sha256

    late_first = digest(record(1, arrival_ns=9), record(2, arrival_ns=3))
    assert late_first == digest(record(1), record(2), record(3, status=RequestStatus.FAILED))
    assert late_first != digest(record(1))
    assert digest(record(12)) != late_first


def test_latency_formulas() -> None:
    found = measured(run_log([record(0)], [checkpoint(0), checkpoint(3 * NS_PER_S)]))
    assert found.metrics.ttft_s.mean == pytest.approx(0.5)
    assert found.metrics.tpot_s.mean == pytest.approx(1.0 / 10)
    assert found.metrics.e2e_s.mean == pytest.approx(1.5)
    assert found.metrics.latency_per_token_s.mean == pytest.approx(1.5 / 11)


def test_single_token_output_has_no_tpot_and_misses_no_tpot_target() -> None:
    one = record(0, output_tokens=1, end_ns=1_500 * MS)
    log = run_log([one], [checkpoint(0), checkpoint(3 * NS_PER_S)])
    found = measured(log, Slo(tpot_s=1e-9))
    assert (found.metrics.tpot_s.n, found.metrics.tpot_s.mean) == (0, None)
    assert found.metrics.slo_attainment == 1


def test_gaps_are_summarised_over_the_run() -> None:
    gaps = TokenGaps((10 * MS, 2_000 * MS), (900, 100))
    found = measured(run_log([record(0)], [checkpoint(0), checkpoint(NS_PER_S)], gaps))
    itl = found.metrics.itl_s
    assert (itl.n, itl.p50, itl.p99) == (1_000, pytest.approx(0.01), pytest.approx(2.0))
    assert itl.mean == pytest.approx(0.209)


@pytest.mark.parametrize(
    ("cpu_tokens", "output_tokens", "tier"),
    [(0, 11, "gpu"), (5, 11, "gpu"), (6, 11, "cpu"), (10, 11, "cpu"), (0, 1, "gpu")],
)
def test_tier_is_where_most_decode_tokens_were_made(
    cpu_tokens: int, output_tokens: int, tier: str
) -> None:
    one = record(0, cpu_decode_tokens=cpu_tokens, output_tokens=output_tokens)
    by_tier = measured(run_log([one])).latency_by_tier
    assert {name for name, latency in by_tier.items() if latency} == {tier}


def test_goodput_counts_failures_against_and_leaves_cancelled_out() -> None:
    arrival = {"arrival_ns": 0}
    records = [
        record(0, **arrival),
        record(1, arrival_ns=0, first_token_ns=9 * NS_PER_S, end_ns=10 * NS_PER_S),
        record(2, status=RequestStatus.FAILED, reason="timed out", **arrival),
        record(3, status=RequestStatus.REJECTED, reason="longer than the cache", **arrival),
        record(4, status=RequestStatus.REJECTED, reason="longer than the cache", **arrival),
        record(5, status=RequestStatus.UNFINISHED, end_ns=None, **arrival),
        record(6, status=RequestStatus.CANCELLED, **arrival),
    ]
    points = [checkpoint(0), checkpoint(10 * NS_PER_S, output_tokens=77, completed=2)]
    found = measured(run_log(records, points), Slo(ttft_s=2.0))
    metrics = found.metrics
    assert (metrics.completed, metrics.failed, metrics.unfinished) == (2, 3, 1)
    assert metrics.slo_attainment == pytest.approx(1 / 6)
    assert metrics.request_throughput_rps == pytest.approx(2 / 10)
    assert metrics.goodput_rps == pytest.approx(1 / 10)
    assert found.failures == {"longer than the cache": 2, "timed out": 1}
    assert metrics.e2e_s.n == 2


def test_requests_the_run_never_saw_are_unfinished() -> None:
    requests = [Request(id=i, arrival_ns=0, prompt_tokens=5, output_tokens=5) for i in range(4)]
    log = run_log([record(0), record(1)], [checkpoint(0), checkpoint(3 * NS_PER_S)])
    found = measure(log, requests, NO_SLO, rate_rps=None, is_deferring=False)
    assert (found.metrics.completed, found.metrics.unfinished) == (2, 2)


@pytest.mark.parametrize("rate_rps", [None, 1.0])
@pytest.mark.parametrize(
    "log",
    [
        run_log([]),
        run_log([], [checkpoint(0)]),
        run_log([record(0)], [checkpoint(0), checkpoint(3 * NS_PER_S, completed=1)]),
        run_log(
            [record(i, status=RequestStatus.REJECTED, start_ns=None, first_token_ns=None,
                    end_ns=None, output_tokens=0) for i in range(3)],
            [checkpoint(0)],
        ),
        run_log(
            [record(i, status=RequestStatus.UNFINISHED, end_ns=None) for i in range(3)],
            [checkpoint(0, waiting=3), checkpoint(5 * NS_PER_S, waiting=3)],
        ),
        run_log([record(i, arrival_ns=9 * NS_PER_S) for i in range(3)], [checkpoint(0)]),
    ],
    ids=["empty", "no time", "single", "rejected", "nothing completed", "cut before arrival"],
)  # fmt: skip
def test_poor_runs_give_zeros_and_nulls(log: RunLog, rate_rps: float | None) -> None:
    found = measured(log, Slo(ttft_s=0.1), rate_rps)
    assert not found.window.is_steady
    assert found.window.reason
    assert found.metrics.output_throughput_tok_s == 0
    assert found.metrics.goodput_rps == 0
    assert found.metrics.ttft_s.p50 is None


def test_nothing_counted_has_no_attainment() -> None:
    assert measured(run_log([]), Slo(ttft_s=1.0)).metrics.slo_attainment is None


def test_cdf_needs_two_samples_and_spans_them() -> None:
    log = run_log([record(0), record(1, first_token_ns=1_700 * MS, output_tokens=1)])
    cdf = measured(log).latency_cdf
    assert set(cdf) == {"ttft_s", "e2e_s", "latency_per_token_s"}  # one TPOT only
    assert len(cdf["ttft_s"]) == 101
    assert (cdf["ttft_s"][0], cdf["ttft_s"][-1]) == (pytest.approx(0.5), pytest.approx(0.7))
    assert list(cdf["ttft_s"]) == sorted(cdf["ttft_s"])


def test_series_covers_the_run_and_conserves_tokens() -> None:
    log = SlotFarm(gpu_slots=4, gpu_pace_ns=50 * MS).serve(lengths(100))
    series = measured(log).series
    assert series is not None
    assert len(series.t_s) == len(series.output_tok_s) == len(series.waiting) == 200
    width_s = log.end_ns / NS_PER_S / 200
    assert sum(series.output_tok_s) * width_s == pytest.approx(log.checkpoints[-1].output_tokens)
    assert series.waiting[0] == pytest.approx(96, abs=1)


def test_series_shares_follow_the_steps_of_each_interval() -> None:
    points = [
        checkpoint(0, gpu_rows=0),
        checkpoint(NS_PER_S, strategy_steps=(3, 0, 0, 1, 0), gpu_rows=4),
        checkpoint(2 * NS_PER_S, strategy_steps=(3, 0, 0, 1, 0), gpu_rows=4),
        checkpoint(3 * NS_PER_S, strategy_steps=(3, 0, 0, 9, 0), gpu_rows=4),
    ]
    series = measured(run_log([record(0)], points)).series
    assert series is not None
    assert series.t_s == pytest.approx((0.5, 1.5, 2.5))
    assert series.strategy_share == {
        "gpu_only": pytest.approx((0.75, 0, 0)),
        "deferred": pytest.approx((0.25, 0, 1)),
    }
    assert series.gpu_rows == pytest.approx((2, 4, 4))
