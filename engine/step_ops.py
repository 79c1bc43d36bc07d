"""The ops of a step: before the layers, in a layer, after them. Knows no plans and no time.

A name signalled by an op is a completion register: whoever waits on it gets the latest value;
`name.prev` is the value before that. Deferred work and bulk copies have priority 1 on their lanes:
they take the time that priority 0 leaves.

Where in-layer rows and cohorts meet on a lane, what would hold up the GPU goes first. Of rows ready
at one instant the in-layer ones are sent before cohorts that leave. A cohort's result, as a rule
there since the step before, comes over while the in-layer rows are still on the CPU.
"""

from functools import lru_cache
from typing import NamedTuple

from apexbench.engine.plan import CohortAction

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


class Cohorts(NamedTuple):
    """Cohorts at one layer, by position in the plan: in-layer since their promotion (`riding`),
    joining its launch group, `leaving` with it and sent at once, or `left` with the launch group
    before it and sent behind the in-layer rows that were ready at the same instant.
    """

    riding: tuple[int, ...] = ()
    joining: tuple[int, ...] = ()
    leaving: tuple[int, ...] = ()
    left: tuple[int, ...] = ()


@lru_cache(maxsize=4096)
def prologue(shape: Shape, entering: tuple[int, ...]) -> tuple[OpTemplate, ...]:
    """From the host's work to pre(0). Entering cohorts leave with it, unless layer 0 sends them
    behind its in-layer rows.
    """
    ops = [OpTemplate("schedule", "host", "", (), "ready"), *_swaps(shape)]
    ops.append(OpTemplate("embed", "gpu", "A", ("ready",), "embed", cohorts=entering))
    if shape.has_reread:
        ops.append(_bulk("reread", "h2d", ("ready", "offload")))
    ops.append(OpTemplate("pre", "gpu", "A", _waits_of_pre(shape), "launch.A", cohorts=entering))
    if not shape.in_layer_a:
        ops += _defer(entering)
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
def epilogue(shape: Shape) -> tuple[OpTemplate, ...]:
    """What follows the last layer's post of batch A."""
    head = OpTemplate("head", "gpu", "", ("launch.A",), "sampled")
    if not shape.has_two_batches:
        return (head,)
    last = OpTemplate("post", "gpu", "B", _result_of(shape.in_layer_b, "B"), "launch.B")
    return (last, head)


@lru_cache(maxsize=4096)
def ops_of_layer(
    shape: Shape, cohorts: Cohorts, is_first: bool, is_last: bool
) -> tuple[OpTemplate, ...]:
    """Everything between pre(l) of batch A and the launch group that begins layer l + 1."""
    riding, joining, leaving, left = cohorts
    away, back = _in_layer_rows(shape, riding)
    results = [_result_of_cohort(shape, cohort) for cohort in joining]
    if results and not _has_bulk_to_gpu(shape):
        results, back = results + back, []
    ops = [*away, *back, *_defer(left), *_prompt_traffic(shape, is_last)]
    ops.append(_gpu_attention(shape, is_last))
    beside = _second_batch(shape, is_first) if shape.has_two_batches else []
    later = [beside.pop()] if shape.in_layer_b else []  # recv(B), which A's launch does not await
    ops += [*beside, *results, *later, _launch(shape, joining + riding, is_last)]
    return (*ops, *_defer(leaving))


def _in_layer_rows(
    shape: Shape, riding: tuple[int, ...]
) -> tuple[list[OpTemplate], list[OpTemplate]]:
    """Rows of batch A and of promoted cohorts: on their way to the CPU, and back."""
    rows = [_in_layer("A")] if shape.in_layer_a else []
    rows += [_in_layer(f"c{cohort}", launch="A") for cohort in riding]
    return [op for *away, _ in rows for op in away], [back for *_, back in rows]


def _in_layer(group: str, launch: str | None = None) -> list[OpTemplate]:
    """Rows that leave for the CPU and are back before post(l) of the same layer."""
    return [
        OpTemplate("send", "d2h", group, (f"launch.{launch or group}",), f"send.{group}"),
        OpTemplate("attn_cpu", "cpu", group, (f"send.{group}",), f"cpu.{group}"),
        OpTemplate("recv", "h2d", group, (f"cpu.{group}",), f"recv.{group}"),
    ]


def _defer(cohorts: tuple[int, ...]) -> list[OpTemplate]:
    """Cohorts leave after their launch group; the result is awaited one step later."""
    ops = []
    for name in [f"c{cohort}" for cohort in cohorts]:
        ops.append(OpTemplate("send", "d2h", name, ("launch.A",), f"send.{name}"))
        ticket = f"ticket.{name}"
        ops.append(OpTemplate("attn_cpu", "cpu", name, (f"send.{name}",), ticket, DEFERRABLE))
    return ops


def _result_of_cohort(shape: Shape, cohort: int) -> OpTemplate:
    """The result comes over as early as the step knows of the join. Where attention waits for
    bulk copies on the same lane it comes after attention, so as not to make that later.
    """
    waits = ("attn.A" if _has_bulk_to_gpu(shape) else "ready", f"ticket.c{cohort}")
    return OpTemplate("recv", "h2d", f"c{cohort}", waits, f"recv.c{cohort}")


def _has_bulk_to_gpu(shape: Shape) -> bool:
    return shape.has_swap_in or shape.has_reread


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
