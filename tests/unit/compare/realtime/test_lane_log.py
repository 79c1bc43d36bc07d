"""Predicted against measured: exact where belief is truth, and by how much where it is not."""

from dataclasses import replace

import pytest

from apexbench.compare.realtime.lane_log import (
    LaneLog,
    measured_times,
    predicted_times,
    prediction_errors,
    python_times,
    totals,
)
from apexbench.engine.clock import VirtualClock
from apexbench.engine.costs import CostModel, FlatCosts
from apexbench.engine.executors.sim import SimulatedExecutor
from apexbench.engine.running import RunSpec, run
from apexbench.engine.tiers import Pools
from apexbench.records import Request, Workload
from apexbench.result import StepTimes

BELIEF = FlatCosts(
    num_layers=4, linear_s=1e-3, gpu_attention_s_per_token=1e-6, cpu_attention_s_per_token=2e-6,
    send_s=1e-5, recv_s=1e-5, schedule_s=1e-4,
)  # fmt: skip
REQUESTS = tuple(Request(index, 0, 40, 24) for index in range(10))


def logged(truth: CostModel, policy: str = "static:deferred", spacing_ns: int = 0) -> LaneLog:
    executor, clock = SimulatedExecutor(truth), VirtualClock()
    log = LaneLog(executor)
    requests = tuple(replace(r, arrival_ns=r.id * spacing_ns) for r in REQUESTS)
    spec = RunSpec(
        workload=Workload("test", requests, "", ""), policy=policy, belief=BELIEF,
        pools=Pools(128, 2048),
    )  # fmt: skip
    run(spec, executor, clock, truth.num_layers, observers=(log.on_step,))
    return log


def errors(truth: CostModel) -> dict[str, float]:
    log = logged(truth)
    predicted = predicted_times(log.steps, BELIEF, REQUESTS)
    return prediction_errors(predicted, measured_times(log.steps))


def test_a_belief_that_is_the_truth_has_no_error() -> None:
    assert errors(BELIEF) == pytest.approx(
        {"gpu": 0.0, "cpu": 0.0, "h2d": 0.0, "d2h": 0.0, "step": 0.0}, abs=1e-6
    )


def test_the_lane_that_is_slower_than_believed_shows_it() -> None:
    found = errors(replace(BELIEF, cpu_attention_s_per_token=4e-6))
    assert found["cpu"] == pytest.approx(0.5, abs=0.05)
    assert found["gpu"] < 1e-6


def test_tokens_and_ends_are_counted() -> None:
    log = logged(BELIEF)
    assert log.completed == len(REQUESTS)
    assert log.output_tokens == sum(request.output_tokens for request in REQUESTS)


def test_python_time_leaves_out_waiting_for_arrivals() -> None:
    log = logged(BELIEF, "gpu-only", spacing_ns=400_000_000)
    pauses = log.steps[-1].end_ns - sum(step.end_ns - step.start_ns for step in log.steps)
    assert pauses > 1e9  # four seconds of arrivals
    assert python_times(log.steps) == pytest.approx([1e-4] * len(log.steps))


def test_totals_are_sums_by_lane_without_idle_lanes() -> None:
    times = [StepTimes(step_s=2, gpu_s=1, cpu_s=0, h2d_s=0.5, d2h_s=0)] * 3
    assert totals(times) == {"gpu": 3.0, "h2d": 1.5, "step": 6.0}


def test_steps_after_a_failure_are_not_predicted() -> None:
    log = logged(BELIEF)
    log.steps[5] = replace(log.steps[5], has_failures=True)
    assert len(predicted_times(log.steps, BELIEF, REQUESTS)) == 6


def test_a_lane_that_did_nothing_has_no_error() -> None:
    times = [StepTimes(step_s=1, gpu_s=1, cpu_s=0, h2d_s=0, d2h_s=0)]
    assert prediction_errors(times, times) == {"gpu": 0.0, "step": 0.0}
    assert prediction_errors([], []) == {}
