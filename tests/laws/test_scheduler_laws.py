"""Laws of the scheduler under random workloads, every policy and pools of a few blocks."""

import datetime as dt
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apexbench.engine.contract.checked import CheckedScheduler, check_records, run_checked
from apexbench.engine.costs import FlatCosts
from apexbench.engine.deployment import deploy
from apexbench.engine.engine import StepObserver
from apexbench.engine.plan import StepPlan, StepResult
from apexbench.engine.policies.registry import list_policies
from apexbench.engine.scheduler import Scheduler
from apexbench.engine.simulate import SimulationSpec, simulate
from apexbench.engine.thresholds import Thresholds
from apexbench.engine.tiers import Pools
from apexbench.records import Request, RequestRecord, RequestStatus, RunLog, Workload

POLICIES = [entry.name for entry in list_policies()]
LAYERS = 4

# -- what is drawn ---------------------------------------------------------------------------------

lengths = st.tuples(st.integers(1, 90) | st.integers(10, 30), st.integers(1, 40))
gaps_ms = st.sampled_from([0, 0, 0, 1, 7, 60])


@st.composite
def workloads(draw: st.DrawFn) -> Workload:
    shapes = draw(st.lists(st.tuples(lengths, gaps_ms), min_size=1, max_size=16))
    ids = draw(st.permutations(range(len(shapes))))
    concurrency = draw(st.sampled_from([None, None, 1, 3]))
    requests, now = [], 0
    for request_id, ((prompt, output), gap) in zip(ids, shapes, strict=True):
        now += gap * 1_000_000
        requests.append(Request(request_id, now, prompt, output))
    requests.sort(key=lambda request: (request.arrival_ns, request.id))
    return Workload("drawn", tuple(requests), "", "hypothesis", concurrency=concurrency)


pools = st.builds(
    Pools,
    gpu_tokens=st.sampled_from([0, 8, 24, 64, 128]),
    cpu_tokens=st.sampled_from([0, 16, 48, 112, 400]),
    gpu_block_tokens=st.sampled_from([1, 4, 8]),
    cpu_block_tokens=st.sampled_from([1, 8, 16]),
).filter(lambda drawn: drawn.gpu_tokens > 0)

thresholds = st.builds(
    Thresholds,
    max_batched_tokens=st.sampled_from([16, 40, 2048]),
    max_running_rows=st.sampled_from([2, 5, 64]),
    gpu_kv_watermark=st.sampled_from([0.0, 0.02, 0.2]),
    swap_in_fraction=st.sampled_from([0.6, 0.95, 1.0]),
    linear_rows_threshold=st.sampled_from([1, 16, 128]),
    offload_gain_margin=st.sampled_from([0.0, 0.3]),
    two_batch_bias=st.sampled_from([0.25, 1.0, 4.0]),
    min_cpu_rows=st.sampled_from([1, 1, 3]),
    max_deferred_cohorts=st.sampled_from([None, 1, 2, LAYERS + 1]),
    max_deferred_rows=st.sampled_from([None, 1, 4]),
    join_mode=st.sampled_from(["wait", "poll"]),
    max_frozen_steps=st.sampled_from([1, 3]),
    max_missed_polls=st.sampled_from([0, 2]),
)

costs = st.builds(
    FlatCosts,
    num_layers=st.just(LAYERS),
    linear_s=st.sampled_from([1e-4, 1e-3]),
    gpu_attention_s=st.sampled_from([0.0, 1e-4]),
    gpu_attention_s_per_token=st.sampled_from([1e-7, 1e-5]),
    prefill_attention_s_per_token=st.just(1e-8),
    head_s=st.just(1e-4),
    cpu_attention_s_per_row=st.sampled_from([0.0, 1e-5, 1e-3]),
    cpu_attention_s_per_token=st.sampled_from([0.0, 1e-6, 1e-4]),
    cpu_dispatch_s=st.sampled_from([0.0, 1e-5]),
    send_s=st.just(1e-5),
    recv_s=st.just(1e-5),
    copy_s_per_byte=st.sampled_from([0.0, 1e-10, 1e-8]),
    schedule_s=st.just(1e-4),
)


def specs(policies: list[str] = POLICIES) -> st.SearchStrategy[SimulationSpec]:
    """Anything, and one time in two a host pool several times the GPU's: rows live on the CPU."""
    roomy = st.builds(
        Pools,
        gpu_tokens=st.sampled_from([24, 48, 100]),
        cpu_tokens=st.just(400),
        gpu_block_tokens=st.sampled_from([1, 8]),
        cpu_block_tokens=st.just(8),
    )
    return st.builds(
        SimulationSpec,
        workload=workloads(),
        policy=st.sampled_from(policies),
        belief=costs,
        truth=costs,
        pools=st.one_of(pools, roomy),
        thresholds=thresholds,
        extrapolates=st.booleans(),
    )


# -- runs that check themselves --------------------------------------------------------------------


def run(
    spec: SimulationSpec, *, seed: int | None = None, observers: tuple[StepObserver, ...] = ()
) -> RunLog:
    """Every plan and every commit is checked; with a seed, requests are stopped at random."""
    cancels = None if seed is None else np.random.default_rng(seed)
    return run_checked(spec, cancels=cancels, observers=observers)


def by_status(log: RunLog) -> dict[RequestStatus, list[RequestRecord]]:
    found: dict[RequestStatus, list[RequestRecord]] = {status: [] for status in RequestStatus}
    for record in log.requests:
        found[record.status].append(record)
    return found


