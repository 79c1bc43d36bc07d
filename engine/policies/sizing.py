"""How many CPU rows a strategy can carry, predicted from the belief cost model.

Symbols as in the literature, per layer: T_lin linear work, T_gatt GPU attention, t CPU attention.
"""

from apexbench.engine.costs import CostModel
from apexbench.engine.plan import PrefillChunk
from apexbench.engine.policies.base import Candidates, Row


def prefill_attention_ns(belief: CostModel, chunks: tuple[PrefillChunk, ...]) -> int:
    """T_pref of the chunks."""
    if not chunks:
        return 0
    return belief.gpu_prefill_attention_ns(tuple((c.new_tokens, c.context_tokens) for c in chunks))


def gpu_attention_ns(belief: CostModel, work: Candidates) -> int:
    """T_gatt + T_pref: what the GPU's attention of one layer takes."""
    decode = belief.gpu_decode_attention_ns(work.num_gpu_rows, work.gpu_kv_tokens)
    return decode + prefill_attention_ns(belief, work.chunks)


def step_ns(belief: CostModel, work: Candidates) -> int:
    """A gpu_only step over the work at hand."""
    layer = belief.linear_ns(work.base_rows) + gpu_attention_ns(belief, work)
    return belief.num_layers * layer + belief.head_ns(max(1, work.num_gpu_rows))


def link_ns(belief: CostModel, rows: int) -> int:
    """`lat`: send, dispatch and join of CPU rows."""
    return belief.send_ns(rows) + belief.cpu_dispatch_ns() + belief.recv_ns(rows)


def deferred_capacity(belief: CostModel, work: Candidates) -> int:
    """Rows that deferred cohorts can hold before the GPU waits for them.

    n * t * L/(L+1) <= step: a row works L layers in L+1 steps. The step is the decode-only one:
    a join that waits gains nothing from longer steps with prompts in between.
    """
    rows = work.cpu_rows
    if not rows:
        return work.deferred_rows
    kv_tokens = sum([row.computed + 1 for row in rows])
    per_row = belief.cpu_attention_ns(len(rows), kv_tokens) / len(rows)
    layer = belief.linear_ns(max(1, work.num_gpu_rows)) + belief.gpu_decode_attention_ns(
        work.num_gpu_rows, work.gpu_kv_tokens
    )
    layers = belief.num_layers
    step = layers * layer + belief.head_ns(max(1, work.num_gpu_rows))
    return int(step * (layers + 1) / (layers * max(per_row, 1.0)))


def in_layer_rows(belief: CostModel, work: Candidates, max_rows: int) -> tuple[int, ...]:
    """Oldest rows that raise the predicted token rate when they ride in-layer, one batch."""
    attention = gpu_attention_ns(belief, work)
    tokens = work.num_gpu_rows
    layer = belief.linear_ns(max(1, work.base_rows)) + attention
    chosen: list[int] = []
    kv_tokens = 0
    for row in work.cpu_rows[:max_rows]:
        count = len(chosen) + 1
        kv_tokens += row.computed + 1
        cpu = belief.cpu_attention_ns(count, kv_tokens) + link_ns(belief, count)
        longer = belief.linear_ns(work.base_rows + count) + max(attention, cpu)
        is_slower = (tokens + count) * layer <= (tokens + count - 1) * longer
        if is_slower and tokens + len(chosen) > 0:
            break
        chosen.append(row.id)
        layer = longer
    return tuple(chosen)


class TwoBatch:
    """Rows of an asymmetric pipeline while it is filled: A has the GPU's work, B only CPU rows."""

    __slots__ = ("_attention", "_base_rows", "_belief", "cpu_ns", "kv_tokens", "rows")

    def __init__(self, belief: CostModel, work: Candidates) -> None:
        self._belief = belief
        self._attention = gpu_attention_ns(belief, work)
        self._base_rows = work.base_rows
        self.rows: tuple[list[int], list[int]] = ([], [])
        self.kv_tokens = [0, 0]
        self.cpu_ns = [0, 0]

    @property
    def num_rows(self) -> int:
        """CPU rows in both sub-batches."""
        return len(self.rows[0]) + len(self.rows[1])

    def linear_ns(self, batch: int) -> int:
        """T_lin of a sub-batch as filled so far; an empty B is about to get its first row."""
        rows = len(self.rows[batch]) + (self._base_rows if batch == 0 else 0)
        return self._belief.linear_ns(max(1, rows))

    def layer_ns(self) -> int:
        """GPU time of one layer of both sub-batches."""
        return self.linear_ns(0) + self._attention + self.linear_ns(1)

    def slack_ns(self, batch: int) -> int:
        """Time left to hide more CPU work of a sub-batch: it runs beside the other's linear work
        and the GPU's attention, and both together must not exceed the GPU's layer.
        """
        window = self.linear_ns(1 - batch) + self._attention
        own = window - self.cpu_ns[batch] - link_ns(self._belief, max(1, len(self.rows[batch])))
        return min(own, self.layer_ns() - sum(self.cpu_ns))

    def add(self, batch: int, row: Row) -> None:
        """Put a row into a sub-batch."""
        self.rows[batch].append(row.id)
        self.kv_tokens[batch] += row.computed + 1
        count = len(self.rows[batch])
        self.cpu_ns[batch] = self._belief.cpu_attention_ns(count, self.kv_tokens[batch])

    def remove_last(self, batch: int, row: Row) -> None:
        """Take back the row just added."""
        self.rows[batch].pop()
        self.kv_tokens[batch] -= row.computed + 1
        count = len(self.rows[batch])
        self.cpu_ns[batch] = self._belief.cpu_attention_ns(count, self.kv_tokens[batch])


def two_batch_rows(
    belief: CostModel, work: Candidates, max_rows: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Oldest rows for A and B that the GPU's layer hides; B gets at least one, or it is empty."""
    pipeline = TwoBatch(belief, work)
    for row in work.cpu_rows[:max_rows]:
        target = 1 if not pipeline.rows[1] else int(pipeline.slack_ns(1) >= pipeline.slack_ns(0))
        pipeline.add(target, row)
        if min(pipeline.slack_ns(0), pipeline.slack_ns(1)) < 0 and pipeline.num_rows > 1:
            pipeline.remove_last(target, row)
            break
    return tuple(pipeline.rows[0]), tuple(pipeline.rows[1])
