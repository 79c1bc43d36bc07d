"""The scheduler driven by hand: admission, pressure, cohorts, cancellation, keeping rows alive."""

import pytest

from apexbench.engine.admission import MAX_STANDSTILL_STEPS
from apexbench.engine.blocks import BlockPool
from apexbench.engine.invariants import check, check_plan
from apexbench.engine.plan import CohortAction, StepPlan, StepResult
from apexbench.engine.policies.base import GPU_ONLY, Candidates, Choice
from apexbench.engine.scheduler import Scheduler
from apexbench.engine.sequence import Phase, Tier
from apexbench.engine.thresholds import Thresholds
from apexbench.engine.tiers import KvMemory
from apexbench.errors import PolicyError
from apexbench.records import Request, RequestStatus

LAYERS = 3


class Scripted:
    """A policy that does what it was last told; by default nothing."""

    name = "scripted"
    uses_cpu = True

    def __init__(self) -> None:
        self.choice = GPU_ONLY
        self.seen: Candidates | None = None

    def choose(self, work: Candidates) -> Choice:
        self.seen = work
        return self.choice


class Driver:
    """A scheduler whose steps always succeed; prompts reach the host within their step."""

    def __init__(self, gpu_blocks: int, cpu_blocks: int, block_tokens: int = 4, **limits) -> None:
        self.policy = Scripted()
        cpu = BlockPool(cpu_blocks, block_tokens) if cpu_blocks else None
        limits = {"gpu_kv_watermark": 0.0, **limits}
        thresholds = Thresholds(**limits)
        memory = KvMemory(BlockPool(gpu_blocks, block_tokens), cpu, thresholds.gpu_kv_watermark)
        self.scheduler = Scheduler(
            policy=self.policy, memory=memory, thresholds=thresholds, num_layers=LAYERS
        )
        self.next_id = 0
        self.copied: list[int] = []

    def add(self, *prompts: int) -> None:
        for prompt in prompts:
            self.scheduler.add(Request(self.next_id, 0, prompt, 100))
            self.next_id += 1

    def schedule(self, joinable: frozenset[int] = frozenset()) -> StepPlan | None:
        plan = self.scheduler.schedule(self.copied, joinable)
        self.copied = []
        check(self.scheduler)
        if plan is not None:
            check_plan(self.scheduler, plan)
        return plan

    def commit(self, plan: StepPlan, finished=(), failed=()) -> None:
        rows: list[int] = []
        for batch in plan.batches:
            rows += [*batch.gpu_rows, *batch.in_layer_rows]
            rows += [chunk.sequence for chunk in batch.chunks if chunk.is_last]
            self.copied += [c.sequence for c in batch.chunks if c.is_last and c.tier is Tier.CPU]
        for step in plan.cohorts:
            rows += step.rows if step.samples(LAYERS) else ()
        tokens = tuple((row, 1) for row in rows)
        result = StepResult(plan.index, plan.index + 1, tokens, frozenset(finished), tuple(failed))
        self.scheduler.commit(plan, result)
        check(self.scheduler)

    def step(self, finished=(), choice: Choice = GPU_ONLY) -> StepPlan:
        self.policy.choice = choice
        plan = self.schedule()
        assert plan is not None
        self.commit(plan, finished)
        return plan

    def on(self, tier: Tier) -> list[int]:
        rows = self.scheduler.gpu_rows if tier is Tier.GPU else self.scheduler.cpu_rows
        return [row.id for row in rows]

    def ended(self) -> list[tuple[int, RequestStatus]]:
        return [(end.sequence.id, end.status) for end in self.scheduler.take_ended()]


def two_cpu_rows(**limits) -> Driver:
    """Row 0 (70 tokens) has the GPU; rows 1 and 2 (3 tokens each) are free on the host."""
    driver = Driver(20, 6, **{"gpu_kv_watermark": 0.2, "swap_in_fraction": 0.6, **limits})
    driver.add(70, 3, 3)
    driver.step()
    driver.step()
    assert [row.id for row in driver.scheduler.cpu_rows.free] == [1, 2]
    return driver


