"""The step program as data: the listing of each strategy, and what may never change in it.

Run this file as a script to rewrite the listings in tests/golden after a deliberate change.
"""

from pathlib import Path

import pytest

from apexbench.engine.expansion import Op, expand
from apexbench.engine.plan import CohortAction, CohortStep, PrefillChunk, StepPlan, SubBatch
from apexbench.engine.program import Carry, build
from apexbench.engine.sequence import Tier
from apexbench.errors import InvariantError

GOLDEN = Path(__file__).parents[2] / "golden"
GPU = SubBatch(gpu_rows=(1, 2), gpu_kv_tokens=20)
MIXED = SubBatch(gpu_rows=(1, 2), gpu_kv_tokens=20, in_layer_rows=(3,), in_layer_kv_tokens=5)
CPU = SubBatch(in_layer_rows=(4, 5), in_layer_kv_tokens=9)


def cohort(action: CohortAction, layer: int, cohort_id: int = 7) -> CohortStep:
    return CohortStep(cohort_id, action, layer, (8, 9), 30)


def chunk(context: int = 0, tier: Tier = Tier.CPU) -> PrefillChunk:
    return PrefillChunk(6, 16, context, tier, is_last=True)


PLANS = {
    "gpu_only": StepPlan(0, (GPU,)),
    "in_layer": StepPlan(0, (MIXED,)),
    "two_batch": StepPlan(0, (MIXED, CPU)),
    "deferred": StepPlan(
        0, (GPU,), (cohort(CohortAction.JOIN, 0), cohort(CohortAction.ENTER, 0, 11))
    ),
    "fused": StepPlan(0, (MIXED, CPU), (cohort(CohortAction.JOIN, 0),)),
    "fused_one_batch": StepPlan(
        0, (MIXED,), (cohort(CohortAction.JOIN, 0), cohort(CohortAction.ENTER, 0, 11))
    ),
    "promoted": StepPlan(0, (GPU,), (cohort(CohortAction.PROMOTE, 0),)),
    "offloaded_prompt": StepPlan(0, (SubBatch((chunk(32),), (1,), 10),)),
    "swap_in": StepPlan(0, (GPU,), swap_in_tokens=64),
    "swap_out": StepPlan(0, (GPU,), swap_out_tokens=64),
}


def ops_of(plan: StepPlan, num_layers: int = 2) -> tuple[Op, ...]:
    waiting = {
        step.cohort: (step.layer, step.rows)
        for step in plan.cohorts
        if step.action is not CohortAction.ENTER
    }
    program, _ = build(plan, Carry(waiting), num_layers)
    return expand(program)


def listing(ops: tuple[Op, ...]) -> str:
    """One line per op: number, lane, name, and what it waits for."""
    lines = []
    for index, op in enumerate(ops):
        layer = "" if op.layer is None else f"({op.layer})"
        name = f"{op.kind}{layer} {op.group}{''.join(f'+c{c}' for c in op.cohorts)}".strip()
        waits = [str(dep) for dep in op.deps] + [f"ticket c{c}" for c in op.tickets]
        waits += ["earlier offload"] if op.awaits_offload else []
        marks = " deferrable" if op.priority else ""
        marks += f" ticket c{op.leaves}" if op.leaves is not None else ""
        lines.append(f"{index:>2} {op.lane:<4} {name:<16}{marks} <- {', '.join(waits)}".rstrip())
    return "\n".join(line.removesuffix(" <-").rstrip() for line in lines) + "\n"


def golden_path(name: str) -> Path:
    return GOLDEN / f"program_{name}.txt"


@pytest.mark.parametrize("name", sorted(PLANS))
def test_program_listing(name: str) -> None:
    assert listing(ops_of(PLANS[name])) == golden_path(name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["gpu_only", "in_layer", "two_batch", "deferred", "fused"])
def test_strategy_is_derived_from_the_plan(name: str) -> None:
    assert PLANS[name].strategy == name


def index_of(ops: tuple[Op, ...], kind: str, group: str, layer: int | None) -> int:
    found = [i for i, op in enumerate(ops) if (op.kind, op.group, op.layer) == (kind, group, layer)]
    assert len(found) == 1
    return found[0]


def test_linear_work_of_deferred_rows_is_never_launched_apart() -> None:
    ops = ops_of(PLANS["deferred"], num_layers=4)
    launches = [op for op in ops if op.lane == "gpu" and op.kind != "attn_gpu"]
    assert len(launches) == len(ops_of(PLANS["gpu_only"], num_layers=4)) - 1 - 4
    assert [op.cohorts for op in launches if op.cohorts] == [(1,), (1,), (0,)]


def test_a_join_awaits_the_ticket_and_leaves_with_a_new_one() -> None:
    ops = ops_of(PLANS["deferred"])
    recv = index_of(ops, "recv", "c0", 0)
    assert ops[recv].tickets == (0,)
    launch = index_of(ops, "launch", "A", 0)
    assert recv in ops[launch].deps
    leaving = [op for op in ops if op.leaves is not None]
    assert [(op.group, op.leaves) for op in leaving] == [("c1", 1), ("c0", 0)]


def test_a_cohort_that_joins_the_last_layer_does_not_leave_again() -> None:
    ops = ops_of(StepPlan(0, (GPU,), (cohort(CohortAction.JOIN, 1),)))
    assert not [op for op in ops if op.leaves is not None]
    assert ops[index_of(ops, "post", "A", 1)].cohorts == (0,)


