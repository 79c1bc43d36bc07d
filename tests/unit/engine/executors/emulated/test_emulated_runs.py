"""Whole runs of the emulated backend on a model of a few KiB: nothing is lost, jobs are right.

Durations are a few microseconds and never asserted.
"""

import os
import threading
from collections import defaultdict
from typing import Any

import numpy as np
import pytest

from apexbench.cpu_kernels import Ticket, is_compiled
from apexbench.engine.clock import WallClock
from apexbench.engine.contract.checked import CheckedScheduler
from apexbench.engine.costs import FlatCosts
from apexbench.engine.executors.emulated import opening
from apexbench.engine.executors.emulated.cpu_rows import GroupRows, HostRows
from apexbench.engine.executors.emulated.opening import EmulatedExecutor, open_emulated
from apexbench.engine.models import ModelShape
from apexbench.engine.plan import ENTER, PROMOTE, StepPlan, StepResult
from apexbench.engine.policies.registry import list_policies
from apexbench.engine.running import RunSpec, run
from apexbench.engine.scheduler import Scheduler
from apexbench.engine.thresholds import Thresholds
from apexbench.engine.tiers import Pools
from apexbench.errors import InputError
from apexbench.records import Request, RequestStatus, RunLog, Workload

pytestmark = pytest.mark.skipif(not is_compiled(), reason="UNPROVEN: needs the compiled kernels")

MODEL = ModelShape("small", 3, 64, 4, 2, 16, 128, 100, 512, True, "a test")
US = 1e-6
COSTS = FlatCosts(
    num_layers=MODEL.num_layers,
    linear_s=5 * US,
    gpu_attention_s_per_token=0.01 * US,
    cpu_attention_s_per_token=0.02 * US,
    copy_s_per_byte=1e-12,
    send_s=1 * US,
    recv_s=1 * US,
    schedule_s=2 * US,
)
HOST_TOKENS = 64 * 12
POLICIES = [entry.name for entry in list_policies()]
USING_CPU = [name for name in POLICIES if name not in {"gpu-only", "neo"}]  # at these costs


def requests(count: int, seed: int = 0) -> tuple[Request, ...]:
    draw = np.random.default_rng(seed).integers
    return tuple(Request(i, 0, int(draw(1, 40)), int(draw(1, 20))) for i in range(count))


def served(
    policy: str, work: tuple[Request, ...], observers: tuple[Any, ...] = (), **options: Any
) -> tuple[RunLog, EmulatedExecutor]:
    spec = RunSpec(
        workload=Workload("test", work, "", ""),
        policy=policy,
        belief=COSTS,
        pools=Pools(8 * 12, HOST_TOKENS, 8, 64),
        thresholds=Thresholds(),
    )
    clock = WallClock()
    with open_emulated(COSTS, MODEL, clock, host_kv_tokens=HOST_TOKENS, **options) as executor:
        log = run(
            *(spec, executor, clock, MODEL.num_layers),
            observers=observers,
            scheduler_type=CheckedScheduler,
        )
    return log, executor


@pytest.mark.parametrize("policy", POLICIES)
def test_every_request_gets_its_tokens(policy: str) -> None:
    work = requests(25)
    log, _ = served(policy, work)
    assert {record.status for record in log.requests} == {RequestStatus.COMPLETED}
    assert [r.output_tokens for r in log.requests] == [r.output_tokens for r in work]


@pytest.mark.parametrize("kv_dtype", ["bf16", "int8"])
def test_every_kv_dtype_runs(kv_dtype: str) -> None:
    log, _ = served("static:deferred", requests(8), cpu_kv_dtype=kv_dtype)
    assert {record.status for record in log.requests} == {RequestStatus.COMPLETED}


class Expected:
    """What the plans of a run ask of the CPU: (step, group, layer) -> rows, KV tokens, priority."""

    def __init__(self) -> None:
        self.jobs: dict[tuple[int, int, int], tuple[int, int, int]] = {}

    def on_step(self, plan: StepPlan, _: StepResult, __: Scheduler) -> None:
        layers = MODEL.num_layers
        for group, batch in enumerate(plan.batches):
            if batch.in_layer_rows:
                what = (len(batch.in_layer_rows), batch.in_layer_kv_tokens, 0)
                self.jobs |= {(plan.index, group, layer): what for layer in range(layers)}
        for place, step in enumerate(plan.cohorts):
            leaves_to = 0 if step.action is ENTER else step.layer + 1
            rows, tokens = len(step.rows), step.kv_tokens
            if step.action is PROMOTE:
                rest = range(leaves_to, layers)
                self.jobs |= {(plan.index, 2 + place, layer): (rows, tokens, 0) for layer in rest}
            elif leaves_to < layers:
                self.jobs[plan.index, 2 + place, leaves_to] = (rows, tokens, 1)


