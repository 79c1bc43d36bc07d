"""What every executor owes the engine, whatever hardware it runs on or imagines."""

from collections.abc import Callable

import pytest

from apexbench.engine.costs import FlatCosts
from apexbench.engine.executors.base import Executor, Meter
from apexbench.engine.executors.sim import SimulatedExecutor
from apexbench.engine.plan import (
    CohortAction,
    CohortStep,
    PrefillChunk,
    StepPlan,
    StepResult,
    SubBatch,
)
from apexbench.engine.sequence import Tier
from apexbench.errors import InvariantError
from apexbench.records import LANES, Request

LAYERS = 3
MS = 1e-3
NS_PER_MS = 1_000_000


def simulated() -> SimulatedExecutor:
    return SimulatedExecutor(
        FlatCosts(
            num_layers=LAYERS,
            linear_s=2 * MS,
            gpu_attention_s=1 * MS,
            head_s=1 * MS,
            cpu_attention_s_per_row=1 * MS,
            send_s=0.1 * MS,
            recv_s=0.1 * MS,
            schedule_s=0.5 * MS,
            copy_s_per_byte=1e-3 * MS,
            kv_bytes_per_token_layer_cpu=100,
        )
    )


@pytest.fixture(params=[pytest.param(simulated, id="sim")])
def executor(request: pytest.FixtureRequest) -> Executor:
    make: Callable[[], Executor] = request.param
    made = make()
    for row in range(10):
        made.admit(Request(row, 0, 16, 3))
    return made


def decode(*rows: int, index: int = 0, cohorts: tuple[CohortStep, ...] = ()) -> StepPlan:
    return StepPlan(index, (SubBatch((), rows, 16 * len(rows)),), cohorts)


def cohort_step(action: CohortAction, layer: int, rows: tuple[int, ...] = (8, 9)) -> CohortStep:
    return CohortStep(1, action, layer, rows, 40)


def prompt(tier: Tier, *, is_last: bool = True) -> StepPlan:
    chunk = PrefillChunk(5, 16, 0, tier, is_last)
    return StepPlan(0, (SubBatch((chunk,)),))


def run_all(executor: Executor, plans: list[StepPlan]) -> list[StepResult]:
    results: list[StepResult] = []
    now = 0
    for plan in plans:
        results.append(executor.execute(plan, now))
        now = results[-1].end_ns
    return results


def test_a_step_begins_when_told_and_takes_time(executor: Executor) -> None:
    result = executor.execute(decode(0, 1), 7 * NS_PER_MS)
    assert result.start_ns == 7 * NS_PER_MS
    assert result.end_ns > result.start_ns


def test_every_decode_row_gives_one_token_in_any_place(executor: Executor) -> None:
    first = SubBatch((), (0, 1), 32, (2,), 16)
    result = executor.execute(StepPlan(0, (first, SubBatch((), (), 0, (3, 4), 32))), 0)
    assert sorted(result.tokens) == [(row, 1) for row in range(5)]


def test_a_sequence_finishes_with_its_last_token_and_not_before(executor: Executor) -> None:
    results = run_all(executor, [decode(0, index=index) for index in range(3)])
    assert [result.finished for result in results] == [frozenset(), frozenset(), frozenset({0})]


def test_a_released_sequence_may_be_admitted_again(executor: Executor) -> None:
    executor.execute(decode(0), 0)
    executor.release(0)
    executor.admit(Request(0, 0, 16, 1))
    assert executor.execute(decode(0, index=1), 10**9).finished == {0}


def test_releasing_what_is_unknown_is_no_error(executor: Executor) -> None:
    executor.release(12345)
    assert executor.execute(decode(0), 0).tokens == ((0, 1),)


def test_only_the_last_chunk_of_a_prompt_gives_a_token(executor: Executor) -> None:
    assert executor.execute(prompt(Tier.GPU, is_last=False), 0).tokens == ()
    assert executor.execute(prompt(Tier.GPU), 10**9).tokens == ((5, 1),)


