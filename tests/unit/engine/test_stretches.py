"""Stretches of consecutive steps: whole, in order, spread evenly, bounded in number."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apexbench.engine.plan import (
    CohortAction,
    CohortStep,
    PrefillChunk,
    StepPlan,
    StepResult,
    SubBatch,
)
from apexbench.engine.sequence import Tier
from apexbench.engine.stretches import MAX_STRETCHES, STRETCH_STEPS, StretchKeeper, step_record
from apexbench.metrics.series import stretch_amid
from apexbench.records import NS_PER_S, StepRecord
from apexbench.result import Window

DECODE = SubBatch(gpu_rows=(0,), gpu_kv_tokens=6)


def kept(num_steps: int) -> tuple[tuple[StepRecord, ...], ...]:
    keeper = StretchKeeper()
    for index in range(num_steps):
        keeper.on_step(StepPlan(index, (DECODE,)), StepResult(index, index + 1, ((0, 1),)))
    return keeper.stretches()


def test_a_record_counts_what_both_batches_and_the_cohorts_do() -> None:
    first = SubBatch((PrefillChunk(9, 40, 0, Tier.GPU, True),), (0, 1), 20, (2,), 10)
    second = SubBatch(in_layer_rows=(3, 4), in_layer_kv_tokens=20)
    cohort = CohortStep(0, CohortAction.JOIN, 3, (5, 6, 7), 30)
    plan = StepPlan(8, (first, second), (cohort,))
    record = step_record(plan, StepResult(10, 30, ((0, 1), (1, 1), (9, 1))))
    assert record == StepRecord(8, 10, 30, "fused", 40, 2, 3, 3, 3)


@pytest.mark.parametrize("num_steps", [0, 1, STRETCH_STEPS, STRETCH_STEPS + 1])
def test_a_short_run_is_kept_whole(num_steps: int) -> None:
    steps = [record.index for stretch in kept(num_steps) for record in stretch]
    assert steps == list(range(num_steps))


@settings(max_examples=20)
@given(st.integers(1, 4 * MAX_STRETCHES * STRETCH_STEPS))
def test_stretches_are_whole_ordered_and_evenly_spread(num_steps: int) -> None:
    found = kept(num_steps)
    assert len(found) <= MAX_STRETCHES
    starts = [stretch[0].index for stretch in found]
    period = starts[1] - starts[0] if len(starts) > 1 else STRETCH_STEPS
    assert starts == list(range(0, starts[-1] + 1, period))
    assert num_steps - starts[-1] <= period
    for stretch in found:
        indices = [record.index for record in stretch]
        assert indices == list(range(indices[0], indices[0] + len(indices)))
    assert all(len(stretch) == STRETCH_STEPS for stretch in found[:-1])
    if num_steps > MAX_STRETCHES * STRETCH_STEPS:
        assert len(found) >= MAX_STRETCHES // 2


def test_the_stretch_amid_a_window_is_the_nearest_to_its_middle() -> None:
    found = kept(3 * STRETCH_STEPS)
    window = Window(start_s=250 / NS_PER_S, end_s=390 / NS_PER_S, is_steady=True)
    assert stretch_amid(found, window) == found[1]
    assert stretch_amid((), window) == ()