def largest_pool(spec: SimulationSpec, log: RunLog) -> int:
    return max(log.gpu_kv_tokens, log.cpu_kv_tokens)


many = settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
some = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@many
@given(specs())
def test_all_that_fits_is_served_and_all_else_says_why(spec) -> None:
    log = run(spec)
    limit = largest_pool(spec, log)
    for request in spec.workload.requests:
        record = next(r for r in log.requests if r.id == request.id)
        if request.total_tokens <= limit:
            assert record.status is RequestStatus.COMPLETED
        elif request.prompt_tokens + 1 > limit:
            assert record.status is RequestStatus.REJECTED
            assert record.output_tokens == 0
            assert "does not fit" in (record.reason or "")
        elif record.status is not RequestStatus.COMPLETED:  # the last token needs no KV
            assert record.status is RequestStatus.FAILED
            assert "grew to" in (record.reason or "")
    assert not by_status(log)[RequestStatus.UNFINISHED]
    assert not by_status(log)[RequestStatus.CANCELLED]


@many
@given(specs(), st.integers(0, 2**32 - 1))
def test_cancellation_at_any_moment_keeps_the_books(spec, seed) -> None:
    log = run(spec, seed=seed)
    assert not by_status(log)[RequestStatus.UNFINISHED]


@some
@given(specs())
def test_equal_specs_give_equal_logs_and_extrapolation_changes_nothing(spec) -> None:
    once = simulate(spec)
    assert simulate(spec) == once
    assert simulate(replace(spec, extrapolates=not spec.extrapolates)) == once


@some
@given(specs(), st.integers(1, 400))
def test_a_run_that_is_stopped_reports_what_is_unfinished(spec, stop_ms) -> None:
    log = run(replace(spec, stop_ns=stop_ms * 1_000_000))
    check_records(spec, log)


def t4_spec(policy: str, gpu_tokens: int = 1200, num_requests: int = 30) -> SimulationSpec:
    costs_of_t4 = deploy().costs()
    draw = np.random.default_rng(7)
    requests = tuple(
        Request(i, int(t), int(draw.integers(20, 900)), int(draw.integers(1, 120)))
        for i, t in enumerate(np.sort(draw.integers(0, 5 * 10**9, num_requests)))
    )
    workload = Workload("t4", requests, "", "drawn")
    return SimulationSpec(
        workload=workload,
        policy=policy,
        belief=costs_of_t4,
        truth=costs_of_t4,
        pools=Pools(gpu_tokens, 20_000),
        thresholds=Thresholds(),
    )


@pytest.mark.parametrize("policy", POLICIES)
def test_real_costs_keep_the_laws(policy) -> None:
    spec = t4_spec(policy)
    log = run(spec)
    assert len(by_status(log)[RequestStatus.COMPLETED]) == 30
    assert simulate(replace(spec, extrapolates=False)) == log


@pytest.mark.parametrize("policy", [entry.name for entry in list_policies() if entry.uses_cpu])
def test_a_host_with_less_memory_than_the_gpu_works(policy) -> None:
    spec = t4_spec(policy)
    log = run(replace(spec, pools=Pools(1200, 512)))
    assert len(by_status(log)[RequestStatus.COMPLETED]) == 30
    assert sum(record.preemptions for record in log.requests) > 0, "the host pool never ran out"


@pytest.mark.parametrize("policy", POLICIES)
def test_virtual_time_never_reads_the_hosts_clock(policy, monkeypatch) -> None:
    def refuse(*args, **kwargs):
        raise AssertionError("the host's clock was read")

    for name in ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "sleep"):
        monkeypatch.setattr(time, name, refuse)
    monkeypatch.setattr(time, "perf_counter_ns", refuse)
    monkeypatch.setattr(time, "process_time", refuse)
    frozen = type("Refusing", (dt.datetime,), {"now": refuse, "utcnow": refuse})
    monkeypatch.setattr(dt, "datetime", frozen)
    assert simulate(t4_spec(policy, num_requests=8)).end_ns > 0


def test_cancellation_hits_rows_in_the_middle_of_a_token() -> None:
    counts: list[int] = []

    def count(plan: StepPlan, result: StepResult, scheduler: Scheduler) -> None:
        assert isinstance(scheduler, CheckedScheduler)
        counts.append(scheduler.num_cancelled_mid_token)

    run(t4_spec("static:deferred", num_requests=60), seed=3, observers=(count,))
    assert counts[-1] > 5


class Progress:
    """Observes the longest time, in steps, that the oldest row stood still."""

    def __init__(self) -> None:
        self.longest = 0
        self._oldest = (-1, -1)
        self._since = 0

    def __call__(self, plan: StepPlan, result: StepResult, scheduler: Scheduler) -> None:
        rows = [*scheduler.gpu_rows, *scheduler.cpu_rows]
        if not rows:
            return
        oldest = min(rows, key=lambda row: row.order)
        if (oldest.order, oldest.generated) != self._oldest:
            self._oldest, self._since = (oldest.order, oldest.generated), plan.index
        self.longest = max(self.longest, plan.index - self._since)


def test_deferred_rows_advance_every_l_plus_one_steps() -> None:
    spec = t4_spec("static:deferred")
    progress = Progress()
    run(spec, observers=(progress,))
    layers = spec.truth.num_layers
    # L + 1 steps a token, as long again until a cohort may enter, and a prompt's copy in between.
    assert layers <= progress.longest <= 3 * (layers + 1)
