"""Recorded runs on the simulator's lanes: exact where nothing but durations differs."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apexbench.engine.costs import FlatCosts
from apexbench.engine.executors.durations import Durations
from apexbench.engine.executors.emulated.int_log import CpuJob, IntLog
from apexbench.engine.executors.emulated.lateness import Lateness
from apexbench.engine.executors.lanes import Job, Lane
from apexbench.engine.expansion import Op
from apexbench.engine.plan import StepPlan, StepResult, SubBatch
from apexbench.engine.running import RunSpec
from apexbench.engine.step_ops import OpTemplate
from apexbench.engine.tiers import Pools
from apexbench.records import RunLog, Workload
from tests.emulated_steps import Follower
from tests.fidelity.cases import CASES
from tests.fidelity.record import Recorded
from tests.fidelity.replay import measured_steps, outcome_at, replay, service_ns
from tests.laws.step_plans import Case, cases

TAG = (OpTemplate("attn_cpu", "cpu", "A", (), ""), 0)
NONE = FlatCosts(num_layers=1)


@st.composite
def lane_jobs(draw: st.DrawFn) -> tuple[np.ndarray, list[int]]:
    """Jobs of both priorities on a simulated lane as a log, and what each took."""
    lane, log, expected = Lane(), IntLog(CpuJob), []
    now, deferred = 0, []
    for _ in range(draw(st.integers(1, 12))):
        now += draw(st.integers(0, 50))
        duration = draw(st.integers(1, 60))
        if draw(st.booleans()):
            end = lane.run(now, duration)
            log.add(CpuJob(0, 0, 0, 0, 1, 1, now, now, end))
            expected.append(duration)
        else:
            deferred.append((now, duration, lane.submit(now, duration, TAG)))
    for ready, duration, job in deferred:
        log.add(CpuJob(0, 2, 0, 1, 1, 1, ready, ready, _finish(lane, job)))
        expected.append(duration)
    return log.rows(), expected


def _finish(lane: Lane, job: Job) -> int:
    return lane.finish(job)


@given(lane_jobs())
def test_what_jobs_took_is_found_from_their_ends(found: tuple[np.ndarray, list[int]]) -> None:
    jobs, expected = found
    assert service_ns(jobs, jobs["ready_ns"]).tolist() == expected


def test_a_job_that_ended_before_it_could_begin_took_nothing() -> None:
    log = IntLog(CpuJob)
    log.add(CpuJob(0, 0, 0, 0, 1, 1, 100, 100, 90))
    assert service_ns(log.rows(), log.rows()["ready_ns"]).tolist() == [0]


def recorded_of(case: Case, follower: Follower, ends: list[int]) -> Recorded:
    results = [StepResult(0, end, ((1, 1),)) for end in ends]
    spec = RunSpec(
        workload=Workload("", (), "", ""), policy="apex", belief=NONE, pools=Pools(16, 0)
    )
    return Recorded(
        replace(CASES[0], num_layers=case.costs.num_layers),
        *("apex", spec, RunLog((), (), None, (), 0, 0, 0, 0), list(case.plans), results, []),  # type: ignore[arg-type]
        *(follower.emulation.cpu_jobs.rows(), follower.emulation.steps.rows()),
        *(Lateness(0, 0, 0, 0), (0.0, 0.0)),
    )


def run_with_other_attention(case: Case, seed: int) -> Recorded:
    """Jobs take anything but what the model says."""
    draw = np.random.default_rng(seed)

    def attention_ns(_: Op, __: Durations) -> int:
        return int(draw.integers(1, 500))

    follower = Follower(case.costs, attention_ns)
    now, ends = 0, []
    for plan, idle in zip(case.plans, case.idles, strict=True):
        now = follower.run(plan, now + idle)
        ends.append(now)
    return recorded_of(case, follower, ends)


def one_priority(case: Case, *, cohorts: bool) -> Case:
    plans = []
    for plan in case.plans:
        batches = tuple(
            SubBatch((), batch.gpu_rows, batch.gpu_kv_tokens)
            if cohorts
            else replace(batch, chunks=())
            for batch in plan.batches
        )
        kept = plan.cohorts if cohorts else ()
        plans.append(StepPlan(plan.index, batches, kept))
    return replace(case, plans=tuple(plans))


@settings(max_examples=40)
@given(cases(max_layers=12), st.booleans(), st.integers(0, 99))
def test_steps_replayed_with_measured_jobs_end_when_they_did(
    case: Case, cohorts: bool, seed: int
) -> None:
    if any(step.action == "promote" for plan in case.plans for step in plan.cohorts):
        return
    recorded = run_with_other_attention(one_priority(case, cohorts=cohorts), seed)
    ends = replay(recorded, case.costs, measured_steps(recorded))
    assert ends == [result.end_ns for result in recorded.results]


def test_without_measurements_the_model_is_charged() -> None:
    costs = FlatCosts(num_layers=2, linear_s=100e-9, cpu_attention_s=300e-9)
    plan = StepPlan(0, (SubBatch((), (1,), 5, (2,), 7),))
    recorded = run_with_other_attention(Case(costs, (plan,), (0,)), 0)
    # pre, then per layer a job that the GPU waits for and the rest of its linear work.
    assert replay(recorded, costs) == [25 + 300 + 100 + 300 + 75]


def test_outcome_counts_tokens_and_the_median_request() -> None:
    results = [
        StepResult(0, 0, ((1, 1), (2, 1))),
        StepResult(0, 0, ((1, 1),)),
        StepResult(0, 0, ((1, 1), (2, 1))),
    ]
    found = outcome_at(results, [10**9, 2 * 10**9, 4 * 10**9])
    assert found.tokens_per_s == pytest.approx(5 / 4)
    assert found.tpot_s == pytest.approx(np.median([1.5, 3.0]))
