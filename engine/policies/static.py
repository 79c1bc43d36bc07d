"""Fixed strategies under the common hybrid admission, for ablation: one mechanism, no rule."""

from apexbench.engine.policies.base import GPU_ONLY, JOIN_ALL, Candidates, Choice, PolicyContext
from apexbench.engine.policies.deferral import Deferral
from apexbench.engine.policies.sizing import RowCosts, in_layer_rows, two_batch_rows

DEFAULT_COHORTS = 8


class _Static:
    """What the fixed strategies share: a belief to size with and their thresholds."""

    uses_cpu = True

    def __init__(self, context: PolicyContext) -> None:
        self._costs = RowCosts(context.belief)
        self._thresholds = context.thresholds


class StaticTwoBatch(_Static):
    """Two sub-batches whenever a CPU row is free to start a token."""

    name = "static:two_batch"

    def choose(self, work: Candidates) -> Choice:
        """As many rows as the pipeline hides."""
        if len(work.cpu_rows) < self._thresholds.min_cpu_rows:
            return GPU_ONLY
        first, second = two_batch_rows(self._costs, work, self._thresholds.max_running_rows)
        return Choice(in_layer_a=first, in_layer_b=second)


class StaticInLayer(_Static):
    """One batch; CPU rows join in the same layer while that raises the predicted token rate."""

    name = "static:in_layer"

    def choose(self, work: Candidates) -> Choice:
        """As many rows as pay."""
        if len(work.cpu_rows) < self._thresholds.min_cpu_rows:
            return GPU_ONLY
        return Choice(
            in_layer_a=in_layer_rows(self._costs, work, self._thresholds.max_running_rows)
        )


class StaticDeferred(_Static):
    """Asynchronous overlap always: APEX's mechanism without its rule."""

    name = "static:deferred"

    def __init__(self, context: PolicyContext) -> None:
        super().__init__(context)
        self._deferral = Deferral(context, DEFAULT_COHORTS)

    def choose(self, work: Candidates) -> Choice:
        """Join every cohort, begin one when it is due."""
        if len(work.cpu_rows) + work.deferred_rows < self._thresholds.min_cpu_rows:
            return GPU_ONLY
        if work.base_rows == 0:
            return self._deferral.drain(work)
        entering = self._deferral.entering(work)
        return Choice(enter=entering) if entering else JOIN_ALL
