"""Pools of worker threads and the tickets of what they were given: the asynchronous lane."""

from enum import IntEnum
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from apexbench.cpu_kernels import structures
from apexbench.cpu_kernels.job import Job, Submission
from apexbench.cpu_kernels.native import library
from apexbench.cpu_kernels.structures import PoolOptions, Status
from apexbench.cpu_kernels.workers import CallingThread, Flight, Threads, Workers
from apexbench.errors import UsageError

MAX_THREADS = 1024
MAX_TICKETS = 1 << 15
NS_PER_US = 1_000


class Priority(IntEnum):
    """Which work goes first; first in, first out within each."""

    IN_LAYER = structures.IN_LAYER  # somebody waits for it in this layer
    DEFERRED = structures.DEFERRED  # gives way to the other between blocks


class Ticket:
    """One submission: what it reads and writes stays alive until it is done, kept or dropped."""

    __slots__ = ("_flight", "_workers")

    def __init__(self, workers: Workers, flight: Flight) -> None:
        self._workers = workers
        self._flight = flight

    @property
    def done(self) -> bool:
        """Whether the result is there, or the ticket was cancelled; never waits."""
        return self._workers.is_done(self._flight)

    @property
    def is_cancelled(self) -> bool:
        """Whether it was cancelled, by cancel() or because its pool was closed."""
        return self._flight.status is Status.CANCELLED

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the result is there: True, or False after `timeout_s` seconds without it.

        The interpreter's lock is free meanwhile; Ctrl-C raises within a few hundredths of a second
        and leaves the submission in flight. Raises UsageError when the ticket was cancelled.
        """
        if timeout_s is not None and not timeout_s >= 0:
            raise UsageError(
                f"timeout_s is {timeout_s}; expected seconds, or None to wait for ever"
            )
        if not self._workers.wait(self._flight, timeout_s):
            return False
        if self.is_cancelled:
            raise UsageError("the ticket was cancelled before it began; there is no result")
        return True

    def cancel(self) -> bool:
        """Take it back: True when it had not begun, then nothing of it was or will be written."""
        return self._workers.cancel(self._flight)


class Pool:
    """Worker threads for attention, beside the interpreter; several pools may coexist.

    num_threads: 0 for the CPUs this process may use (affinity and cgroup quota); more than that
    share CPUs. is_pinned: each thread keeps to one CPU. max_in_flight: tickets at once. spin_us:
    how long an idle worker polls before it sleeps; a sleeping one takes tens of microseconds to
    wake. Without the compiled library everything is computed in submit(), by NumPy.
    """

    def __init__(
        self,
        num_threads: int = 0,
        is_pinned: bool = True,
        max_in_flight: int = 64,
        spin_us: float = 50,
    ) -> None:
        _check_range("num_threads", num_threads, 0, MAX_THREADS)
        _check_range("max_in_flight", max_in_flight, 1, MAX_TICKETS)
        if not spin_us >= 0:
            raise UsageError(f"spin_us is {spin_us}; expected microseconds, 0 or more")
        found = library()
        if found is None:
            self._workers: Workers = CallingThread()
        else:
            spin_ns = int(spin_us * NS_PER_US)
            options = PoolOptions(num_threads, int(is_pinned), max_in_flight, spin_ns)
            self._workers = Threads(found, options)
        self._cpus = self._workers.cpus

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def num_threads(self) -> int:
        """Worker threads; 1 in the fallback, the calling one."""
        return len(self._cpus)

    @property
    def cpus(self) -> tuple[int, ...]:
        """The CPU that each worker keeps to, -1 where it is not pinned."""
        return self._cpus

    def submit(
        self,
        job: Job,
        layer: int,
        q: Any,
        out: Any,
        k_new: Any = None,
        v_new: Any = None,
        lse: Any = None,
        priority: Priority = Priority.IN_LAYER,
    ) -> Ticket:
        """Begin the job on these tensors (see Job.bind) and return at once.

        Nobody may write the tensors, or read `out`, until the ticket is done. Raises UsageError.
        """
        return self.launch(job.bind(q, out, k_new, v_new, lse), layer, priority)

    def launch(
        self, submission: Submission, layer: int, priority: Priority = Priority.IN_LAYER
    ) -> Ticket:
        """The same with tensors that were checked before: what is cheap enough for every layer."""
        submission.check_current(layer)
        return Ticket(self._workers, self._workers.submit(submission, layer, priority))

    def run(
        self,
        job: Job,
        layer: int,
        q: Any,
        out: Any,
        k_new: Any = None,
        v_new: Any = None,
        lse: Any = None,
        priority: Priority = Priority.IN_LAYER,
    ) -> None:
        """Submit and wait. Raises UsageError."""
        self.submit(job, layer, q, out, k_new, v_new, lse, priority).wait()

    def touch(self, memory: NDArray[np.uint8]) -> None:
        """Zero the memory, each worker its share, so that pages lie where they will be read."""
        self._workers.touch(memory)

    def close(self) -> None:
        """Cancel what has not begun, wait for what runs, end the threads; again: nothing."""
        self._workers.close()


def _check_range(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise UsageError(f"{name} is {value}; expected {least} to {most}")
