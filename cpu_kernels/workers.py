"""Who computes submissions: the library's pool of threads, or the calling thread in NumPy.

The seam below Pool and Ticket; both sides settle a Flight exactly once.
"""

import ctypes
import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic_ns
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from apexbench.cpu_kernels.job import Submission
from apexbench.cpu_kernels.native import Library
from apexbench.cpu_kernels.structures import PoolOptions, Status
from apexbench.errors import UsageError

CLOSED = "the pool is closed; make a new one"
FORKED = (
    "the pool belongs to the parent process, threads do not survive a fork; make a new one here"
)
# A call into the library cannot be interrupted: Ctrl-C is seen between slices of this length.
WAIT_SLICE_NS = 20_000_000
NS_PER_S = 1_000_000_000


class Flight:
    """One submission while the workers have it: it keeps arrays, job and cache alive."""

    __slots__ = ("_workers", "number", "status", "submission")

    def __init__(self, workers: "weakref.ref[Workers]", submission: Submission) -> None:
        self._workers = workers
        self.number = ctypes.c_uint64()  # the ticket; the library writes it here itself
        self.status: Status | None = None
        self.submission: Submission | None = submission

    @property
    def is_settled(self) -> bool:
        """Whether nobody works on it any more in this process."""
        workers = self._workers()
        return self.status is not None or workers is None or not workers.is_working_on(self)

    def settle(self, status: Status) -> None:
        """Note how it ended and let go of what it kept."""
        self.status = status
        self.submission = None


class Workers(Protocol):
    """What Pool needs."""

    @property
    def cpus(self) -> tuple[int, ...]: ...
    def submit(self, submission: Submission, layer: int, priority: int) -> Flight: ...
    def is_working_on(self, flight: Flight) -> bool: ...
    def is_done(self, flight: Flight) -> bool: ...
    def wait(self, flight: Flight, timeout_s: float | None) -> bool: ...
    def cancel(self, flight: Flight) -> bool: ...
    def touch(self, memory: NDArray[np.uint8]) -> None: ...
    def close(self) -> None: ...


class CallingThread:
    """The fallback: a submission is computed before submit() returns; priorities mean nothing."""

    cpus: tuple[int, ...] = (-1,)

    def __init__(self) -> None:
        self._is_closed = False

    def submit(self, submission: Submission, layer: int, priority: int) -> Flight:  # noqa: ARG002
        if self._is_closed:
            raise UsageError(CLOSED)
        flight = Flight(weakref.ref(self), submission)
        submission.compute(layer)
        flight.settle(Status.OK)
        return flight

    def is_working_on(self, flight: Flight) -> bool:  # noqa: ARG002
        return False

    def is_done(self, flight: Flight) -> bool:
        return flight.status is not None

    def wait(self, flight: Flight, timeout_s: float | None) -> bool:  # noqa: ARG002
        return self.is_done(flight)

    def cancel(self, flight: Flight) -> bool:  # noqa: ARG002
        return False

    def touch(self, memory: NDArray[np.uint8]) -> None:
        memory[:] = 0

    def close(self) -> None:
        self._is_closed = True


class _Core:
    """What must outlive a Threads object until its threads have ended: the pool and its flights."""

    def __init__(self, library: Library, handle: int | None, in_flight: dict[Flight, None]) -> None:
        self.handle = handle
        self._library = library
        self._in_flight = in_flight

    def settle(self, flight: Flight, status: Status) -> None:
        """Once, whoever sees first that it ended; under the lock of its Threads."""
        if flight in self._in_flight:
            del self._in_flight[flight]
            flight.settle(status)

    def cancel(self, flight: Flight) -> bool:
        """Whether it had not begun, and now never will."""
        status = self._library.fast.apx_cancel(self.handle, flight.number)
        if status == Status.OK:
            self.settle(flight, Status.CANCELLED)
        return bool(status == Status.OK)

    def destroy(self) -> None:
        """End the threads; then all that had begun is done."""
        for flight in tuple(self._in_flight):
            self.cancel(flight)
        handle, self.handle = self.handle, None
        self._library.slow.apx_pool_destroy(handle)
        for flight in tuple(self._in_flight):
            self.settle(flight, Status.OK)


