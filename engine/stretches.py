"""Stretches of consecutive steps, kept evenly over a run of any length; chooses none of them."""

from apexbench.engine.plan import StepPlan, StepResult
from apexbench.records import StepRecord

STRETCH_STEPS = 200
# Even, so that after every other one has been dropped the next one due is still kept. With 16 a
# stretch begins in every eighth of the run at least, however long that becomes.
MAX_STRETCHES = 16


def step_record(plan: StepPlan, result: StepResult) -> StepRecord:
    """What a step did, in counts."""
    return StepRecord(
        index=plan.index,
        start_ns=result.start_ns,
        end_ns=result.end_ns,
        strategy=plan.strategy,
        prefill_tokens=sum(batch.prefill_tokens for batch in plan.batches),
        gpu_rows=sum(len(batch.gpu_rows) for batch in plan.batches),
        in_layer_rows=sum(len(batch.in_layer_rows) for batch in plan.batches),
        deferred_rows=sum(len(step.rows) for step in plan.cohorts),
        output_tokens=sum(count for _, count in result.tokens),
    )


class StretchKeeper:
    """Keeps every n-th stretch of STRETCH_STEPS steps; n doubles when there are too many."""

    def __init__(self) -> None:
        self._stretches: list[list[StepRecord]] = []
        self._num_steps = 0
        self._period = 1

    def on_step(self, plan: StepPlan, result: StepResult) -> None:
        """Note a step if it belongs to a stretch that is kept."""
        number, place = divmod(self._num_steps, STRETCH_STEPS)
        self._num_steps += 1
        if place == 0 and number % self._period == 0:
            self._begin()
        if number % self._period == 0:
            self._stretches[-1].append(step_record(plan, result))

    def stretches(self) -> tuple[tuple[StepRecord, ...], ...]:
        """Those kept, in time order; the last one may be shorter."""
        return tuple(tuple(stretch) for stretch in self._stretches)

    def _begin(self) -> None:
        if len(self._stretches) == MAX_STRETCHES:
            del self._stretches[1::2]
            self._period *= 2
        self._stretches.append([])
