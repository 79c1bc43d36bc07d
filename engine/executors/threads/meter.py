"""Adds up what the lanes did, op by op as they end: busy, overlapping and idle time."""

from collections import deque

from apexbench.engine.executors.compiled import COPY, CPU_ATTENTION, NO_WORK, SCHEDULING
from apexbench.engine.executors.threads.step_run import OpRun
from apexbench.records import IDLE_REASONS, LANES

_REASONS = {
    **dict.fromkeys(("send", "attn_cpu", "recv"), CPU_ATTENTION),
    **dict.fromkeys(("swap_in", "swap_out", "offload", "reread"), COPY),
}


class LaneMeter:
    """Running totals in nanoseconds. Whoever calls it holds the executor's lock.

    The CPU lane is busy while it has work: from the submission of a job to its end, jobs at once
    counted once.
    """

    def __init__(self) -> None:
        self._busy = dict.fromkeys(LANES, 0)
        self._idle = [0] * len(IDLE_REASONS)
        self._overlap = 0
        self._gpu_end = 0
        self._no_work = 0  # of the time since the last GPU op
        self._cpu_jobs = 0
        self._cpu_since = 0
        self._cpu_intervals: deque[tuple[int, int]] = deque()  # since the last GPU op began

    def on_submit(self, run: OpRun) -> None:
        """CPU attention begins."""
        if not self._cpu_jobs:
            self._cpu_since = run.start_ns
        self._cpu_jobs += 1

    def on_done(self, run: OpRun, released_by: str) -> None:
        """An op has ended; `released_by` is the kind of the last op it had waited for."""
        lane = run.op.lane
        if lane == "cpu":
            self._on_cpu(run)
            return
        self._busy[lane] += run.end_ns - run.start_ns
        if lane == "gpu":
            self._on_gpu(run, released_by)

    def on_no_work(self, duration_ns: int) -> None:
        """There was nothing to run."""
        self._no_work += duration_ns

    @property
    def busy_ns(self) -> tuple[int, ...]:
        """Busy time per lane, in the order of LANES."""
        return tuple(self._busy.values())

    @property
    def overlap_ns(self) -> int:
        """Time in which an op ran on the GPU lane and the CPU lane had work."""
        return self._overlap

    @property
    def idle_ns(self) -> tuple[int, ...]:
        """GPU idle time by reason, in the order of IDLE_REASONS."""
        return tuple(self._idle)

    def _on_cpu(self, run: OpRun) -> None:
        self._cpu_jobs -= 1
        if not self._cpu_jobs:
            self._busy["cpu"] += run.end_ns - self._cpu_since
            self._cpu_intervals.append((self._cpu_since, run.end_ns))

    def _on_gpu(self, run: OpRun, released_by: str) -> None:
        self._idle_until(run.start_ns, released_by)
        self._gpu_end = run.end_ns
        intervals = self._cpu_intervals
        while intervals and intervals[0][1] <= run.start_ns:
            intervals.popleft()
        for start, end in intervals:
            self._overlap += max(0, min(end, run.end_ns) - max(start, run.start_ns))
        if self._cpu_jobs:
            self._overlap += max(0, run.end_ns - max(self._cpu_since, run.start_ns))

    def _idle_until(self, start_ns: int, released_by: str) -> None:
        gap = max(0, start_ns - self._gpu_end)
        without_work = min(gap, self._no_work)
        self._no_work = 0
        self._idle[NO_WORK] += without_work
        self._idle[_REASONS.get(released_by, SCHEDULING)] += gap - without_work
