"""The step program: every strategy defined once, as ops on lanes with their dependencies.

`build(plan, carry)` is pure. A program is a prologue, segments of layers with equal ops, and an
epilogue; `expansion.expand()` writes it out op by op. GPU ops run in program order, which is what
makes sub-batches alternate and lets a cohort join one layer per step:

    one batch   pre(0) · attn(l) · post(l)+pre(l+1) · … · post(L-1) · head
    two batches A and B   pre_A(0) · attn_A(l) · post_B(l-1)+pre_B(l) · post_A(l)+pre_A(l+1) · …

A name signalled by an op is a completion register: whoever waits on it gets the latest value;
`name.prev` is the value before that. Deferred work and bulk copies have priority 1 on their lanes:
they take the time that priority 0 leaves.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from apexbench.engine.plan import ENTER, JOIN, PROMOTE, CohortAction, StepPlan
from apexbench.engine.sequence import Tier
from apexbench.errors import InvariantError

URGENT, DEFERRABLE = 0, 1


class OpTemplate(NamedTuple):
    """One op, the same for every layer of its segment.

    `group` is the rows it works on: "A", "B", "c0" (the plan's first cohort) or "" for the step.
    `cohorts` are further cohorts whose rows take part in a launch group.
    """

    kind: str
    lane: str
    group: str
    waits: tuple[str, ...]
    signal: str
    priority: int = URGENT
    cohorts: tuple[int, ...] = ()
    keeps_previous: bool = False
    is_per_layer: bool = False  # one copy per layer, all issued here, in layer order


class Segment(NamedTuple):
    """`num_layers` consecutive layers, starting at `first_layer`, that run the same ops."""

    first_layer: int
    num_layers: int
    ops: tuple[OpTemplate, ...]


class Shape(NamedTuple):
    """All that a program's structure depends on: equal shapes share one program."""

    num_layers: int
    has_two_batches: bool
    in_layer_a: bool
    in_layer_b: bool
    has_offload: bool
    has_reread: bool
    has_swap_in: bool
    has_swap_out: bool
    cohorts: tuple[tuple[CohortAction, int], ...]  # action and layer, in plan order


@dataclass(frozen=True, slots=True)
class Program:
    """Ops of one step, compact. A wait on "name@" means the layer at hand of a per-layer op."""

    shape: Shape
    prologue: tuple[OpTemplate, ...]
    segments: tuple[Segment, ...]
    epilogue: tuple[OpTemplate, ...]


# A cohort between two steps: the layer at which its CPU result is awaited, and its rows. A plain
# tuple because a step makes dozens. It owns its buffers.
WaitingCohort = tuple[int, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Carry:
    """What outlives a step: cohorts by id. Executors keep tickets and buffers beside it."""

    cohorts: Mapping[int, WaitingCohort] = field(default_factory=dict)


def build(plan: StepPlan, carry: Carry, num_layers: int) -> tuple[Program, Carry]:
    """The program of `plan` and the carry after it. InvariantError if they contradict."""
    program = _program(*_shape_of(plan, num_layers))
    if not plan.cohorts:
        return program, carry
    outstanding = dict(carry.cohorts)
    last = num_layers - 1
    for cohort, action, layer, rows, _ in plan.cohorts:
        if action is ENTER:
            if cohort in outstanding:
                raise InvariantError(f"cohort {cohort} entered twice")
            outstanding[cohort] = (0, rows)
        elif outstanding.get(cohort) != (layer, rows):
            raise InvariantError(f"cohort {cohort} does not wait at layer {layer} like this")
        elif action is JOIN and layer != last:
            outstanding[cohort] = (layer + 1, rows)
        else:
            del outstanding[cohort]
    return program, Carry(outstanding)


def _shape_of(plan: StepPlan, num_layers: int) -> tuple[object, ...]:
    """The structural key of a plan: the fields of its Shape, which few steps see first."""
    first, *others = plan.batches
    to_host = first.chunks and [chunk for chunk in first.chunks if chunk.tier is Tier.CPU]
    return (
        num_layers,
        bool(others),
        bool(first.in_layer_rows),
        bool(others) and bool(others[0].in_layer_rows),
        bool(to_host),
        bool(to_host) and any(chunk.context_tokens > 0 for chunk in to_host),
        plan.swap_in_tokens > 0,
        plan.swap_out_tokens > 0,
        tuple([step[1:3] for step in plan.cohorts]),  # action and layer
    )


@lru_cache(maxsize=8192)
def _program(*fields: Any) -> Program:
    shape = Shape(*fields)
    plain = shape._replace(cohorts=())  # so that equal parts of different shapes are shared
    return Program(
        shape=shape,
        prologue=_prologue(plain, _with_action(shape, ENTER)),
        segments=tuple(_segments(shape, plain)),
        epilogue=_epilogue(plain),
    )


@lru_cache(maxsize=4096)
def _prologue(shape: Shape, entering: tuple[int, ...]) -> tuple[OpTemplate, ...]:
    ops = [OpTemplate("schedule", "host", "", (), "ready"), *_swaps(shape)]
    ops.append(OpTemplate("embed", "gpu", "A", ("ready",), "embed", cohorts=entering))
    if shape.has_reread:
        ops.append(_bulk("reread", "h2d", ("ready", "offload")))
    ops.append(OpTemplate("pre", "gpu", "A", _waits_of_pre(shape), "launch.A", cohorts=entering))
    for cohort in entering:
        ops += _defer(cohort)
    return tuple(ops)


def _waits_of_pre(shape: Shape) -> tuple[str, ...]:
    """Blocks that leave in this step, and staging that an earlier step's prompts may still use."""
    leaving = ("swap_out@",) if shape.has_swap_out else ()
    staged = ("offload",) if shape.has_offload else ()
    return ("embed", *leaving, *staged)


def _swaps(shape: Shape) -> list[OpTemplate]:
    """KV that changes tier: queued at once for all layers, awaited layer by layer."""
    ops = []
    if shape.has_swap_out:
        ops.append(_bulk("swap_out", "d2h", ("ready",), is_per_layer=True))
    if shape.has_swap_in:
        ops.append(_bulk("swap_in", "h2d", ("ready",), is_per_layer=True))
    return ops


def _bulk(
    kind: str, lane: str, waits: tuple[str, ...], *, is_per_layer: bool = False
) -> OpTemplate:
    group = "" if is_per_layer else "A"
    return OpTemplate(
        *(kind, lane, group, waits, kind, DEFERRABLE),
        keeps_previous=not is_per_layer,
        is_per_layer=is_per_layer,
    )


@lru_cache(maxsize=4096)
def _epilogue(shape: Shape) -> tuple[OpTemplate, ...]:
    head = OpTemplate("head", "gpu", "", ("launch.A",), "sampled")
    if not shape.has_two_batches:
        return (head,)
    last = OpTemplate("post", "gpu", "B", _result_of(shape.in_layer_b, "B"), "launch.B")
    return (last, head)


def _segments(shape: Shape, plain: Shape) -> Iterator[Segment]:
    """Layers grouped where their ops are equal: joins, the first and the last stand alone."""
    joins: dict[int, tuple[int, ...]] = {}
    for cohort, (action, layer) in enumerate(shape.cohorts):
        if action is not ENTER:
            joins[layer] = (*joins.get(layer, ()), cohort)
    edges = {0, shape.num_layers - 1} if shape.has_two_batches else {shape.num_layers - 1}
    promoted = _with_action(shape, PROMOTE)
    start = 0
    riding: tuple[int, ...] = ()
    for layer in sorted(joins.keys() | edges):
        if layer > start:
            yield Segment(start, layer - start, _ops_at(plain, start, (), riding))
        joining = joins.get(layer, ())
        yield Segment(layer, 1, _ops_at(plain, layer, joining, riding, promoted))
        riding += tuple([cohort for cohort in joining if cohort in promoted])
        start = layer + 1


def _ops_at(
    plain: Shape,
    layer: int,
    joining: tuple[int, ...],
    riding: tuple[int, ...],
    promoted: tuple[int, ...] = (),
) -> tuple[OpTemplate, ...]:
    is_last = layer == plain.num_layers - 1
    leaving = () if is_last else tuple([c for c in joining if c not in promoted])
    return _ops_of_layer(plain, joining, riding, leaving, layer == 0, is_last)


@lru_cache(maxsize=4096)
def _ops_of_layer(
    shape: Shape,
    joining: tuple[int, ...],
    riding: tuple[int, ...],
    leaving: tuple[int, ...],
    is_first: bool,
    is_last: bool,
) -> tuple[OpTemplate, ...]:
    """Everything between pre(l) of batch A and the launch group that begins layer l + 1."""
    ops = _in_layer("A") if shape.in_layer_a else []
    for cohort in riding:
        ops += _in_layer(f"c{cohort}", launch="A")
    ops += _prompt_traffic(shape, is_last)
    ops.append(_gpu_attention(shape, is_last))
    beside = _second_batch(shape, is_first) if shape.has_two_batches else []
    later = [beside.pop()] if shape.in_layer_b else []  # recv(B), which A's launch does not await
    ops += [*beside, *(_result_of_cohort(shape, cohort) for cohort in joining), *later]
    ops.append(_launch(shape, joining + riding, is_last))
    for cohort in leaving:
        ops += _defer(cohort)
    return tuple(ops)


def _in_layer(group: str, launch: str | None = None) -> list[OpTemplate]:
    """Rows that leave for the CPU and are back before post(l) of the same layer."""
    return [
        OpTemplate("send", "d2h", group, (f"launch.{launch or group}",), f"send.{group}"),
        OpTemplate("attn_cpu", "cpu", group, (f"send.{group}",), f"cpu.{group}"),
        OpTemplate("recv", "h2d", group, (f"cpu.{group}",), f"recv.{group}"),
    ]


def _defer(cohort: int) -> list[OpTemplate]:
    """A cohort leaves after its launch group; the result is awaited one step later."""
    group = f"c{cohort}"
    return [
        OpTemplate("send", "d2h", group, ("launch.A",), f"send.{group}"),
        OpTemplate("attn_cpu", "cpu", group, (f"send.{group}",), f"ticket.{group}", DEFERRABLE),
    ]


def _result_of_cohort(shape: Shape, cohort: int) -> OpTemplate:
    """The result comes over as early as the step knows of the join. Where attention waits for
    bulk copies on the same lane it comes after attention, so as not to make that later.
    """
    has_bulk = shape.has_swap_in or shape.has_reread
    waits = ("attn.A" if has_bulk else "ready", f"ticket.c{cohort}")
    return OpTemplate("recv", "h2d", f"c{cohort}", waits, f"recv.c{cohort}")


def _prompt_traffic(shape: Shape, is_last: bool) -> list[OpTemplate]:
    """Bulk KV of CPU-bound prompts: out after pre(l); earlier chunks back one layer ahead.

    Two layers of staging: a layer's slot is reused two layers later, hence the waits on `.prev`.
    """
    ops = []
    if shape.has_offload:
        ops.append(_bulk("offload", "d2h", ("launch.A",)))
    if shape.has_reread and not is_last:
        ops.append(_bulk("reread", "h2d", ("ready", "attn.A")))
    return ops


def _gpu_attention(shape: Shape, is_last: bool) -> OpTemplate:
    waits = ["launch.A"]
    if shape.has_swap_in:
        waits.append("swap_in@")
    if shape.has_reread:
        waits.append("reread" if is_last else "reread.prev")
    return OpTemplate("attn_gpu", "gpu", "A", tuple(waits), "attn.A")


def _second_batch(shape: Shape, is_first: bool) -> list[OpTemplate]:
    kind = "pre" if is_first else "launch"
    waits = ("ready",) if is_first else _result_of(shape.in_layer_b, "B")
    ops = [OpTemplate(kind, "gpu", "B", waits, "launch.B")]
    return ops + (_in_layer("B") if shape.in_layer_b else [])


def _launch(shape: Shape, cohorts: tuple[int, ...], is_last: bool) -> OpTemplate:
    waits = ["attn.A", *_result_of(shape.in_layer_a, "A"), *(f"recv.c{c}" for c in cohorts)]
    if shape.has_offload:
        waits.append("offload.prev")
    if shape.has_swap_out and not is_last:
        waits.append("swap_out@+1")
    kind = "post" if is_last else "launch"
    return OpTemplate(kind, "gpu", "A", tuple(waits), "launch.A", cohorts=cohorts)


def _result_of(has_cpu_rows: bool, group: str) -> tuple[str, ...]:
    return (f"recv.{group}",) if has_cpu_rows else ()


def _with_action(shape: Shape, wanted: CohortAction) -> tuple[int, ...]:
    return tuple(i for i, (action, _) in enumerate(shape.cohorts) if action is wanted)
