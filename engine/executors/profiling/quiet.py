"""Whether this machine is quiet enough to be measured: who else uses it; measures no kernel."""

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from apexbench.engine.clock import WallClock, process_cpu_ns
from apexbench.records import NS_PER_S

PROC_STAT = Path("/proc/stat")
# Beyond these a measurement is off by more than the few per cent that it is about. A CPU share is
# seldom below one per cent, because the kernel counts it in hundredths of a second.
MAX_STEAL, MAX_OTHER_CPU, MAX_READ_SPREAD = 0.02, 0.05, 0.15
# Runnable tasks per CPU, over a minute: with more, somebody waits for a CPU.
MAX_LOAD_PER_CPU = 1.0
# Columns of /proc/stat: user, nice, system, idle, iowait, irq, softirq, steal; later ones are
# counted in the first two as well.
_COLUMNS = 8
_IDLE, _IOWAIT, _STEAL = 3, 4, 7
# A short read test: windows that no cache holds together, each read once.
READ_WINDOWS, WINDOW_BYTES = 9, 32 << 20


@dataclass(frozen=True, slots=True)
class Quietness:
    """What others did to this machine meanwhile; None where the system does not say.

    Fractions are of all CPU time there was. `load` is the average over the last minute,
    `read_spread` the interquartile range over the median of a few equal reads of memory. `reason`
    is what a reader must know, without a full stop; None when it is quiet.
    """

    is_quiet: bool
    reason: str | None
    load: float | None
    steal_fraction: float | None
    other_cpu_fraction: float | None
    read_spread: float | None = None


class CpuWatch:
    """Counts CPU time from when it is made: this process's, other processes', other machines'.

    `read_stat` and `own_cpu_ns` are the counters of the system; children of this process are
    others.
    """

    def __init__(
        self,
        read_stat: Callable[[], str] | None = None,
        own_cpu_ns: Callable[[], int] = process_cpu_ns,
    ) -> None:
        self._read_stat = read_stat or _stat_text
        self._own_cpu_ns = own_cpu_ns
        self._ticks_before = self._ticks()
        self._own_before_ns = own_cpu_ns()

    def quietness(self, *, minds_load: bool = False, read_spread: float | None = None) -> Quietness:
        """How quiet it was since then. `minds_load`: only when the load cannot be our own."""
        steal, other = self._fractions()
        load = _load_average()
        found = Quietness(True, None, load, steal, other, read_spread)
        reason = next(filter(None, _reasons(found, minds_load=minds_load)), None)
        return found if reason is None else replace(found, is_quiet=False, reason=reason)

    def _fractions(self) -> tuple[float | None, float | None]:
        """Of all CPU time: given to other machines, and used by other processes."""
        now = self._ticks()
        if now is None or self._ticks_before is None:
            return None, None
        ticks = [late - early for early, late in zip(self._ticks_before, now, strict=True)]
        total = sum(ticks)
        if total <= 0:
            return None, None
        busy = total - ticks[_IDLE] - ticks[_IOWAIT] - ticks[_STEAL]
        own_s = (self._own_cpu_ns() - self._own_before_ns) / NS_PER_S
        own = own_s * os.sysconf("SC_CLK_TCK")
        return ticks[_STEAL] / total, max(0.0, busy - own) / total

    def _ticks(self) -> list[int] | None:
        """All CPUs together."""
        fields = self._read_stat().partition("\n")[0].split()
        if len(fields) <= _COLUMNS or fields[0] != "cpu":
            return None
        return [int(field) for field in fields[1 : _COLUMNS + 1]]


def quietness(sample_s: float = 0.5) -> Quietness:
    """Watch the machine for `sample_s` seconds, then read memory a few times.

    This thread sleeps meanwhile. Called right after work of its own a process sees its own load in
    the average of the last minute: a CpuWatch around that work does not.
    """
    watch = CpuWatch()
    threading.Event().wait(sample_s)
    return watch.quietness(minds_load=True, read_spread=read_spread())


def read_spread() -> float | None:
    """Interquartile range over median of a few reads of memory; None without memory for it."""
    try:
        memory = np.ones(READ_WINDOWS * WINDOW_BYTES // 8, np.int64)
    except MemoryError:
        return None
    clock, seconds = WallClock(), []
    for window in np.split(memory, READ_WINDOWS):
        began = clock.now_ns()
        window.sum()
        seconds.append(clock.now_ns() - began)
    lower, median, upper = np.quantile(seconds, (0.25, 0.5, 0.75))
    return float((upper - lower) / median)


def _reasons(found: Quietness, *, minds_load: bool) -> tuple[str | None, ...]:
    """The worst first: what takes CPUs away, what may have, what shows in reads."""
    cpus = os.cpu_count() or 1
    load = found.load if minds_load else None
    return (
        _above(found.steal_fraction, MAX_STEAL, "other virtual machines took {:.0%} of the CPUs"),
        _above(found.other_cpu_fraction, MAX_OTHER_CPU, "other processes took {:.0%} of the CPUs"),
        _above(load, cpus * MAX_LOAD_PER_CPU, f"the load average is {{:.1f}} on {cpus} CPUs"),
        _above(found.read_spread, MAX_READ_SPREAD, "reads of memory differ by {:.0%}"),
    )


def _above(value: float | None, most: float, sentence: str) -> str | None:
    return sentence.format(value) if value is not None and value > most else None


def _stat_text() -> str:
    try:
        return PROC_STAT.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def _load_average() -> float | None:
    try:
        return round(os.getloadavg()[0], 2)
    except OSError:
        return None
