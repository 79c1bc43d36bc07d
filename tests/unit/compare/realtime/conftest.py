"""A bench whose lanes are simulated: real-time runs with equal numbers every time."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from apexbench.compare.cells import Cell
from apexbench.compare.matrix import BACKLOG, setting_cells
from apexbench.compare.realtime.bench import LoadProgress, OpenLanes, Overhead
from apexbench.compare.scenarios import Placement, Scenario, preset_values, scenarios
from apexbench.compare.variants import parse_variants
from apexbench.config import CompareConfig, resolve
from apexbench.engine.clock import VirtualClock
from apexbench.engine.costs import CostModel
from apexbench.engine.executors.sim import SimulatedExecutor
from apexbench.engine.tiers import Pools
from apexbench.result import DeviceConstant, Spread


@dataclass
class FakeBench:
    """Lanes that charge what `truth` makes of a placement; remembers what it was asked for."""

    truth: Callable[[Placement], CostModel] = lambda placement: placement.deployment.costs()
    lateness: Spread | None = None
    cpu_kernels: str = "avx2 of avx2"
    loaded: int = 0
    opened: list[tuple[str, int]] = field(default_factory=list)
    pools: list[Pools] = field(default_factory=list)
    num_open: int = 0

    def load(self, on_progress: LoadProgress) -> None:
        on_progress(1, 1)
        self.loaded += 1

    def belief(self, placement: Placement) -> CostModel:
        return placement.deployment.costs()

    def constants(self) -> tuple[DeviceConstant, ...]:
        return (
            DeviceConstant(
                device="this-machine", name="speed", value=2.0, unit="GB/s", source="measured now",
                kind="measured", sigma=0.1,
            ),
        )  # fmt: skip

    def gpu_threads(self, placement: Placement) -> int | None:
        return None

    def host_limit(self, placement: Placement) -> int:
        return 4096

    @contextmanager
    def open(self, cell: Cell, pools: Pools) -> Iterator[OpenLanes]:
        self.opened.append((cell.placement.variant.id, cell.seed))
        self.pools.append(pools)
        truth = self.truth(cell.placement)
        self.num_open += 1
        try:
            yield OpenLanes(
                SimulatedExecutor(truth), VirtualClock(), truth.num_layers,
                lambda: Overhead(lane_cpu_ns={"cpu": 5_000_000}, lateness=self.lateness),
            )  # fmt: skip
        finally:
            self.num_open -= 1


@dataclass
class FakeWatch:
    """A machine that is as quiet as it is told to be."""

    reason: str | None = None

    def disturbance(self) -> str | None:
        return self.reason


def config(**values: Any) -> CompareConfig:
    given = {"gpu": "t4", "workload": "fixed:64/16", "requests": 12, "seeds": 2,
             "cpu_kernel": "apexbench", "cpu_threads": 1, "gpu_kv_tokens": 512,
             "cpu_kv_tokens": 4096, "policies": "gpu-only,apex", **values}  # fmt: skip
    return resolve(given, {}, None, preset_values)


def only_scenario(given: CompareConfig) -> Scenario:
    (found,) = scenarios(given, parse_variants(given.policies))
    return found


@pytest.fixture
def bench() -> FakeBench:
    return FakeBench()


@pytest.fixture
def cells() -> tuple[Cell, ...]:
    """Two policies, two seeds, everything waiting at the start."""
    scenario = only_scenario(config())
    return setting_cells(scenario, BACKLOG, None, (0, 1), scenario.placements, None).cells
