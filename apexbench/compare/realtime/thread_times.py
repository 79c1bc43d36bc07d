"""CPU time of this process's threads by the lane they work for, from the system's counters."""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

TASKS = Path("/proc/self/task")
WORKERS = "apx-"  # how the CPU kernels name their threads


class Thread(Protocol):
    """The thread of a lane."""

    @property
    def native_id(self) -> int | None:
        """As the system knows it."""
        ...


class Waiters(Protocol):
    """Threads that wait for the CPU kernels and pass on what they did."""

    @property
    def native_ids(self) -> tuple[int | None, ...]:
        """As the system knows them."""
        ...


class Lanes(Protocol):
    """The threads of an executor."""

    @property
    def lanes(self) -> Mapping[str, Thread]:
        """By lane."""
        ...

    @property
    def attention(self) -> Waiters:
        """Of CPU attention: Python, so they count as the host's."""
        ...


class ThreadTimes:
    """Counts from when it is made, which is when the lanes' threads have just started.

    `bystanders` are threads that were there before, this one apart, which is the engine's. Threads
    that start later and have no name of the CPU kernels are torch's: they compute for the GPU lane.
    """

    def __init__(self, executor: Lanes, bystanders: Mapping[int, int], tasks: Path = TASKS) -> None:
        self._tasks = tasks
        hosts = (threading.get_native_id(), *executor.attention.native_ids)
        self._lane_of: dict[int | None, str] = dict.fromkeys(hosts, "host")
        self._lane_of |= {lane.native_id: name for name, lane in executor.lanes.items()}
        self._bystanders = bystanders.keys() - self._lane_of.keys()
        self._before = cpu_times(tasks)

    def by_lane(self) -> dict[str, int]:
        """Nanoseconds since then; to be asked before the threads end."""
        found: dict[str, int] = {}
        for tid, now in cpu_times(self._tasks).items():
            if tid not in self._bystanders:
                lane = self._lane(tid)
                found[lane] = found.get(lane, 0) + now - self._before.get(tid, 0)
        return {lane: ns for lane, ns in found.items() if ns > 0}

    def _lane(self, tid: int) -> str:
        if tid in self._lane_of:
            return self._lane_of[tid]
        return "cpu" if _read(self._tasks / f"{tid}/comm").startswith(WORKERS) else "gpu"


def cpu_times(tasks: Path = TASKS) -> dict[int, int]:
    """Nanoseconds on a CPU by thread; threads that have just ended are left out."""
    found = {}
    for folder in tasks.glob("[0-9]*"):
        fields = _read(folder / "schedstat").split()
        if fields:
            found[int(folder.name)] = int(fields[0])
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
