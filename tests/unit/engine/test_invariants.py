"""Each law is broken on purpose; the check must name it."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from apexbench.engine.blocks import BlockPool
from apexbench.engine.invariants import CohortWatch, check, check_plan
from apexbench.engine.plan import StepPlan, StepResult
from apexbench.engine.policies.base import Candidates, Choice
from apexbench.engine.scheduler import Scheduler
from apexbench.engine.thresholds import Thresholds
from apexbench.engine.tiers import KvMemory
from apexbench.errors import InvariantError
from apexbench.records import Request


class Defer:
    name = "defer"
    uses_cpu = True

    def choose(self, work: Candidates) -> Choice:
        return Choice(enter=tuple(row.id for row in work.cpu_rows[:1]))


def scheduled() -> tuple[Scheduler, StepPlan]:
    """Row 0 on the GPU, row 1 entering a cohort, row 2 free on the host, row 3 waiting."""
    memory = KvMemory(BlockPool(2, 8), BlockPool(4, 8), 0.5)
    limits = Thresholds(max_running_rows=3, swap_in_fraction=0.0)
    scheduler = Scheduler(policy=Defer(), memory=memory, thresholds=limits, num_layers=4)
    for request_id in range(4):
        scheduler.add(Request(request_id, 0, 9 if request_id == 0 else 3, 9))
    plan = scheduler.schedule()
    assert plan is not None
    scheduler.commit(plan, StepResult(0, 1, ((0, 1), (1, 1), (2, 1))))
    plan = scheduler.schedule((1, 2))
    assert plan is not None
    return scheduler, plan


def test_sound_books_pass() -> None:
    scheduler, plan = scheduled()
    check(scheduler)
    check_plan(scheduler, plan)
    assert [step.rows for step in plan.cohorts] == [(1,)]


def lose_block(s: Scheduler) -> None:
    s.sequences[0].blocks.pop()
    s.sequences[0].room -= 8


def share_block(s: Scheduler) -> None:
    s.sequences[2].blocks[:] = s.sequences[1].blocks


def leak_block(s: Scheduler) -> None:
    s.memory.gpu.release([s.sequences[0].blocks[0]])


def lose_sequence(s: Scheduler) -> None:
    s.waiting.clear()


def queue_twice(s: Scheduler) -> None:
    s.waiting.append(s.sequences[2])


def invent_token(s: Scheduler) -> None:
    s.sequences[2].computed += 1


def forget_cohort(s: Scheduler) -> None:
    s.sequences[1].cohort = None


def miscount(s: Scheduler) -> None:
    s.gpu_rows.kv_tokens += 1


@pytest.mark.parametrize(
    ("damage", "law"),
    [
        (lose_block, "do not cover|pool has"),
        (share_block, "two owners"),
        (leak_block, "pool has"),
        (lose_sequence, "in no queue"),
        (queue_twice, "sequence 2 is in waiting in phase decode"),
        (invent_token, "stores|counted wrongly"),
        (forget_cohort, "free CPU rows"),
        (miscount, "GPU rows are counted wrongly"),
    ],
)
def test_broken_books_are_named(damage: Callable[[Scheduler], None], law: str) -> None:
    scheduler, _ = scheduled()
    damage(scheduler)
    with pytest.raises(InvariantError, match=law):
        check(scheduler)


def with_batch(plan: StepPlan, **changes) -> StepPlan:
    return replace(plan, batches=(replace(plan.batches[0], **changes),))


@pytest.mark.parametrize(
    ("change", "law"),
    [
        (lambda p: replace(p, swap_in_tokens=1, swap_out_tokens=1), "mixes swap-in and swap-out"),
        (lambda p: with_batch(p, in_layer_rows=(1,), in_layer_kv_tokens=4), "twice"),
        (lambda p: with_batch(p, gpu_rows=()), "leaves GPU rows out"),
        (lambda p: with_batch(p, gpu_kv_tokens=1), "counts GPU KV tokens"),
        (lambda p: with_batch(p, in_layer_rows=(3,), in_layer_kv_tokens=4), "does not decode"),
        (lambda p: replace(p, cohorts=(p.cohorts[0]._replace(layer=2),)), "differs from the books"),
        (lambda p: replace(p, cohorts=(p.cohorts[0]._replace(cohort=5),)), "not outstanding"),
    ],
)
def test_broken_plans_are_named(change: Callable[[StepPlan], StepPlan], law: str) -> None:
    scheduler, plan = scheduled()
    with pytest.raises(InvariantError, match=law):
        check_plan(scheduler, change(plan))


def test_a_cohort_whose_blocks_change_mid_token_is_noticed() -> None:
    scheduler, plan = scheduled()
    watch = CohortWatch()
    result = StepResult(1, 2, ((0, 1),))
    scheduler.commit(plan, result)
    watch(plan, result, scheduler)
    row = scheduler.sequences[1]
    row.blocks += scheduler.memory.pool(row.tier).allocate(1)
    row.room += 8  # the books agree; only the cohort's holdings have changed
    with pytest.raises(InvariantError, match="cohort 0 changed its rows or their blocks"):
        watch(replace(plan, cohorts=()), result, scheduler)
