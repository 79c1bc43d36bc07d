"""One step on its way through the lanes: its ops, what they wait for, and whom failures hit."""

from collections.abc import Iterable, Mapping
from queue import SimpleQueue

from apexbench.engine.executors.threads.graph import Graph
from apexbench.engine.executors.threads.work import StepWork
from apexbench.engine.expansion import Op
from apexbench.engine.plan import StepPlan
from apexbench.engine.sequence import Tier

_CPU_KINDS = frozenset({"send", "attn_cpu", "recv"})
_SWAPS = frozenset({"swap_in", "swap_out"})


class OpRun:
    """One op of one step on its way: what it waits for, when it ran, why it failed.

    `missing` and `dependents` are guarded by the executor's lock.
    """

    __slots__ = (
        *("dependents", "end_ns", "error", "is_done", "missing"),
        *("op", "released_by", "start_ns", "step"),
    )

    def __init__(self, op: Op, step: "StepRun", missing: int) -> None:
        self.op = op
        self.step = step
        self.missing = missing
        self.dependents: list[OpRun] = []
        self.start_ns = 0
        self.end_ns = 0
        self.is_done = False
        self.released_by = ""  # the kind of the last op it waited for
        self.error: BaseException | None = None


class StepRun:
    """All ops of one step. `sampled` gets one item when the step's tokens are there."""

    __slots__ = ("awaited", "errors", "plan", "runs", "sampled", "start_ns", "work")

    def __init__(self, plan: StepPlan, work: StepWork, graph: Graph, start_ns: int) -> None:
        self.plan = plan
        self.work = work
        self.start_ns = start_ns
        self.sampled: SimpleQueue[None] = SimpleQueue()
        self.errors: list[tuple[Op, BaseException]] = []
        self.awaited: list[OpRun] = []  # of earlier steps
        self.runs = runs = [
            OpRun(op, self, missing) for op, missing in zip(graph.ops, graph.num_deps, strict=True)
        ]
        for run, dependents in zip(runs, graph.dependents, strict=True):
            run.dependents = [runs[index] for index in dependents]

    def on_lane(self, lane: str) -> list[OpRun]:
        """The ops of a lane in program order."""
        return [run for run in self.runs if run.op.lane == lane]

    def await_earlier(self, tickets: Mapping[int, OpRun], last_offload: OpRun | None) -> None:
        """Let ops wait for work of earlier steps: results of cohorts, and prompts on their way.

        To be called with the executor's lock, before any op is ready.
        """
        cohorts = self.plan.cohorts
        for run in self.runs:
            op = run.op
            earlier = [tickets[cohorts[position].cohort] for position in op.tickets]
            if op.awaits_offload and last_offload is not None:
                earlier.append(last_offload)
            self.awaited += earlier
            for other in earlier:
                if not other.is_done:
                    other.dependents.append(run)
                    run.missing += 1

    def cohorts_that_leave(self) -> Iterable[tuple[int, OpRun]]:
        """(cohort, its CPU attention) of all whose result the next step awaits."""
        for run in self.runs:
            if run.op.leaves is not None:
                yield self.plan.cohorts[run.op.leaves].cohort, run

    def last(self, kind: str) -> OpRun | None:
        """The last op of a kind, in program order."""
        return next((run for run in reversed(self.runs) if run.op.kind == kind), None)


def rows_of(plan: StepPlan, op: Op) -> tuple[int, ...]:
    """Sequences that an op of the plan's program works for: those that fail with it."""
    kind, group = op.kind, op.group
    if kind in _SWAPS:
        return tuple(move.sequence for move in plan.moves)
    if kind in {"offload", "reread"}:
        chunks = plan.batches[0].chunks
        return tuple(chunk.sequence for chunk in chunks if chunk.tier is Tier.CPU)
    if group.startswith("c"):
        return plan.cohorts[int(group[1:])].rows
    if kind in _CPU_KINDS:
        return plan.batches[1 if group == "B" else 0].in_layer_rows
    return _rows_on_gpu(plan, op)


def _rows_on_gpu(plan: StepPlan, op: Op) -> tuple[int, ...]:
    is_all = op.kind in {"head", "schedule"}
    rows: list[int] = []
    for name, batch in zip("AB", plan.batches, strict=False):
        if is_all or op.group == name:
            rows += [chunk.sequence for chunk in batch.chunks]
            rows += (*batch.gpu_rows, *batch.in_layer_rows)
    for position, cohort in enumerate(plan.cohorts):
        if is_all or position in op.cohorts:
            rows += cohort.rows
    return tuple(rows)
