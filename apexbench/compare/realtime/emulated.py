"""The bench of `--backend emulated`: a GPU that takes modelled time beside a real CPU lane."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING

from apexbench.compare.cells import Cell
from apexbench.compare.machines.memory import available_bytes, host_tokens_limit, kv_bytes_per_token
from apexbench.compare.realtime.bench import LoadProgress, OpenLanes, Overhead
from apexbench.compare.realtime.thread_times import ThreadTimes, cpu_times
from apexbench.compare.scenarios import Placement, modelled
from apexbench.engine.clock import WallClock
from apexbench.engine.costs import CostModel
from apexbench.engine.executors.cpu_kernels_state import cpu_kernels_state
from apexbench.engine.tiers import Pools
from apexbench.errors import InputError
from apexbench.records import NS_PER_S
from apexbench.result import DeviceConstant, Spread

if TYPE_CHECKING:
    from apexbench.engine.executors.emulated.opening import EmulatedExecutor


class EmulatedBench:
    """Nothing is shared between runs; host KV is allocated for each."""

    def __init__(self) -> None:
        self._free_bytes = available_bytes()
        state = cpu_kernels_state()
        if not state.is_compiled:
            raise InputError(f"--backend emulated needs the compiled CPU kernels: {state.detail}")
        self.cpu_kernels = state.detail

    def load(self, on_progress: LoadProgress) -> None:
        """There is nothing to load."""

    def belief(self, placement: Placement) -> CostModel:
        """The profiles."""
        return modelled(placement.belief).costs()

    def constants(self) -> tuple[DeviceConstant, ...]:
        """None besides those of the profiles."""
        return ()

    def gpu_threads(self, _: Placement) -> int | None:
        """The GPU computes nothing."""
        return None

    def host_limit(self, placement: Placement) -> int:
        """By the memory that was free at the start."""
        machine = placement.hardware
        per_token = kv_bytes_per_token(machine.model, machine.cpu_kv_dtype)
        return host_tokens_limit(self._free_bytes, per_token)

    @contextmanager
    def open(self, cell: Cell, pools: Pools) -> Iterator[OpenLanes]:
        """Threads, and KV memory that is really written."""
        deployment, clock, bystanders = cell.placement.deployment, WallClock(), cpu_times()
        truth = deployment.costs()
        opening = import_module("apexbench.engine.executors.emulated.opening")
        with opening.open_emulated(
            truth,
            deployment.model,
            clock,
            host_kv_tokens=pools.cpu_tokens,
            cpu_threads=deployment.cpu_threads,
            cpu_kv_dtype=deployment.cpu_kv_dtype,
            seed=cell.seed,
        ) as executor:
            threads = ThreadTimes(executor, bystanders)
            clock.restart()
            yield OpenLanes(
                executor,
                clock,
                truth.num_layers,
                lambda: Overhead(threads.by_lane(), _lateness(executor)),
            )


def _lateness(executor: "EmulatedExecutor") -> Spread | None:
    found = executor.lateness
    if not found.num_ops:
        return None
    p50, p99, largest = (ns / NS_PER_S for ns in (found.p50_ns, found.p99_ns, found.max_ns))
    return Spread(mean=None, p50=p50, p99=p99, max=largest, n=found.num_ops)