def test_prompts_are_chunked_within_the_budget() -> None:
    driver = Driver(20, 0, max_batched_tokens=10)
    driver.add(14, 5)
    first = driver.step().batches[0].chunks
    assert [(c.sequence, c.new_tokens, c.context_tokens, c.is_last) for c in first] == [
        (0, 10, 0, False)
    ]
    second = driver.step().batches[0].chunks
    assert [(c.sequence, c.new_tokens, c.is_last) for c in second] == [(0, 4, True), (1, 5, True)]
    third = driver.step()
    assert third.batches[0].gpu_rows == (0, 1)
    assert third.batches[0].gpu_kv_tokens == 15 + 6


def test_max_running_rows_bounds_admission() -> None:
    driver = Driver(20, 0, max_running_rows=2)
    driver.add(3, 3, 3)
    assert len(driver.step().batches[0].chunks) == 2
    assert driver.step(finished=[0]).is_decode_only
    assert [c.sequence for c in driver.step().batches[0].chunks] == [2]


def test_admission_leaves_the_watermark_unless_the_gpu_is_idle() -> None:
    driver = Driver(10, 0, gpu_kv_watermark=0.2)
    driver.add(40 - 1)
    assert driver.step().batches[0].prefill_tokens == 39
    driver = Driver(10, 0, gpu_kv_watermark=0.2)
    driver.add(30, 4)
    assert [c.sequence for c in driver.step().batches[0].chunks] == [0]


def test_after_a_prompt_bound_for_the_host_later_ones_go_there_too() -> None:
    driver = Driver(4, 40, max_batched_tokens=20)
    driver.add(10, 30, 3)
    driver.step()
    plan = driver.step()
    tiers = {c.sequence: c.tier for c in plan.batches[0].chunks}
    assert tiers == {1: Tier.CPU}
    tiers = {c.sequence: c.tier for c in driver.step().batches[0].chunks}
    assert tiers == {1: Tier.CPU, 2: Tier.CPU}, "4 blocks hold 0 and would hold 2"


def test_the_newest_row_gives_way_to_the_host() -> None:
    driver = Driver(4, 10)
    driver.add(7, 7)
    driver.step()
    assert driver.step().swap_out_tokens == 0  # each stores 8 tokens: two full blocks
    plan = driver.step()
    assert plan.swap_out_tokens == 8
    assert plan.swap_in_tokens == 0
    assert driver.on(Tier.GPU) == [0]
    assert driver.on(Tier.CPU) == [1]


def test_without_a_host_pool_the_newest_is_recomputed_in_its_old_place() -> None:
    driver = Driver(4, 0)
    driver.add(7, 7, 1)
    driver.step()
    driver.step()
    plan = driver.step()
    assert plan.batches[0].gpu_rows == (0,)
    assert [s.id for s in driver.scheduler.waiting] == [1, 2]
    assert driver.scheduler.sequences[1].target == 9
    driver.step(finished=[0])
    chunk = driver.step().batches[0].chunks[0]
    assert (chunk.sequence, chunk.new_tokens) == (1, 9)


def test_who_outgrows_every_pool_fails_and_the_rest_goes_on() -> None:
    driver = Driver(2, 0)
    driver.add(6, 2)
    for _ in range(3):
        driver.step()
    plan = driver.step()
    [(failed, status)] = driver.ended()
    assert (failed, status) == (0, RequestStatus.FAILED)
    assert [c.sequence for c in plan.batches[0].chunks] == [1]


def test_a_prompt_that_can_never_fit_is_rejected_with_a_sentence() -> None:
    driver = Driver(2, 3)
    driver.add(12)
    [ended] = driver.scheduler.take_ended()
    assert ended.status is RequestStatus.REJECTED
    assert ended.reason == "a prompt of 12 tokens does not fit: the largest KV pool holds 12"
    assert driver.schedule() is None


