"""How many CPU rows a strategy can carry, predicted from the belief cost model.

Symbols as in the literature, per layer: T_lin linear work, T_gatt GPU attention, t CPU attention.
"""

from collections.abc import Callable

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


class ByRows(dict[int, int]):
    """A cost that depends on a number of rows alone; the belief is asked once per number."""

    def __init__(self, cost: Callable[[int], int]) -> None:
        super().__init__()
        self._cost = cost

    def __missing__(self, rows: int) -> int:
        cost = self[rows] = self._cost(rows)
        return cost


class RowCosts:
    """What sizing asks of a belief over and over. Kept by a policy for the whole run."""

    __slots__ = ("belief", "linear", "link")

    def __init__(self, belief: CostModel) -> None:
        self.belief = belief
        self.linear = ByRows(belief.linear_ns)  # T_lin
        self.link = ByRows(self._link_ns)  # `lat`: send, dispatch and join of CPU rows

    def _link_ns(self, rows: int) -> int:
        belief = self.belief
        return belief.send_ns(rows) + belief.cpu_dispatch_ns() + belief.recv_ns(rows)


def deferred_capacity(belief: CostModel, work: Candidates) -> int:
    """Rows that deferred cohorts can hold before the GPU waits for them.

    n * t * L/(L+1) <= step: a row works L layers in L+1 steps. The step is the decode-only one:
    a join that waits gains nothing from longer steps with prompts in between.
    """
    rows = len(work.cpu_rows)
    if not rows:
        return work.deferred_rows
    per_row = belief.cpu_attention_ns(rows, work.cpu_kv_tokens) / rows
    gpu_rows = max(1, work.num_gpu_rows)
    layer = belief.linear_ns(gpu_rows) + belief.gpu_decode_attention_ns(
        work.num_gpu_rows, work.gpu_kv_tokens
    )
    layers = belief.num_layers
    step = layers * layer + belief.head_ns(gpu_rows)
    return int(step * (layers + 1) / (layers * max(per_row, 1.0)))


def in_layer_rows(costs: RowCosts, work: Candidates, max_rows: int) -> tuple[int, ...]:
    """Oldest rows that raise the predicted token rate when they ride in-layer, one batch."""
    belief, linear, link = costs.belief, costs.linear, costs.link
    attention, base = gpu_attention_ns(belief, work), work.base_rows
    tokens = work.num_gpu_rows
    layer = linear[max(1, base)] + attention
    chosen: list[int] = []
    kv_tokens = 0
    for count, row in enumerate(work.cpu_rows[:max_rows], start=1):
        kv_tokens += row.computed + 1
        cpu = belief.cpu_attention_ns(count, kv_tokens) + link[count]
        longer = linear[base + count] + max(attention, cpu)
        is_slower = (tokens + count) * layer <= (tokens + count - 1) * longer
        if is_slower and tokens + count > 1:
            break
        chosen.append(row.id)
        layer = longer
    return tuple(chosen)


class TwoBatch:
    """Rows of an asymmetric pipeline while it is filled: A has the GPU's work, B only CPU rows."""

    __slots__ = ("_attention", "_base_rows", "_costs", "_cpu_ns", "_kv_tokens", "_slack_ns", "rows")

    def __init__(self, costs: RowCosts, work: Candidates) -> None:
        self._costs = costs
        self._attention = gpu_attention_ns(costs.belief, work)
        self._base_rows = work.base_rows
        self.rows: tuple[list[int], list[int]] = ([], [])
        self._kv_tokens = [0, 0]
        self._cpu_ns = (0, 0)
        self._slack_ns = (0, 0)

    def fill(self, candidates: tuple[Row, ...]) -> None:
        """First to B, then to the batch with more slack, until the next row would be waited for.

        B gets its first row in any case: without it there is no second batch.
        """
        for row in candidates:
            goes_to_b = not self.rows[1] or self._slack_ns[1] >= self._slack_ns[0]
            if not self._add(int(goes_to_b), row):
                return

    def _add(self, batch: int, row: Row) -> bool:
        rows_a, rows_b = len(self.rows[0]) + 1 - batch, len(self.rows[1]) + batch
        kv_tokens = self._kv_tokens[batch] + row.computed + 1
        added = self._costs.belief.cpu_attention_ns(rows_b if batch else rows_a, kv_tokens)
        cpu_ns = (self._cpu_ns[0], added) if batch else (added, self._cpu_ns[1])
        slack_ns = self._slack(rows_a, rows_b, cpu_ns)
        if min(slack_ns) < 0 and rows_a + rows_b > 1:
            return False
        self.rows[batch].append(row.id)
        self._kv_tokens[batch] = kv_tokens
        self._cpu_ns, self._slack_ns = cpu_ns, slack_ns
        return True

    def _slack(self, rows_a: int, rows_b: int, cpu_ns: tuple[int, int]) -> tuple[int, int]:
        """Time left to hide more CPU work of A and of B: it runs beside the other's linear work
        and the GPU's attention, and both together must not exceed the GPU's layer.
        """
        linear, link, attention = self._costs.linear, self._costs.link, self._attention
        linear_a, linear_b = linear[max(1, self._base_rows + rows_a)], linear[max(1, rows_b)]
        both = linear_a + attention + linear_b - cpu_ns[0] - cpu_ns[1]
        own_a = linear_b + attention - cpu_ns[0] - link[max(1, rows_a)]
        own_b = linear_a + attention - cpu_ns[1] - link[max(1, rows_b)]
        return min(own_a, both), min(own_b, both)


def two_batch_rows(
    costs: RowCosts, work: Candidates, max_rows: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Oldest rows for A and B that the GPU's layer hides; B gets at least one."""
    pipeline = TwoBatch(costs, work)
    pipeline.fill(work.cpu_rows[:max_rows])
    return tuple(pipeline.rows[0]), tuple(pipeline.rows[1])
