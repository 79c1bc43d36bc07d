"""How long each op of a program takes under a cost model: the only place that maps ops to costs."""

from apexbench.engine.costs import CostModel
from apexbench.engine.plan import CohortStep, StepPlan, SubBatch
from apexbench.engine.program import OpTemplate
from apexbench.engine.sequence import Tier


class Durations:
    """Durations of one plan's ops in integer nanoseconds; launch groups include their cohorts."""

    __slots__ = ("_copy_bytes", "_costs", "_num_layers", "_plan")

    def __init__(self, plan: StepPlan, costs: CostModel) -> None:
        is_captured = plan.is_decode_only and plan.strategy == "gpu_only"
        self._costs = costs.captured if is_captured else costs
        self._plan = plan
        self._num_layers = costs.num_layers
        self._copy_bytes = self._bulk_bytes()

    def of(self, op: OpTemplate) -> int:
        """Duration of one op (of one layer, where the op belongs to a layer)."""
        costs, kind = self._costs, op.kind
        if kind == "launch":
            return costs.linear_ns(self._launch_rows(op))
        if kind == "attn_gpu":
            return self._gpu_attention(self._plan.batches[0])
        if kind in {"send", "recv", "attn_cpu"}:
            return self._cpu_rows_op(kind, op.group)
        if kind in {"pre", "post", "embed"}:
            return self._edge_op(kind, self._launch_rows(op))
        return self._step_op(kind)

    def rows(self, op: OpTemplate) -> int:
        """Rows an op works on, for timelines."""
        if op.kind in {"launch", "pre", "post", "embed"}:
            return self._launch_rows(op)
        if op.kind in {"send", "recv", "attn_cpu"}:
            return self._cpu_rows(op.group)[0]
        if op.kind == "attn_gpu":
            return len(self._plan.batches[0].gpu_rows)
        return sampled_rows(self._plan, self._num_layers) if op.kind == "head" else 0

    def _gpu_attention(self, batch: SubBatch) -> int:
        total = self._costs.gpu_decode_attention_ns(len(batch.gpu_rows), batch.gpu_kv_tokens)
        if batch.chunks:
            chunks = tuple((chunk.new_tokens, chunk.context_tokens) for chunk in batch.chunks)
            total += self._costs.gpu_prefill_attention_ns(chunks)
        return total

    def _cpu_rows_op(self, kind: str, group: str) -> int:
        rows, kv_tokens = self._cpu_rows(group)
        if kind == "send":
            return self._costs.send_ns(rows)
        if kind == "recv":
            return self._costs.recv_ns(rows)
        work = self._costs.cpu_attention_ns(rows, kv_tokens, self._copy_bytes)
        return work + self._costs.cpu_dispatch_ns()

    def _edge_op(self, kind: str, rows: int) -> int:
        if kind == "pre":
            return self._costs.pre_ns(rows)
        return self._costs.post_ns(rows) if kind == "post" else self._costs.embed_ns(rows)

    def _step_op(self, kind: str) -> int:
        plan, costs = self._plan, self._costs
        if kind == "schedule":
            rows = plan.num_linear_rows + sum(len(step.rows) for step in plan.cohorts)
            return costs.schedule_ns(rows, costs is not self._costs.captured)
        if kind == "head":
            return costs.head_ns(sampled_rows(plan, self._num_layers))
        direction = "d2h" if kind in {"swap_out", "offload"} else "h2d"
        return costs.copy_ns(direction, self._bytes_of(kind))

    def _bytes_of(self, kind: str) -> int:
        """Bytes of one layer's bulk copy. Copies convert on the GPU: the host's dtype travels."""
        per_token = self._costs.kv_bytes_per_token_layer_cpu
        plan = self._plan
        if kind == "swap_out":
            return plan.swap_out_tokens * per_token
        if kind == "swap_in":
            return plan.swap_in_tokens * per_token
        chunks = [chunk for chunk in plan.batches[0].chunks if chunk.tier is Tier.CPU]
        if kind == "offload":
            return sum(chunk.new_tokens for chunk in chunks) * per_token
        return sum(chunk.context_tokens for chunk in chunks) * per_token

    def _bulk_bytes(self) -> int:
        """Bulk traffic per layer through host memory, which CPU attention competes with."""
        plan = self._plan
        if not (plan.swap_in_tokens or plan.swap_out_tokens or plan.batches[0].chunks):
            return 0
        return sum(self._bytes_of(kind) for kind in ("swap_in", "swap_out", "offload", "reread"))

    def _launch_rows(self, op: OpTemplate) -> int:
        plan = self._plan
        rows = plan.batches[1 if op.group == "B" else 0].linear_rows
        if op.kind == "embed" and len(plan.batches) > 1:
            rows += plan.batches[1].linear_rows
        for cohort in op.cohorts:
            rows += len(plan.cohorts[cohort].rows)
        return rows

    def _cpu_rows(self, group: str) -> tuple[int, int]:
        if group[0] == "c":
            cohort: CohortStep = self._plan.cohorts[int(group[1:])]
            return len(cohort.rows), cohort.kv_tokens
        batch = self._plan.batches[1 if group == "B" else 0]
        return len(batch.in_layer_rows), batch.in_layer_kv_tokens


def sampled_rows(plan: StepPlan, num_layers: int) -> int:
    """Rows that produce a token at the end of the step."""
    rows = sum(len(step.rows) for step in plan.cohorts if step.samples(num_layers))
    for batch in plan.batches:
        rows += len(batch.gpu_rows) + len(batch.in_layer_rows)
        rows += sum(chunk.is_last for chunk in batch.chunks)
    return rows