def test_a_promoted_cohort_rides_in_layer_to_the_end() -> None:
    ops = ops_of(StepPlan(0, (GPU,), (cohort(CohortAction.PROMOTE, 1),)), num_layers=4)
    attention = [op.layer for op in ops if op.kind == "attn_cpu"]
    assert attention == [2, 3]
    assert all(op.priority == 0 for op in ops)
    joined = [op.layer for op in ops if op.lane == "gpu" and 0 in op.cohorts]
    assert joined == [1, 2, 3]


def test_with_two_batches_cohorts_join_batch_a() -> None:
    ops = ops_of(PLANS["fused"])
    assert {op.group for op in ops if op.cohorts} == {"A"}


@pytest.mark.parametrize("batches", [(MIXED,), (MIXED, CPU)])
def test_in_layer_rows_are_sent_before_cohorts_that_leave_with_them(
    batches: tuple[SubBatch, ...],
) -> None:
    cohorts = (cohort(CohortAction.JOIN, 1), cohort(CohortAction.ENTER, 0, 11))
    ops = ops_of(StepPlan(0, batches, cohorts), num_layers=4)
    for group, layer, launch in (("c1", 0, "pre"), ("c0", 2, "launch")):
        sent = index_of(ops, "send", group, layer)
        in_layer = index_of(ops, "send", "A", layer)
        left_with = index_of(ops, launch, "A", max(0, layer - 1))
        assert in_layer < sent < index_of(ops, "attn_gpu", "A", layer)
        assert ops[sent].deps == ops[in_layer].deps == (left_with,)


def test_riding_cohorts_are_sent_before_those_that_leave() -> None:
    cohorts = (cohort(CohortAction.JOIN, 1), cohort(CohortAction.PROMOTE, 1, 11))
    ops = ops_of(StepPlan(0, (GPU,), cohorts), num_layers=4)
    assert index_of(ops, "send", "c1", 2) < index_of(ops, "send", "c0", 2)


def test_a_result_at_hand_comes_over_before_that_of_in_layer_rows() -> None:
    ops = ops_of(PLANS["fused_one_batch"])
    order = [index_of(ops, *op, 0) for op in (("attn_cpu", "A"), ("recv", "c0"), ("recv", "A"))]
    assert order == sorted(order)


def test_results_wait_for_bulk_copies_that_attention_needs() -> None:
    plan = StepPlan(0, (MIXED,), (cohort(CohortAction.JOIN, 0),), swap_in_tokens=64)
    ops = ops_of(plan)
    order = [index_of(ops, *op, 0) for op in (("recv", "A"), ("attn_gpu", "A"), ("recv", "c0"))]
    assert order == sorted(order)


def test_results_of_batch_b_never_hold_up_a_join_of_batch_a() -> None:
    ops = ops_of(PLANS["fused"])
    results = [op.group for op in ops if op.kind == "recv" and op.layer == 0]
    assert results.index("c0") < results.index("B")


def test_staging_of_an_offloaded_prompt_is_reused_only_when_it_has_left() -> None:
    ops = ops_of(PLANS["offloaded_prompt"], num_layers=4)
    assert ops[index_of(ops, "pre", "A", 0)].awaits_offload
    for layer in (1, 2):
        before = index_of(ops, "offload", "A", layer - 1)
        assert before in ops[index_of(ops, "launch", "A", layer)].deps


def test_earlier_chunks_are_back_before_attention_needs_them() -> None:
    ops = ops_of(PLANS["offloaded_prompt"], num_layers=4)
    for layer in range(4):
        attention = ops[index_of(ops, "attn_gpu", "A", layer)]
        rereads = [i for i, op in enumerate(ops) if op.kind == "reread"]
        assert rereads[layer] in attention.deps


def test_the_carry_follows_a_cohort_layer_by_layer() -> None:
    carry = Carry()
    _, carry = build(StepPlan(0, (GPU,), (cohort(CohortAction.ENTER, 0),)), carry, 2)
    assert carry.cohorts == {7: (0, (8, 9))}
    _, carry = build(StepPlan(1, (GPU,)), carry, 2)  # frozen
    assert carry.cohorts == {7: (0, (8, 9))}
    _, carry = build(StepPlan(2, (GPU,), (cohort(CohortAction.JOIN, 0),)), carry, 2)
    assert carry.cohorts == {7: (1, (8, 9))}
    _, carry = build(StepPlan(3, (GPU,), (cohort(CohortAction.JOIN, 1),)), carry, 2)
    assert carry.cohorts == {}


def test_build_refuses_plans_that_contradict_the_carry() -> None:
    carry = Carry({7: (1, (8, 9))})
    with pytest.raises(InvariantError, match="entered twice"):
        build(StepPlan(0, (GPU,), (cohort(CohortAction.ENTER, 0),)), carry, 2)
    with pytest.raises(InvariantError, match="does not wait at layer 0"):
        build(StepPlan(0, (GPU,), (cohort(CohortAction.JOIN, 0),)), carry, 2)
    with pytest.raises(InvariantError, match="does not wait at layer 1"):
        build(StepPlan(0, (GPU,), (cohort(CohortAction.PROMOTE, 1, 9),)), carry, 2)


if __name__ == "__main__":
    for plan_name, golden_plan in PLANS.items():
        golden_path(plan_name).write_text(listing(ops_of(golden_plan)), encoding="utf-8")
