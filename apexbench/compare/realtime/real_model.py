"""The bench of `--backend cpu`: one real model in memory for all runs, torch as its GPU."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from apexbench.compare.cells import Cell
from apexbench.compare.machines.engine_modules import engine_module, require_engine
from apexbench.compare.machines.real_model import CpuMachine
from apexbench.compare.realtime.bench import LoadProgress, OpenLanes, Overhead
from apexbench.compare.realtime.loading import calibrated, load_decoder, threading_of
from apexbench.compare.realtime.thread_times import ThreadTimes, cpu_times
from apexbench.compare.scenarios import Placement
from apexbench.engine.clock import WallClock
from apexbench.engine.costs import CostModel
from apexbench.engine.executors.cpu_kernels_state import cpu_kernels_state
from apexbench.engine.tiers import Pools
from apexbench.result import DeviceConstant

if TYPE_CHECKING:
    from apexbench.engine.executors.cpu.calibration import Calibration
    from apexbench.engine.model.decoder import Decoder

_Threads = tuple[int, int]  # of the GPU lane and of the CPU lane


class RealModelBench:
    """Loads the weights once, and calibrates once for every number of threads."""

    def __init__(self, placements: Iterable[Placement]) -> None:
        require_engine()
        self._machines = {_threads(machine_of(p)): machine_of(p) for p in placements}
        self._decoder: Decoder | None = None
        self._calibrations: dict[_Threads, Calibration] = {}
        self.cpu_kernels = cpu_kernels_state().detail

    def load(self, on_progress: LoadProgress) -> None:
        """The weights, and what operations take here."""
        machine = next(iter(self._machines.values()))
        decoder = self._decoder = load_decoder(machine, on_progress)
        for threads, machine in self._machines.items():
            self._calibrations[threads] = calibrated(decoder, machine)

    def belief(self, placement: Placement) -> CostModel:
        """The calibration for its number of threads."""
        return self._calibrations[_threads(machine_of(placement))].costs

    def constants(self) -> tuple[DeviceConstant, ...]:
        """What was calibrated."""
        found = (calibration.constants() for calibration in self._calibrations.values())
        return tuple(constant for constants in found for constant in constants)

    def gpu_threads(self, placement: Placement) -> int | None:
        """torch's."""
        return machine_of(placement).gpu_threads

    def host_limit(self, placement: Placement) -> int:
        """Beside the weights, by the memory that was free at the start."""
        return machine_of(placement).host_limit

    @contextmanager
    def open(self, cell: Cell, pools: Pools) -> Iterator[OpenLanes]:
        """Threads and KV memory of one run; prompts are random, outputs as long as asked."""
        assert self._decoder is not None
        decoder, machine = self._decoder, machine_of(cell.placement)
        sequences = engine_module("apexbench.engine.executors.cpu.sequences")
        opening = engine_module("apexbench.engine.executors.cpu.opening")
        clock, vocab_size, bystanders = WallClock(), machine.model.vocab_size, cpu_times()
        with opening.open_cpu(
            decoder,
            pools,
            lambda request: sequences.random_prompt(request, vocab_size, cell.seed),
            clock,
            threading=threading_of(machine),
            cpu_kv_dtype=machine.cpu_kv_dtype,
        ) as executor:
            threads = ThreadTimes(executor, bystanders)
            clock.restart()
            yield OpenLanes(
                executor, clock, machine.model.num_layers, lambda: Overhead(threads.by_lane())
            )


def machine_of(placement: Placement) -> CpuMachine:
    """What a placement of this backend runs on."""
    assert isinstance(placement.hardware, CpuMachine)
    return placement.hardware


def _threads(machine: CpuMachine) -> _Threads:
    return machine.gpu_threads, machine.cpu_threads
