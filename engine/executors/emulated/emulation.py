"""What all steps of an emulated run share: the model's costs, the clock, the lanes' times."""

from collections.abc import Callable
from typing import Protocol

from apexbench.engine.clock import Clock
from apexbench.engine.costs import CostModel
from apexbench.engine.executors.durations import StepCosts
from apexbench.engine.executors.emulated.int_log import CpuJob, IntLog, StepFact
from apexbench.engine.executors.emulated.logical import LaneTime, Outstanding
from apexbench.engine.executors.token_counter import TokenCounter

WAITING_LANES = ("gpu", "h2d", "d2h")


class HostClock(Clock, Protocol):
    """A clock of real time that can read CLOCK_MONOTONIC."""

    def run_ns(self, host_ns: int) -> int:
        """A time of CLOCK_MONOTONIC on this clock."""
        ...


class Emulation:
    """`truth` is what GPU ops and copies take. `wait_until(end)` returns when it woke; both are
    times of the run's `clock`.
    """

    def __init__(
        self, truth: CostModel, clock: HostClock, wait_until: Callable[[int], int]
    ) -> None:
        self.costs = StepCosts(truth)
        self.num_layers = truth.num_layers
        self.clock = clock
        self.wait_until = wait_until
        self.tokens = TokenCounter()
        self.cpu_jobs = IntLog(CpuJob)
        self.steps = IntLog(StepFact)
        self.lanes = {name: LaneTime() for name in WAITING_LANES}
        self.outstanding = Outstanding()

    def pass_time(self, lane_name: str, duration_ns: int, ready_ns: int) -> int:
        """Occupy a lane for so long, wait for the end of it, and return that."""
        lane = self.lanes[lane_name]
        end_ns = lane.free_ns = max(lane.free_ns, ready_ns) + duration_ns
        lane.lateness.add(self.wait_until(end_ns) - end_ns)
        return end_ns
