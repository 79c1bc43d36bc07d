"""A policy of one's own: CPU rows ride in-layer while that is free, the others are deferred."""

from apexbench.engine.policies.base import Candidates, Choice, PolicyContext


class InLayerFirst:
    """In-layer rows hide behind the GPU's own attention; a cohort of the rest begins when due."""

    name = "in-layer-first"
    uses_cpu = True
    defers = True  # sets GPU memory aside for deferred rows
    thresholds = ("max_deferred_cohorts",)  # what it listens to beside the scheduler

    def __init__(self, context: PolicyContext) -> None:
        self._belief = context.belief
        self._max_rows = context.thresholds.max_deferred_rows or context.thresholds.max_running_rows
        places = context.belief.num_layers + 1  # a cohort is at one of these
        self._max_cohorts = min(context.thresholds.max_deferred_cohorts or 4, places)
        self._steps_apart = places // self._max_cohorts

    def choose(self, work: Candidates) -> Choice:
        """The oldest rows in-layer while the GPU does not wait, a share of the others deferred."""
        num_free = self._num_free(work)
        rows = [row.id for row in work.cpu_rows]
        return Choice(
            in_layer_a=tuple(rows[:num_free]),
            enter=tuple(rows[num_free:][: self._num_entering(work, len(rows) - num_free)]),
        )

    def _num_free(self, work: Candidates) -> int:
        """Rows for which CPU attention and its way there and back fit beside GPU attention."""
        belief, kv_tokens = self._belief, 0
        limit = belief.gpu_decode_attention_ns(work.num_gpu_rows, work.gpu_kv_tokens)
        for count, row in enumerate(work.cpu_rows, start=1):
            kv_tokens += row.computed + 1
            way = belief.send_ns(count) + belief.cpu_dispatch_ns() + belief.recv_ns(count)
            if belief.cpu_attention_ns(count, kv_tokens) + way > limit:
                return count - 1
        return len(work.cpu_rows)

    def _num_entering(self, work: Candidates, num_left: int) -> int:
        """Cohorts begin evenly spaced; each takes its share of the rows that are left."""
        if work.num_cohorts >= self._max_cohorts or work.steps_since_entry < self._steps_apart:
            return 0
        share = -(-(num_left + work.deferred_rows) // self._max_cohorts)
        return min(share, num_left, self._max_rows - work.deferred_rows)
