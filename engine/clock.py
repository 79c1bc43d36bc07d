"""The clock of a run: virtual here; executors on real hardware bring one that reads the host's."""

from typing import Protocol


class Clock(Protocol):
    """Integer nanoseconds since the start of the run."""

    def now_ns(self) -> int:
        """The current time."""

    def advance_to(self, time_ns: int) -> None:
        """Let time pass until `time_ns`; a time already past changes nothing."""


class VirtualClock:
    """Time is what the executor says it is; the host's clock is never read."""

    __slots__ = ("_now_ns",)

    def __init__(self) -> None:
        self._now_ns = 0

    def now_ns(self) -> int:
        """The current virtual time."""
        return self._now_ns

    def advance_to(self, time_ns: int) -> None:
        """Jump forward; going back is impossible."""
        self._now_ns = max(self._now_ns, time_ns)
