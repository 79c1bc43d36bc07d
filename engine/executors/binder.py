"""Binds step programs to simulated lanes, layer by layer, with shortcuts. Runs nothing.

Programs share their segments, segments their layers, layers their ops: each is bound once.
"""

from apexbench.engine.executors.compiled import (
    Block,
    Call,
    CompiledOp,
    CompiledProgram,
    LayerOps,
    RunOp,
)
from apexbench.engine.executors.durations import duration_reader
from apexbench.engine.executors.lanes import Gpu, Lane
from apexbench.engine.executors.op_binder import OpBinder
from apexbench.engine.executors.repeats import run_all, run_repeating
from apexbench.engine.executors.shortcuts import free_layers, is_plain_join, plain_join
from apexbench.engine.program import Program, Segment
from apexbench.engine.step_ops import OpTemplate

# Layers are only extrapolated in segments of this many: below, finding out whether the lane state
# repeats costs more than the layers it saves (measured on fused steps with 2 to 33 cohorts).
_MIN_REPEATING_LAYERS = 8
_MAX_PROGRAMS = 8192  # a long run meets ever new shapes; the common ones come back at once


class Binder:
    """The programs of one machine."""

    def __init__(self, gpu: Gpu, side: dict[str, Lane]) -> None:
        self._gpu = gpu
        self._side = side
        self._ops = OpBinder(gpu, side)
        self.registers = self._ops.registers
        self._programs: dict[int, CompiledProgram] = {}
        self._segments: dict[tuple[int, int, int], tuple[Block, list[Call]]] = {}
        self._layer_ops: dict[tuple[int, int], tuple[LayerOps, tuple[OpTemplate, ...]]] = {}

    def compiled(self, program: Program) -> CompiledProgram:
        """The program bound to this machine. Found by identity, which is cheap: equal shapes share
        one program, and it is kept alive here.
        """
        found = self._programs.get(id(program))
        if found is None:
            if len(self._programs) == _MAX_PROGRAMS:
                self._programs.clear()
                self._segments.clear()
            found = self._programs[id(program)] = self._compile(program)
        return found

    def _compile(self, program: Program) -> CompiledProgram:
        num_layers = program.shape.num_layers
        prologue = self._layer(program.prologue, num_layers)
        bound = [self._segment(segment, num_layers) for segment in program.segments]
        blocks = tuple([block for block, _ in bound])
        epilogue = self._layer(program.epilogue, num_layers)
        readers = dict(prologue.readers)
        for block in blocks:
            readers.update(block.layer.readers)
        readers.update(epilogue.readers)
        calls = [(run, 0) for run in prologue.runs]
        for _, calls_of_block in bound:
            calls += calls_of_block
        calls += [(run, 0) for run in epilogue.runs]
        return CompiledProgram(
            *(program, prologue, blocks, epilogue),
            durations=tuple(readers.items()),
            calls=tuple(calls),
        )

    def _segment(self, segment: Segment, num_layers: int) -> tuple[Block, list[Call]]:
        """Bound once: programs meet the same segments over and over."""
        first, count, ops = segment
        layer_ops = self._layer(ops, num_layers)
        key = (first, count, id(layer_ops))
        if key not in self._segments:
            block = Block(first, count, layer_ops)
            self._segments[key] = (block, self._calls(block))
        return self._segments[key]

    def _calls(self, block: Block) -> list[Call]:
        """How a segment is run: in one go where the GPU never waits, else layer by layer."""
        first_layer, num_layers, layer_ops = block
        if layer_ops.skip is not None:
            return [(layer_ops.skip, num_layers)]
        if num_layers == 1:
            return [(run, first_layer) for run in layer_ops.runs]
        if layer_ops.may_repeat and num_layers >= _MIN_REPEATING_LAYERS:
            return [
                (lambda _layer: run_repeating(block, self._gpu, self.registers.times), first_layer)
            ]
        return [(lambda _layer: run_all(block), first_layer)]

    def _layer(self, templates: tuple[OpTemplate, ...], num_layers: int) -> LayerOps:
        """Bound once: most programs differ only in where their layers stand.

        By identity, which is cheap: `templates` are shared between programs and kept alive here.
        """
        key = (id(templates), num_layers)
        if key not in self._layer_ops:
            ops = tuple([self._ops.op(template, num_layers) for template in templates])
            self._layer_ops[key] = (self._describe(ops), templates)
        return self._layer_ops[key][0]

    def _describe(self, ops: tuple[CompiledOp, ...]) -> LayerOps:
        lanes = dict.fromkeys(op.template.lane for op in ops if op.template.lane != "gpu")
        slots = {
            op.duration_slot: op.template for op in ops if op.durations is self.registers.durations
        }
        is_free = all(op.is_free for op in ops)
        return LayerOps(
            ops,
            self._runs(ops),
            skip=free_layers(ops, self._gpu, self.registers) if is_free else None,
            may_repeat=not any(op.waits_for_jobs or op.signal is None for op in ops),
            lanes=tuple(self._side[lane] for lane in lanes),
            signals=tuple(sorted({op.signal for op in ops if op.signal is not None})),
            readers=tuple((slot, duration_reader(op)) for slot, op in slots.items()),
        )

    def _runs(self, ops: tuple[CompiledOp, ...]) -> tuple[RunOp, ...]:
        if is_plain_join(ops):
            ready = self._ops.time_slot("ready")
            return (plain_join(ops, ready, self._gpu, self._side, self.registers),)
        return tuple([op.run for op in ops])
