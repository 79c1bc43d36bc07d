"""The clocks of a run: virtual, or the host's. No other module of the engine reads the host's."""

import time
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


class WallClock:
    """The host's monotonic clock. It advances by itself: executors wait, nobody makes time pass."""

    __slots__ = ("_origin_ns",)

    def __init__(self) -> None:
        self._origin_ns = time.monotonic_ns()

    def now_ns(self) -> int:
        """Nanoseconds since the clock was made."""
        return time.monotonic_ns() - self._origin_ns

    def advance_to(self, time_ns: int) -> None:
        """Nothing: by the time anybody says so, it has passed."""

    def host_ns(self, time_ns: int) -> int:
        """A time of this clock on the host's own, CLOCK_MONOTONIC, for C code that waits for it."""
        return self._origin_ns + time_ns

    def run_ns(self, host_ns: int) -> int:
        """The reverse."""
        return host_ns - self._origin_ns

    def restart(self) -> None:
        """The run begins now: what came before was setting up."""
        self._origin_ns = time.monotonic_ns()


def thread_cpu_ns(ident: int) -> int:
    """CPU time of a running thread of this process, by `threading.Thread.ident`."""
    return time.clock_gettime_ns(time.pthread_getcpuclockid(ident))


def process_cpu_ns() -> int:
    """CPU time of all threads of this process, also those that have ended."""
    return time.process_time_ns()
