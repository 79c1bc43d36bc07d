"""What a step program bound to simulated lanes consists of: data only, made by binder.Binder."""

from collections.abc import Callable
from typing import NamedTuple

from apexbench.engine.executors.durations import DurationReader
from apexbench.engine.executors.lanes import Job, Lane
from apexbench.engine.program import Program
from apexbench.engine.step_ops import OpTemplate
from apexbench.records import IDLE_REASONS

SIDE_LANES = ("cpu", "h2d", "d2h", "host")
CPU_ATTENTION, COPY, SCHEDULING, NO_WORK = range(len(IDLE_REASONS))

RunOp = Callable[[int], None]  # given the layer
SkipLayers = Callable[[int], None]  # given how many
Call = tuple[Callable[[int], None], int]  # a function of the fast path with its argument


class Registers(NamedTuple):
    """What all functions of one machine share: signals, and the durations of the step at hand."""

    times: list[int]
    jobs: dict[str, Job]
    durations: list[int]
    job_durations: list[int]  # of sends, CPU attention, results and joins; see Durations
    cohorts: list[int]  # ids of the plan's cohorts, in plan order
    tickets: dict[int, Job]  # CPU attention of cohorts by id, which outlives a step


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
    """The ops of one layer. `runs` are the same with shortcuts; `skip` runs many layers at once,
    where the GPU never waits in them. The rest is what extrapolation needs to know.
    """

    ops: tuple[CompiledOp, ...]
    runs: tuple[RunOp, ...]
    skip: SkipLayers | None
    may_repeat: bool
    lanes: tuple[Lane, ...]
    signals: tuple[int, ...]
    readers: tuple[tuple[int, DurationReader], ...]


class Block(NamedTuple):
    """A segment bound to the machine."""

    first_layer: int
    num_layers: int
    layer: LayerOps


class CompiledProgram(NamedTuple):
    """A program bound to one machine. `durations` are the slots a step must fill; `calls` run it,
    shortcuts included, each function with its argument.
    """

    program: Program
    prologue: LayerOps
    blocks: tuple[Block, ...]
    epilogue: LayerOps
    durations: tuple[tuple[int, DurationReader], ...]
    calls: tuple[Call, ...]
