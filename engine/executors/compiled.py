"""Step programs bound to simulated lanes: every op becomes one small function. Runs nothing.

What an op waits for is looked up here, once per program, so that running it costs little: GPU ops
run in program order and need not wait for each other; a register holds either a time or a job.
"""

from collections.abc import Callable
from typing import NamedTuple

from apexbench.engine.executors.durations import DurationReader, duration_reader, job_slot
from apexbench.engine.executors.lanes import Gpu, Job, Lane
from apexbench.engine.program import DEFERRABLE, OpTemplate, Program, Shape
from apexbench.records import IDLE_REASONS

SIDE_LANES = ("cpu", "h2d", "d2h", "host")
CPU_ATTENTION, COPY, SCHEDULING, NO_WORK = range(len(IDLE_REASONS))

_COPY_LANES = {"swap_in": "h2d", "reread": "h2d", "swap_out": "d2h", "offload": "d2h"}
_GPU_REGISTERS = frozenset({"embed", "launch.A", "launch.B", "attn.A", "sampled"})

_MAX_PROGRAMS = 8192  # a long run meets ever new shapes; the common ones come back at once

RunOp = Callable[[int], None]  # given the layer
JobTime = Callable[[int], int]  # given the layer, when the job of a register is done


class CompiledOp(NamedTuple):
    """`run(layer)` executes the op; its end is then `times[signal]`, unless it is a job."""

    run: RunOp
    template: OpTemplate
    durations: list[int]
    duration_slot: int
    signal: int | None
    waits_for_jobs: bool
    is_free: bool  # a GPU op that never waits


class LayerOps(NamedTuple):
    """The ops of one layer, with what extrapolation needs to know about them."""

    ops: tuple[CompiledOp, ...]
    runs: tuple[RunOp, ...]
    is_free: bool  # GPU ops that never wait
    may_repeat: bool
    lanes: tuple[Lane, ...]
    signals: tuple[int, ...]
    steps: tuple[tuple[int, int], ...]  # (duration slot, signal) of ops that are not jobs
    reversed_steps: tuple[tuple[int, int], ...]
    readers: tuple[tuple[int, DurationReader], ...]


class Block(NamedTuple):
    """A segment bound to the machine."""

    first_layer: int
    num_layers: int
    layer: LayerOps


class CompiledProgram(NamedTuple):
    """A program bound to one machine. `durations` are the slots a step must fill."""

    prologue: LayerOps
    blocks: tuple[Block, ...]
    epilogue: LayerOps
    durations: tuple[tuple[int, DurationReader], ...]


class _Waits(NamedTuple):
    """What an op waits for, with the reason for which the GPU idles meanwhile."""

    times: tuple[tuple[int, int], ...]
    jobs: tuple[tuple[JobTime, int], ...]


