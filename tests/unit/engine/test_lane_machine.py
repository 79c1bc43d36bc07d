"""Single effects of the simulated lanes, each on a program small enough to work out by hand."""

import pytest

from apexbench.engine.costs import FlatCosts
from apexbench.engine.executors.sim import SimulatedExecutor
from apexbench.engine.plan import CohortAction, CohortStep, PrefillChunk, StepPlan, SubBatch
from apexbench.engine.sequence import Tier
from apexbench.records import OpSpan, Request

NS = 1e-9
GPU = SubBatch((), (1,), 10)


def flat(num_layers: int = 4, **nanoseconds: float) -> FlatCosts:
    """Costs in nanoseconds; a layer is 80 of linear work and 20 of GPU attention."""
    costs = {"linear_s": 80, "gpu_attention_s": 20, "head_s": 10} | nanoseconds
    return FlatCosts(
        num_layers=num_layers,
        kv_bytes_per_token_layer_cpu=1,
        **{name: value * NS for name, value in costs.items()},  # type: ignore[arg-type]
    )


def executor_for(costs: FlatCosts) -> SimulatedExecutor:
    executor = SimulatedExecutor(costs)
    for row in range(20):
        executor.admit(Request(row, 0, 16, 1000))
    return executor


def cohort(action: CohortAction, layer: int = 0, number: int = 1) -> CohortStep:
    return CohortStep(number, action, layer, (10 + number,), 5)


def step(
    index: int,
    *cohorts: CohortStep,
    batch: SubBatch = GPU,
    swap_in_tokens: int = 0,
    swap_out_tokens: int = 0,
) -> StepPlan:
    return StepPlan(index, (batch,), cohorts, swap_in_tokens, swap_out_tokens)


def ends(executor: SimulatedExecutor, *plans: StepPlan) -> list[int]:
    now, found = 0, []
    for plan in plans:
        now = executor.execute(plan, now).end_ns
        found.append(now)
    return found


def test_a_join_waits_for_its_ticket_and_says_why_the_gpu_idles() -> None:
    executor = executor_for(flat(cpu_attention_s_per_row=1000))
    plans = (step(0, cohort(CohortAction.ENTER)), step(1, cohort(CohortAction.JOIN)))
    # The job leaves with pre(0) at 20; the join is post(0) + pre(1), then three layers and head.
    assert ends(executor, *plans) == [410, 1020 + 80 + 3 * 20 + 2 * 80 + 60 + 10]
    assert executor.idle_ns[0] == 1020 - (410 + 20 + 20)


def test_a_frozen_cohort_keeps_its_result_for_a_later_step() -> None:
    executor = executor_for(flat(cpu_attention_s_per_row=600))
    plans = (
        step(0, cohort(CohortAction.ENTER)),
        step(1),
        step(2, cohort(CohortAction.JOIN)),
    )
    assert ends(executor, *plans) == [410, 820, 1230]


def test_polling_sees_a_result_only_when_it_is_there() -> None:
    executor = executor_for(flat(cpu_attention_s_per_row=600))
    first, second = (
        executor.execute(step(0, cohort(CohortAction.ENTER)), 0).end_ns,
        executor.execute(step(1), 410).end_ns,
    )
    assert executor.joinable((1,), first) == frozenset()
    assert executor.joinable((1,), second) == {1}


def test_a_promoted_cohort_pays_for_every_layer_it_rides() -> None:
    executor = executor_for(flat(cpu_attention_s_per_row=50))
    plans = (step(0, cohort(CohortAction.ENTER)), step(1, cohort(CohortAction.PROMOTE)))
    # The result for layer 0 is there; each later layer waits 50 instead of 20.
    assert ends(executor, *plans) == [410, 820 + 3 * 30]


def test_tickets_are_dropped_when_a_cohort_has_sampled() -> None:
    executor = executor_for(flat(num_layers=2))
    plans = [step(0, cohort(CohortAction.ENTER))]
    plans += [step(1 + layer, cohort(CohortAction.JOIN, layer)) for layer in range(2)]
    ends(executor, *plans)
    assert executor.machine.tickets == {}


def test_in_layer_work_goes_before_deferred_work() -> None:
    executor = executor_for(flat(cpu_attention_s_per_row=15))
    mixed = SubBatch((), (1,), 10, (2,), 5)
    plans = (
        step(0, cohort(CohortAction.ENTER), batch=mixed),
        step(1, cohort(CohortAction.JOIN), batch=mixed),
    )
    # In-layer attention (15) hides behind GPU attention (20) although deferred work is queued.
    assert ends(executor, *plans) == [410, 820]


