"""Recorded plans on the simulator's lanes, with measured or modelled durations of the host's work.

GPU ops and copies take what the model says in both worlds. What the host really did can enter as it
was measured: CPU attention job by job, scheduling step by step.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from apexbench.engine.costs import CostModel
from apexbench.engine.executors.compiled import LayerOps
from apexbench.engine.executors.durations import Durations, StepCosts
from apexbench.engine.executors.lane_machine import LaneMachine
from apexbench.engine.plan import StepPlan, StepResult
from apexbench.engine.program import Carry, build
from apexbench.engine.step_ops import DEFERRABLE, URGENT
from tests.fidelity.record import Outcome, Recorded

_KINDS_PER_GROUP, _ATTENTION = 4, 1  # of Durations.job_durations: see durations.job_slot

Int64s = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class StepMeasured:
    """What the host took in one step, in nanoseconds: scheduling, and every job of attention by its
    layer and group.
    """

    schedule_ns: int
    attention_ns: Mapping[int, Mapping[int, int]]


class MeasuredDurations(Durations):
    """Durations of a plan, with its scheduling as it was measured."""

    __slots__ = ("_schedule_ns",)

    def __init__(self, plan: StepPlan, costs: StepCosts, schedule_ns: int) -> None:
        super().__init__(plan, costs)
        self._schedule_ns = schedule_ns

    def schedule(self) -> int:
        """What it was."""
        return self._schedule_ns


class MeasuredMachine(LaneMachine):
    """The simulator's lanes, layer by layer, with `attention_ns` for the jobs of each layer."""

    def __init__(self) -> None:
        super().__init__(extrapolates=False)
        self.attention_ns: Mapping[int, Mapping[int, int]] = {}

    def _run_layer(self, layer_ops: LayerOps, layer: int) -> None:
        durations = self._registers.job_durations
        for group, duration in self.attention_ns.get(layer, {}).items():
            durations[group * _KINDS_PER_GROUP + _ATTENTION] = duration
        super()._run_layer(layer_ops, layer)


def measured_steps(recorded: Recorded) -> list[StepMeasured]:
    """Each step's host work; a job's begins when its q, k and v are at hand."""
    jobs = recorded.jobs
    found: dict[int, dict[int, dict[int, int]]] = defaultdict(lambda: defaultdict(dict))
    for job, took in zip(jobs, service_ns(jobs, jobs["ready_ns"]), strict=True):
        layers = found[int(job["step"])]
        for layer in _issued_in(job, recorded.case.num_layers):
            layers[layer][int(job["group"])] = int(took)
    return [
        StepMeasured(int(fact["scheduled_ns"] - fact["begin_ns"]), found[int(fact["step"])])
        for fact in recorded.facts
    ]


def _issued_in(job: np.void, num_layers: int) -> Iterable[int]:
    """The layers of the program that may issue a job: a cohort has one deferred job in a step."""
    return range(num_layers) if job["priority"] == DEFERRABLE else (int(job["layer"]),)


def service_ns(jobs: NDArray[np.void], begins: Int64s) -> Int64s:
    """How long the CPU lane was at each job: from when it could begin, or the end of the one before
    it, to its end; of deferred jobs less the in-layer work that they gave way to.
    """
    took = np.zeros(len(jobs), np.int64)
    urgent = _Busy()
    for priority in (URGENT, DEFERRABLE):
        chosen = np.flatnonzero(jobs["priority"] == priority)
        chosen = chosen[np.argsort(jobs["end_ns"][chosen], kind="stable")]
        ends = jobs["end_ns"][chosen]
        before = np.concatenate([[0], ends[:-1]]).astype(np.int64)
        starts = np.minimum(np.maximum(begins[chosen], before), ends)
        if priority == URGENT:
            urgent = _Busy(starts, ends)
        given_way = urgent.until(ends) - urgent.until(starts)
        took[chosen] = ends - starts - (given_way if priority == DEFERRABLE else 0)
    return took


class _Busy:
    """Busy time until any instant, of intervals that do not overlap."""

    def __init__(self, starts: Int64s | None = None, ends: Int64s | None = None) -> None:
        if starts is None or ends is None or not len(starts):
            self._edges, self._totals = np.zeros(1), np.zeros(1)
            return
        self._edges = np.stack([starts, ends], axis=1).ravel().astype(np.float64)
        lengths = np.stack([np.zeros_like(starts), ends - starts], axis=1).ravel()
        self._totals = np.cumsum(lengths).astype(np.float64)

    def until(self, times: Int64s) -> Int64s:
        return np.rint(np.interp(times, self._edges, self._totals)).astype(np.int64)


def replay(
    recorded: Recorded, costs: CostModel, measured: Sequence[StepMeasured] | None = None
) -> list[int]:
    """When each recorded step samples on simulated lanes; `measured` None: all is modelled."""
    machine = LaneMachine() if measured is None else MeasuredMachine()
    step_costs, carry = StepCosts(costs), Carry()
    ends, now, free = [], 0, 0
    for place, (plan, fact) in enumerate(zip(recorded.plans, recorded.facts, strict=True)):
        now += max(0, int(fact["begin_ns"]) - free)  # the engine waited for work
        free = int(fact["sampled_ns"])
        machine.idle_until(now)
        program, carry = build(plan, carry, costs.num_layers)
        durations = Durations(plan, step_costs)
        if measured is not None and isinstance(machine, MeasuredMachine):
            machine.attention_ns = measured[place].attention_ns
            durations = MeasuredDurations(plan, step_costs, measured[place].schedule_ns)
        now = machine.run(program, tuple([c.cohort for c in plan.cohorts]), durations, now)
        for step in plan.cohorts:
            if step.cohort not in carry.cohorts:
                del machine.tickets[step.cohort]
        ends.append(now)
    return ends


def outcome_at(results: Sequence[StepResult], ends_ns: Sequence[int]) -> Outcome:
    """What the recorded tokens give when the steps end then."""
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    counts: dict[int, int] = defaultdict(int)
    for result, end in zip(results, ends_ns, strict=True):
        for row, number in result.tokens:
            first.setdefault(row, end)
            last[row] = end
            counts[row] += number
    spans = [(last[r] - first[r]) / (counts[r] - 1) for r in counts if counts[r] > 1]
    return Outcome(
        sum(counts.values()) / (max(last.values()) * 1e-9), float(np.median(spans)) * 1e-9
    )
