"""Keeps a bounded log of a policy's decisions and how far its predictions were off."""

from apexbench.engine.plan import StepPlan, StepResult
from apexbench.engine.policies.base import Explaining
from apexbench.engine.scheduler import Scheduler
from apexbench.records import DecisionRecord

MAX_DECISIONS = 256


class DecisionKeeper:
    """Told of every step. When there are too many decisions, every other one is dropped."""

    def __init__(self, policy: Explaining) -> None:
        self._policy = policy
        self._records: list[DecisionRecord] = []
        self._stride = 1
        self._num_predicted = 0
        self._error = 0.0

    def on_step(self, plan: StepPlan, result: StepResult, _: Scheduler) -> None:
        """The plan was chosen just now and has been run."""
        predicted = self._policy.predicted_step_ns
        if not plan.was_chosen or predicted is None:
            return
        self._num_predicted += 1
        self._error += abs(predicted / max(1, result.end_ns - result.start_ns) - 1)
        if self._num_predicted % self._stride == 0:
            self._keep(plan, result)

    @property
    def records(self) -> tuple[DecisionRecord, ...]:
        """Decisions in time order."""
        return tuple(self._records)

    @property
    def prediction_error(self) -> float | None:
        """Mean |predicted / actual - 1| over steps; None where nothing was predicted."""
        return self._error / self._num_predicted if self._num_predicted else None

    def _keep(self, plan: StepPlan, result: StepResult) -> None:
        decision = self._policy.decision()
        if decision is None:
            return
        self._records.append(DecisionRecord(plan.index, result.start_ns, decision))
        if len(self._records) == MAX_DECISIONS:
            del self._records[::2]
            self._stride *= 2
