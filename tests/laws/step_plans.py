"""Random legal step plans and cost models for the laws of the simulated lanes."""

from dataclasses import dataclass

from hypothesis import strategies as st

from apexbench.engine.costs import FlatCosts
from apexbench.engine.plan import CohortAction, CohortStep, PrefillChunk, StepPlan, SubBatch
from apexbench.engine.sequence import Tier

NS = 1e-9
REGIMES = {
    "gpu": (200, 20, 5),  # linear, CPU attention per row, other costs, in nanoseconds
    "cpu": (30, 400, 5),
    "copies": (40, 30, 90),
    "even": (50, 50, 50),
    "free": (0, 0, 0),
}


@dataclass(frozen=True)
class Case:
    """A cost model and a run of plans; `idles` is the pause before each step."""

    costs: FlatCosts
    plans: tuple[StepPlan, ...]
    idles: tuple[int, ...]


@st.composite
def flat_costs(draw: st.DrawFn, num_layers: int) -> FlatCosts:
    """Costs of some nanoseconds each, some of them zero."""
    linear, cpu, other = REGIMES[draw(st.sampled_from(sorted(REGIMES)))]
    spread = st.sampled_from((0, 1, 1, 1, 2, 7))

    def around(value: int) -> float:
        return (value * draw(spread) + draw(st.integers(0, 3))) * NS

    base, slope = around(linear), draw(st.sampled_from((0, 1))) * NS
    return FlatCosts(
        num_layers=num_layers,
        linear_s=lambda rows: base + slope * rows,
        gpu_attention_s=around(other),
        gpu_attention_s_per_token=draw(st.sampled_from((0, 1))) * NS,
        prefill_attention_s_per_token=draw(st.sampled_from((0, 1))) * NS,
        head_s=around(other),
        embed_s=around(other),
        cpu_attention_s=around(cpu),
        cpu_attention_s_per_row=around(cpu),
        cpu_attention_s_per_token=draw(st.sampled_from((0, 1))) * NS,
        cpu_dispatch_s=around(other),
        send_s=around(other),
        recv_s=around(other),
        copy_s_per_byte=draw(st.sampled_from((0, 1, 5, 30))) * NS,
        schedule_s=around(other),
        kv_bytes_per_token_layer_gpu=2,
        kv_bytes_per_token_layer_cpu=1,
    )


@st.composite
def cases(draw: st.DrawFn, max_layers: int = 40, max_steps: int = 7) -> Case:
    """Plans as any policy could make them."""
    num_layers = draw(st.one_of(st.integers(1, 5), st.integers(1, max_layers)))
    waiting: dict[int, tuple[int, int]] = {}
    plans = []
    for index in range(draw(st.integers(1, max_steps))):
        steps = _cohort_steps(draw, waiting, num_layers, index)
        plans.append(_plan(draw, index, steps))
    pauses = st.sampled_from((0, 0, 0, 1, 100, 2000))
    idles = tuple(draw(pauses) for _ in plans)
    return Case(draw(flat_costs(num_layers)), tuple(plans), idles)


def _cohort_steps(
    draw: st.DrawFn, waiting: dict[int, tuple[int, int]], num_layers: int, index: int
) -> tuple[CohortStep, ...]:
    steps = []
    for cohort, (layer, rows) in list(waiting.items()):
        action = draw(st.sampled_from(("join", "join", "join", "promote", "freeze")))
        if action == "freeze":
            continue
        step = _step(cohort, CohortAction(action), layer, rows)
        steps.append(step)
        del waiting[cohort]
        if not step.samples(num_layers):
            waiting[cohort] = (layer + 1, rows)
    if draw(st.booleans()):
        rows = draw(st.integers(1, 3))
        waiting[1000 + index] = (0, rows)
        steps.append(_step(1000 + index, CohortAction.ENTER, 0, rows))
    return tuple(steps)


def _step(cohort: int, action: CohortAction, layer: int, rows: int) -> CohortStep:
    return CohortStep(cohort, action, layer, tuple(range(rows)), 7 * rows)


def _plan(draw: st.DrawFn, index: int, steps: tuple[CohortStep, ...]) -> StepPlan:
    counts = st.sampled_from((0, 0, 1, 2, 5))
    first = _batch(draw, draw(counts), draw(counts), _chunks(draw))
    batches: tuple[SubBatch, ...] = (first,)
    if draw(st.booleans()):
        batches += (_batch(draw, 0, draw(counts), ()),)
    swap = draw(st.sampled_from(("none", "none", "in", "out")))
    tokens = draw(st.integers(1, 60))
    return StepPlan(
        *(index, batches, steps),
        swap_in_tokens=tokens if swap == "in" else 0,
        swap_out_tokens=tokens if swap == "out" else 0,
    )


def _batch(draw: st.DrawFn, gpu: int, in_layer: int, chunks: tuple[PrefillChunk, ...]) -> SubBatch:
    kv_tokens = draw(st.integers(0, 30))
    return SubBatch(
        *(chunks, tuple(range(gpu)), kv_tokens if gpu else 0),
        *(tuple(range(50, 50 + in_layer)), kv_tokens if in_layer else 0),
    )


def _chunks(draw: st.DrawFn) -> tuple[PrefillChunk, ...]:
    chunks = []
    for sequence in range(draw(st.sampled_from((0, 0, 1, 2)))):
        tier = draw(st.sampled_from(Tier))
        context = draw(st.sampled_from((0, 3, 40)))
        chunks.append(PrefillChunk(sequence, draw(st.integers(1, 30)), context, tier, True))
    return tuple(chunks)
