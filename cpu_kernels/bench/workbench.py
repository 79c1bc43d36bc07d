"""Pools, readers and the pace of one run of the bench; every measurement borrows them from here."""

from collections.abc import Callable, Sequence
from typing import Any

from apexbench.cpu_kernels.bench.calls import Calls, WorkerPool, touched_bytes
from apexbench.cpu_kernels.bench.contest import Contestant, Rules, compete
from apexbench.cpu_kernels.bench.machine import last_level_cache_bytes
from apexbench.cpu_kernels.bench.readers import Readers, arena_bytes
from apexbench.cpu_kernels.bench.samples import Rate
from apexbench.cpu_kernels.bench.scope import Scope


class Workbench:
    """A pool and readers for each number of threads, and what is asked between passes."""

    def __init__(
        self,
        calls: Calls,
        scope: Scope,
        *,
        levels: Sequence[str],
        threads: Sequence[int],
        check: Callable[[], None],
        tell: Callable[[str], None],
    ) -> None:
        self.calls = calls
        self.scope = scope
        self.levels = tuple(levels)
        self.threads = tuple(threads)
        self.check = check
        self.tell = tell
        self.pools = {count: WorkerPool(calls, count) for count in threads}
        tell("tuning the readers")
        arena = touched_bytes(calls, arena_bytes(last_level_cache_bytes()), self.widest)
        self.readers = {count: Readers(calls, arena, self.pools[count]) for count in threads}

    @property
    def widest(self) -> WorkerPool:
        """The pool of the most threads, whose workers first touch all memory."""
        return self.pools[max(self.threads)]

    @property
    def best_level(self) -> str:
        """The fastest level measured."""
        return self.levels[-1]

    def compete(self, contestants: Sequence[Contestant], threads: int) -> list[Rate]:
        """Their rates, with the read limit of as many threads around every pass."""
        rules = Rules(self.scope.num_repeats, self.check)
        return compete(contestants, self.readers[threads].probe, rules)

    def read_limit(self, threads: int) -> dict[str, Any]:
        """GB/s now, of the best reader and of each, and the tuning of the prefetching one."""
        self.check()
        readers = self.readers[threads]
        measured = readers.measure(self.scope.num_repeats)
        return {
            "gbps": max(summary.median for summary in measured.values()),
            "readers": {
                name: {"gbps": summary.median, "spread": summary.spread}
                for name, summary in measured.items()
            },
            "prefetch_streams": readers.tuning.num_streams,
            "prefetch_distance_bytes": readers.tuning.distance_bytes,
        }

    def close(self) -> None:
        """End the workers."""
        for pool in self.pools.values():
            pool.close()
