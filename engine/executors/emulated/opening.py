"""Puts the `emulated` backend together for one run: KV memory, threads, lanes, clocks."""

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

import numpy as np
from numpy.typing import NDArray

from apexbench.cpu_kernels import Pool
from apexbench.cpu_kernels.deadline import wait_until
from apexbench.cpu_kernels.geometry import KvDtype
from apexbench.engine.capacity import CPU_BLOCK_TOKENS
from apexbench.engine.clock import WallClock
from apexbench.engine.costs import CostModel
from apexbench.engine.executors.emulated.backend import BlocksOf, EmulatedBackend
from apexbench.engine.executors.emulated.cpu_rows import HostRows
from apexbench.engine.executors.emulated.emulation import Emulation
from apexbench.engine.executors.emulated.host_kv import open_host_kv
from apexbench.engine.executors.emulated.lateness import Lateness, summarise
from apexbench.engine.executors.emulated.step import EmulatedStep
from apexbench.engine.executors.threads.executor import ThreadedExecutor
from apexbench.engine.executors.threads.step_run import StepRun
from apexbench.engine.models import ModelShape
from apexbench.engine.plan import StepPlan
from apexbench.engine.program import Carry

# Waking from a sleep takes some tens of microseconds; from here on the lane polls the clock.
SPIN_NS = 50_000
# In-layer rows of two batches, and cohorts: one per layer at most, and one that enters.
_SPARE_TICKETS = 8


class EmulatedExecutor(ThreadedExecutor):
    """Lanes on threads that follow the model's time; CPU attention is real."""

    def __init__(self, backend: EmulatedBackend, clock: WallClock, host_kv_tokens: int) -> None:
        super().__init__(backend, clock)
        self._model = backend
        self._emulation = backend.emulation
        self.host_kv_tokens = host_kv_tokens

    def read_blocks(self, blocks_of: BlocksOf) -> None:
        """Whom to ask for the KV blocks of a sequence."""
        self._model.blocks_of = blocks_of

    def idle_until(  # type: ignore[explicit-override]  # typing.override came with 3.12
        self, time_ns: int
    ) -> None:
        """Sleep until `time_ns`, or until a copy has ended."""
        super().idle_until(time_ns)
        self._model.idled_until(self._clock.now_ns())

    @property
    def lateness(self) -> Lateness:
        """How late the lanes ran against the model, all ops together."""
        return summarise(lane.lateness for lane in self._emulation.lanes.values())

    @property
    def lateness_by_lane(self) -> Mapping[str, Lateness]:
        """The same by lane."""
        times = self._emulation.lanes
        return {name: summarise([lane.lateness]) for name, lane in times.items()}

    @property
    def cpu_jobs(self) -> NDArray[np.void]:
        """The CPU-attention jobs so far, with the fields of int_log.CpuJob; bounded."""
        return self._emulation.cpu_jobs.rows()

    @property
    def step_facts(self) -> NDArray[np.void]:
        """The steps so far, with the fields of int_log.StepFact; bounded."""
        return self._emulation.steps.rows()

    def _begin(  # type: ignore[explicit-override]
        self, plan: StepPlan, now_ns: int
    ) -> tuple[StepRun, Carry]:
        step, carry = super()._begin(plan, now_ns)
        assert isinstance(step.work, EmulatedStep)
        self._model.follow(step, step.work)
        return step, carry


@contextmanager
def open_emulated(
    truth: CostModel,
    model: ModelShape,
    clock: WallClock,
    *,
    host_kv_tokens: int,
    cpu_threads: int = 1,
    cpu_kv_dtype: KvDtype = "fp16",
    seed: int = 0,
) -> Iterator[EmulatedExecutor]:
    """An executor for one run, whose time begins with the block; memory and threads go with it.

    truth: what GPU ops and copies take. host_kv_tokens: of the CPU tier, 0 for none; the pool of
    the run must have as many. cpu_threads: the C library's workers, one CPU each; everything else
    keeps to other CPUs where there are any. Raises InputError where the KV memory does not fit, or
    where the CPU kernels are not compiled.
    """
    wait = wait_until()
    with ExitStack() as stack:
        host = None
        if host_kv_tokens >= CPU_BLOCK_TOKENS:
            rng = np.random.default_rng(seed)
            in_flight = model.num_layers + _SPARE_TICKETS
            pool = stack.enter_context(Pool(cpu_threads, max_in_flight=in_flight))
            cache = stack.enter_context(
                open_host_kv(model, cpu_kv_dtype, host_kv_tokens, pool, rng)
            )
            host = HostRows(cache, pool, model, rng)
            stack.enter_context(_away_from(frozenset(pool.cpus)))
        emulation = Emulation(
            truth, clock, lambda end_ns: clock.run_ns(wait(clock.host_ns(end_ns), SPIN_NS))
        )
        backend = EmulatedBackend(emulation, host)
        executor = stack.enter_context(EmulatedExecutor(backend, clock, host_kv_tokens))
        clock.restart()
        yield executor


@contextmanager
def _away_from(cpus: frozenset[int]) -> Iterator[None]:
    """Keep the calling thread, and those it starts, to other CPUs where there are any."""
    before = os.sched_getaffinity(0)
    left = before - cpus
    os.sched_setaffinity(0, left or before)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