def test_the_oldest_cpu_row_comes_back_when_blocks_are_free() -> None:
    driver = two_cpu_rows(swap_in_fraction=0.05)
    assert driver.step(finished=[0]).swap_in_tokens == 0
    plan = driver.step()
    assert plan.swap_in_tokens == 3
    assert plan.batches[0].gpu_rows == (1,), "5 % of 20 blocks hold one row"
    assert driver.scheduler.memory.leaving == []


def test_a_cohort_takes_l_plus_one_steps_for_a_token() -> None:
    driver = two_cpu_rows()
    entered = driver.step(choice=Choice(enter=(1, 2))).cohorts[0]
    assert (entered.action, entered.rows, entered.kv_tokens) == (CohortAction.ENTER, (1, 2), 8)
    layers = [driver.step(choice=Choice()).cohorts[0].layer for _ in range(LAYERS)]
    assert layers == [0, 1, 2]
    assert [row.generated for row in driver.scheduler.cpu_rows] == [2, 2]
    assert driver.scheduler.cpu_rows.free_kv_tokens == 2 * 5


def test_gpu_only_steps_freeze_cohorts_for_a_bounded_time() -> None:
    driver = two_cpu_rows(max_frozen_steps=2)
    driver.step(choice=Choice(enter=(1, 2)))
    actions = [len(driver.step(choice=GPU_ONLY).cohorts) for _ in range(6)]
    assert actions == [0, 0, 1, 0, 0, 1]


def test_promotion_samples_in_this_step() -> None:
    driver = two_cpu_rows()
    driver.step(choice=Choice(enter=(1,)))
    driver.step(choice=Choice())
    plan = driver.step(choice=Choice(promotes_cohorts=True))
    assert (plan.cohorts[0].action, plan.cohorts[0].layer) == (CohortAction.PROMOTE, 1)
    assert driver.scheduler.sequences[1].generated == 2


def test_poll_skips_late_cohorts_twice_and_then_waits() -> None:
    driver = two_cpu_rows(join_mode="poll", max_missed_polls=2)
    driver.step(choice=Choice(enter=(1,)))
    joined = [len(driver.step(choice=Choice()).cohorts) for _ in range(4)]
    assert joined == [0, 0, 1, 0]
    driver.policy.choice = Choice()
    plan = driver.schedule(frozenset({0}))
    assert plan is not None
    assert len(plan.cohorts) == 1


def test_poll_waits_when_nothing_else_can_run() -> None:
    driver = two_cpu_rows(join_mode="poll", swap_in_fraction=0.0)
    driver.step(choice=Choice(enter=(1, 2)))
    driver.step(finished=[0], choice=Choice())
    assert driver.step(choice=Choice()).cohorts[0].action is CohortAction.JOIN


def test_an_idle_gpu_serves_cpu_rows_whatever_the_policy_says() -> None:
    driver = two_cpu_rows(swap_in_fraction=0.0)
    driver.step(finished=[0])
    assert driver.step(choice=GPU_ONLY).batches[0].in_layer_rows == (1, 2)


def test_a_full_host_pool_preempts_the_newest_free_row_and_loses_nothing() -> None:
    driver = Driver(2, 2, swap_in_fraction=0.1)
    driver.add(6, 4, 4)
    driver.step()  # 1 and 2 store 4 tokens in one block each: the pool is full
    plan = driver.step(choice=Choice(in_layer_a=(1, 2)))
    assert plan.batches[0].in_layer_rows == (1,)
    victim = driver.scheduler.sequences[2]
    assert (victim.generated, victim.target, victim.preemptions) == (1, 5, 1)
    assert driver.ended() == []


def test_the_last_row_of_a_full_pool_is_recomputed_at_once() -> None:
    """It gives way to itself; the step must not be empty, or nobody would ever wake it."""
    driver = Driver(3, 1, swap_in_fraction=0.1)
    driver.add(11, 3)
    driver.step()
    driver.step(finished=[0])
    driver.step(choice=Choice(in_layer_a=(1,)))
    plan = driver.step()
    assert [(c.sequence, c.new_tokens) for c in plan.batches[0].chunks] == [(1, 5)]


