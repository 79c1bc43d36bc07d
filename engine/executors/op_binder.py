"""Binds ops to simulated lanes: every op becomes one small function. Runs nothing.

What an op waits for is looked up here, once per op, so that running it costs little: GPU ops run
in program order and need not wait for each other; a register holds either a time or a job.
"""

from collections.abc import Callable
from typing import NamedTuple

from apexbench.engine.executors.compiled import (
    COPY,
    CPU_ATTENTION,
    NO_WORK,
    SCHEDULING,
    CompiledOp,
    Registers,
    RunOp,
)
from apexbench.engine.executors.durations import job_slot
from apexbench.engine.executors.lanes import Gpu, Job, Lane
from apexbench.engine.executors.shortcuts import cohort_position
from apexbench.engine.step_ops import DEFERRABLE, OpTemplate

_COPY_LANES = {"swap_in": "h2d", "reread": "h2d", "swap_out": "d2h", "offload": "d2h"}
_GPU_REGISTERS = frozenset({"embed", "launch.A", "launch.B", "attn.A", "sampled"})

JobTime = Callable[[int], int]  # given the layer, when the job of a register is done


class _Waits(NamedTuple):
    """What an op waits for, with the reason for which the GPU idles meanwhile."""

    times: tuple[tuple[int, int], ...]
    jobs: tuple[tuple[JobTime, int], ...]


class OpBinder:
    """The functions of one machine's ops, and the registers they share."""

    def __init__(self, gpu: Gpu, side: dict[str, Lane]) -> None:
        self.registers = registers = Registers([], {}, [], [], [], {})
        self.times, self.jobs = registers.times, registers.jobs
        self.durations, self.job_durations = registers.durations, registers.job_durations
        self.cohorts, self.tickets = registers.cohorts, registers.tickets
        self._gpu = gpu
        self._side = side
        self._layers: dict[str, list[Job]] = {}
        self._time_slots: dict[str, int] = {}
        self._duration_slots: dict[OpTemplate, int] = {}
        self._ops: dict[tuple[OpTemplate, int], CompiledOp] = {}

    def op(self, template: OpTemplate, num_layers: int) -> CompiledOp:
        """Bound once: layers differ in which ops they combine."""
        found = self._ops.get((template, num_layers))
        if found is None:
            found = self._ops[template, num_layers] = self._bind(template, num_layers)
        return found

    def _bind(self, template: OpTemplate, num_layers: int) -> CompiledOp:
        durations, slot = self._duration_of(template)
        waits = self._waits(template)
        signal = None if template.priority == DEFERRABLE else self.time_slot(template.signal)
        if signal is None:
            run = self._deferrable(template, waits, durations, slot, num_layers)
        elif template.lane == "gpu":
            run = self._on_gpu(waits, durations, slot, signal)
        else:
            run = self._beside(self._side[template.lane], waits, durations, slot, signal)
        is_free = template.lane == "gpu" and not (waits.times or waits.jobs)
        return CompiledOp(run, template, durations, slot, signal, bool(waits.jobs), is_free)

    # -- ops as functions ----------------------------------------------------------------------

    def _on_gpu(self, waits: _Waits, durations: list[int], slot: int, signal: int) -> RunOp:
        gpu, times = self._gpu, self.times
        time_waits, job_waits = waits

        def run_free(_layer: int) -> None:
            times[signal] = gpu.free = gpu.free + durations[slot]

        if not (time_waits or job_waits):
            return run_free
        if job_waits or len(time_waits) > 1:
            return self._waiting_on_gpu(waits, durations, slot, signal)
        register, reason = time_waits[0]

        def run_after_op(_layer: int) -> None:
            ready = times[register]
            if ready > gpu.free:
                gpu.idle_until(ready, reason)
            times[signal] = gpu.free = gpu.free + durations[slot]

        return run_after_op

    def _waiting_on_gpu(self, waits: _Waits, durations: list[int], slot: int, signal: int) -> RunOp:
        gpu, times = self._gpu, self.times
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

        if own.startswith("ticket."):
            return self._issuing_ticket(template, ready, slot)
        if template.is_per_layer:
            return run_all_layers
        return run_keeping_previous if template.keeps_previous else run

    def _issuing_ticket(self, template: OpTemplate, ready: JobTime, slot: int) -> RunOp:
        cohorts, tickets, durations = self.cohorts, self.tickets, self.job_durations
        submit, position = self._side["cpu"].submit, cohort_position(template.signal)

        def run(layer: int) -> None:
            tickets[cohorts[position]] = submit(ready(layer), durations[slot], (template, layer))

        return run

    def _ready(self, waits: _Waits) -> JobTime:
        """The latest of what an op waits for."""
        times = self.times
        registers = tuple(register for register, _ in waits.times)
        job_times = tuple(job_time for job_time, _ in waits.jobs)

        def latest(layer: int) -> int:
            found = [times[register] for register in registers]
            found += [job_time(layer) for job_time in job_times]
            return max(found)

        if not (registers or job_times):
            return lambda _layer: 0
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
                jobs.append((self._ticket_time(stem), CPU_ATTENTION))
            elif template.lane != "gpu" or stem not in _GPU_REGISTERS:
                reason = SCHEDULING if stem == "ready" else CPU_ATTENTION
                times.append((self.time_slot(stem), reason))
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

    def _ticket_time(self, name: str) -> JobTime:
        cohorts, tickets, finish = self.cohorts, self.tickets, self._side["cpu"].finish
        position = cohort_position(name)

        def ticket_time(_layer: int) -> int:
            return finish(tickets[cohorts[position]])

        return ticket_time

    def _layer_time(self, name: str, lane: Lane, ahead: int) -> JobTime:
        layers = self._layers

        def layer_time(layer: int) -> int:
            return lane.finish(layers[name][layer + ahead])

        return layer_time

    def time_slot(self, name: str) -> int:
        """Where the end of what signals `name` is kept."""
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