class Binder:
    """Registers and durations of one machine, and the functions that work on them."""

    def __init__(self, gpu: Gpu, side: dict[str, Lane]) -> None:
        self.times: list[int] = []
        self.jobs: dict[str, Job] = {}
        self.durations: list[int] = []
        self.job_durations: list[int] = []  # of sends, CPU attention and results; see Durations
        self._gpu = gpu
        self._side = side
        self._layers: dict[str, list[Job]] = {}
        self._time_slots: dict[str, int] = {}
        self._duration_slots: dict[OpTemplate, int] = {}
        self._programs: dict[Shape, CompiledProgram] = {}
        self._layer_ops: dict[tuple[int, int], tuple[LayerOps, tuple[OpTemplate, ...]]] = {}

    def compiled(self, program: Program) -> CompiledProgram:
        """The program bound to this machine; equal shapes share it."""
        found = self._programs.get(program.shape)
        if found is None:
            if len(self._programs) == _MAX_PROGRAMS:
                self._programs.clear()
            found = self._programs[program.shape] = self._compile(program)
        return found

    def _compile(self, program: Program) -> CompiledProgram:
        num_layers = program.shape.num_layers
        prologue = self._layer(program.prologue, num_layers)
        blocks = tuple(
            Block(first, count, self._layer(ops, num_layers))
            for first, count, ops in program.segments
        )
        epilogue = self._layer(program.epilogue, num_layers)
        readers = dict(prologue.readers)
        for block in blocks:
            readers.update(block.layer.readers)
        readers.update(epilogue.readers)
        return CompiledProgram(prologue, blocks, epilogue, tuple(readers.items()))

    def _layer(self, templates: tuple[OpTemplate, ...], num_layers: int) -> LayerOps:
        """Bound once: most programs differ only in where their layers stand.

        By identity, which is cheap: `templates` are shared between programs and kept alive here.
        """
        key = (id(templates), num_layers)
        if key not in self._layer_ops:
            ops = tuple(self._bind(template, num_layers) for template in templates)
            self._layer_ops[key] = (self._describe(ops), templates)
        return self._layer_ops[key][0]

    def _describe(self, ops: tuple[CompiledOp, ...]) -> LayerOps:
        lanes = dict.fromkeys(op.template.lane for op in ops if op.template.lane != "gpu")
        steps = tuple((op.duration_slot, op.signal) for op in ops if op.signal is not None)
        slots = {op.duration_slot: op.template for op in ops if op.durations is self.durations}
        return LayerOps(
            ops,
            tuple(op.run for op in ops),
            is_free=all(op.is_free for op in ops),
            may_repeat=not any(op.waits_for_jobs or op.signal is None for op in ops),
            lanes=tuple(self._side[lane] for lane in lanes),
            signals=tuple(sorted({signal for _, signal in steps})),
            steps=steps,
            reversed_steps=steps[::-1],
            readers=tuple((slot, duration_reader(op)) for slot, op in slots.items()),
        )

    def _bind(self, template: OpTemplate, num_layers: int) -> CompiledOp:
        durations, slot = self._duration_of(template)
        waits = self._waits(template)
        signal = None if template.priority == DEFERRABLE else self._time_slot(template.signal)
        if signal is None:
            run = self._deferrable(template, waits, durations, slot, num_layers)
        elif template.lane == "gpu":
            run = self._on_gpu(waits, slot, signal)
        else:
            run = self._beside(self._side[template.lane], waits, durations, slot, signal)
        is_free = template.lane == "gpu" and not (waits.times or waits.jobs)
        return CompiledOp(run, template, durations, slot, signal, bool(waits.jobs), is_free)

    # -- ops as functions ----------------------------------------------------------------------

    def _on_gpu(self, waits: _Waits, slot: int, signal: int) -> RunOp:
        gpu, times, durations = self._gpu, self.times, self.durations
        time_waits, job_waits = waits

        def run_free(_layer: int) -> None:
            times[signal] = gpu.free = gpu.free + durations[slot]

        if not (time_waits or job_waits):
            return run_free
        if job_waits or len(time_waits) > 1:
            return self._waiting_on_gpu(waits, slot, signal)
        register, reason = time_waits[0]

        def run_after_op(_layer: int) -> None:
            ready = times[register]
            if ready > gpu.free:
                gpu.idle_until(ready, reason)
            times[signal] = gpu.free = gpu.free + durations[slot]

        return run_after_op

    def _waiting_on_gpu(self, waits: _Waits, slot: int, signal: int) -> RunOp:
        gpu, times, durations = self._gpu, self.times, self.durations
        time_waits, job_waits = waits

        def run(layer: int) -> None:
            ready, reason = gpu.free, NO_WORK
            for register, why in time_waits:
                if times[register] > ready:
                    ready, reason = times[register], why
            for job_time, why in job_waits:
                time = job_time(layer)
                if time > ready:
                    ready, reason = time, why
            if ready > gpu.free:
                gpu.idle_until(ready, reason)
            times[signal] = gpu.free = ready + durations[slot]

        return run

    def _beside(
        self, lane: Lane, waits: _Waits, durations: list[int], slot: int, signal: int
    ) -> RunOp:
        times = self.times
        ready = self._ready(waits)

        def run(layer: int) -> None:
            times[signal] = lane.run(ready(layer), durations[slot])

        if len(waits.times) != 1:
            return run
        register = waits.times[0][0]

        def run_after_op(_layer: int) -> None:
            times[signal] = lane.run(times[register], durations[slot])

        return run if waits.jobs else run_after_op

    def _deferrable(
        self,
        template: OpTemplate,
        waits: _Waits,
        durations: list[int],
        slot: int,
        num_layers: int,
    ) -> RunOp:
        lane, jobs, layers = self._side[template.lane], self.jobs, self._layers
        ready = self._ready(waits)
        own, previous = template.signal, f"{template.signal}.prev"

        def run(layer: int) -> None:
            jobs[own] = lane.submit(ready(layer), durations[slot], (template, layer))

        def run_keeping_previous(layer: int) -> None:
            if own in jobs:
                jobs[previous] = jobs[own]
            run(layer)

        def run_all_layers(_layer: int) -> None:
            start, duration = ready(0), durations[slot]
            layers[own] = [
                lane.submit(start, duration, (template, layer)) for layer in range(num_layers)
            ]

        if template.is_per_layer:
            return run_all_layers
        return run_keeping_previous if template.keeps_previous else run

    def _ready(self, waits: _Waits) -> JobTime:
        """The latest of what an op waits for."""
        times = self.times
        registers = tuple(register for register, _ in waits.times)
        job_times = tuple(job_time for job_time, _ in waits.jobs)

        def latest(layer: int) -> int:
            found = [times[register] for register in registers]
            found += [job_time(layer) for job_time in job_times]
            return max(found, default=0)

        if len(registers) != 1 or len(job_times) > 1:
            return latest
        register = registers[0]
        if not job_times:
            return lambda _layer: times[register]
        job_time = job_times[0]

        return lambda layer: max(times[register], job_time(layer))

    # -- waits ---------------------------------------------------------------------------------

    def _waits(self, template: OpTemplate) -> _Waits:
        times, jobs = [], []
        for name in template.waits:
            stem, is_layered, offset = name.partition("@")
            kind = stem.removesuffix(".prev")
            if kind in _COPY_LANES:
                lane = self._side[_COPY_LANES[kind]]
                if is_layered:
                    jobs.append((self._layer_time(stem, lane, int(offset or 0)), COPY))
                else:
                    jobs.append((self._job_time(stem, lane), COPY))
            elif kind.startswith("ticket."):
                jobs.append((self._job_time(stem, self._side["cpu"]), CPU_ATTENTION))
            elif template.lane != "gpu" or stem not in _GPU_REGISTERS:
                reason = SCHEDULING if stem == "ready" else CPU_ATTENTION
                times.append((self._time_slot(stem), reason))
        return _Waits(tuple(times), tuple(jobs))

    def _job_time(self, name: str, lane: Lane) -> JobTime:
        jobs, finish = self.jobs, lane.finish

        def job_time(_layer: int) -> int:
            job = jobs.get(name)
            if job is None:
                return 0
            done = job.finish
            return finish(job) if done is None else done

        return job_time

    def _layer_time(self, name: str, lane: Lane, ahead: int) -> JobTime:
        layers = self._layers

        def layer_time(layer: int) -> int:
            return lane.finish(layers[name][layer + ahead])

        return layer_time

    def _time_slot(self, name: str) -> int:
        slot = self._time_slots.get(name)
        if slot is None:
            slot = self._time_slots[name] = len(self.times)
            self.times.append(0)
        return slot

    def _duration_of(self, template: OpTemplate) -> tuple[list[int], int]:
        """Where an op's duration is found. Ops of one kind, group and cohorts share a place: they
        cost the same in every layer.
        """
        place = job_slot(template)
        if place is not None:
            return self.job_durations, place
        key = template._replace(waits=(), signal="")
        slot = self._duration_slots.get(key)
        if slot is None:
            slot = self._duration_slots[key] = len(self.durations)
            self.durations.append(0)
        return self.durations, slot