def test_cancel_between_steps_ends_at_once() -> None:
    driver = two_cpu_rows()
    driver.scheduler.cancel(1)
    assert driver.ended() == [(1, RequestStatus.CANCELLED)]
    driver.scheduler.cancel(1)
    driver.scheduler.cancel(77)
    assert driver.ended() == []


def test_cancel_in_a_cohort_keeps_the_blocks_until_it_has_sampled() -> None:
    driver = two_cpu_rows()
    driver.step(choice=Choice(enter=(1, 2)))
    driver.scheduler.cancel(2)
    for _ in range(LAYERS):
        assert driver.scheduler.sequences[2].blocks
        driver.step(choice=Choice())
    assert driver.ended() == [(2, RequestStatus.CANCELLED)]


def test_cancel_during_a_step_waits_for_its_end() -> None:
    driver = two_cpu_rows()
    driver.policy.choice = Choice(in_layer_a=(1,))
    plan = driver.schedule()
    assert plan is not None
    for row in (0, 1):
        driver.scheduler.cancel(row)
    assert driver.ended() == []
    driver.commit(plan)
    assert driver.ended() == [(0, RequestStatus.CANCELLED), (1, RequestStatus.CANCELLED)]


def test_a_finished_prompt_is_quarantined_until_its_copy_is_done() -> None:
    driver = Driver(1, 4)
    driver.add(6)
    driver.step(finished=[0])
    assert driver.ended() == [(0, RequestStatus.COMPLETED)]
    assert driver.scheduler.memory.pool(Tier.CPU).num_free == 2
    driver.schedule()
    assert driver.scheduler.memory.pool(Tier.CPU).num_free == 4


def test_a_failed_row_releases_its_cohort() -> None:
    driver = two_cpu_rows()
    driver.policy.choice = Choice(enter=(1, 2))
    plan = driver.schedule()
    assert plan is not None
    driver.commit(plan, failed=[(1, "the CPU job timed out")])
    assert driver.ended() == [(1, RequestStatus.FAILED)]
    assert [row.id for row in driver.scheduler.cpu_rows.free] == [2]
    assert driver.scheduler.sequences[2].generated == 1


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (Choice(in_layer_a=(1,), enter=(1,)), "twice"),
        (Choice(in_layer_b=(0,)), "only free CPU rows are placed"),
        (Choice(enter=(99,)), "only sequences in flight are placed"),
    ],
)
def test_an_illegal_choice_is_a_bug_of_the_policy(choice, message) -> None:
    driver = two_cpu_rows()
    driver.policy.choice = choice
    with pytest.raises(PolicyError, match=message):
        driver.schedule()


def test_a_row_whose_place_newer_prompts_keep_taking_is_not_starved() -> None:
    """The GPU never drains to 60 % by itself, and the policy never runs a CPU row."""
    driver = Driver(10, 20, swap_in_fraction=0.6)
    driver.add(*[3] * 8, 15)
    driver.step()
    for _ in range(10):
        driver.add(3)
        driver.step(finished=driver.on(Tier.GPU)[:1])
    oldest = driver.scheduler.cpu_rows.free[0]
    assert oldest.swaps == 1
    for _ in range(MAX_STANDSTILL_STEPS + 20):
        driver.add(3)
        driver.step(finished=driver.on(Tier.GPU)[:1])
    assert oldest.swaps == 2
    assert oldest.tier is Tier.GPU or oldest.phase is Phase.ENDED


def test_what_the_policy_sees() -> None:
    driver = two_cpu_rows()
    driver.step(choice=Choice(enter=(2,)))
    driver.step(choice=Choice())
    seen = driver.policy.seen
    assert seen is not None
    assert (seen.num_gpu_rows, seen.gpu_kv_tokens, seen.base_rows) == (1, 70 + 3, 1)
    assert [row.id for row in seen.cpu_rows] == [1]
    assert (seen.cpu_kv_tokens, seen.num_cohorts, seen.deferred_rows) == (4, 1, 1)
