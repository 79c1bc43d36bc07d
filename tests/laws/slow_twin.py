"""A second simulation of step programs, event by event; slow, and independent of the lane machine.

It knows only `expand(program)`: explicit ops with explicit dependencies. GPU ops, and the urgent
ops of every other lane, start strictly in program order. Deferrable ops are FIFO per lane, give
way at any instant and are served only while no urgent op of their lane runs. At one instant urgent
work goes first; deferrable work of zero length completes when nothing urgent is left to start.
"""

from collections import deque
from collections.abc import Callable, Iterator

from apexbench.engine.expansion import Op, expand
from apexbench.engine.program import Program
from apexbench.engine.step_ops import DEFERRABLE

LANES = ("gpu", "cpu", "h2d", "d2h", "host")


class Task:
    """One op in flight."""

    def __init__(self, op: Op, duration: int, not_before: int, deps: list["Task"]) -> None:
        self.op = op
        self.remaining = duration
        self.not_before = not_before
        self.deps = deps
        self.start: int | None = None
        self.end: int | None = None
        self.slices: list[tuple[int, int]] = []

    def is_ready(self, now: int) -> bool:
        return now >= self.not_before and all(dep.end is not None for dep in self.deps)


class SlowTwin:
    """All lanes of the machine at one instant `now`; integrals of what they did until then."""

    def __init__(self) -> None:
        self.now = 0
        self.busy = dict.fromkeys(LANES, 0)
        self.gpu_idle = 0
        self.overlap = 0
        self.tickets: dict[int, Task] = {}
        self.tasks: list[Task] = []
        self._last_offload: Task | None = None
        self._urgent: dict[str, deque[Task]] = {lane: deque() for lane in LANES}
        self._deferred: dict[str, deque[Task]] = {lane: deque() for lane in LANES}
        self._running: dict[str, Task] = {}

    def run(
        self,
        program: Program,
        cohorts: tuple[int, ...],
        duration_of: Callable[[Op], int],
        begin: int,
    ) -> int:
        """One step; returns when it samples. Whatever it leaves behind stays on the lanes."""
        tasks: list[Task] = []
        for op in expand(program):
            deps = [tasks[index] for index in op.deps]
            deps += [self.tickets[cohorts[position]] for position in op.tickets]
            if op.awaits_offload and self._last_offload is not None:
                deps.append(self._last_offload)
            tasks.append(Task(op, duration_of(op), begin, deps))
        for task in tasks:
            queues = self._deferred if task.op.priority == DEFERRABLE else self._urgent
            queues[task.op.lane].append(task)
            if task.op.leaves is not None:
                self.tickets[cohorts[task.op.leaves]] = task
            if task.op.kind == "offload":
                self._last_offload = task
        self.tasks += tasks
        head = tasks[-1]
        self._run_until(lambda: head.end is not None)
        assert head.end is not None
        return head.end

    def idle_until(self, time: int) -> None:
        """Let time pass; deferrable work goes on."""
        self._settle()
        while self.now < time:
            self._advance(min([time, *self._events()]))
            self._settle()

    def is_done(self, cohort: int) -> bool:
        return self.tickets[cohort].end is not None

    def _run_until(self, is_over: Callable[[], bool]) -> None:
        self._settle()
        while not is_over():
            self._advance(min(self._events()))
            self._settle()

    def _settle(self) -> None:
        """Start and end everything that this instant allows."""
        while self._end_running() or self._start_urgent() or self._end_deferred():
            pass

    def _end_running(self) -> bool:
        ended = [lane for lane, task in self._running.items() if task.remaining == 0]
        for lane in ended:
            self._running.pop(lane).end = self.now
        return bool(ended)

    def _start_urgent(self) -> bool:
        started = False
        for lane, queue in self._urgent.items():
            if queue and lane not in self._running and queue[0].is_ready(self.now):
                task = self._running[lane] = queue.popleft()
                task.start = self.now
                task.slices.append((self.now, self.now + task.remaining))
                started = True
        return started

    def _end_deferred(self) -> bool:
        for lane, task in self._served():
            if task.remaining == 0:
                task.end = self.now
                self._deferred[lane].popleft()
                return True
        return False

    def _served(self) -> Iterator[tuple[str, Task]]:
        for lane, queue in self._deferred.items():
            if queue and lane not in self._running and queue[0].is_ready(self.now):
                yield lane, queue[0]

    def _events(self) -> list[int]:
        times = [self.now + task.remaining for task in self._running.values()]
        times += [self.now + task.remaining for _, task in self._served()]
        times += [
            queue[0].not_before
            for queue in (*self._urgent.values(), *self._deferred.values())
            if queue and queue[0].not_before > self.now
        ]
        return times

    def _advance(self, time: int) -> None:
        passed = time - self.now
        served = dict(self._served())
        for task in served.values():
            task.start = self.now if task.start is None else task.start
            task.slices.append((self.now, time))
        for lane, task in (*self._running.items(), *served.items()):
            task.remaining -= passed
            self.busy[lane] += passed
        if "gpu" not in self._running:
            self.gpu_idle += passed
        elif "cpu" in self._running or "cpu" in served:
            self.overlap += passed
        self.now = time
        for lane, task in served.items():
            if task.remaining == 0:  # done before any urgent op of this instant
                task.end = time
                self._deferred[lane].popleft()
