"""Simulated lanes that run step programs in virtual time; overlap and idle time emerge from them.

Ops are taken in program order; whatever waits is resolved when it is needed. The clocks of all
lanes persist across steps. Layers without joins are identical and may be extrapolated.
"""

from collections.abc import Callable

from apexbench.engine.executors.compiled import (
    NO_WORK,
    SIDE_LANES,
    Binder,
    CompiledProgram,
    LayerOps,
)
from apexbench.engine.executors.durations import Durations
from apexbench.engine.executors.lanes import Gpu, Job, Lane
from apexbench.engine.executors.repeats import run_repeating
from apexbench.engine.program import OpTemplate, Program, Shape
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
        self.tickets: dict[int, Job] = {}
        self.span_sink: SpanSink | None = None
        self._binder = Binder(self.gpu, self.side)
        self._ticket_names: list[str] = []

    def run(
        self, program: Program, cohorts: tuple[int, ...], durations: Durations, now: int
    ) -> int:
        """Run one step that may begin at `now`; returns when its tokens are sampled.

        `cohorts` are the ids of the plan's cohorts, in plan order; their tickets outlive the step.
        """
        compiled = self._binder.compiled(program)
        values = self._binder.durations
        for slot, read in compiled.durations:
            values[slot] = read(durations)
        self._binder.job_durations[:] = durations.job_durations
        self._begin(program.shape, cohorts, now)
        if self.extrapolates and self.span_sink is None:
            self._run_fast(compiled)
        else:
            self._run_every_layer(compiled)
        self._end(cohorts)
        return self.gpu.free

    def idle_until(self, time_ns: int) -> None:
        """Nothing to run before `time_ns`."""
        if time_ns > self.gpu.free:
            self.gpu.idle_until(time_ns, NO_WORK)

    @property
    def last_offload(self) -> Job | None:
        """The latest piece of a prompt that was sent to the host."""
        return self._binder.jobs.get("offload")

    def flush(self, time_ns: int) -> None:
        """Account deferrable work up to `time_ns`, which no later op precedes."""
        for lane in self.side.values():
            lane.serve(time_ns)

    @property
    def busy_ns(self) -> tuple[int, ...]:
        """Busy time so far in the order of records.LANES."""
        return (self.gpu.busy, *(self.side[name].busy for name in SIDE_LANES))

    @property
    def overlap_ns(self) -> int:
        """Time so far in which the GPU and the CPU lane both worked."""
        return self.cpu.busy - self.gpu.cpu_in_idle

    def _begin(self, shape: Shape, cohorts: tuple[int, ...], now: int) -> None:
        # Re-reads wait for GPU attention but are issued after results that come over much later.
        self.side["h2d"].holes = [] if shape.has_reread else None
        host = self.side["host"]
        host.free = max(host.free, now)
        names = self._ticket_names
        while len(names) < len(cohorts):
            names.append(f"ticket.c{len(names)}")
        jobs, tickets = self._binder.jobs, self.tickets
        for position, cohort in enumerate(cohorts):
            if cohort in tickets:
                jobs[names[position]] = tickets[cohort]

    def _end(self, cohorts: tuple[int, ...]) -> None:
        """Keep the tickets of this step; of cohorts that sampled the caller drops them."""
        jobs, names, tickets = self._binder.jobs, self._ticket_names, self.tickets
        for position, cohort in enumerate(cohorts):
            tickets[cohort] = jobs[names[position]]

    def _run_fast(self, compiled: CompiledProgram) -> None:
        for run in compiled.prologue.runs:
            run(0)
        for block in compiled.blocks:
            first_layer, num_layers, layer_ops = block
            if layer_ops.is_free:
                self._run_free(layer_ops, num_layers)
            elif num_layers > 1 and layer_ops.may_repeat:
                run_repeating(block, self.gpu, self._binder)
            else:
                for layer in range(first_layer, first_layer + num_layers):
                    for run in layer_ops.runs:
                        run(layer)
        for run in compiled.epilogue.runs:
            run(0)

    def _run_free(self, layer_ops: LayerOps, num_layers: int) -> None:
        """GPU ops that wait for nothing follow each other without a gap."""
        durations, times = self._binder.durations, self._binder.times
        total = 0
        for slot, _ in layer_ops.steps:
            total += durations[slot]
        end = self.gpu.free = self.gpu.free + total * num_layers
        for slot, signal in layer_ops.reversed_steps:
            times[signal] = end
            end -= durations[slot]

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
                end = self._binder.times[op.signal]
                duration = op.durations[op.duration_slot]
                self.span_sink(op.template, layer, end - duration, end)