class Threads:
    """The library's pool. Every flight stays in `_in_flight`, and so alive, until it is settled."""

    def __init__(self, library: Library, options: PoolOptions) -> None:
        self._library = library
        self._in_flight: dict[Flight, None] = {}
        # Guards the handle: nobody may be inside a call with it when it is destroyed. Re-entrant,
        # because signal handlers and destructors may use the pool while its thread has the lock.
        self._lock = threading.Condition()
        self._calls: set[object] = set()
        self._is_closing = False
        self._is_forked = False
        handle = ctypes.c_void_p()
        create = library.slow.apx_pool_create
        library.check(create(ctypes.addressof(options), ctypes.addressof(handle)))
        self._core = _Core(library, handle.value, self._in_flight)
        # At exit too: workers must not write into arrays that the interpreter takes apart.
        self._release = weakref.finalize(self, self._core.destroy)
        self._self: weakref.ref[Workers] = weakref.ref(self)
        _ALL.add(self)

    @property
    def cpus(self) -> tuple[int, ...]:
        with self._lock:
            self._check_open()
            fast = self._library.fast
            count = fast.apx_pool_num_threads(self._core.handle)
            return tuple(fast.apx_pool_cpu(self._core.handle, worker) for worker in range(count))

    def submit(self, submission: Submission, layer: int, priority: int) -> Flight:
        flight = Flight(self._self, submission)
        struct = submission.struct
        with self._lock:
            self._check_open()
            self._sweep()
            struct.layer = layer
            struct.priority = priority
            # Known before the call: an interrupt right after it must not lose the flight.
            self._in_flight[flight] = None
            status = self._library.fast.apx_submit(
                self._core.handle, submission.address, ctypes.addressof(flight.number)
            )
            if status != Status.OK:
                del self._in_flight[flight]
                raise self._library.error(status)
            submission.job.take_off(flight)
        return flight

    def _sweep(self) -> None:
        """Settle the oldest that are done: a dropped ticket must not keep its arrays for ever."""
        while self._in_flight:
            flight = next(iter(self._in_flight))
            if not self._library.fast.apx_done(self._core.handle, flight.number):
                return
            self._core.settle(flight, Status.OK)

    def is_working_on(self, flight: Flight) -> bool:
        return not self._is_forked and not self.is_done(flight)

    def is_done(self, flight: Flight) -> bool:
        if flight.status is not None:
            return True
        self._check_process()
        with self._lock:
            is_done: bool = self._library.fast.apx_done(self._core.handle, flight.number)
            if is_done:
                self._core.settle(flight, Status.OK)
        return is_done

    def wait(self, flight: Flight, timeout_s: float | None) -> bool:
        if self.is_done(flight):
            return True
        with self._inside():
            end_ns = None if timeout_s is None else monotonic_ns() + int(timeout_s * NS_PER_S)
            while flight.status is None:
                slice_ns = _slice_until(end_ns)
                status = self._library.slow.apx_wait(self._core.handle, flight.number, slice_ns)
                if status != Status.TIMEOUT:
                    self._note_outcome(flight, status)
                elif not slice_ns:
                    return False
        return True

    def _note_outcome(self, flight: Flight, status: int) -> None:
        if status not in (Status.OK, Status.CANCELLED, Status.TICKET):  # TICKET: done long ago
            raise self._library.error(status)
        with self._lock:
            self._core.settle(flight, Status.CANCELLED if status == Status.CANCELLED else Status.OK)

    def cancel(self, flight: Flight) -> bool:
        self._check_process()
        with self._lock:
            return flight.status is None and self._core.cancel(flight)

    def touch(self, memory: NDArray[np.uint8]) -> None:
        self._check_open()
        address = memory.__array_interface__["data"][0]
        with self._inside():
            touch = self._library.slow.apx_pool_touch
            self._library.check(touch(self._core.handle, address, memory.size))

    @contextmanager
    def _inside(self) -> Iterator[None]:
        """Keep the handle alive during a call that gives up the interpreter's lock."""
        call = object()
        try:
            with self._lock:
                if self._core.handle is None:
                    raise UsageError(CLOSED)
                self._calls.add(call)
            yield
        finally:  # whatever an interrupt left out
            with self._lock:
                self._calls.discard(call)
                self._lock.notify_all()

    def close(self) -> None:
        """Cancel what has not begun, wait for the rest and for those who wait, end the threads."""
        if self._core.handle is None or self._is_forked:
            return
        with self._lock:
            self._is_closing = True
            left = [flight for flight in tuple(self._in_flight) if not self._core.cancel(flight)]
        for flight in left:
            self.wait(flight, None)
        with self._lock:
            while self._calls:
                self._lock.wait()
            self._release()

    def _check_open(self) -> None:
        self._check_process()
        if self._core.handle is None or self._is_closing:
            raise UsageError(CLOSED)

    def _check_process(self) -> None:
        if self._is_forked:
            raise UsageError(FORKED)

    def leave_to_parent(self) -> None:
        """In the child of a fork: the threads are not here, and the lock may be held by one."""
        self._is_forked = True
        self._lock = threading.Condition()


def _slice_until(end_ns: int | None) -> int:
    if end_ns is None:
        return WAIT_SLICE_NS
    return max(0, min(WAIT_SLICE_NS, end_ns - monotonic_ns()))


_ALL: "weakref.WeakSet[Threads]" = weakref.WeakSet()


def _leave_all_to_parent() -> None:
    for threads in list(_ALL):
        threads.leave_to_parent()


os.register_at_fork(after_in_child=_leave_all_to_parent)
