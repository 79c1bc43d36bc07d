"""One lane of the simulated machine: urgent work in order, deferrable work in the time left.

The CPU lane and both PCIe directions serve two classes. Urgent ops (in-layer attention, q/k/v and
results) run in program order. Deferrable ops (deferred cohorts, bulk KV copies) are FIFO, give
way at any moment, and take the gaps that the urgent ops issued so far leave. Integer nanoseconds.
"""

from collections import deque
from collections.abc import Callable


class Job:
    """Deferrable work: how much is left and, once known, when it was done."""

    __slots__ = ("arrival", "finish", "remaining", "tag")

    def __init__(self, arrival: int, duration: int, tag: object = None) -> None:
        self.arrival = arrival
        self.remaining = duration
        self.finish: int | None = None
        self.tag = tag


Sink = Callable[[object, int, int], None]


class Lane:
    """Lane state. `free` is the end of the last urgent op; up to `cursor` all time is accounted."""

    __slots__ = ("busy", "cursor", "free", "queue", "recent", "sink")

    def __init__(self, *, remembers_busy: bool = False) -> None:
        self.free = 0
        self.cursor = 0
        self.busy = 0
        self.queue: deque[Job] = deque()
        # Busy intervals not yet compared with GPU idle time, where anybody asks (busy_within).
        self.recent: list[tuple[int, int]] | None = [] if remembers_busy else None
        self.sink: Sink | None = None  # told (tag, start, end) of each deferrable slice

    def run(self, ready: int, duration: int) -> int:
        """Urgent op that may start at `ready`; returns its start, its end is `self.free`."""
        start = max(ready, self.free)
        if self.queue:
            self.serve(start)
        end = start + duration
        self.free = end
        self.cursor = max(self.cursor, end)
        self.busy += duration
        if self.recent is not None:
            self.recent.append((start, end))
        return start

    def submit(self, ready: int, duration: int, tag: object = None) -> Job:
        """Queue deferrable work that may start at `ready`."""
        job = Job(ready, duration, tag)
        self.queue.append(job)
        return job

    def finish(self, job: Job) -> int:
        """When `job` is done, given that no urgent op not yet issued starts before that."""
        while job.finish is None:
            head = self.queue[0]
            self.serve(max(self.cursor, head.arrival) + head.remaining)
        return job.finish

    def is_done(self, job: Job, now: int) -> bool:
        """Whether `job` is done by `now`, which no later urgent op may precede."""
        if job.finish is None:
            self.serve(now)
        return job.finish is not None and job.finish <= now

    def serve(self, until: int) -> None:
        """Give queued work the unaccounted time before `until`."""
        queue = self.queue
        while queue:
            head = queue[0]
            start = max(self.cursor, head.arrival)
            if start >= until:
                return
            amount = min(head.remaining, until - start)
            end = start + amount
            self._account(head, start, end)
            if head.remaining:
                return
            head.finish = end
            queue.popleft()

    def _account(self, job: Job, start: int, end: int) -> None:
        job.remaining -= end - start
        self.cursor = end
        self.busy += end - start
        if self.recent is not None:
            self.recent.append((start, end))
        if self.sink is not None:
            self.sink(job.tag, start, end)

    def busy_within(self, start: int, end: int) -> int:
        """Busy time in [start, end); earlier intervals are forgotten, so ask in time order."""
        self.serve(end)
        total = 0
        kept = []
        for begin, finish in self.recent or ():
            total += max(0, min(finish, end) - max(begin, start))
            if finish > end:
                kept.append((begin, finish))
        self.recent = kept
        return total
