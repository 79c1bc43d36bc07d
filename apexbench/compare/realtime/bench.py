"""What runs in real time run on: lanes that are opened for one run after the other."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from apexbench.compare.cells import Cell
from apexbench.compare.scenarios import Placement
from apexbench.engine.capacity import CPU_BLOCK_TOKENS
from apexbench.engine.clock import Clock
from apexbench.engine.costs import CostModel
from apexbench.engine.running import MeteredExecutor
from apexbench.engine.tiers import Pools
from apexbench.records import Request
from apexbench.result import DeviceConstant, Spread

LoadProgress = Callable[[int, int], None]  # bytes done, bytes in all; may raise KeyboardInterrupt


@dataclass(frozen=True, slots=True)
class Overhead:
    """What a run cost: CPU time of each lane's threads, and how late emulated operations were."""

    lane_cpu_ns: Mapping[str, int] = field(default_factory=dict)
    lateness: Spread | None = None


@dataclass(frozen=True, slots=True)
class OpenLanes:
    """The lanes of one run; `overhead` may be asked when it has ended."""

    executor: MeteredExecutor
    clock: Clock
    num_layers: int
    overhead: Callable[[], Overhead]


def host_need(requests: Iterable[Request]) -> int:
    """KV tokens of a host pool in which all requests fit at once, whole blocks each."""
    blocks = sum(-(-request.total_tokens // CPU_BLOCK_TOKENS) for request in requests)
    return blocks * CPU_BLOCK_TOKENS


class Bench(Protocol):
    """Holds what runs share, such as weights, and opens lanes for one cell at a time."""

    @property
    def cpu_kernels(self) -> str:
        """ISA level and compiler of the CPU kernels."""
        ...

    def load(self, on_progress: LoadProgress) -> None:
        """Everything that the first run would otherwise wait for; called once."""
        ...

    def belief(self, placement: Placement) -> CostModel:
        """What a policy decides with; after `load`."""
        ...

    def constants(self) -> tuple[DeviceConstant, ...]:
        """What the beliefs rest on besides the hardware's own constants; after `load`."""
        ...

    def gpu_threads(self, placement: Placement) -> int | None:
        """Threads of the GPU lane where it computes on the CPU."""
        ...

    def host_limit(self, placement: Placement) -> int:
        """KV tokens of the host tier that this machine's memory holds."""
        ...

    def open(self, cell: Cell, pools: Pools) -> AbstractContextManager[OpenLanes]:
        """Lanes for one run of a cell."""
        ...
