"""Layers that long runs meet most, each as one function. Exact; decides nothing about ops.

A shortcut does what the ops do one by one, in the same order on the same lanes.
"""

from apexbench.engine.executors.compiled import (
    CPU_ATTENTION,
    CompiledOp,
    Registers,
    RunOp,
    SkipLayers,
)
from apexbench.engine.executors.lanes import Gpu, Job, Lane


def cohort_position(ticket: str) -> int:
    """Which of the plan's cohorts the register "ticket.c<n>" belongs to."""
    return int(ticket.removeprefix("ticket.c"))


def free_layers(ops: tuple[CompiledOp, ...], gpu: Gpu, registers: Registers) -> SkipLayers:
    """Layers of GPU ops that wait for nothing and follow each other without a gap."""
    times, durations = registers.times, registers.durations
    steps = tuple((op.duration_slot, op.signal) for op in ops if op.signal is not None)
    if [op.template.kind for op in ops] == ["attn_gpu", "launch"]:
        return _free_pair(steps[0], steps[1], gpu, registers)
    backwards = steps[::-1]

    def skip(num_layers: int) -> None:
        total = 0
        for slot, _ in steps:
            total += durations[slot]
        end = gpu.free = gpu.free + total * num_layers
        for slot, signal in backwards:
            times[signal] = end
            end -= durations[slot]

    return skip


def _free_pair(
    first: tuple[int, int], second: tuple[int, int], gpu: Gpu, registers: Registers
) -> SkipLayers:
    """The same for attention and a launch group, which almost all layers are."""
    times, durations = registers.times, registers.durations
    (first_slot, first_signal), (second_slot, second_signal) = first, second

    def skip(num_layers: int) -> None:
        last = durations[second_slot]
        end = gpu.free + (durations[first_slot] + last) * num_layers
        times[first_signal] = end - last
        times[second_signal] = gpu.free = end

    return skip


def is_plain_join(ops: tuple[CompiledOp, ...]) -> bool:
    """True for exactly the ops that `plain_join` runs: one cohort and nothing else beside."""
    group = ops[1].template.group if len(ops) > 1 else ""
    return [(op.template.kind, op.template.waits) for op in ops] == [
        ("attn_gpu", ("launch.A",)),
        ("recv", ("ready", f"ticket.{group}")),
        ("launch", ("attn.A", f"recv.{group}")),
        ("send", ("launch.A",)),
        ("attn_cpu", (f"send.{group}",)),
    ]


def plain_join(
    ops: tuple[CompiledOp, ...],
    ready: int,
    gpu: Gpu,
    side: dict[str, Lane],
    registers: Registers,
) -> RunOp:
    """A cohort's result comes over during GPU attention, it joins, and leaves for the next layer.

    `ready` is the register from which results may come over.
    """
    times, _, durations, job_durations, cohorts, tickets = registers
    attention, recv, launch, send, work = (op.duration_slot for op in ops)
    attended, received, launched, sent = (op.signal or 0 for op in ops[:-1])
    take_result, send_rows, finish = side["h2d"].run, side["d2h"].run, side["cpu"].finish
    enqueue = side["cpu"].queue.append  # Lane.submit, on a lane without holes
    template = ops[-1].template
    position = cohort_position(template.signal)

    def run(layer: int) -> None:
        free = times[attended] = gpu.free = gpu.free + durations[attention]
        cohort = cohorts[position]
        job, begin = tickets[cohort], times[ready]
        done = finish(job) if job.finish is None else job.finish
        if done > begin:
            begin = done
        arrival = take_result(begin, job_durations[recv])
        times[received] = arrival
        if arrival > free:
            gpu.idle_until(arrival, CPU_ATTENTION)
            free = arrival
        free = times[launched] = gpu.free = free + job_durations[launch]
        left = times[sent] = send_rows(free, job_durations[send])
        job = tickets[cohort] = Job(left, job_durations[work], (template, layer))
        enqueue(job)

    return run
