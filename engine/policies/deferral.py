"""Forming deferred cohorts and bringing them home; which step defers is its users' decision."""

from apexbench.engine.policies.base import Candidates, Choice, PolicyContext
from apexbench.engine.policies.sizing import RowCosts, deferred_capacity, in_layer_rows


class Deferral:
    """Forms cohorts of free CPU rows at pre(0), spread over the layers. Shared by policies."""

    def __init__(self, context: PolicyContext, default_cohorts: int) -> None:
        self._belief = context.belief
        self._costs = RowCosts(context.belief)
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

    def drain(self, work: Candidates) -> Choice:
        """Without GPU work there is nothing to overlap: finish every cohort's token now, and let
        free rows ride in-layer.
        """
        rows = in_layer_rows(self._costs, work, self._thresholds.max_running_rows)
        return Choice(in_layer_a=rows, promotes_cohorts=work.num_cohorts > 0)
