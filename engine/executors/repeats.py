"""Identical layers of a segment, run in full until the lane state repeats and then multiplied.

Once the whole lane state relative to the GPU clock repeats (any period up to 4) every further
period adds the same to every counter. Exact to the nanosecond; decides nothing about ops.
"""

from typing import NamedTuple

from apexbench.engine.executors.compiled import Block, LayerOps
from apexbench.engine.executors.lanes import Gpu

MAX_PERIOD = 4


class _State(NamedTuple):
    """Lane state after a layer. `relative` and `queued` must repeat; the rest is summed up."""

    relative: tuple[int, ...]
    queued: tuple[int, ...]
    gpu_free: int
    totals: tuple[int, ...]  # idle by reason, CPU work in idle time, busy per lane
    heads: tuple[int, ...]  # work left of each lane's first job


def run_all(block: Block) -> None:
    """Run all layers of a block one by one."""
    first_layer, num_layers, layer_ops = block
    for layer in range(first_layer, first_layer + num_layers):
        for run in layer_ops.runs:
            run(layer)


def run_repeating(block: Block, gpu: Gpu, ends: list[int]) -> None:
    """Run all layers of a block whose ops neither submit jobs nor wait for them.

    `ends` holds when the ops of this layer ended (the machine's registers).
    """
    first_layer, num_layers, layer_ops = block
    history: list[_State] = []
    layer, last = first_layer, first_layer + num_layers
    while layer < last:
        for run in layer_ops.runs:
            run(layer)
        layer += 1
        if layer == last:
            return
        history.append(_state(layer_ops, gpu, ends))
        period = _period(history)
        if period and last - layer >= period:
            before, after = history[-1 - period], history[-1]
            times = _allowed(layer_ops, before, after, (last - layer) // period)
            if times:
                _multiply(layer_ops, gpu, ends, _gain(before, after), times)
                layer += times * period
                history.clear()


def _state(block: LayerOps, gpu: Gpu, ends: list[int]) -> _State:
    free, lanes = gpu.free, block.lanes
    relative = [lane.free - free for lane in lanes]
    relative += [lane.cursor - free for lane in lanes]
    relative += [ends[slot] - free for slot in block.signals]
    for lane in lanes:
        relative += lane.busy_after(free)
    return _State(
        tuple(relative),
        tuple([len(lane.queue) for lane in lanes]),
        free,
        (*gpu.idle, gpu.cpu_in_idle, *[lane.busy for lane in lanes]),
        tuple([lane.queue[0].remaining if lane.queue else 0 for lane in lanes]),
    )


def _period(history: list[_State]) -> int:
    """The shortest period, 0 if none yet. The state decides all that follows, so one return to it
    is enough.
    """
    latest = history[-1]
    for period in range(1, min(MAX_PERIOD, len(history) - 1) + 1):
        before = history[-1 - period]
        if latest.relative == before.relative and latest.queued == before.queued:
            return period
    return 0


class _Gain(NamedTuple):
    """What one period adds."""

    gpu_free: int
    totals: tuple[int, ...]
    heads: tuple[int, ...]


def _gain(before: _State, after: _State) -> _Gain:
    return _Gain(
        after.gpu_free - before.gpu_free,
        tuple([new - old for old, new in zip(before.totals, after.totals, strict=True)]),
        tuple([new - old for old, new in zip(before.heads, after.heads, strict=True)]),
    )


def _allowed(block: LayerOps, before: _State, after: _State, wanted: int) -> int:
    """How many periods may be added. Queued deferrable work only loses time per period; once it
    would begin or finish, layers differ.
    """
    times = wanted
    for lane, old, new in zip(block.lanes, before.heads, after.heads, strict=True):
        if lane.queue and lane.queue[0].arrival > before.gpu_free:
            return 0
        if lane.queue and old > new:
            times = min(times, (new - 1) // (old - new))
    return max(0, times)


def _multiply(block: LayerOps, gpu: Gpu, ends: list[int], gain: _Gain, times: int) -> None:
    delta = gain.gpu_free * times
    reasons = len(gpu.idle)
    gpu.free += delta
    for index in range(reasons):
        gpu.idle[index] += gain.totals[index] * times
    gpu.cpu_in_idle += gain.totals[reasons] * times
    busy = gain.totals[reasons + 1 :]
    for lane, worked, left in zip(block.lanes, busy, gain.heads, strict=True):
        lane.shift(delta)
        lane.busy += worked * times
        if lane.queue:
            lane.queue[0].remaining += left * times
    for slot in block.signals:
        ends[slot] += delta
