"""Which cost each op of a program is charged, and over how many rows."""

import pytest

from apexbench.engine.costs import FlatCosts
from apexbench.engine.deployment import deploy
from apexbench.engine.executors.durations import Durations, StepCosts, sampled_rows
from apexbench.engine.plan import CohortAction, CohortStep, PrefillChunk, StepPlan, SubBatch
from apexbench.engine.sequence import Tier
from apexbench.engine.step_ops import OpTemplate

NS = 1e-9
COSTS = FlatCosts(
    num_layers=4,
    linear_s=lambda rows: (1000 + rows) * NS,
    gpu_attention_s_per_token=1 * NS,
    prefill_attention_s_per_token=1 * NS,
    head_s=50 * NS,
    embed_s=30 * NS,
    cpu_attention_s_per_row=100 * NS,
    cpu_attention_s_per_token=1 * NS,
    cpu_dispatch_s=7 * NS,
    send_s=11 * NS,
    recv_s=13 * NS,
    copy_s_per_byte=1 * NS,
    schedule_s=500 * NS,
    schedule_s_per_row=1 * NS,
    kv_bytes_per_token_layer_cpu=2,
)
CHUNKS = (PrefillChunk(0, 10, 4, Tier.CPU, True), PrefillChunk(1, 5, 0, Tier.GPU, False))
A = SubBatch(CHUNKS, (2, 3), 40, (4,), 9)
B = SubBatch((), (), 0, (5, 6), 17)
COHORTS = (
    CohortStep(0, CohortAction.JOIN, 3, (7, 8, 9), 21),
    CohortStep(1, CohortAction.ENTER, 0, (10,), 6),
)
PLAN = StepPlan(0, (A, B), COHORTS, swap_in_tokens=6)


def op(kind: str, group: str = "", cohorts: tuple[int, ...] = ()) -> OpTemplate:
    return OpTemplate(kind, "gpu", group, (), "", cohorts=cohorts)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (op("launch", "A"), 1000 + 18),
        (op("launch", "A", (0,)), 1000 + 18 + 3),
        (op("launch", "A", (0, 1)), 1000 + 18 + 3 + 1),
        (op("launch", "B"), 1000 + 2),
        (op("pre", "A", (1,)), round(0.25 * 1019)),
        (op("post", "B"), 1002 - round(0.25 * 1002)),
        (op("attn_gpu", "A"), 40 + (10 * 4 + 55) + 15),
        (op("embed", "A", (1,)), 30),
        (op("head"), 50),
        (op("send", "B"), 11),
        (op("recv", "c0"), 13),
        (op("attn_cpu", "A"), 100 + 9 + 7),
        (op("attn_cpu", "B"), 200 + 17 + 7),
        (op("attn_cpu", "c0"), 300 + 21 + 7),
        (op("attn_cpu", "c1"), 100 + 6 + 7),
        (op("offload", "A"), 10 * 2),
        (op("reread", "A"), 4 * 2),
        (op("swap_in"), 6 * 2),
        (op("swap_out"), 0),
        (op("schedule"), 500 + (2 + 2 + 1) + 2 + (3 + 1)),  # a chunk is one, not its tokens
    ],
)
def test_duration_of_each_kind(template: OpTemplate, expected: int) -> None:
    assert Durations(PLAN, StepCosts(COSTS)).of(template) == expected


@pytest.mark.parametrize(
    ("template", "rows"),
    [
        (op("launch", "A", (0,)), 21),
        (op("embed", "A", (1,)), 18 + 2 + 1),
        (op("attn_gpu", "A"), 2),
        (op("attn_cpu", "B"), 2),
        (op("send", "c0"), 3),
        (op("head"), 2 + 1 + 1 + 2 + 3),
        (op("schedule"), 0),
    ],
)
def test_rows_of_each_kind(template: OpTemplate, rows: int) -> None:
    assert Durations(PLAN, StepCosts(COSTS)).rows(template) == rows


def test_sampled_rows_leave_out_prompts_in_progress_and_cohorts_under_way() -> None:
    assert sampled_rows(PLAN, num_layers=4) == 9
    assert sampled_rows(PLAN, num_layers=5) == 6


def test_groups_that_are_absent_cost_nothing() -> None:
    durations = Durations(StepPlan(0, (SubBatch((), (1,), 1),)), StepCosts(COSTS))
    assert [durations.of(op(kind, "A")) for kind in ("send", "attn_cpu", "recv")] == [0, 0, 0]
    assert durations.of(op("attn_cpu", "B")) == 0


class Contended(FlatCosts):
    """CPU attention that takes as long as the bulk copies beside it have bytes."""

    def cpu_attention_ns(self, rows: int, kv_tokens: int, copy_bytes: int = 0) -> int:
        return copy_bytes


def test_cpu_attention_is_told_of_the_bulk_copies_beside_it() -> None:
    step_costs = StepCosts(Contended(num_layers=4, kv_bytes_per_token_layer_cpu=2))
    assert Durations(PLAN, step_costs).of(op("attn_cpu", "A")) == 2 * (6 + 10 + 4)
    quiet = StepPlan(0, (B,))
    assert Durations(quiet, step_costs).of(op("attn_cpu", "A")) == 0


def test_only_gpu_only_decode_steps_replay_captured_graphs() -> None:
    step_costs = StepCosts(deploy().costs())
    decode = StepPlan(0, (SubBatch((), (1,), 500),))
    prompt = StepPlan(0, (SubBatch((CHUNKS[1],), (1,), 500),))
    joined = StepPlan(0, decode.batches, COHORTS[:1])
    captured = [Durations(plan, step_costs).costs for plan in (decode, prompt, joined)]
    assert captured == [step_costs.captured, step_costs.eager, step_costs.eager]
    assert Durations(decode, step_costs).of(op("schedule")) < Durations(prompt, step_costs).of(
        op("schedule")
    )
