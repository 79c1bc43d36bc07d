"""What every executor does, simulated or real: run step plans and say which work has completed."""

from typing import Protocol

from apexbench.engine.plan import StepPlan, StepResult
from apexbench.records import Request, StepTimeline


class Executor(Protocol):
    """Runs plans one after the other. It alone knows (or produces) the output of a request."""

    def admit(self, request: Request) -> None:
        """A request exists from now on."""

    def release(self, request_id: int) -> None:
        """The request has ended; forget it."""

    def execute(self, plan: StepPlan, now_ns: int) -> StepResult:
        """Run one step that may begin at `now_ns`."""

    def joinable(self, cohorts: tuple[int, ...], now_ns: int) -> frozenset[int]:
        """Those of `cohorts` whose CPU results have arrived."""

    def copied(self, now_ns: int) -> tuple[int, ...]:
        """Sequences whose prompt KV has reached the host since the last call."""

    def next_completion_ns(self) -> int | None:
        """When the next of the outstanding copies completes; None without any."""

    def idle_until(self, time_ns: int) -> None:
        """There is nothing to run before `time_ns`."""


class Meter(Protocol):
    """Running totals of an executor's lanes, in nanoseconds; order of records.LANES."""

    @property
    def busy_ns(self) -> tuple[int, ...]:
        """Busy time per lane."""
        ...

    @property
    def overlap_ns(self) -> int:
        """Time in which GPU and CPU lane both worked."""
        ...

    @property
    def idle_ns(self) -> tuple[int, ...]:
        """GPU idle time by reason; order of records.IDLE_REASONS."""
        ...

    @property
    def timelines(self) -> tuple[StepTimeline, ...]:
        """Representative steps with all their ops."""
        ...
