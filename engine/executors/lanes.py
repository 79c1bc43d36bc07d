"""One lane of the simulated machine: urgent work in order, deferrable work in the time left.

The CPU lane and both PCIe directions serve two classes. Urgent ops (in-layer attention, q/k/v and
results) run in program order. Deferrable ops (deferred cohorts, bulk KV copies) are FIFO, give
way at any moment, and take the gaps that the urgent ops issued so far leave. Integer nanoseconds.
"""

from collections import deque
from collections.abc import Callable

from apexbench.engine.step_ops import OpTemplate


class Job:
    """Deferrable work: how much is left and, once known, when it was done.

    `tag` says what it is: the op and its layer.
    """

    __slots__ = ("arrival", "finish", "remaining", "tag")

    def __init__(self, arrival: int, duration: int, tag: tuple[OpTemplate, int]) -> None:
        self.arrival = arrival
        self.remaining = duration
        self.finish: int | None = None
        self.tag = tag


Sink = Callable[[Job, int, int], None]


class Lane:
    """Lane state. `free` is the end of the last urgent op; up to `cursor` all time is accounted."""

    __slots__ = ("busy", "cursor", "free", "holes", "queue", "recent", "sink")

    def __init__(self, *, remembers_busy: bool = False) -> None:
        self.free = 0
        self.cursor = 0
        self.busy = 0
        self.queue: deque[Job] = deque()
        # Busy intervals not yet compared with GPU idle time, where anybody asks (busy_within).
        self.recent: deque[tuple[int, int]] | None = deque() if remembers_busy else None
        # Idle time that urgent ops passed over, where deferrable work issued later may still fit
        # because it arrived before them. None where that cannot happen.
        self.holes: list[tuple[int, int]] | None = None
        self.sink: Sink | None = None  # told (job, start, end) of each deferrable slice

    def run(self, ready: int, duration: int) -> int:
        """Urgent op that may start at `ready`; returns its end."""
        start = self.free
        if ready > start:
            start = ready
        if self.queue:
            self.serve(start)
        if self.holes is not None and start > self.cursor:
            self.holes.append((self.cursor, start))
        end = self.free = start + duration
        if end > self.cursor:
            self.cursor = end
        self.busy += duration
        if self.recent is not None:
            self.recent.append((start, end))
        return end

    def submit(self, ready: int, duration: int, tag: tuple[OpTemplate, int]) -> Job:
        """Queue deferrable work that may start at `ready`."""
        job = Job(ready, duration, tag)
        if self.holes and not self.queue:
            self._fill_holes(job)
        if job.finish is None:
            self.queue.append(job)
        return job

    def _fill_holes(self, job: Job) -> None:
        """Serve `job` in idle time before the cursor; later jobs get what is left after it."""
        holes, self.holes = self.holes or [], []
        for index, (begin, close) in enumerate(holes):
            start = max(begin, job.arrival)
            if start >= close:
                continue
            end = min(start + job.remaining, close)
            self._serve_slice(job, start, end)
            if not job.remaining:
                job.finish = end
                self.holes = [(end, close), *holes[index + 1 :]]
                return

    def finish(self, job: Job) -> int:
        """When `job` is done, given that no urgent op not yet issued starts before that."""
        while job.finish is None:
            self._complete()
        return job.finish

    def expected_finish(self, job: Job) -> int:
        """When `job` would be done if no further urgent op came; nothing is decided by asking."""
        if job.finish is not None:
            return job.finish
        time = self.cursor
        for queued in self.queue:
            time = max(time, queued.arrival) + queued.remaining
            if queued is job:
                break
        return time

    def is_done(self, job: Job, now: int) -> bool:
        """Whether `job` is done by `now`, which no later urgent op may precede."""
        if job.finish is None and self.expected_finish(job) <= now:
            self.finish(job)
        return job.finish is not None and job.finish <= now

    def serve(self, until: int) -> None:
        """Give queued work the unaccounted time before `until`."""
        queue = self.queue
        while queue:
            head = queue[0]
            start = self.cursor
            if head.arrival > start:
                start = head.arrival
            if start >= until:
                return
            if start + head.remaining > until:
                self._serve_slice(head, start, until)
                self.cursor = until
                return
            self._complete()

    def _complete(self) -> None:
        """Serve the first job of the queue to its end."""
        head = self.queue.popleft()
        start = self.cursor
        if head.arrival > start:
            start = head.arrival
        end = self.cursor = head.finish = start + head.remaining
        if head.remaining:
            self._serve_slice(head, start, end)

    def _serve_slice(self, job: Job, start: int, end: int) -> None:
        worked = end - start
        job.remaining -= worked
        self.busy += worked
        if self.recent is not None:
            self.recent.append((start, end))
        if self.sink is not None:
            self.sink(job, start, end)

    def shift(self, delta: int) -> None:
        """Move the lane's clock; queued jobs have arrived already and stay as they are."""
        self.free += delta
        self.cursor += delta
        if self.recent:
            self.recent = deque([(start + delta, end + delta) for start, end in self.recent])

    def busy_within(self, start: int, end: int) -> int:
        """Busy time in [start, end); earlier intervals are forgotten, so ask in time order."""
        if self.queue:
            self.serve(end)
        recent = self.recent
        total = 0
        while recent:
            begin, finish = recent[0]
            if finish > end:
                return total + max(0, end - max(begin, start))
            recent.popleft()
            if finish > start:
                total += finish - max(begin, start)
        return total

    def busy_after(self, time: int) -> list[int]:
        """Where busy intervals accounted so far begin and end after `time`, relative to it."""
        edges: list[int] = []
        for start, end in self.recent or ():
            if end > time:
                edges += (max(start - time, 0), end - time)
        return edges


class Gpu:
    """The GPU lane: always at work until `free`, apart from the idle time counted by reason."""

    __slots__ = ("_cpu", "cpu_in_idle", "free", "idle")

    def __init__(self, cpu: Lane, num_reasons: int) -> None:
        self.free = 0
        self.idle = [0] * num_reasons
        self.cpu_in_idle = 0  # time the CPU lane worked while the GPU did not
        self._cpu = cpu

    @property
    def busy(self) -> int:
        """Time worked so far."""
        return self.free - sum(self.idle)

    def idle_until(self, time: int, reason: int) -> None:
        """Nothing runs before `time`, which is later than `free`."""
        self.idle[reason] += time - self.free
        self.cpu_in_idle += self._cpu.busy_within(self.free, time)
        self.free = time