@pytest.mark.parametrize("policy", USING_CPU)
def test_the_library_gets_exactly_the_rows_and_tokens_of_the_plans(policy: str) -> None:
    expected = Expected()
    _, executor = served(policy, requests(30, seed=3), (expected.on_step,))
    found = {
        (job["step"], job["group"], job["layer"]): (job["rows"], job["kv_tokens"], job["priority"])
        for job in executor.cpu_jobs
    }
    assert expected.jobs
    assert found == expected.jobs
    assert len(executor.cpu_jobs) == len(found)


def test_jobs_end_after_they_were_submitted_and_those_after_their_data() -> None:
    _, executor = served("apex", requests(30))
    jobs = executor.cpu_jobs
    assert len(jobs)
    assert (jobs["ready_ns"] <= jobs["submit_ns"]).all()
    assert (jobs["submit_ns"] <= jobs["end_ns"]).all()
    by_priority = defaultdict(list)
    for job in jobs:
        by_priority[job["priority"]].append(job["end_ns"])
    assert all(ends == sorted(ends) for ends in by_priority.values())


def test_steps_follow_each_other_in_the_models_time() -> None:
    log, executor = served("apex", requests(10))
    facts = executor.step_facts
    assert facts["step"].tolist() == list(range(log.num_steps))
    assert (facts["begin_ns"] < facts["scheduled_ns"]).all()
    assert (facts["scheduled_ns"] < facts["sampled_ns"]).all()
    assert (facts["sampled_ns"][:-1] <= facts["begin_ns"][1:]).all()


def test_lanes_are_never_early_and_say_how_late() -> None:
    _, executor = served("apex", requests(10))
    by_lane = executor.lateness_by_lane
    assert executor.lateness.num_ops == sum(lane.num_ops for lane in by_lane.values())
    assert 0 <= executor.lateness.p50_ns <= executor.lateness.p99_ns <= executor.lateness.max_ns
    assert by_lane["gpu"].num_ops


def test_a_job_that_cannot_be_started_fails_its_rows_and_nobody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    attend, calls = GroupRows.attend, iter(range(1 << 20))

    def sometimes(rows: GroupRows, layer: int, priority: int) -> Ticket:
        if next(calls) == 7:
            raise RuntimeError("no luck")
        return attend(rows, layer, priority)

    monkeypatch.setattr(GroupRows, "attend", sometimes)
    log, _ = served("static:deferred", requests(30))
    by_status = defaultdict(list)
    for record in log.requests:
        by_status[record.status].append(record)
    assert {record.reason for record in by_status[RequestStatus.FAILED]} == {"no luck"}
    assert len(by_status[RequestStatus.COMPLETED]) == 30 - len(by_status[RequestStatus.FAILED])


def test_without_a_host_tier_nothing_is_allocated_and_no_cpu_is_taken() -> None:
    before = os.sched_getaffinity(0)
    clock = WallClock()
    with open_emulated(COSTS, MODEL, clock, host_kv_tokens=0) as executor:
        assert os.sched_getaffinity(0) == before
        assert executor.host_kv_tokens == 0
        assert not len(executor.cpu_jobs)


def test_jobs_and_their_buffers_are_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    made, prepared = [], []
    begin, prepare = GroupRows.__init__, GroupRows.prepare

    def counted(rows: GroupRows, host: HostRows) -> None:
        made.append(rows)
        begin(rows, host)

    def counted_prepare(rows: GroupRows, *arguments: Any) -> None:
        prepared.append(rows)
        prepare(rows, *arguments)

    monkeypatch.setattr(GroupRows, "__init__", counted)
    monkeypatch.setattr(GroupRows, "prepare", counted_prepare)
    served("static:deferred", requests(40))
    assert len(made) <= MODEL.num_layers + 3 < len(prepared)


def test_threads_are_as_before_when_a_run_is_over() -> None:
    threads = threading.active_count()
    served("apex", requests(3))
    assert threading.active_count() == threads


@pytest.mark.parametrize(
    ("workers", "expected"), [({1}, [{0, 2}, {0, 1, 2}]), ({0, 1, 2}, [{0, 1, 2}, {0, 1, 2}])]
)
def test_the_engine_keeps_away_from_the_workers_cpus(
    workers: set[int], expected: list[set[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen: list[set[int]] = []
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    monkeypatch.setattr(os, "sched_setaffinity", lambda _, cpus: chosen.append(set(cpus)))
    with opening._away_from(frozenset(workers)):
        assert chosen == expected[:1]
    assert chosen == expected


def test_without_the_library_one_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APEXBENCH_CPU_KERNELS", "fallback")
    with (
        pytest.raises(InputError, match="compiled CPU kernels"),
        open_emulated(COSTS, MODEL, WallClock(), host_kv_tokens=0),
    ):
        pass
