"""NEO's asymmetric pipelining, with its published rule: two sub-batches or the GPU alone.

In a decode-only phase its CPU rows often make no progress; that weakness is reproduced.
"""

from apexbench.engine.policies.base import GPU_ONLY, Candidates, Choice, PolicyContext, Row
from apexbench.engine.policies.sizing import RowCosts, gpu_attention_ns, prefill_attention_ns
from apexbench.engine.sequence import Tier
from apexbench.records import NS_PER_S


class Neo:
    """Fills two batches first come first served while the predicted remainder stays positive."""

    name = "neo"
    uses_cpu = True

    def __init__(self, context: PolicyContext) -> None:
        self._belief = context.belief
        self._costs = RowCosts(context.belief)
        self._thresholds = context.thresholds
        self._overhead_ns = round(context.thresholds.launch_overhead_s * NS_PER_S)

    def choose(self, work: Candidates) -> Choice:
        """two_batch iff it serves more requests per GPU time than the GPU alone would."""
        drops = self._dropped(work)
        if not work.cpu_rows:
            return Choice(freezes_cohorts=True, drops=drops) if drops else GPU_ONLY
        pipeline = _Pipeline(self._costs, work, self._overhead_ns)
        pipeline.fill(work.cpu_rows[: self._thresholds.max_running_rows])
        if pipeline.rate() > self._gpu_only_rate(work, drops):
            return Choice(in_layer_a=tuple(pipeline.rows[0]), in_layer_b=tuple(pipeline.rows[1]))
        return Choice(freezes_cohorts=True, drops=drops)

    def _dropped(self, work: Candidates) -> tuple[int, ...]:
        """CPU-bound prompts, newest first, that the GPU alone does better without."""
        rows = work.base_rows
        drops = []
        for chunk in reversed(work.chunks):
            if chunk.tier is not Tier.CPU:
                continue
            if rows - chunk.new_tokens < self._thresholds.linear_rows_threshold:
                break
            rows -= chunk.new_tokens
            drops.append(chunk.sequence)
        return tuple(drops)

    def _gpu_only_rate(self, work: Candidates, drops: tuple[int, ...]) -> float:
        chunks = tuple(chunk for chunk in work.chunks if chunk.sequence not in drops)
        requests = work.num_gpu_rows + len(chunks)
        if not requests:
            return 0.0
        rows = work.num_gpu_rows + sum(chunk.new_tokens for chunk in chunks)
        attention = self._belief.gpu_decode_attention_ns(work.num_gpu_rows, work.gpu_kv_tokens)
        attention += prefill_attention_ns(self._belief, chunks)
        return requests / max(1, self._belief.linear_ns(rows) + attention)


class _Pipeline:
    """Batches A (0) and B (1) while rows are added.

    remain_j = T_lin(other batch) + T_pref_j + T_gatt_j - (T_catt_j + launch overhead)
    """

    def __init__(self, costs: RowCosts, work: Candidates, overhead_ns: int) -> None:
        self._costs = costs
        self._base_rows = work.base_rows
        self._requests = work.num_gpu_rows + len(work.chunks)
        self._attention = gpu_attention_ns(costs.belief, work)  # all of it is A's
        self._overhead_ns = overhead_ns
        self._kv_tokens = [0, 0]
        self._cpu_ns = (0, 0)
        self._remain = (0, 0)
        self.rows: tuple[list[int], list[int]] = ([], [])

    def fill(self, candidates: tuple[Row, ...]) -> None:
        """First to B, then to the batch with more left; who does not fit bars all longer ones."""
        barred: int | None = None
        for row in candidates:
            if barred is not None and row.computed >= barred:
                continue
            goes_to_b = not self.rows[1] or self._remain[1] > self._remain[0]
            if not self._add(int(goes_to_b), row):
                barred = row.computed

    def rate(self) -> float:
        """Requests per GPU time of one layer; 0 without a second batch."""
        rows_a, rows_b = len(self.rows[0]), len(self.rows[1])
        if not rows_b:
            return 0.0
        linear = self._costs.linear
        layer = linear[self._base_rows + rows_a] + linear[rows_b] + self._attention
        return (self._requests + rows_a + rows_b) / max(1, layer)

    def _add(self, batch: int, row: Row) -> bool:
        """Add a row unless a batch's remainder would be negative."""
        rows_a, rows_b = len(self.rows[0]) + 1 - batch, len(self.rows[1]) + batch
        kv_tokens = self._kv_tokens[batch] + row.computed + 1
        added = self._costs.belief.cpu_attention_ns(rows_b if batch else rows_a, kv_tokens)
        cpu_ns = (self._cpu_ns[0], added) if batch else (added, self._cpu_ns[1])
        linear, overhead = self._costs.linear, self._overhead_ns
        remain_a = linear[rows_b] + self._attention - cpu_ns[0] - overhead
        remain_b = linear[self._base_rows + rows_a] - cpu_ns[1] - overhead
        if min(remain_a, remain_b) < 0:
            return False
        self.rows[batch].append(row.id)
        self._kv_tokens[batch] = kv_tokens
        self._cpu_ns, self._remain = cpu_ns, (remain_a, remain_b)
        return True
