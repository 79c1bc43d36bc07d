"""Decode-only steady states read off the simulated lanes. No formula, no search.

A plan is repeated until a window of steps takes as long as the window before it.
"""

from dataclasses import dataclass
from itertools import count

from apexbench.engine.costs import CostModel
from apexbench.engine.executors.sim import SimulatedExecutor
from apexbench.engine.plan import ENTER, JOIN, CohortStep, StepPlan, SubBatch
from apexbench.errors import InvariantError
from apexbench.records import NS_PER_S, Request

# Steps per window without cohorts: a multiple of every period up to 4 that lanes are known to have.
_WINDOW = 12
# Lanes settle geometrically, within a few windows; a window is steady within this relative change.
_SETTLED = 1e-4
_MAX_WINDOWS = 60
_FOREVER = 1 << 60  # output tokens of rows that never finish


@dataclass(frozen=True, slots=True, order=True)
class Rows:
    """CPU rows of a step: in-layer ones of batch A and B, and deferred ones in `cohorts`."""

    in_layer_a: int = 0
    in_layer_b: int = 0
    deferred: int = 0
    cohorts: int = 0

    @property
    def in_layer(self) -> int:
        """In-layer rows of both batches."""
        return self.in_layer_a + self.in_layer_b

    @property
    def total(self) -> int:
        """All CPU rows, each of which keeps its KV in host memory."""
        return self.in_layer + self.deferred


@dataclass(frozen=True, slots=True)
class Load:
    """GPU decode rows, and the context of every row on either tier, in tokens."""

    gpu_rows: int
    context: int


@dataclass(frozen=True, slots=True)
class SteadyState:
    """Seconds per step and output tokens per second, means over the last window."""

    step_s: float
    output_throughput_tok_s: float


def settle(costs: CostModel, load: Load, rows: Rows) -> SteadyState:
    """The steady state of `rows` beside `load`. InvariantError if the lanes never repeat.

    Deferred rows take L + 1 steps per token, so a window is that long and every cohort, entered at
    its own time, gets exactly one token in it.
    """
    runner = _Runner(costs, load, rows)
    before = runner.window_ns()
    for _ in range(_MAX_WINDOWS):
        now = runner.window_ns()
        if abs(now - before) <= _SETTLED * now:
            return runner.state(now)
        before = now
    raise InvariantError(f"the lanes of {rows} beside {load} do not settle")


class _Runner:
    """Repeats one plan; cohorts move one layer per step and enter again after their token."""

    def __init__(self, costs: CostModel, load: Load, rows: Rows) -> None:
        self._executor = SimulatedExecutor(costs)
        self._cycle = costs.num_layers + 1
        self._context = load.context
        numbers = count()
        self._batches = self._make_batches(load, rows, numbers)
        sizes = _spread(rows.deferred, rows.cohorts)
        self._cohorts = [self._admit(size, numbers) for size in sizes]
        self._phases = [index * self._cycle // len(sizes) for index in range(len(sizes))]
        self._steps = count()
        self._now_ns = 0
        # Entries are spread over the first cycle, which is therefore not like the others.
        self._waiting = set(range(len(sizes)))
        self._window = self._cycle if sizes else _WINDOW

    def window_ns(self) -> int:
        """Run one window; how long it took."""
        start = self._now_ns
        for _ in range(self._window):
            index = next(self._steps)
            plan = StepPlan(index, self._batches, self._cohort_steps(index))
            self._now_ns = self._executor.execute(plan, self._now_ns).end_ns
        return self._now_ns - start

    def state(self, window_ns: int) -> SteadyState:
        """What a settled window of that length means."""
        every_step = sum(len(batch.gpu_rows) + len(batch.in_layer_rows) for batch in self._batches)
        deferred = sum(len(rows) for rows in self._cohorts)
        seconds = window_ns / NS_PER_S
        tokens = every_step * self._window + deferred
        return SteadyState(seconds / self._window, tokens / seconds)

    def _make_batches(self, load: Load, rows: Rows, numbers: "count[int]") -> tuple[SubBatch, ...]:
        first = SubBatch(
            gpu_rows=self._admit(load.gpu_rows, numbers),
            gpu_kv_tokens=load.gpu_rows * load.context,
            in_layer_rows=self._admit(rows.in_layer_a, numbers),
            in_layer_kv_tokens=rows.in_layer_a * load.context,
        )
        if not rows.in_layer_b:
            return (first,)
        second = SubBatch(
            in_layer_rows=self._admit(rows.in_layer_b, numbers),
            in_layer_kv_tokens=rows.in_layer_b * load.context,
        )
        return first, second

    def _admit(self, num_rows: int, numbers: "count[int]") -> tuple[int, ...]:
        sequences = tuple(next(numbers) for _ in range(num_rows))
        for sequence in sequences:
            self._executor.admit(Request(sequence, 0, 1, _FOREVER))
        return sequences

    def _cohort_steps(self, index: int) -> tuple[CohortStep, ...]:
        """Cohorts in the order of their layers, so that equal steps share one program."""
        steps = []
        for cohort, (rows, phase) in enumerate(zip(self._cohorts, self._phases, strict=True)):
            progress = (index - phase) % self._cycle
            if progress == 0:
                self._waiting.discard(cohort)
            if cohort in self._waiting:
                continue
            action, layer = (JOIN, progress - 1) if progress else (ENTER, 0)
            steps.append(CohortStep(cohort, action, layer, rows, len(rows) * self._context))
        steps.sort(key=lambda step: (step.layer, step.action is JOIN, step.cohort))
        return tuple(steps)


def _spread(rows: int, cohorts: int) -> list[int]:
    """Sizes of cohorts that differ by one row at most."""
    return [rows // cohorts + (index < rows % cohorts) for index in range(cohorts)]
