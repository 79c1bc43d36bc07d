"""Where layers run as one function, and where they must not; that both agree is a law."""

import pytest

from apexbench.engine.costs import FlatCosts
from apexbench.engine.executors.binder import Binder
from apexbench.engine.executors.durations import Durations, StepCosts
from apexbench.engine.executors.lane_machine import LaneMachine
from apexbench.engine.executors.lanes import Job, Lane
from apexbench.engine.plan import CohortAction, CohortStep, PrefillChunk, StepPlan, SubBatch
from apexbench.engine.program import Carry, Program, build
from apexbench.engine.sequence import Tier
from apexbench.engine.step_ops import OpTemplate

LAYERS = 9
GPU = SubBatch((), (1,), 10)


def join(layer: int, number: int = 1) -> CohortStep:
    return CohortStep(number, CohortAction.JOIN, layer, (10 + number,), 5)


def program_of(plan: StepPlan) -> Program:
    waiting = {step.cohort: (step.layer, step.rows) for step in plan.cohorts}
    return build(plan, Carry(waiting), LAYERS)[0]


def at_hand() -> Job:
    """A cohort's CPU attention, done before all time."""
    job = Job(0, 0, (OpTemplate("attn_cpu", "cpu", "", (), ""), 0))
    job.finish = 0
    return job


def binder() -> Binder:
    machine = LaneMachine()
    return Binder(machine.gpu, machine.side)


def num_functions(plan: StepPlan, layer: int) -> int:
    """Functions that run the segment which is `layer` alone."""
    compiled = binder().compiled(program_of(plan))
    (block,) = [block for block in compiled.blocks if block.first_layer == layer]
    assert block.num_layers == 1
    return len(block.layer.runs)


def test_a_lonely_join_is_one_function() -> None:
    assert num_functions(StepPlan(0, (GPU,), (join(4),)), 4) == 1


@pytest.mark.parametrize(
    "plan",
    [
        StepPlan(0, (GPU,), (join(4), join(4, number=2))),
        StepPlan(0, (SubBatch((), (1,), 10, (2,), 5),), (join(4),)),
        StepPlan(0, (GPU,), (join(4),), swap_in_tokens=16),
        StepPlan(0, (GPU,), (join(4),), swap_out_tokens=16),
        StepPlan(0, (SubBatch((PrefillChunk(3, 8, 0, Tier.CPU, True),)),), (join(4),)),
        StepPlan(0, (GPU,), (join(4)._replace(action=CohortAction.PROMOTE),)),
    ],
)
def test_a_join_that_shares_its_layer_runs_op_by_op(plan: StepPlan) -> None:
    assert num_functions(plan, 4) > 1


def test_the_last_layer_has_nobody_leaving_and_runs_op_by_op() -> None:
    assert num_functions(StepPlan(0, (GPU,), (join(LAYERS - 1),)), LAYERS - 1) == 3


def test_layers_without_a_wait_are_skipped_together() -> None:
    compiled = binder().compiled(program_of(StepPlan(0, (GPU,), (join(4),))))
    skips = [(block.layer.skip, block.num_layers) for block in compiled.blocks]
    assert [num_layers for skip, num_layers in skips if skip is not None] == [4, 3, 1]
    assert all(skip in compiled.calls for skip in skips if skip[0] is not None)


@pytest.mark.parametrize(
    ("cohorts", "num_runs"),
    [
        ((), 1 + 3 * 3),  # the host's op; two layers, which show the period, and the last one
        ((join(4),), 1 + 3 * LAYERS + 2),  # a join cuts the layers short: all are run
    ],
)
def test_only_long_segments_are_searched_for_a_period(
    cohorts: tuple[CohortStep, ...], num_runs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    durations: list[int] = []
    original = Lane.run

    def run(lane: Lane, ready: int, duration: int) -> int:
        durations.append(duration)
        return original(lane, ready, duration)

    monkeypatch.setattr(Lane, "run", run)
    plan = StepPlan(0, (SubBatch((), (1,), 10, (2,), 5),), cohorts)
    machine = LaneMachine()
    ids = tuple(step.cohort for step in cohorts)
    machine.tickets.update({cohort: at_hand() for cohort in ids})
    steps = Durations(plan, StepCosts(FlatCosts(num_layers=LAYERS)))
    machine.run(program_of(plan), ids, steps, 0)
    assert len(durations) == num_runs


def test_equal_plans_share_what_is_bound() -> None:
    bound = binder()
    first = bound.compiled(program_of(StepPlan(0, (GPU,), (join(4),))))
    again = bound.compiled(program_of(StepPlan(7, (GPU,), (join(4),))))
    moved = bound.compiled(program_of(StepPlan(1, (GPU,), (join(5),))))
    assert again is first
    assert moved.blocks[1].layer is first.blocks[1].layer


def test_skipped_layers_take_as_long_as_all_of_them() -> None:
    costs = FlatCosts(num_layers=LAYERS, linear_s=80e-9, gpu_attention_s=20e-9, head_s=10e-9)
    plan = StepPlan(0, (GPU,))
    ends = [
        LaneMachine(extrapolates=extrapolates).run(
            program_of(plan), (), Durations(plan, StepCosts(costs)), 0
        )
        for extrapolates in (True, False)
    ]
    assert ends == [LAYERS * 100 + 10] * 2