def test_cohorts_on_the_wires_never_hold_up_in_layer_rows() -> None:
    executor = executor_for(flat(send_s=30, cpu_attention_s_per_row=25, recv_s=15))
    mixed = SubBatch((), (1,), 10, (2,), 5)
    actions = [
        cohort(CohortAction.ENTER),
        *(cohort(CohortAction.JOIN, layer) for layer in range(4)),
    ]
    plans = [step(index, action, batch=mixed) for index, action in enumerate(actions)]
    # A layer is linear work (80) and the in-layer rows' way (30 + 25 + 15), nothing else.
    alone = 4 * (80 + 70) + 10
    assert ends(executor, *plans) == [alone * (index + 1) for index in range(5)]


def test_swap_in_holds_attention_back_layer_by_layer() -> None:
    executor = executor_for(flat(copy_s_per_byte=1))
    end = ends(executor, step(0, swap_in_tokens=150))[0]
    # Attention of layer l cannot start before 150 (l + 1); the rest of a layer takes 80 at most.
    assert end == 4 * 150 + 20 + 60 + 10
    assert executor.idle_ns[1] == end - 410


def test_swap_out_holds_back_the_kv_that_would_overwrite_it() -> None:
    executor = executor_for(flat(copy_s_per_byte=1))
    # pre(l) waits for the copy of layer l: 150 (l + 1) in all, then the last layer and the head.
    # Launch groups are one op, so it is post(l - 1) + pre(l) that begins then.
    assert ends(executor, step(0, swap_out_tokens=150)) == [4 * 150 + 80 + 20 + 60 + 10]


def chunk(new: int, before: int = 0, *, is_last: bool = True) -> SubBatch:
    return SubBatch((PrefillChunk(3, new, before, Tier.CPU, is_last),), (1,), 10)


def test_a_prompt_is_on_the_host_only_when_its_last_layer_has_left() -> None:
    executor = executor_for(flat(copy_s_per_byte=1))
    end = ends(executor, step(0, batch=chunk(90)))[0]
    # pre(l) ends at 20 + 100 l, so the last layer leaves at 320 and takes 90, and the three
    # before it have not delayed it.
    assert end == 410
    assert executor.next_completion_ns() == 410
    assert executor.copied(409) == ()
    assert executor.copied(410) == (3,)


def test_asking_when_a_copy_completes_does_not_let_it_pass_urgent_work() -> None:
    executor = executor_for(flat(num_layers=1, copy_s_per_byte=1, send_s=40))
    end = ends(executor, step(0, batch=chunk(500)))[0]
    assert executor.next_completion_ns() == 20 + 500
    executor.execute(step(1, batch=SubBatch((), (1,), 10, (2,), 5)), end)
    assert executor.next_completion_ns() == 20 + 500 + 40


def test_the_next_chunk_waits_until_the_staging_buffer_is_empty() -> None:
    executor = executor_for(flat(copy_s_per_byte=1, num_layers=1))
    first, second = ends(
        executor, step(0, batch=chunk(500, is_last=False)), step(1, batch=chunk(10))
    )
    assert first == 110
    assert second == 20 + 500 + 110


def test_earlier_chunks_are_read_back_through_two_layers_of_staging() -> None:
    executor = executor_for(flat(copy_s_per_byte=1))
    end = ends(executor, step(0, batch=chunk(1, before=130)))[0]
    # Two copies at once at the start, then one per finished attention: 130 ns a layer.
    assert end == 4 * 130 + 20 + 60 + 10


def spans_of(executor: SimulatedExecutor) -> tuple[OpSpan, ...]:
    return executor.timelines[0].spans


def test_batches_alternate_on_the_gpu() -> None:
    executor = executor_for(flat(num_layers=3, cpu_attention_s_per_row=30))
    first = SubBatch((), (1,), 10, (2,), 5)
    second = SubBatch((), (), 0, (3,), 5)
    executor.execute(StepPlan(0, (first, second)), 0)
    launches = [
        span.group
        for span in spans_of(executor)
        if span.lane == "gpu" and span.kind in {"pre", "launch", "post"}
    ]
    assert launches == ["A", "B"] + ["A", "B"] * 3


def test_attention_of_one_batch_runs_beside_linear_work_of_the_other() -> None:
    executor = executor_for(flat(num_layers=3, cpu_attention_s_per_row=90))
    first = SubBatch((), (1,), 10, (2,), 5)
    second = SubBatch((), (), 0, (3,), 5)
    executor.execute(StepPlan(0, (first, second)), 0)
    own = {
        span.layer: span
        for span in spans_of(executor)
        if span.kind == "attn_cpu"
        if span.group == "B"
    }
    beside = [s for s in spans_of(executor) if s.kind == "launch" and s.group == "A"]
    assert own[0].start_ns < beside[0].end_ns
    assert own[0].end_ns > beside[0].start_ns


@pytest.mark.parametrize("extrapolates", [True, False])
def test_frozen_and_empty_steps_cost_only_their_own_work(extrapolates: bool) -> None:
    executor = SimulatedExecutor(flat(num_layers=30), extrapolates=extrapolates)
    executor.admit(Request(1, 0, 16, 100))
    assert executor.execute(step(0), 0).end_ns == 30 * 100 + 10
