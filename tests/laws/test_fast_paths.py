"""The lane machine, with and without extrapolation, equals the slow twin to the nanosecond."""

from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from hypothesis import given, settings

from apexbench.engine.executors.durations import Durations, StepCosts
from apexbench.engine.executors.lane_machine import LaneMachine
from apexbench.engine.executors.lanes import Job
from apexbench.engine.expansion import Op, expand
from apexbench.engine.plan import StepPlan
from apexbench.engine.program import Carry, Program, build
from apexbench.engine.step_ops import DEFERRABLE, OpTemplate
from tests.laws.slow_twin import LANES, SlowTwin
from tests.laws.step_plans import Case, cases

FOREVER = 10**9  # after everything any case leaves on its lanes


class Outcome(NamedTuple):
    """What both simulations must agree on."""

    step_ends: list[int]
    busy: dict[str, int]
    gpu_idle: int
    overlap: int


class Step(NamedTuple):
    """One step of a case, ready to run after `idle` nanoseconds."""

    plan: StepPlan
    program: Program
    cohorts: tuple[int, ...]
    durations: Durations
    idle: int


def steps_of(case: Case) -> Iterator[Step]:
    carry = Carry()
    step_costs = StepCosts(case.costs)
    for plan, idle in zip(case.plans, case.idles, strict=True):
        program, carry = build(plan, carry, case.costs.num_layers)
        cohorts = tuple(step.cohort for step in plan.cohorts)
        yield Step(plan, program, cohorts, Durations(plan, step_costs), idle)


def outcome_of_twin(case: Case) -> Outcome:
    twin = SlowTwin()
    ends: list[int] = []
    for step in steps_of(case):

        def duration_of(op: Op, durations: Durations = step.durations) -> int:
            return durations.of(op)

        begin = twin.now + step.idle
        twin.idle_until(begin)
        ends.append(twin.run(step.program, step.cohorts, duration_of, begin))
    twin.idle_until(FOREVER)
    return Outcome(ends, twin.busy, twin.gpu_idle, twin.overlap)


def outcome_of_machine(case: Case, *, extrapolates: bool) -> Outcome:
    machine = LaneMachine(extrapolates=extrapolates)
    return run_on(machine, case)


def run_on(machine: LaneMachine, case: Case) -> Outcome:
    ends: list[int] = []
    now = 0
    for step in steps_of(case):
        now += step.idle
        machine.idle_until(now)
        now = machine.run(step.program, step.cohorts, step.durations, now)
        ends.append(now)
    machine.idle_until(FOREVER)
    machine.flush(FOREVER)
    busy = dict(zip(LANES, machine.busy_ns, strict=True))
    return Outcome(ends, busy, sum(machine.gpu.idle), machine.overlap_ns)


@settings(max_examples=250, deadline=None)
@given(case=cases())
def test_lane_machine_equals_the_slow_twin(case: Case) -> None:
    expected = outcome_of_twin(case)
    assert outcome_of_machine(case, extrapolates=False) == expected
    assert outcome_of_machine(case, extrapolates=True) == expected


# -- laws of what ran when ---------------------------------------------------------------------


class Span(NamedTuple):
    """One op, or one slice of deferrable work, as it ran."""

    lane: str
    kind: str
    group: str
    layer: int
    start: int
    end: int


class Recording:
    """A machine that writes down everything it runs, in the order in which it is issued."""

    def __init__(self) -> None:
        self.machine = LaneMachine()
        self.urgent: list[Span] = []
        self.slices: list[Span] = []
        self.machine.span_sink = self._add
        for lane in self.machine.side.values():
            lane.sink = self._add_slice

    def _add(self, op: OpTemplate, layer: int, start: int, end: int) -> None:
        self.urgent.append(Span(op.lane, op.kind, op.group, layer, start, end))

    def _add_slice(self, job: Job, start: int, end: int) -> None:
        op, layer = job.tag
        self.slices.append(Span(op.lane, op.kind, op.group, layer, start, end))


@settings(max_examples=100, deadline=None)
@given(case=cases(max_layers=6))
def test_recording_changes_nothing_and_accounts_for_every_busy_nanosecond(case: Case) -> None:
    recording = Recording()
    outcome = run_on(recording.machine, case)
    assert outcome == outcome_of_machine(case, extrapolates=True)
    busy: dict[str, int] = defaultdict(int)
    for span in (*recording.urgent, *recording.slices):
        busy[span.lane] += span.end - span.start
    assert {lane: busy[lane] for lane in LANES} == outcome.busy


@settings(max_examples=100, deadline=None)
@given(case=cases(max_layers=6))
def test_ops_of_one_lane_never_overlap_in_time(case: Case) -> None:
    recording = Recording()
    run_on(recording.machine, case)
    spans = [span for span in (*recording.urgent, *recording.slices) if span.end > span.start]
    for lane in LANES:
        ordered = sorted((span.start, span.end) for span in spans if span.lane == lane)
        for (_, end), (start, _) in pairwise(ordered):
            assert end <= start


@settings(max_examples=100, deadline=None)
@given(case=cases(max_layers=6))
def test_every_op_starts_after_its_dependencies_and_within_its_step(case: Case) -> None:
    recording = Recording()
    machine = recording.machine
    now = 0
    for step in steps_of(case):
        now += step.idle
        machine.idle_until(now)
        recording.urgent.clear()
        end = machine.run(step.program, step.cohorts, step.durations, now)
        ops = expand(step.program)
        issued = iter(recording.urgent)
        spans = [None if op.priority == DEFERRABLE else next(issued) for op in ops]
        assert next(issued, None) is None
        for op, span in zip(ops, spans, strict=True):
            if span is None:
                continue
            assert (span.kind, span.group) == (op.kind, op.group)
            assert span.start >= now
            assert all(span.start >= dep.end for i in op.deps if (dep := spans[i]) is not None)
            if op.lane == "gpu" or op.kind == "recv":
                assert span.end <= end
        now = end
