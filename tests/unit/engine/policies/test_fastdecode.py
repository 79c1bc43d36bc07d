"""FastDecode: equal halves, and every decode token with its KV on the host."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apexbench.engine.contract.drawn import Row
from apexbench.engine.costs import FlatCosts
from apexbench.engine.deployment import deploy
from apexbench.engine.plan import PrefillChunk, StepPlan
from apexbench.engine.policies.base import GPU_ONLY, Candidates, PolicyContext
from apexbench.engine.policies.fastdecode import FastDecode
from apexbench.engine.sequence import Tier
from apexbench.engine.simulate import (
    SimulationSpec,
    capacity_for,
    pools_of,
    simulate,
    thresholds_for,
)
from apexbench.engine.thresholds import Thresholds
from apexbench.engine.tiers import Pools
from apexbench.records import Request, RequestStatus, RunLog, Workload

PROMPT = PrefillChunk(900, 500, 0, Tier.CPU, is_last=True)


def choose(lengths, chunks=(), **limits):
    rows = tuple(Row(i, length, 1, 0) for i, length in enumerate(lengths))
    work = Candidates(chunks, 0, 0, rows, sum(lengths) + len(rows), 0, 0, 0)
    return FastDecode(PolicyContext(FlatCosts(num_layers=4), Thresholds(**limits))).choose(work)


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=60), st.booleans())
def test_halves_differ_by_one_row_at_most_in_attention_work(lengths, has_prompt) -> None:
    choice = choose(lengths, (PROMPT,) if has_prompt else ())
    assert sorted(choice.in_layer_a + choice.in_layer_b) == list(range(len(lengths)))
    sums = [sum(lengths[i] + 1 for i in half) for half in (choice.in_layer_a, choice.in_layer_b)]
    assert abs(sums[0] - sums[1]) <= max(lengths) + 1
    assert choice.enter == choice.drops == ()


def test_a_single_row_hides_behind_a_prompt_if_there_is_one() -> None:
    assert choose([400]).in_layer_a == (0,)
    assert choose([400], (PROMPT,)).in_layer_b == (0,)
    assert choose([]) == GPU_ONLY


def test_rows_are_limited_by_the_threshold_alone() -> None:
    choice = choose([100] * 30, max_running_rows=8)
    assert len(choice.in_layer_a + choice.in_layer_b) == 8


def run(spec: SimulationSpec) -> tuple[RunLog, list[StepPlan]]:
    plans: list[StepPlan] = []
    return simulate(spec, observers=(lambda plan, *_: plans.append(plan),)), plans


def t4(**overrides) -> SimulationSpec:
    deployment = deploy()
    limits = thresholds_for("fastdecode", overrides)
    capacity = capacity_for(deployment, "fastdecode", limits, 4096)
    requests = tuple(Request(i, 0, 100 + 7 * i, 20) for i in range(40))
    costs = deployment.costs()
    pools = pools_of(deployment, capacity, uses_cpu=True)
    return SimulationSpec(
        workload=Workload("w", requests, "", "made up"),
        policy="fastdecode",
        belief=costs,
        truth=costs,
        pools=pools,
        thresholds=limits,
    )


def test_the_gpu_keeps_no_kv_and_nothing_is_swapped() -> None:
    log, plans = run(t4())
    assert {record.status for record in log.requests} == {RequestStatus.COMPLETED}
    assert not any(batch.gpu_rows for plan in plans for batch in plan.batches)
    assert not any(plan.swap_in_tokens or plan.swap_out_tokens for plan in plans)
    chunks = [chunk for plan in plans for batch in plan.batches for chunk in batch.chunks]
    assert {chunk.tier for chunk in chunks} == {Tier.CPU}
    for record in log.requests:
        assert record.cpu_decode_tokens == record.output_tokens - 1  # prefill gives the first


def test_a_step_serves_as_many_rows_as_there_are() -> None:
    _, plans = run(t4(max_running_rows=16))
    most = max(sum(len(batch.in_layer_rows) for batch in plan.batches) for plan in plans)
    assert most == 16
    assert {plan.strategy for plan in plans} <= {"gpu_only", "in_layer", "two_batch"}


@pytest.mark.parametrize(
    ("pools", "statuses", "tiers"),
    [
        (Pools(512, 128), ["completed", "completed"], {0: Tier.CPU, 1: Tier.GPU}),
        (Pools(128, 128), ["completed", "rejected"], {0: Tier.CPU}),
        (Pools(512, 0), ["completed", "completed"], {0: Tier.GPU, 1: Tier.GPU}),
    ],
    ids=["too long for the host", "too long for both", "no host memory"],
)
def test_only_what_the_host_could_never_hold_stays_on_the_gpu(pools, statuses, tiers) -> None:
    requests = (Request(0, 0, 40, 5), Request(1, 0, 300, 5))
    costs = FlatCosts(num_layers=4, linear_s=1e-3)
    workload = Workload("w", requests, "", "made up")
    log, plans = run(
        SimulationSpec(
            workload=workload, policy="fastdecode", belief=costs, truth=costs, pools=pools
        )
    )
    assert [record.status for record in log.requests] == statuses
    chunks = [chunk for plan in plans for batch in plan.batches for chunk in batch.chunks]
    assert {chunk.sequence: chunk.tier for chunk in chunks} == tiers


def test_a_row_that_outgrows_the_host_goes_on_on_the_gpu() -> None:
    costs = FlatCosts(num_layers=4, linear_s=1e-3)
    workload = Workload("w", (Request(0, 0, 100, 60),), "", "made up")
    log, _ = run(
        SimulationSpec(
            workload=workload, policy="fastdecode", belief=costs, truth=costs, pools=Pools(512, 128)
        )
    )
    (record,) = log.requests
    assert record.status is RequestStatus.COMPLETED
    assert 0 < record.cpu_decode_tokens < 60
    assert record.preemptions == 1


def test_a_prompt_that_fills_the_host_leaves_no_room_for_its_answer() -> None:
    costs = FlatCosts(num_layers=4, linear_s=1e-3)
    workload = Workload("w", (Request(0, 0, 128, 5), Request(1, 0, 127, 1)), "", "made up")
    log, plans = run(
        SimulationSpec(
            workload=workload, policy="fastdecode", belief=costs, truth=costs, pools=Pools(512, 128)
        )
    )
    chunks = [chunk for plan in plans for batch in plan.batches for chunk in batch.chunks]
    assert {chunk.sequence: chunk.tier for chunk in chunks} == {0: Tier.GPU, 1: Tier.CPU}
    assert [record.preemptions for record in log.requests] == [0, 0]
