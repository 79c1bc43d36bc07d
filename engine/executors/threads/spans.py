"""The ops of a finished step as spans of a timeline, with what earlier steps left running in it."""

from collections.abc import Iterator

from apexbench.engine.executors.durations import sampled_rows
from apexbench.engine.executors.threads.step_run import OpRun, StepRun, rows_of
from apexbench.engine.plan import StepPlan
from apexbench.records import OpSpan

_PER_STEP_KINDS = frozenset({"schedule", "embed", "head"})
_LAUNCHES = frozenset({"embed", "pre", "launch", "post"})


def spans_of(step: StepRun, end_ns: int, num_layers: int) -> list[OpSpan]:
    """What ran between the step's start and `end_ns`; work that goes on is cut off there."""
    return list(_spans(step, end_ns, num_layers))


def _spans(step: StepRun, end_ns: int, num_layers: int) -> Iterator[OpSpan]:
    for run in (*step.runs, *step.awaited):
        end = run.end_ns if run.is_done else end_ns
        start = max(run.start_ns, step.start_ns)
        if not run.start_ns or min(end, end_ns) <= start:
            continue
        op = run.op
        layer = None if op.kind in _PER_STEP_KINDS else op.layer
        rows = _rows(run, num_layers)
        yield OpSpan(
            step.plan.index, op.lane, op.kind, _group(run), layer, rows, start, min(end, end_ns)
        )


def _group(run: OpRun) -> str:
    """Sub-batches by name, cohorts by id: their place in the plan changes from step to step."""
    group = run.op.group
    return f"c{run.step.plan.cohorts[int(group[1:])].cohort}" if group.startswith("c") else group


def _rows(run: OpRun, num_layers: int) -> int:
    plan, op = run.step.plan, run.op
    if op.kind in _LAUNCHES:
        return _linear_rows(plan, op.group) + sum(len(plan.cohorts[c].rows) for c in op.cohorts)
    if op.kind == "attn_gpu":
        return len(plan.batches[0].gpu_rows)
    if op.kind == "head":
        return sampled_rows(plan, num_layers)
    return 0 if op.lane == "host" else len(rows_of(plan, op))


def _linear_rows(plan: StepPlan, group: str) -> int:
    return plan.batches[1 if group == "B" else 0].linear_rows