def test_a_deferred_row_takes_one_step_more_than_there_are_layers(executor: Executor) -> None:
    plans = [decode(0, cohorts=(cohort_step(CohortAction.ENTER, 0),))]
    plans += [
        decode(1 + layer, index=1 + layer, cohorts=(cohort_step(CohortAction.JOIN, layer),))
        for layer in range(LAYERS)
    ]
    tokens = [dict(result.tokens) for result in run_all(executor, plans)]
    assert [8 in step for step in tokens] == [False] * LAYERS + [True]
    assert [9 in step for step in tokens] == [False] * LAYERS + [True]


def test_a_promoted_cohort_samples_in_the_same_step(executor: Executor) -> None:
    enter = decode(0, cohorts=(cohort_step(CohortAction.ENTER, 0),))
    promote = decode(1, index=1, cohorts=(cohort_step(CohortAction.PROMOTE, 0),))
    last = run_all(executor, [enter, promote])[-1]
    assert dict(last.tokens) == {1: 1, 8: 1, 9: 1}


def test_a_cohort_is_joinable_once_its_result_has_arrived_and_stays_so(
    executor: Executor,
) -> None:
    end = executor.execute(decode(0, cohorts=(cohort_step(CohortAction.ENTER, 0),)), 0).end_ns
    later = end + 1000 * NS_PER_MS
    executor.idle_until(later)
    assert executor.joinable((1,), later) == {1}
    assert executor.joinable((), later) == frozenset()
    end = executor.execute(decode(1, index=1), later).end_ns  # frozen
    assert executor.joinable((1,), end) == {1}


def test_a_plan_that_contradicts_the_cohorts_is_refused(executor: Executor) -> None:
    with pytest.raises(InvariantError):
        executor.execute(decode(0, cohorts=(cohort_step(CohortAction.JOIN, 0),)), 0)


def test_prompts_on_the_gpu_need_no_copy(executor: Executor) -> None:
    end = executor.execute(prompt(Tier.GPU), 0).end_ns
    assert executor.next_completion_ns() is None
    assert executor.copied(end + 1000 * NS_PER_MS) == ()


def test_an_offloaded_prompt_is_reported_once_when_its_copy_is_done(executor: Executor) -> None:
    executor.execute(prompt(Tier.CPU), 0)
    due = executor.next_completion_ns()
    assert due is not None
    executor.idle_until(due)
    assert executor.copied(due) == (5,)
    assert executor.copied(due) == ()
    assert executor.next_completion_ns() is None


def test_a_chunk_that_is_not_the_last_completes_no_prompt(executor: Executor) -> None:
    end = executor.execute(prompt(Tier.CPU, is_last=False), 0).end_ns
    assert executor.copied(end + 1000 * NS_PER_MS) == ()


def test_idle_time_is_counted_and_delays_nothing_later(executor: Executor) -> None:
    end = executor.execute(decode(0), 0).end_ns
    executor.idle_until(end + 50 * NS_PER_MS)
    result = executor.execute(decode(0, index=1), end + 50 * NS_PER_MS)
    assert result.end_ns - result.start_ns < 50 * NS_PER_MS
    assert isinstance(executor, SimulatedExecutor)
    meter: Meter = executor
    assert sum(meter.idle_ns) >= 50 * NS_PER_MS


def test_meters_never_run_backwards_and_never_exceed_elapsed_time(executor: Executor) -> None:
    assert isinstance(executor, SimulatedExecutor)
    meter: Meter = executor
    before = (0,) * len(LANES)
    now = 0
    for index in range(3):
        steps = (cohort_step(CohortAction.ENTER, 0),) if index == 0 else ()
        now = executor.execute(decode(index, index=index, cohorts=steps), now).end_ns
        busy = meter.busy_ns
        assert all(old <= new <= now for old, new in zip(before, busy, strict=True))
        assert busy[0] + sum(meter.idle_ns) == now
        assert 0 <= meter.overlap_ns <= min(busy[0], busy[1])
        before = busy


def test_equal_plans_give_equal_results() -> None:
    plans = [decode(0, 1, cohorts=(cohort_step(CohortAction.ENTER, 0),)), prompt(Tier.CPU)]
    outcomes = []
    for _ in range(2):
        made = simulated()
        for row in range(10):
            made.admit(Request(row, 0, 16, 3))
        outcomes.append(run_all(made, plans))
    assert outcomes[0] == outcomes[1]
