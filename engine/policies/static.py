"""Fixed strategies under the common hybrid admission, for ablation: one mechanism, no rule."""

from apexbench.engine.policies.base import GPU_ONLY, JOIN_ALL, Candidates, Choice, PolicyContext
from apexbench.engine.policies.sizing import (
    RowCosts,
    deferred_capacity,
    in_layer_rows,
    two_batch_rows,
)

DEFAULT_COHORTS = 8


class StaticTwoBatch:
    """Two sub-batches whenever a CPU row is free to start a token."""

    name = "static:two_batch"
    uses_cpu = True

    def __init__(self, context: PolicyContext) -> None:
        self._costs = RowCosts(context.belief)
        self._thresholds = context.thresholds

    def choose(self, work: Candidates) -> Choice:
        """As many rows as the pipeline hides."""
        if len(work.cpu_rows) < self._thresholds.min_cpu_rows:
            return GPU_ONLY
        first, second = two_batch_rows(self._costs, work, self._thresholds.max_running_rows)
        return Choice(in_layer_a=first, in_layer_b=second)


class StaticInLayer:
    """One batch; CPU rows join in the same layer while that raises the predicted token rate."""

    name = "static:in_layer"
    uses_cpu = True

    def __init__(self, context: PolicyContext) -> None:
        self._costs = RowCosts(context.belief)
        self._thresholds = context.thresholds

    def choose(self, work: Candidates) -> Choice:
        """As many rows as pay."""
        if len(work.cpu_rows) < self._thresholds.min_cpu_rows:
            return GPU_ONLY
        return Choice(
            in_layer_a=in_layer_rows(self._costs, work, self._thresholds.max_running_rows)
        )


class Deferral:
    """Forms cohorts of free CPU rows at pre(0), spread over the layers. Shared by policies."""

    def __init__(self, context: PolicyContext, default_cohorts: int) -> None:
        self._belief = context.belief
        self._thresholds = context.thresholds
        limit = context.thresholds.max_deferred_cohorts or default_cohorts
        self._max_cohorts = min(limit, context.belief.num_layers + 1)

    def entering(self, work: Candidates) -> tuple[int, ...]:
        """Rows of the cohort that begins in this step; empty while none is due.

        Entries are (L+1)/C steps apart, so that C cohorts pass different layers; each takes its
        share of the rows that the CPU can serve without making the GPU wait.
        """
        layers = self._belief.num_layers
        if not work.cpu_rows or work.num_cohorts >= self._max_cohorts:
            return ()
        if work.steps_since_entry < (layers + 1) // self._max_cohorts:
            return ()
        capacity = deferred_capacity(self._belief, work)
        if self._thresholds.max_deferred_rows is not None:
            capacity = min(capacity, self._thresholds.max_deferred_rows)
        wanted = max(1, min(capacity, work.deferred_rows + len(work.cpu_rows)))
        share = -(-wanted // self._max_cohorts)
        count = min(share, wanted - work.deferred_rows)
        return tuple([row.id for row in work.cpu_rows[: max(0, count)]])

    @staticmethod
    def must_promote(work: Candidates) -> bool:
        """Without GPU work there is nothing to overlap: finish every cohort's token now."""
        return work.num_cohorts > 0 and work.base_rows == 0


class StaticDeferred:
    """Asynchronous overlap always: APEX's mechanism without its rule."""

    name = "static:deferred"
    uses_cpu = True

    def __init__(self, context: PolicyContext) -> None:
        self._costs = RowCosts(context.belief)
        self._thresholds = context.thresholds
        self._deferral = Deferral(context, DEFAULT_COHORTS)

    def choose(self, work: Candidates) -> Choice:
        """Join every cohort, begin one when it is due."""
        if len(work.cpu_rows) + work.deferred_rows < self._thresholds.min_cpu_rows:
            return GPU_ONLY
        if work.base_rows == 0:
            rows = in_layer_rows(self._costs, work, self._thresholds.max_running_rows)
            return Choice(in_layer_a=rows, promotes_cohorts=self._deferral.must_promote(work))
        entering = self._deferral.entering(work)
        return Choice(enter=entering) if entering else JOIN_ALL
