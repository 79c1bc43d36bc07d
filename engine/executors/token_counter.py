"""Counts the tokens of executors that compute none. The true output lengths live here alone."""

from collections.abc import Iterable

from apexbench.engine.plan import CohortStep, StepPlan
from apexbench.records import Request

# (sequence, tokens) of rows that sampled, and the sequences that are complete with them.
Counted = tuple[tuple[tuple[int, int], ...], frozenset[int]]


class TokenCounter:
    """What is left of each request's output."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left: dict[int, int] = {}

    def admit(self, request: Request) -> None:
        """Learn the true output length of a request."""
        self._left[request.id] = request.output_tokens

    def release(self, request_id: int) -> None:
        """Forget an ended request."""
        self._left.pop(request_id, None)

    def left(self, request_id: int) -> int:
        """Tokens that a request is still to get."""
        return self._left[request_id]

    def sample(self, plan: StepPlan, sampling: Iterable[CohortStep]) -> Counted:
        """One token for every row that ends the step at the head; `sampling` are the cohorts."""
        rows: list[int] = []
        for batch in plan.batches:
            rows += batch.gpu_rows
            rows += batch.in_layer_rows
            rows += [chunk.sequence for chunk in batch.chunks if chunk.is_last]
        for step in sampling:
            rows += step.rows
        left, finished = self._left, []
        for row in rows:
            left[row] -= 1
            if left[row] <= 0:
                finished.append(row)
        return tuple([(row, 1) for row in rows]), frozenset(finished)
