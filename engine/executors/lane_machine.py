"""Simulated lanes that run step programs in virtual time; overlap and idle time emerge from them.

GPU ops run in program order. Layers without joins are identical, so once the whole lane state
relative to the GPU clock repeats (period up to 4) the rest of a segment is extrapolated; the
outcome equals the full run to the nanosecond. The clocks of all lanes persist across steps.
"""

from collections.abc import Callable, Hashable
from typing import NamedTuple

from apexbench.engine.executors.lanes import Job, Lane
from apexbench.engine.program import DEFERRABLE, OpTemplate, Program, Segment, Shape
from apexbench.records import IDLE_REASONS

MAX_PERIOD = 4
_SIDE_LANES = ("cpu", "h2d", "d2h", "host")
_COPIES = ("swap_in", "swap_out", "offload", "reread")

CPU_ATTENTION, COPY, SCHEDULING, NO_WORK = range(len(IDLE_REASONS))

# (op, its cohort's plan position or "", layer, start, end) of everything that ran
SpanSink = Callable[[OpTemplate, int | None, int, int], None]


class _Wait(NamedTuple):
    """A register to wait for. `lane` is set when it holds a deferrable job of that lane."""

    slot: int
    reason: int
    lane: Lane | None
    layer_offset: int | None  # for per-layer registers, else None


class _Op(NamedTuple):
    """An op compiled against the machine's registers."""

    template: OpTemplate
    lane: Lane | None  # None is the GPU
    is_deferrable: bool
    duration_slot: int
    waits: tuple[_Wait, ...]
    signal: int
    previous: int | None


class _Block(NamedTuple):
    """The ops of one segment, with what extrapolation needs to know about them."""

    first_layer: int
    num_layers: int
    ops: tuple[_Op, ...]
    is_gpu_only: bool  # every op on the GPU, waiting for GPU ops alone
    may_repeat: bool
    lanes: tuple[Lane, ...]
    signals: tuple[int, ...]


class CompiledProgram(NamedTuple):
    """A program bound to one machine. `durations` lists (slot, op) that a step must fill."""

    prologue: tuple[_Op, ...]
    blocks: tuple[_Block, ...]
    epilogue: tuple[_Op, ...]
    durations: tuple[tuple[int, OpTemplate], ...]


