"""What lanes on threads cost by themselves: steps whose ops do nothing, timed."""

import statistics
from collections.abc import Iterator

from apexbench.engine.clock import WallClock
from apexbench.engine.executors.threads.executor import ThreadedExecutor
from apexbench.engine.executors.threads.work import Sampled
from apexbench.engine.expansion import Op
from apexbench.engine.plan import StepPlan, SubBatch
from apexbench.engine.program import Carry
from apexbench.records import NS_PER_S, Request

_STEPS = 25


class _Nothing:
    """Work that is done as soon as it is begun."""

    def run(self, op: Op) -> None:
        """Nothing."""

    def pieces(self, op: Op) -> Iterator[None]:  # noqa: ARG002
        """None."""
        yield from ()

    def submit(self, op: Op) -> "_Nothing":  # noqa: ARG002
        """Nothing to wait for."""
        return self

    def wait(self, timeout_s: float | None = None) -> bool:  # noqa: ARG002
        """It is done."""
        return True

    def give_up(self, op: Op) -> None:
        """Nothing was to be had."""

    def sampled(self) -> Sampled:
        """No tokens."""
        return Sampled((), frozenset())


class _Idle:
    """A backend of `num_layers` layers whose steps do nothing."""

    def __init__(self, num_layers: int) -> None:
        self.num_layers = num_layers

    def admit(self, request: Request) -> None:
        """Nothing is kept."""

    def release(self, request_id: int) -> None:
        """Nothing was kept."""

    def begin(self, plan: StepPlan, before: Carry) -> _Nothing:  # noqa: ARG002
        """A step of nothing."""
        return _Nothing()

    def drop(self, cohort: int) -> None:
        """There are none."""


def hand_over_seconds(num_layers: int) -> tuple[float, float]:
    """Medians of a step without CPU rows, and of what in-layer rows add to it per layer."""
    clock = WallClock()
    with ThreadedExecutor(_Idle(num_layers), clock) as executor:
        plain = _median(executor, clock, SubBatch(gpu_rows=(0,), gpu_kv_tokens=1))
        split = _median(executor, clock, SubBatch(in_layer_rows=(0,), in_layer_kv_tokens=1))
    return plain, max(0.0, split - plain) / num_layers


def _median(executor: ThreadedExecutor, clock: WallClock, batch: SubBatch) -> float:
    times = []
    for index in range(_STEPS):
        begin = clock.now_ns()
        executor.execute(StepPlan(index, (batch,)), begin)
        times.append((clock.now_ns() - begin) / NS_PER_S)
    return statistics.median(times)
