"""The loop: arrivals, refusals, closed loops, the stop, progress."""

import pytest

from apexbench.engine.costs import FlatCosts
from apexbench.engine.simulate import SimulationSpec, simulate
from apexbench.engine.thresholds import Thresholds
from apexbench.engine.tiers import Pools
from apexbench.records import Request, RequestStatus, RunLog, Workload

MS = 1_000_000
COSTS = FlatCosts(num_layers=1, linear_s=1e-3)  # a step takes 1 ms


def run(requests: list[Request], *, concurrency=None, stop_ms=None, **kwargs) -> RunLog:
    workload = Workload("w", tuple(requests), "", "", concurrency=concurrency)
    stop_ns = None if stop_ms is None else stop_ms * MS
    pools = Pools(64, 0, gpu_block_tokens=4)
    spec = SimulationSpec(
        workload=workload,
        policy="gpu-only",
        belief=COSTS,
        truth=COSTS,
        pools=pools,
        thresholds=Thresholds(),
        stop_ns=stop_ns,
    )
    return simulate(spec, **kwargs)


def test_the_engine_sleeps_until_the_next_arrival() -> None:
    log = run([Request(0, 0, 4, 2), Request(1, 50 * MS, 4, 1)])
    assert [record.start_ns for record in log.requests] == [0, 50 * MS]
    assert log.end_ns == 51 * MS
    assert log.num_steps == 3


def test_no_requests_are_no_steps() -> None:
    log = run([])
    assert (log.requests, log.num_steps, log.end_ns) == ((), 0, 0)
    assert len(log.checkpoints) == 1


@pytest.mark.parametrize("too_long", [[0], [0, 1, 2], [1, 2], [4], [0, 1, 2, 3, 4]])
def test_a_closed_loop_goes_on_after_refusals(too_long) -> None:
    requests = [Request(i, 0, 99 if i in too_long else 4, 3) for i in range(5)]
    log = run(requests, concurrency=2)
    refused = [r.id for r in log.requests if r.status is RequestStatus.REJECTED]
    served = [r.id for r in log.requests if r.status is RequestStatus.COMPLETED]
    assert refused == too_long
    assert len(served) == 5 - len(too_long)


def test_a_closed_loop_goes_on_after_a_row_outgrew_its_pool() -> None:
    log = run([Request(0, 0, 60, 30), Request(1, 0, 4, 2)], concurrency=1)
    statuses = [record.status for record in log.requests]
    assert statuses == [RequestStatus.FAILED, RequestStatus.COMPLETED]
    assert log.requests[0].output_tokens == 5


def test_stopping_reports_what_is_in_flight_and_what_was_never_sent() -> None:
    requests = [Request(0, 0, 4, 2), Request(1, 0, 4, 30), Request(2, 90 * MS, 4, 1)]
    log = run(requests, stop_ms=10)
    by_id = {record.id: record for record in log.requests}
    assert by_id[0].status is RequestStatus.COMPLETED
    assert by_id[1].status is by_id[2].status is RequestStatus.UNFINISHED
    assert (by_id[1].output_tokens, by_id[1].end_ns) == (10, None)
    assert by_id[2].reason == "the run ended before it arrived"


def test_observers_and_progress_see_the_run() -> None:
    seen: list[int] = []
    told: list[tuple[int, int]] = []
    requests = [Request(i, 0, 4, 50) for i in range(30)]
    log = run(
        requests,
        observers=(lambda plan, result, scheduler: seen.append(plan.index),),
        on_progress=lambda completed, now: told.append((completed, now)),
    )
    assert seen == list(range(log.num_steps))
    assert told == sorted(told)
    assert told