class LaneMachine:
    """State of all lanes. `extrapolates=False` runs every layer: the slow twin of the fast path."""

    def __init__(self, *, extrapolates: bool = True) -> None:
        self.extrapolates = extrapolates
        self.gpu_free = 0
        self.gpu_busy = 0
        self.idle = [0] * len(IDLE_REASONS)
        self.cpu_in_gpu_idle = 0
        self.cpu = Lane(remembers_busy=True)
        self.side: dict[str, Lane] = {"cpu": self.cpu} | {n: Lane() for n in _SIDE_LANES[1:]}
        self.tickets: dict[int, Job] = {}
        self.span_sink: SpanSink | None = None
        self._slots: dict[Hashable, int] = {}
        self._duration_slots: dict[OpTemplate, int] = {}
        self._registers: list[int | Job | list[Job]] = []
        self._durations: list[int] = []
        self._compiled: dict[Shape, CompiledProgram] = {}

    # -- running -------------------------------------------------------------------------------

    def run(
        self,
        program: Program,
        cohorts: tuple[int, ...],
        duration_of: Callable[[OpTemplate], int],
        now: int,
    ) -> int:
        """Run one step that may begin at `now`; returns when its tokens are sampled.

        `cohorts` are the ids of the plan's cohorts, in plan order; their tickets outlive the step.
        """
        compiled = self._compiled.get(program.shape) or self._compile(program)
        for slot, template in compiled.durations:
            self._durations[slot] = duration_of(template)
        self._begin(cohorts, now)
        self._run_ops(compiled.prologue, 0, program.shape.num_layers)
        for block in compiled.blocks:
            self._run_block(block)
        self._run_ops(compiled.epilogue, program.shape.num_layers - 1, 1)
        self._end(cohorts)
        return self.gpu_free

    def idle_until(self, time_ns: int) -> None:
        """Nothing to run before `time_ns`."""
        self._gap(time_ns, NO_WORK)

    def register(self, name: str) -> int | Job | list[Job]:
        """The latest value of a completion register."""
        return self._registers[self._slot(name)]

    def flush(self, time_ns: int) -> None:
        """Account deferrable work up to `time_ns`, which no later op precedes."""
        for lane in self.side.values():
            lane.serve(time_ns)

    @property
    def busy_ns(self) -> tuple[int, ...]:
        """Busy time so far in the order of records.LANES."""
        return (self.gpu_busy, *(self.side[name].busy for name in _SIDE_LANES))

    @property
    def overlap_ns(self) -> int:
        """Time so far in which the GPU and the CPU lane both worked."""
        return self.cpu.busy - self.cpu_in_gpu_idle

    def _begin(self, cohorts: tuple[int, ...], now: int) -> None:
        host = self.side["host"]
        host.free = max(host.free, now)
        for position, cohort in enumerate(cohorts):
            job = self.tickets.get(cohort)
            if job is not None:
                self._registers[self._slot(f"ticket.c{position}")] = job

    def _end(self, cohorts: tuple[int, ...]) -> None:
        """Keep the tickets that were signalled in this step; joined ones are spent."""
        for position, cohort in enumerate(cohorts):
            job = self._registers[self._slot(f"ticket.c{position}")]
            if isinstance(job, Job):
                self.tickets[cohort] = job

    def _run_block(self, block: _Block) -> None:
        if self.span_sink is None and self.extrapolates:
            if block.is_gpu_only:
                self._run_gpu_only(block)
                return
            if block.may_repeat and block.num_layers > MAX_PERIOD:
                self._run_repeating(block)
                return
        for layer in range(block.first_layer, block.first_layer + block.num_layers):
            self._run_ops(block.ops, layer, 1)

    def _run_ops(self, ops: tuple[_Op, ...], layer: int, num_layers: int) -> None:
        for op in ops:
            if op.template.is_per_layer:
                self._queue_per_layer(op, num_layers)
            elif op.lane is None:
                self._run_on_gpu(op, layer)
            else:
                self._run_beside(op, op.lane, layer)

    def _run_on_gpu(self, op: _Op, layer: int) -> None:
        ready = self.gpu_free
        reason = NO_WORK
        for wait in op.waits:
            time = self._resolve(wait, layer)
            if time > ready:
                ready = time
                reason = wait.reason
        if ready > self.gpu_free:
            self._gap(ready, reason)
        end = ready + self._durations[op.duration_slot]
        self.gpu_free = end
        self.gpu_busy += end - ready
        self._registers[op.signal] = end
        if self.span_sink is not None:
            self.span_sink(op.template, layer, ready, end)

    def _run_beside(self, op: _Op, lane: Lane, layer: int) -> None:
        ready = 0
        for wait in op.waits:
            ready = max(ready, self._resolve(wait, layer))
        duration = self._durations[op.duration_slot]
        if op.is_deferrable:
            if op.previous is not None:
                self._registers[op.previous] = self._registers[op.signal]
            self._registers[op.signal] = lane.submit(ready, duration, (op.template, layer))
            return
        start = lane.run(ready, duration)
        self._registers[op.signal] = lane.free
        if self.span_sink is not None:
            self.span_sink(op.template, layer, start, lane.free)

    def _queue_per_layer(self, op: _Op, num_layers: int) -> None:
        ready = max(self._resolve(wait, 0) for wait in op.waits)
        lane, duration = op.lane, self._durations[op.duration_slot]
        assert lane is not None
        self._registers[op.signal] = [
            lane.submit(ready, duration, (op.template, layer)) for layer in range(num_layers)
        ]

    def _resolve(self, wait: _Wait, layer: int) -> int:
        value = self._registers[wait.slot]
        if isinstance(value, list):
            assert wait.layer_offset is not None
            value = value[layer + wait.layer_offset]
        if isinstance(value, Job):
            assert wait.lane is not None
            return wait.lane.finish(value)
        return value

    def _gap(self, until: int, reason: int) -> None:
        if until <= self.gpu_free:
            return
        self.idle[reason] += until - self.gpu_free
        self.cpu_in_gpu_idle += self.cpu.busy_within(self.gpu_free, until)
        self.gpu_free = until

    # -- identical layers ----------------------------------------------------------------------

    def _run_gpu_only(self, block: _Block) -> None:
        """GPU ops that wait for GPU ops alone follow each other without a gap."""
        total = sum(self._durations[op.duration_slot] for op in block.ops) * block.num_layers
        self.gpu_free += total
        self.gpu_busy += total
        end = self.gpu_free
        for op in reversed(block.ops):
            self._registers[op.signal] = end
            end -= self._durations[op.duration_slot]

    def _run_repeating(self, block: _Block) -> None:
        history: list[_State] = []
        layer, last = block.first_layer, block.first_layer + block.num_layers
        while layer < last:
            self._run_ops(block.ops, layer, 1)
            layer += 1
            history.append(self._state(block))
            period = _period(history)
            if period and last - layer >= period:
                skipped = self._skip(block, history, period, (last - layer) // period)
                layer += skipped * period
                if skipped:
                    history.clear()

    def _state(self, block: _Block) -> "_State":
        gpu = self.gpu_free
        relative = [lane.free - gpu for lane in block.lanes]
        relative += [lane.cursor - gpu for lane in block.lanes if lane.queue]
        for slot in block.signals:
            value = self._registers[slot]
            assert isinstance(value, int)
            relative.append(value - gpu)
        return _State(
            tuple(relative),
            tuple(len(lane.queue) for lane in block.lanes),
            tuple(lane.queue[0].remaining if lane.queue else 0 for lane in block.lanes),
            (gpu, self.gpu_busy, *self.idle, self.cpu_in_gpu_idle),
            tuple(lane.busy for lane in block.lanes),
        )

    def _skip(self, block: _Block, history: list["_State"], period: int, wanted: int) -> int:
        """Repeat the last `period` layers up to `wanted` times; returns how often it was legal.

        Queued deferrable work only loses time per period; once it would begin or finish, layers
        differ.
        """
        before, after = history[-1 - period], history[-1]
        times = wanted
        for lane, old, new in zip(block.lanes, before.heads, after.heads, strict=True):
            if lane.queue and lane.queue[0].arrival > before.totals[0]:
                return 0
            if lane.queue and old > new:
                times = min(times, (new - 1) // (old - new))
        if times <= 0:
            return 0
        gained = [new - old for old, new in zip(before.totals, after.totals, strict=True)]
        self._shift(block, gained[0] * times)
        self.gpu_busy += gained[1] * times
        for index in range(len(self.idle)):
            self.idle[index] += gained[2 + index] * times
        self.cpu_in_gpu_idle += gained[-1] * times
        for index, lane in enumerate(block.lanes):
            lane.busy += (after.busy[index] - before.busy[index]) * times
            if lane.queue:
                lane.queue[0].remaining -= (before.heads[index] - after.heads[index]) * times
        return times

    def _shift(self, block: _Block, delta: int) -> None:
        self.gpu_free += delta
        for lane in block.lanes:
            lane.free += delta
            lane.cursor += delta
            if lane.recent is not None:
                lane.recent = [(start + delta, end + delta) for start, end in lane.recent]
        for slot in block.signals:
            value = self._registers[slot]
            assert isinstance(value, int)
            self._registers[slot] = value + delta

    # -- compiling -----------------------------------------------------------------------------

    def _compile(self, program: Program) -> CompiledProgram:
        templates = [*program.prologue, *program.epilogue]
        templates += [op for segment in program.segments for op in segment.ops]
        compiled = CompiledProgram(
            prologue=tuple(self._op(op) for op in program.prologue),
            blocks=tuple(self._block(segment) for segment in program.segments),
            epilogue=tuple(self._op(op) for op in program.epilogue),
            durations=tuple({self._duration_slot(op): op for op in templates}.items()),
        )
        self._compiled[program.shape] = compiled
        return compiled

    def _block(self, segment: Segment) -> _Block:
        ops = tuple(self._op(op) for op in segment.ops)
        own = {op.signal for op in ops}
        is_gpu_only = all(op.lane is None for op in ops) and all(
            wait.slot in own for op in ops for wait in op.waits
        )
        lanes = tuple(dict.fromkeys(op.lane for op in ops if op.lane is not None))
        may_repeat = not any(
            op.is_deferrable or any(wait.lane is not None for wait in op.waits) for op in ops
        )
        signals = tuple(sorted(own))
        return _Block(*segment[:2], ops, is_gpu_only, may_repeat, lanes, signals)

    def _op(self, template: OpTemplate) -> _Op:
        is_gpu = template.lane == "gpu"
        return _Op(
            template=template,
            lane=None if is_gpu else self.side[template.lane],
            is_deferrable=template.priority == DEFERRABLE,
            duration_slot=self._duration_slot(template),
            waits=tuple(self._wait(name) for name in template.waits),
            signal=self._slot(template.signal),
            previous=self._slot(template.signal + ".prev") if template.keeps_previous else None,
        )

    def _wait(self, name: str) -> _Wait:
        stem, at, offset = name.partition("@")
        kind = stem.removesuffix(".prev")
        lane = None
        if kind in _COPIES:
            lane = self.side["h2d" if kind in {"swap_in", "reread"} else "d2h"]
        elif kind.startswith("ticket."):
            lane = self.cpu
        return _Wait(self._slot(stem), _reason(kind), lane, int(offset or 0) if at else None)

    def _slot(self, name: Hashable) -> int:
        slot = self._slots.get(name)
        if slot is None:
            slot = self._slots[name] = len(self._registers)
            self._registers.append(0)
        return slot

    def _duration_slot(self, template: OpTemplate) -> int:
        """Ops of one kind, group and cohorts cost the same in every layer."""
        key = template._replace(waits=(), signal="")
        slot = self._duration_slots.get(key)
        if slot is None:
            slot = self._duration_slots[key] = len(self._durations)
            self._durations.append(0)
        return slot


class _State(NamedTuple):
    """Lane state after a layer. `relative` and `queued` must repeat; the rest is summed up."""

    relative: tuple[int, ...]
    queued: tuple[int, ...]
    heads: tuple[int, ...]
    totals: tuple[int, ...]
    busy: tuple[int, ...]


def _period(history: list[_State]) -> int:
    """The shortest period whose last two repetitions agree in state and in what they cost."""
    latest = history[-1]
    for period in range(1, MAX_PERIOD + 1):
        if len(history) < 2 * period + 1:
            return 0
        middle, first = history[-1 - period], history[-1 - 2 * period]
        if (
            latest.relative == middle.relative == first.relative
            and latest.queued == middle.queued == first.queued
            and _gain(middle, latest) == _gain(first, middle)
        ):
            return period
    return 0


def _gain(before: _State, after: _State) -> tuple[int, ...]:
    old = (*before.totals, *before.busy, *before.heads)
    new = (*after.totals, *after.busy, *after.heads)
    return tuple(b - a for a, b in zip(old, new, strict=True))


def _reason(register: str) -> int:
    if register in _COPIES:
        return COPY
    return SCHEDULING if register == "ready" else CPU_ATTENTION
