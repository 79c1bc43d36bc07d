"""Emulated steps without threads: op by op in program order, by the model's time alone."""

from collections.abc import Callable

from apexbench.engine.costs import CostModel
from apexbench.engine.executors.durations import Durations
from apexbench.engine.executors.emulated.backend import EmulatedBackend
from apexbench.engine.executors.emulated.emulation import Emulation
from apexbench.engine.executors.emulated.int_log import CpuJob
from apexbench.engine.executors.emulated.step import EmulatedStep
from apexbench.engine.executors.threads.graph import Graphs
from apexbench.engine.executors.threads.step_run import StepRun
from apexbench.engine.expansion import Op
from apexbench.engine.plan import StepPlan
from apexbench.engine.program import Carry, build
from apexbench.records import Request

MAX_ROWS, ENDLESS = 100, 1 << 30
AttentionNs = Callable[[Op, Durations], int]


def modelled(op: Op, durations: Durations) -> int:
    """What the cost model says of a job."""
    return durations.of(op)


class StoppedClock:
    """A host that takes no time at all."""

    def now_ns(self) -> int:
        return 0

    def advance_to(self, time_ns: int) -> None: ...

    def run_ns(self, host_ns: int) -> int:
        return host_ns


class Follower:
    """Runs plans; CPU jobs are served first in, first out, and take what `attention_ns` says.

    `emulation` logs jobs and steps as those of a real run.
    """

    def __init__(self, costs: CostModel, attention_ns: AttentionNs = modelled) -> None:
        self.emulation = Emulation(costs, StoppedClock(), lambda end_ns: end_ns)
        self._backend = EmulatedBackend(self.emulation, None)
        for row in range(MAX_ROWS):
            self._backend.admit(Request(row, 0, 1, ENDLESS))
        self._carry = Carry()
        self._graphs = Graphs()
        self._cpu_free = 0
        self._attention_ns = attention_ns

    def run(self, plan: StepPlan, begin_ns: int) -> int:
        """When the step samples."""
        emulation = self.emulation
        program, carry = build(plan, self._carry, emulation.num_layers)
        emulation.outstanding.keep_only(self._carry.cohorts)
        work = EmulatedStep(emulation, plan, {})
        step = StepRun(plan, work, self._graphs.of(program), begin_ns)
        if begin_ns > emulation.lanes["gpu"].free_ns:
            self._backend.idled_until(begin_ns)
        self._backend.follow(step, work)
        durations = Durations(plan, emulation.costs)
        for run in step.runs[1:]:
            if run.op.lane == "cpu":
                self._attend(work, run.op, durations)
            elif run.op.priority:
                list(work.pieces(run.op))
            else:
                work.run(run.op)
        self._carry = carry
        work.sampled()
        return emulation.lanes["gpu"].free_ns

    def _attend(self, work: EmulatedStep, op: Op, durations: Durations) -> None:
        ready = work.times.ready_ns(op)
        self._cpu_free = max(self._cpu_free, ready) + self._attention_ns(op, durations)
        work.times.end(op, self._cpu_free)
        where = (durations.plan.index, work.group_number(op), work.kv_layer(op), op.priority)
        self.emulation.cpu_jobs.add(CpuJob(*where, 1, 1, ready, ready, self._cpu_free))
