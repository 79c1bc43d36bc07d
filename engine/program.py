"""The step program: every strategy defined once, as ops on lanes with their dependencies.

`build(plan, carry)` is pure. A program is a prologue, segments of layers with equal ops, and an
epilogue, whose ops `step_ops` lists; `expansion.expand()` writes it out op by op. GPU ops run in
program order, which makes sub-batches alternate and lets a cohort join one layer per step:

    one batch   pre(0) · attn(l) · post(l)+pre(l+1) · … · post(L-1) · head
    two batches A and B   pre_A(0) · attn_A(l) · post_B(l-1)+pre_B(l) · post_A(l)+pre_A(l+1) · …
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from apexbench.engine.plan import ENTER, JOIN, PROMOTE, CohortAction, StepPlan
from apexbench.engine.sequence import Tier
from apexbench.engine.step_ops import (
    Cohorts,
    OpTemplate,
    Shape,
    epilogue,
    ops_of_layer,
    prologue,
)
from apexbench.errors import InvariantError


class Segment(NamedTuple):
    """`num_layers` consecutive layers, starting at `first_layer`, that run the same ops."""

    first_layer: int
    num_layers: int
    ops: tuple[OpTemplate, ...]


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
        prologue=prologue(plain, _with_action(shape, ENTER)),
        segments=tuple(_segments(shape, plain)),
        epilogue=epilogue(plain),
    )


def _segments(shape: Shape, plain: Shape) -> Iterator[Segment]:
    """Layers grouped where their ops are equal."""
    last = shape.num_layers - 1
    start = 0
    for layer, cohorts in _layers_apart(shape):
        if layer > start:
            between = ops_of_layer(plain, Cohorts(cohorts.riding), False, False)
            yield Segment(start, layer - start, between)
        ops = ops_of_layer(plain, cohorts, layer == 0, layer == last)
        yield Segment(layer, 1, ops)
        start = layer + 1


def _layers_apart(shape: Shape) -> Iterator[tuple[int, Cohorts]]:
    """Layers unlike those before them: the first, the last, joins, and what follows a join."""
    joins, promoted = _joins(shape), _with_action(shape, PROMOTE)
    last = shape.num_layers - 1
    left = _with_action(shape, ENTER) if shape.in_layer_a else ()
    apart = joins.keys() | {last}
    if left or shape.has_two_batches:
        apart.add(0)
    if shape.in_layer_a or promoted:
        apart |= {layer + 1 for layer in joins if layer < last}
    riding: tuple[int, ...] = ()
    for layer in sorted(apart):
        joining = joins.get(layer, ())
        leaving = () if layer == last else tuple([c for c in joining if c not in promoted])
        rides_on = riding + tuple([c for c in joining if c in promoted])
        is_alone = not (shape.in_layer_a or rides_on)  # nothing in-layer is sent at that instant
        yield layer, Cohorts(riding, joining, leaving if is_alone else (), left)
        left, riding = () if is_alone else leaving, rides_on


def _joins(shape: Shape) -> dict[int, tuple[int, ...]]:
    """The cohorts that join, by layer."""
    joins: dict[int, tuple[int, ...]] = {}
    for cohort, (action, layer) in enumerate(shape.cohorts):
        if action is not ENTER:
            joins[layer] = (*joins.get(layer, ()), cohort)
    return joins


def _with_action(shape: Shape, wanted: CohortAction) -> tuple[int, ...]:
    return tuple(i for i, (action, _) in enumerate(shape.cohorts) if action is wanted)
