"""How late this host wakes who waits: sleeps, and threads woken by another; no kernels."""

import select
import threading
from collections.abc import Iterator
from queue import SimpleQueue

from apexbench.cpu_kernels.bench.samples import summarise
from apexbench.engine.clock import WallClock
from apexbench.engine.executors.profiling.measurements import Timing, Wait
from apexbench.engine.executors.profiling.pace import Pace
from apexbench.records import NS_PER_S

# As long as an op of the emulated GPU takes: a small kernel and a layer.
SLEEPS_S = (50e-6, 1e-3)
# The waiting thread is asleep again before it is woken the next time.
PAUSE_S = 1e-3


def measure_waits(num_samples: int, pace: Pace) -> Iterator[Wait]:
    """Lateness of sleeps of the kernel's timer, and of a thread that takes from a queue."""
    for asked_s in SLEEPS_S:
        pace.step("sleeping and waking")
        yield Wait("sleep", asked_s, _timing([_sleep_late(asked_s) for _ in range(num_samples)]))
    pace.step("sleeping and waking")
    yield Wait("thread", 0.0, _timing(_wake_thread(num_samples)))


def _sleep_late(asked_s: float) -> float:
    clock = WallClock()
    select.select([], [], [], asked_s)
    return max(0.0, clock.now_ns() / NS_PER_S - asked_s)


def _wake_thread(num_samples: int) -> list[float]:
    """Seconds from putting something into a queue until the thread that waits has it."""
    clock, late = WallClock(), []
    mail: SimpleQueue[int | None] = SimpleQueue()

    def take() -> None:
        while (sent_ns := mail.get()) is not None:
            late.append((clock.now_ns() - sent_ns) / NS_PER_S)

    thread = threading.Thread(target=take)
    thread.start()
    try:
        for _ in range(num_samples):
            select.select([], [], [], PAUSE_S)
            mail.put(clock.now_ns())
    finally:
        mail.put(None)
        thread.join()
    return late


def _timing(seconds: list[float]) -> Timing:
    found = summarise(seconds)
    return Timing(found.median, found.spread, found.n)
