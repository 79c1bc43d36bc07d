"""Logical times of emulated steps against the simulated lanes, without threads."""

from dataclasses import replace

from hypothesis import given, settings

from apexbench.engine.costs import FlatCosts
from apexbench.engine.executors.durations import Durations, StepCosts
from apexbench.engine.executors.emulated.emulation import Emulation
from apexbench.engine.executors.emulated.step import EmulatedStep
from apexbench.engine.executors.lane_machine import LaneMachine
from apexbench.engine.executors.threads.graph import Graphs
from apexbench.engine.executors.threads.step_run import StepRun
from apexbench.engine.plan import CohortAction, PrefillChunk, StepPlan, SubBatch
from apexbench.engine.program import Carry, build
from apexbench.engine.sequence import Tier
from tests.emulated_steps import Follower, StoppedClock
from tests.laws.step_plans import Case, cases


def without(case: Case, *, cohorts: bool = False) -> Case:
    """The case without bulk copies, and with one priority on the CPU lane, where the order in
    which a lane serves is that of the program.
    """
    plans = []
    for plan in case.plans:
        batches = [replace(batch, chunks=()) for batch in plan.batches]
        if cohorts:
            batches = [replace(batch, in_layer_rows=(), in_layer_kv_tokens=0) for batch in batches]
        kept = plan.cohorts if cohorts else ()
        plans.append(
            replace(plan, batches=tuple(batches), cohorts=kept, swap_in_tokens=0, swap_out_tokens=0)
        )
    return replace(case, plans=tuple(plans))


def ends_of_machine(case: Case) -> list[int]:
    machine, costs, carry = LaneMachine(), StepCosts(case.costs), Carry()
    ends, now = [], 0
    for plan, idle in zip(case.plans, case.idles, strict=True):
        program, carry = build(plan, carry, case.costs.num_layers)
        now += idle
        machine.idle_until(now)
        ids = tuple(step.cohort for step in plan.cohorts)
        now = machine.run(program, ids, Durations(plan, costs), now)
        ends.append(now)
    return ends


def ends_of_follower(case: Case) -> list[int]:
    follower = Follower(case.costs)
    ends, now = [], 0
    for plan, idle in zip(case.plans, case.idles, strict=True):
        now = follower.run(plan, now + idle)
        ends.append(now)
    return ends


@settings(max_examples=60)
@given(cases())
def test_in_layer_steps_end_when_the_simulated_ones_do(case: Case) -> None:
    plain = without(case)
    assert ends_of_follower(plain) == ends_of_machine(plain)


@settings(max_examples=60)
@given(cases())
def test_deferred_steps_end_when_the_simulated_ones_do(case: Case) -> None:
    promoted = CohortAction.PROMOTE  # rides in-layer: two priorities meet
    if any(step.action is promoted for plan in case.plans for step in plan.cohorts):
        return
    plain = without(case, cohorts=True)
    assert ends_of_follower(plain) == ends_of_machine(plain)


def test_prompts_for_the_host_wait_for_their_copies() -> None:
    costs = FlatCosts(
        num_layers=3, linear_s=100e-9, copy_s_per_byte=1e-9, kv_bytes_per_token_layer_cpu=10
    )
    chunk = PrefillChunk(0, 50, 20, Tier.CPU, True)  # copies of 500 and 200 ns
    plans = (StepPlan(0, (SubBatch((chunk,)),)), StepPlan(1, (SubBatch((), (1,), 5),)))
    case = Case(costs, plans, (0, 0))
    assert ends_of_follower(case) == ends_of_machine(case)


def test_a_bulk_copy_goes_in_pieces_that_take_as_long_together() -> None:
    costs = FlatCosts(num_layers=1, copy_s_per_byte=1e-9, kv_bytes_per_token_layer_cpu=1 << 20)
    follower = Follower(costs)
    waited: list[int] = []

    def wait_until(end_ns: int) -> int:
        waited.append(end_ns)
        return end_ns

    follower.emulation.wait_until = wait_until
    follower.run(StepPlan(0, (SubBatch((), (1,), 5),), swap_out_tokens=3), 0)
    assert waited[:3] == [1 << 20, 2 << 20, 3 << 20]
    assert set(waited[4:]) == {3 << 20}  # all of the GPU but the embedding waits for the copy


def test_lateness_of_one_op_does_not_delay_the_next() -> None:
    follower = Follower(FlatCosts(num_layers=4, linear_s=100e-9, head_s=7e-9))
    follower.emulation.wait_until = lambda end_ns: end_ns + 1000
    assert follower.run(StepPlan(0, (SubBatch((), (1,), 5),)), 0) == 407
    assert follower.emulation.lanes["gpu"].lateness.max_ns == 1000


def test_scheduling_that_takes_longer_than_modelled_counts_as_it_was() -> None:
    costs = FlatCosts(num_layers=1, linear_s=100e-9, schedule_s=50e-9)
    emulation = Emulation(costs, StoppedClock(), lambda end_ns: end_ns)
    plan = StepPlan(0, (SubBatch((), (1,), 5),))
    program, _ = build(plan, Carry(), 1)
    for real_ns, expected in ((10, 50), (80, 80)):
        work = EmulatedStep(emulation, plan, {})
        step = StepRun(plan, work, Graphs().of(program), 0)
        work.follow(step, 0)
        step.runs[0].end_ns = real_ns
        assert work.times.ready_ns(step.runs[1].op) == expected
