"""The read limit of this machine: how fast its memory can be read, by whatever reads it best.

Three readers that share nothing: vector loads in address order, several streams with tuned software
prefetch (both in C), and NumPy's sum. The limit is the best of them at the time.
"""

import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from apexbench.cpu_kernels.bench.calls import (
    PLAIN,
    PREFETCH,
    Calls,
    ReadOptions,
    WorkerPool,
)
from apexbench.cpu_kernels.bench.samples import GB, Probe, Summary, summarise

# Read by each reader at a time; the windows of an arena take turns, so that none is in a cache.
WINDOW_BYTES = 64 << 20
SMALLEST_ARENA_BYTES = 512 << 20
# An arena is this many times the last-level cache, however large that is.
ARENA_CACHES = 8
# From what is hidden by the hardware's own prefetchers to where prefetched lines are evicted again.
DISTANCES = (512, 1024, 2048, 4096, 8192)
STREAMS = (1, 2, 4)
TUNING_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Tuning:
    """What suits the prefetching reader on this machine."""

    num_streams: int
    distance_bytes: int


class Readers:
    """The three readers on the CPUs of a pool, over windows of one arena in turn."""

    NAMES: ClassVar[tuple[str, ...]] = ("plain", "prefetch", "numpy")

    def __init__(self, calls: Calls, arena: NDArray[np.uint8], pool: WorkerPool) -> None:
        self._calls = calls
        self._arena = arena
        self._next_window = 0
        self.num_threads = pool.num_threads
        self._cpus = pool.cpus
        self._cpu_array = np.array(self._cpus, np.int32)
        self.tuning = self._tuned()

    def probe(self) -> Probe:
        """Each reader once, on a window of its own."""
        rates = (self._plain(), self._prefetch(self.tuning), self._numpy())
        return Probe(dict(zip(self.NAMES, rates, strict=True)))

    def measure(self, num_repeats: int) -> dict[str, Summary]:
        """GB/s of each reader over repeated probes."""
        probes = [self.probe() for _ in range(num_repeats)]
        return {name: summarise([probe.gbps[name] for probe in probes]) for name in self.NAMES}

    def _tuned(self) -> Tuning:
        """The fastest in its best round: others can only slow a reader down."""
        candidates = [Tuning(streams, ahead) for streams in STREAMS for ahead in DISTANCES]
        best = dict.fromkeys(candidates, 0.0)
        for _ in range(TUNING_ROUNDS):
            for tuning in candidates:
                best[tuning] = max(best[tuning], self._prefetch(tuning))
        return max(candidates, key=best.__getitem__)

    def _window(self) -> int:
        """Offset of the next window."""
        offset = self._next_window * WINDOW_BYTES
        self._next_window = (self._next_window + 1) % (self._arena.size // WINDOW_BYTES)
        return offset

    def _plain(self) -> float:
        return self._in_c(PLAIN, Tuning(1, 0))

    def _prefetch(self, tuning: Tuning) -> float:
        return self._in_c(PREFETCH, tuning)

    def _in_c(self, reader: int, tuning: Tuning) -> float:
        options = ReadOptions(
            reader=reader,
            num_threads=self.num_threads,
            cpus=self._cpu_array.ctypes.data if self._cpus else None,
            distance_bytes=tuning.distance_bytes,
            num_streams=tuning.num_streams,
        )
        address = self._arena.ctypes.data + self._window()
        seconds, num_read = self._calls.read(options, address, WINDOW_BYTES)
        return num_read / seconds / GB

    def _numpy(self) -> float:
        offset = self._window()
        window = self._arena[offset : offset + WINDOW_BYTES].view(np.int64)
        shares = np.array_split(window, self.num_threads)
        return WINDOW_BYTES / _time_sums(shares, self._cpus) / GB


def _time_sums(shares: Sequence[NDArray[np.int64]], cpus: Sequence[int]) -> float:
    """Seconds from the first thread that begins its sum to the last that ends it."""
    barrier = threading.Barrier(len(shares))
    spans = np.empty((len(shares), 2))

    def add_up(index: int) -> None:
        if cpus:
            os.sched_setaffinity(0, {cpus[index]})
        barrier.wait()
        spans[index, 0] = time.perf_counter()
        shares[index].sum()
        spans[index, 1] = time.perf_counter()

    threads = [threading.Thread(target=add_up, args=(index,)) for index in range(len(shares))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return float(spans[:, 1].max() - spans[:, 0].min())


def arena_bytes(last_level_cache_bytes: int) -> int:
    """How much memory the windows need so that none is in a cache when its turn comes again."""
    wanted = max(SMALLEST_ARENA_BYTES, ARENA_CACHES * last_level_cache_bytes)
    return -(-wanted // WINDOW_BYTES) * WINDOW_BYTES
