"""Writes down every op of one step as it runs on the lanes; changes nothing about the run."""

from apexbench.engine.executors.durations import Durations
from apexbench.engine.executors.lane_machine import LaneMachine
from apexbench.engine.executors.lanes import Job
from apexbench.engine.plan import StepPlan
from apexbench.engine.program import Carry
from apexbench.engine.step_ops import OpTemplate
from apexbench.records import OpSpan

_PER_STEP_KINDS = frozenset({"schedule", "embed", "head"})


class SpanRecorder:
    """Attached to a machine for one step. Cohorts are named by their ids, "c12": their deferred
    work may have been issued by a step whose plan listed them in another order.
    """

    def __init__(self, machine: LaneMachine, plan: StepPlan, carry: Carry) -> None:
        self._machine = machine
        self._plan = plan
        self._rows = {cohort: len(rows) for cohort, (_, rows) in carry.cohorts.items()}
        self._rows |= {step.cohort: len(step.rows) for step in plan.cohorts}
        self._owners = dict(zip(machine.tickets.values(), machine.tickets, strict=True))
        self._ops: list[tuple[OpTemplate, int, int, int]] = []
        self._slices: list[tuple[Job, int, int]] = []
        machine.span_sink = lambda *span: self._ops.append(span)
        for lane in machine.side.values():
            lane.sink = lambda *part: self._slices.append(part)

    def finish(self, end_ns: int) -> None:
        """Detach from the machine; deferred work counts up to the end of the step."""
        machine = self._machine
        machine.flush(end_ns)
        machine.span_sink = None
        for lane in machine.side.values():
            lane.sink = None
        self._owners |= zip(machine.tickets.values(), machine.tickets, strict=True)

    def spans(self, durations: Durations) -> list[OpSpan]:
        """What ran, once finished. Apart, because most recorded steps are soon superseded."""
        spans = [self._span(*part, durations) for part in self._ops]
        return spans + [self._slice(*part) for part in self._slices if part[2] > part[1]]

    def _span(
        self, op: OpTemplate, layer: int, start: int, end: int, durations: Durations
    ) -> OpSpan:
        at = None if op.kind in _PER_STEP_KINDS else layer
        group = op.group
        if group.startswith("c"):
            group = f"c{self._plan.cohorts[int(group[1:])].cohort}"
        rows = durations.rows(op)
        return OpSpan(self._plan.index, op.lane, op.kind, group, at, rows, start, end)

    def _slice(self, job: Job, start: int, end: int) -> OpSpan:
        op, layer = job.tag
        cohort = self._owners.get(job)
        group = op.group if cohort is None else f"c{cohort}"
        rows = 0 if cohort is None else self._rows[cohort]
        return OpSpan(self._plan.index, op.lane, op.kind, group, layer, rows, start, end)
