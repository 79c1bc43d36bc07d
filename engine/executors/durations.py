"""How long each op of a program takes under a cost model: the only place that maps ops to costs."""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple, Protocol

from apexbench.engine.costs import CostModel
from apexbench.engine.plan import JOIN, PROMOTE, StepPlan, host_bound_tokens

_MEMOISED_JOBS = 4096  # cohorts keep rows and contexts for L + 1 steps

# What a group of CPU rows costs: its jobs, and of a cohort also the launch group it joins.
_JOB_KINDS = ("send", "attn_cpu", "recv", "launch")
_NO_JOB = (0, 0, 0, 0)
_BULK_KINDS = ("swap_in", "swap_out", "offload", "reread")

DurationReader = Callable[["Durations"], int]


class Costed(Protocol):
    """What an op's duration depends on, compact (`OpTemplate`) or written out (`Op`)."""

    @property
    def kind(self) -> str: ...
    @property
    def group(self) -> str: ...
    @property
    def cohorts(self) -> tuple[int, ...]: ...


class StepCosts:
    """A cost model with the memory that spares equal questions. One per executor."""

    __slots__ = ("captured", "eager", "job", "linear", "linear_captured", "schedule")

    def __init__(self, costs: CostModel) -> None:
        self.eager = costs
        self.captured = costs.captured
        memoised = lru_cache(maxsize=_MEMOISED_JOBS)
        self.linear = memoised(self.eager.linear_ns)
        self.linear_captured = memoised(self.captured.linear_ns)
        self.schedule = memoised(costs.schedule_ns)
        dispatch = costs.cpu_dispatch_ns()

        @memoised
        def job(rows: int, kv_tokens: int, copy_bytes: int) -> tuple[int, int, int]:
            work = costs.cpu_attention_ns(rows, kv_tokens, copy_bytes) + dispatch
            return costs.send_ns(rows), work, costs.recv_ns(rows)

        self.job = job


class Durations:
    """Durations of one plan's ops in integer nanoseconds; launch groups include their cohorts."""

    __slots__ = (
        "cohort_rows",
        "costs",
        "job_durations",
        "linear",
        "plan",
        "rows_a",
        "rows_b",
        "step_costs",
    )

    def __init__(self, plan: StepPlan, step_costs: StepCosts) -> None:
        is_captured = not plan.cohorts and plan.strategy == "gpu_only" and plan.is_decode_only
        self.costs = step_costs.captured if is_captured else step_costs.eager
        self.linear = step_costs.linear_captured if is_captured else step_costs.linear
        self.step_costs = step_costs
        self.plan = plan
        batches = plan.batches
        self.rows_a = batches[0].linear_rows
        self.rows_b = batches[1].linear_rows if len(batches) > 1 else 0
        self.cohort_rows = 0
        self.job_durations = self._job_durations()

    def of(self, op: Costed) -> int:
        """Duration of one op (of one layer, where the op belongs to a layer)."""
        return duration_reader(op)(self)

    def rows(self, op: Costed) -> int:
        """Rows an op works on, for timelines."""
        if op.kind in {"launch", "pre", "post"}:
            return self.launch_rows(op)
        if op.kind == "embed":
            return self.launch_rows(op) + self.rows_b
        if op.kind in {"send", "recv", "attn_cpu"}:
            return self._cpu_rows(op.group)
        if op.kind == "attn_gpu":
            return len(self.plan.batches[0].gpu_rows)
        return sampled_rows(self.plan, self.costs.num_layers) if op.kind == "head" else 0

    def launch_rows(self, op: Costed) -> int:
        """Rows of a launch group with the cohorts that take part."""
        rows = self.rows_b if op.group == "B" else self.rows_a
        cohorts = self.plan.cohorts
        for cohort in op.cohorts:
            rows += len(cohorts[cohort].rows)
        return rows

    def gpu_attention(self) -> int:
        """Attention of sub-batch A: its decode rows, then its prompts."""
        batch = self.plan.batches[0]
        total = self.costs.gpu_decode_attention_ns(len(batch.gpu_rows), batch.gpu_kv_tokens)
        if batch.chunks:
            chunks = tuple((chunk.new_tokens, chunk.context_tokens) for chunk in batch.chunks)
            total += self.costs.gpu_prefill_attention_ns(chunks)
        return total

    def schedule(self) -> int:
        """The host's part of the step."""
        step_costs = self.step_costs
        sequences = self.cohort_rows + sum([b.num_sequences for b in self.plan.batches])
        usual = step_costs.schedule(sequences, self.costs is step_costs.captured)
        return usual + self.plan.planning_ns

    def copy(self, kind: str) -> int:
        """One layer's bulk copy."""
        direction = "d2h" if kind in {"swap_out", "offload"} else "h2d"
        return self.costs.copy_ns(direction, self.copy_bytes(kind))

    def _job_durations(self) -> list[int]:
        """By _JOB_KINDS (see job_slot): in-layer rows of A and B, then cohorts."""
        job, linear, plan, rows_a = self.step_costs.job, self.linear, self.plan, self.rows_a
        copy_bytes = self._bulk_bytes()
        durations: list[int] = []
        for batch in plan.batches:
            rows = len(batch.in_layer_rows)
            durations += (*job(rows, batch.in_layer_kv_tokens, copy_bytes), 0) if rows else _NO_JOB
        if len(plan.batches) == 1:
            durations += _NO_JOB
        for _, _, _, row_ids, kv_tokens in plan.cohorts:
            rows = len(row_ids)
            self.cohort_rows += rows
            durations += job(rows, kv_tokens, copy_bytes)
            durations.append(linear(rows_a + rows))
        return durations

    def _cpu_rows(self, group: str) -> int:
        if group[0] == "c":
            return len(self.plan.cohorts[int(group[1:])].rows)
        return len(self.plan.batches[1 if group == "B" else 0].in_layer_rows)

    def copy_bytes(self, kind: str) -> int:
        """Bytes of one layer's bulk copy. Copies convert on the GPU: the host's dtype travels."""
        per_token = self.costs.kv_bytes_per_token_layer_cpu
        plan = self.plan
        if kind == "swap_out":
            return plan.swap_out_tokens * per_token
        if kind == "swap_in":
            return plan.swap_in_tokens * per_token
        out, back = host_bound_tokens(plan.batches[0].chunks)
        return (out if kind == "offload" else back) * per_token

    def _bulk_bytes(self) -> int:
        """Bulk traffic per layer through host memory, which CPU attention competes with."""
        plan = self.plan
        if not (plan.swap_in_tokens or plan.swap_out_tokens or plan.batches[0].chunks):
            return 0
        return sum(self.copy_bytes(kind) for kind in _BULK_KINDS)


