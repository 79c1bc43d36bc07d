"""Simulated lanes that run step programs in virtual time; overlap and idle time emerge from them.

Ops are taken in program order; whatever waits is resolved when it is needed. The clocks of all
lanes persist across steps. Layers without joins are identical and may be extrapolated.
"""

from collections.abc import Callable

from apexbench.engine.executors.binder import Binder
from apexbench.engine.executors.compiled import NO_WORK, SIDE_LANES, CompiledProgram, LayerOps
from apexbench.engine.executors.durations import Durations
from apexbench.engine.executors.lanes import Gpu, Job, Lane
from apexbench.engine.program import Program
from apexbench.engine.step_ops import OpTemplate, Shape
from apexbench.records import IDLE_REASONS

# (op, layer, start, end) of everything that ran, deferrable work aside (see Lane.sink)
SpanSink = Callable[[OpTemplate, int, int, int], None]


class LaneMachine:
    """State of all lanes. `extrapolates=False` runs every layer: the slow twin of the fast path."""

    def __init__(self, *, extrapolates: bool = True) -> None:
        self.extrapolates = extrapolates
        self.cpu = Lane(remembers_busy=True)
        self.side: dict[str, Lane] = {"cpu": self.cpu} | {n: Lane() for n in SIDE_LANES[1:]}
        self.gpu = Gpu(self.cpu, len(IDLE_REASONS))
        self.span_sink: SpanSink | None = None
        self._binder = Binder(self.gpu, self.side)
        self._registers = self._binder.registers
        self.tickets = self._registers.tickets

    def run(
        self, program: Program, cohorts: tuple[int, ...], durations: Durations, now: int
    ) -> int:
        """Run one step that may begin at `now`; returns when its tokens are sampled.

        `cohorts` are the ids of the plan's cohorts, in plan order; their tickets outlive the step.
        """
        compiled = self._binder.compiled(program)
        values = self._registers.durations
        for slot, read in compiled.durations:
            values[slot] = read(durations)
        self._registers.job_durations[:] = durations.job_durations
        self._begin(program.shape, cohorts, now)
        if self.extrapolates and self.span_sink is None:
            for call, argument in compiled.calls:
                call(argument)
        else:
            self._run_every_layer(compiled)
        return self.gpu.free

    def idle_until(self, time_ns: int) -> None:
        """Nothing to run before `time_ns`."""
        if time_ns > self.gpu.free:
            self.gpu.idle_until(time_ns, NO_WORK)

    @property
    def last_offload(self) -> Job | None:
        """The latest piece of a prompt that was sent to the host."""
        return self._registers.jobs.get("offload")

    def flush(self, time_ns: int) -> None:
        """Account deferrable work up to `time_ns`, which no later op precedes."""
        for lane in self.side.values():
            if lane.queue:
                lane.serve(time_ns)

    @property
    def busy_ns(self) -> tuple[int, ...]:
        """Busy time so far in the order of records.LANES."""
        return (self.gpu.busy, *[lane.busy for lane in self.side.values()])

    @property
    def overlap_ns(self) -> int:
        """Time so far in which the GPU and the CPU lane both worked."""
        return self.cpu.busy - self.gpu.cpu_in_idle

    def _begin(self, shape: Shape, cohorts: tuple[int, ...], now: int) -> None:
        # Re-reads wait for GPU attention but are issued after results that come over much later.
        self.side["h2d"].holes = [] if shape.has_reread else None
        host = self.side["host"]
        host.free = max(host.free, now)
        self._registers.cohorts[:] = cohorts

    def _run_every_layer(self, compiled: CompiledProgram) -> None:
        self._run_layer(compiled.prologue, 0)
        last = 0
        for first_layer, num_layers, layer_ops in compiled.blocks:
            last = first_layer + num_layers - 1
            for layer in range(first_layer, last + 1):
                self._run_layer(layer_ops, layer)
        self._run_layer(compiled.epilogue, last)

    def _run_layer(self, layer_ops: LayerOps, layer: int) -> None:
        for op in layer_ops.ops:
            op.run(layer)
            if self.span_sink is not None and op.signal is not None:
                end = self._registers.times[op.signal]
                duration = op.durations[op.duration_slot]
                self.span_sink(op.template, layer, end - duration, end)
