"""Passes of several contestants in turn, with the read limit measured around each; knows no kernel.

Whatever else the machine does meets all of them alike: no contestant has a minute of its own.
"""

import resource
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from apexbench.cpu_kernels.bench.samples import Pass, Probe, Rate, Repeat


class Contestant(Protocol):
    """Something that reads KV memory and can be timed."""

    def run(self) -> Pass:
        """One pass over KV that no cache holds; every call takes another part of the memory."""
        ...


@dataclass(frozen=True, slots=True)
class Rules:
    """How often each contestant runs, and what is asked between passes."""

    num_repeats: int
    # Raises KeyboardInterrupt when somebody wants the bench to end.
    check: Callable[[], None]


def compete(
    contestants: Sequence[Contestant], probe: Callable[[], Probe], rules: Rules
) -> list[Rate]:
    """The rates of all contestants, in their order.

    A repeat runs everybody once, each time beginning with the next one; between two passes the
    limit is probed, which is after the one and before the other. The first repeat only warms up.
    """
    collected: list[list[Repeat]] = [[] for _ in contestants]
    before = probe()
    for repeat in range(rules.num_repeats + 1):
        for turn in range(len(contestants)):
            rules.check()
            index = (repeat + turn) % len(contestants)
            preempted = _preemptions()
            measured = contestants[index].run()
            preempted = _preemptions() - preempted
            after = probe()
            if repeat:
                collected[index].append(Repeat(measured, before, after, preempted))
            before = after
    return [Rate(tuple(repeats)) for repeats in collected]


def _preemptions() -> int:
    """Involuntary context switches of all threads of this process until now."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