def job_slot(op: Costed) -> int | None:
    """Index into `Durations.job_durations`; None for ops that no single group of CPU rows owns."""
    if op.kind not in _JOB_KINDS:
        return None
    if op.kind == "launch":
        group = op.cohorts[0] + 2 if len(op.cohorts) == 1 else None
    else:
        group = int(op.group[1:]) + 2 if op.group[0] == "c" else int(op.group == "B")
    return None if group is None else group * len(_JOB_KINDS) + _JOB_KINDS.index(op.kind)


def duration_reader(op: Costed) -> DurationReader:
    """The function that reads an op's duration off a step; looked up once per kind of op."""
    return _reader(_Kind(op.kind, op.group, op.cohorts))


class _Kind(NamedTuple):
    """All ops that cost the same in a step."""

    kind: str
    group: str
    cohorts: tuple[int, ...]


@lru_cache(maxsize=_MEMOISED_JOBS)
def _reader(op: _Kind) -> DurationReader:
    job = job_slot(op)
    if job is not None:
        return lambda step: step.job_durations[job]
    if op.kind == "launch" and not op.cohorts:
        if op.group == "B":
            return lambda step: step.linear(step.rows_b)
        return lambda step: step.linear(step.rows_a)
    if op.kind in _BULK_KINDS:
        return lambda step: step.copy(op.kind)
    return _READERS.get(op.kind) or _launch_reader(op)


_READERS: dict[str, DurationReader] = {
    "attn_gpu": Durations.gpu_attention,
    "schedule": lambda step: step.schedule(),  # a replay of measured steps has its own
    "head": lambda step: step.costs.head_ns(sampled_rows(step.plan, step.costs.num_layers)),
}


def _launch_reader(op: Costed) -> DurationReader:
    if op.kind == "launch":
        return lambda step: step.linear(step.launch_rows(op))
    if op.kind == "pre":
        return lambda step: step.costs.pre_ns(step.launch_rows(op))
    if op.kind == "post":
        return lambda step: step.costs.post_ns(step.launch_rows(op))
    return lambda step: step.costs.embed_ns(step.launch_rows(op) + step.rows_b)


def sampled_rows(plan: StepPlan, num_layers: int) -> int:
    """Rows that produce a token at the end of the step."""
    rows = 0
    last = num_layers - 1
    for _, action, layer, row_ids, _ in plan.cohorts:
        if action is PROMOTE or (layer == last and action is JOIN):
            rows += len(row_ids)
    for batch in plan.batches:
        rows += len(batch.gpu_rows) + len(batch.in_layer_rows)
        for chunk in batch.chunks:
            rows += chunk.is_last
    return rows
