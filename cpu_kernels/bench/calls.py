"""The library as the bench calls it: its C interface, and the readers and timers of csrc/readers.h.

Below the Python interface on purpose: what is timed here is C, down to the clock.
"""

import ctypes
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from ctypes import c_char_p, c_double, c_int32, c_int64, c_void_p
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from apexbench.cpu_kernels.memory import available_bytes, map_bytes
from apexbench.cpu_kernels.native import BUILD_COMMAND, Library, library
from apexbench.cpu_kernels.structures import ISA_NAMES, PoolOptions, SubmissionStruct
from apexbench.errors import InputError

PLAIN, PREFETCH = 0, 1
Seconds = NDArray[np.float64]
# Levels that are measured; the reference is the specification, not a competitor.
VECTOR_LEVELS = ("avx2", "avx512", "avx512x", "neon")


class ReadOptions(ctypes.Structure):
    """apx_read_options."""

    _fields_: ClassVar[list[tuple[str, Any]]] = [
        ("reader", c_int32),
        ("num_threads", c_int32),
        ("cpus", c_void_p),
        ("distance_bytes", c_int64),
        ("num_streams", c_int32),
    ]


class CallPlan(ctypes.Structure):
    """apx_call_plan."""

    _fields_: ClassVar[list[tuple[str, Any]]] = [
        ("pool", c_void_p),
        ("submissions", c_void_p),
        ("num_submissions", c_int64),
        ("num_calls", c_int64),
        ("pause_ns", c_int64),
        ("warm_up", c_void_p),
        ("first", c_int64),
    ]


SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "apx_read_memory": (c_int32, (c_void_p, c_int64, c_void_p, c_void_p, c_void_p)),
    "apx_reader_vectors": (c_char_p, ()),
    "apx_time_calls": (c_int32, (c_void_p, c_void_p)),
    "apx_time_urgent": (c_int32, (c_void_p, c_void_p, c_void_p, c_void_p, c_void_p)),
}


class Calls:
    """The loaded library and the few sequences of calls that the bench is made of."""

    def __init__(self, loaded: Library) -> None:
        self.library = loaded
        self.c = loaded.slow
        for name, (result, arguments) in SIGNATURES.items():
            function = getattr(self.c, name)
            function.restype = result
            function.argtypes = arguments

    def check(self, status: int) -> None:
        """Raise what a status other than OK means."""
        self.library.check(status)

    def supported_levels(self) -> list[str]:
        """The vector levels that this CPU and this build have, slowest first."""
        numbers = [ISA_NAMES.index(name) for name in VECTOR_LEVELS]
        return [ISA_NAMES[number] for number in numbers if self.c.apx_isa_is_supported(number)]

    def level(self) -> str:
        """The level in use unless another is forced."""
        return ISA_NAMES[self.c.apx_isa_now()]

    @contextmanager
    def forced(self, isa: str) -> Iterator[None]:
        """Jobs prepared within are of this level."""
        before = self.c.apx_isa_now()
        self.check(self.c.apx_force_isa(ISA_NAMES.index(isa)))
        try:
            yield
        finally:
            self.check(self.c.apx_force_isa(before))

    def read(self, options: ReadOptions, address: int, num_bytes: int) -> tuple[float, int]:
        """Seconds that reading `num_bytes` takes, and how many bytes those were."""
        seconds, num_read = c_double(), c_int64()
        self.check(
            self.c.apx_read_memory(
                address,
                num_bytes,
                ctypes.addressof(options),
                ctypes.addressof(seconds),
                ctypes.addressof(num_read),
            )
        )
        return seconds.value, num_read.value

    def time_calls(self, plan: CallPlan) -> Seconds:
        """Seconds of each of the plan's calls."""
        seconds = np.empty(plan.num_calls)
        self.check(self.c.apx_time_calls(ctypes.addressof(plan), seconds.ctypes.data))
        return seconds

    def time_urgent(
        self, pool: int, background: SubmissionStruct, urgent: SubmissionStruct, max_calls: int
    ) -> Seconds:
        """Seconds of each urgent call that began while the background job was in flight."""
        seconds = np.empty(max_calls)
        num_calls = c_int64(max_calls)
        self.check(
            self.c.apx_time_urgent(
                pool,
                ctypes.addressof(background),
                ctypes.addressof(urgent),
                seconds.ctypes.data,
                ctypes.addressof(num_calls),
            )
        )
        return seconds[: num_calls.value]


def open_calls() -> Calls:
    """The compiled library; InputError where there is none, because the fallback needs no bench."""
    loaded = library()
    if loaded is None:
        raise InputError(f"the CPU kernels are not compiled here; run: {BUILD_COMMAND}")
    return Calls(loaded)


class WorkerPool:
    """A pool of pinned workers."""

    def __init__(self, calls: Calls, num_threads: int) -> None:
        self._calls = calls
        options = PoolOptions(num_threads=num_threads, is_pinned=1, max_in_flight=0, spin_ns=-1)
        handle = c_void_p()
        calls.check(calls.c.apx_pool_create(ctypes.addressof(options), ctypes.addressof(handle)))
        self.handle: int = handle.value or 0
        self.num_threads: int = calls.c.apx_pool_num_threads(self.handle)

    @property
    def cpus(self) -> list[int]:
        """The CPU of each worker; empty where they are not pinned."""
        found = [
            self._calls.c.apx_pool_cpu(self.handle, index) for index in range(self.num_threads)
        ]
        return [] if min(found) < 0 else found

    @property
    def other_cpus(self) -> set[int]:
        """CPUs for the thread that submits: those without a worker, all where there are none."""
        allowed = os.sched_getaffinity(0)
        return allowed - set(self.cpus) or allowed

    def touch(self, memory: NDArray[np.uint8]) -> None:
        """Zero the memory from the CPUs that will read it."""
        status = self._calls.c.apx_pool_touch(self.handle, memory.ctypes.data, memory.size)
        self._calls.check(status)

    def close(self) -> None:
        """End the workers."""
        self._calls.c.apx_pool_destroy(self.handle)
        self.handle = 0


@contextmanager
def on_cpus(cpus: Collection[int]) -> Iterator[None]:
    """The calling thread keeps to these CPUs; none named: where it was."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus or before)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def touched_bytes(calls: Calls, num_bytes: int, pool: WorkerPool) -> NDArray[np.uint8]:
    """Zeroed memory in huge pages where the system gives them, first touched by the pool's workers.

    Lives as long as arrays on it do. InputError when the machine would have to swap.
    """
    available = available_bytes(calls.library)
    if available is not None and available < num_bytes:
        raise InputError(
            f"the bench needs {num_bytes >> 20} MiB more and this machine can give"
            f" {available >> 20} MiB; end other programs, or measure fewer dtypes"
        )
    memory = map_bytes(calls.library, num_bytes)
    pool.touch(memory)
    return memory
