"""Whether the machine let a run be what it claims: who else used it, how late lanes ran."""

from collections.abc import Sequence
from importlib import import_module
from statistics import median
from typing import Protocol

from apexbench.compare import caveats
from apexbench.result import Spread, StepTimes

MAX_LATE_SHARE = 0.05
"""Largest p99 lateness of emulated operations over the median step that is trusted: beyond it the
run would be off by more than the few per cent that policies differ by."""

NUM_CHECKED_STEPS = 8  # a median of fewer steps says nothing


class Watch(Protocol):
    """Counts from when it is made what others do to the machine."""

    def disturbance(self) -> str | None:
        """What they did, without a full stop; None when it was quiet."""
        ...


class MachineWatch:
    """Other processes and other virtual machines, by the counters of the system."""

    def __init__(self) -> None:
        # Late, because nothing that only simulates needs what it imports.
        self._watch = import_module("apexbench.engine.executors.profiling.quiet").CpuWatch()

    def disturbance(self) -> str | None:
        """Whether others took more of the CPUs than a measurement bears."""
        reason: str | None = self._watch.quietness().reason
        return reason


def distrust(
    disturbance: str | None, lateness: Spread | None, steps: Sequence[StepTimes]
) -> str | None:
    """Why a run that has ended must not be believed; None where it may be."""
    if disturbance is not None:
        return disturbance
    if lateness is None or len(steps) < NUM_CHECKED_STEPS:
        return None
    step_s = median(step.step_s for step in steps)
    return caveats.late(lateness.p99, step_s) if lateness.p99 > MAX_LATE_SHARE * step_s else None
