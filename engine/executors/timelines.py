"""Which steps to keep op by op: the latest of each kind at growing intervals, so that a run of
any length costs a handful of fully simulated steps.
"""

from collections.abc import Callable

from apexbench.engine.plan import StepPlan, StepResult
from apexbench.engine.stretches import step_record
from apexbench.records import OpSpan, StepTimeline

Kind = tuple[str, bool]  # strategy, whether prompts are computed
Spans = Callable[[], list[OpSpan]]


class TimelineKeeper:
    """Keeps the 2^k-th step of every kind, the newest one winning."""

    __slots__ = ("_kept", "_seen")

    def __init__(self) -> None:
        self._seen: dict[Kind, int] = {}
        self._kept: dict[Kind, tuple[StepPlan, StepResult, Spans]] = {}

    def wants(self, plan: StepPlan, strategy: str) -> bool:
        """Whether the step about to run should be recorded; counts it."""
        kind = (strategy, plan.is_decode_only)
        seen = self._seen.get(kind, 0) + 1
        self._seen[kind] = seen
        return seen & (seen - 1) == 0

    def keep(self, plan: StepPlan, result: StepResult, spans: Spans) -> None:
        """File a recorded step; `spans` is asked only if no newer one takes its place."""
        self._kept[plan.strategy, plan.is_decode_only] = (plan, result, spans)

    def timelines(self) -> tuple[StepTimeline, ...]:
        """Per strategy its more frequent kind, the most frequent strategy first."""
        best: dict[str, tuple[int, Kind]] = {}
        for kind in self._kept:
            count = self._seen[kind]
            if count > best.get(kind[0], (0, kind))[0]:
                best[kind[0]] = (count, kind)
        ranked = sorted(best.items(), key=lambda item: (-item[1][0], item[0]))
        return tuple(self._timeline(*self._kept[kind]) for _, (_, kind) in ranked)

    @staticmethod
    def _timeline(plan: StepPlan, result: StepResult, spans: Spans) -> StepTimeline:
        ordered = tuple(sorted(spans(), key=lambda span: (span.lane, span.start_ns, span.end_ns)))
        return StepTimeline(step_record(plan, result), ordered)
