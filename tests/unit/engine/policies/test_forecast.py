"""Forecasts of steps against what the lanes take, and the candidates they are made for."""

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apexbench.engine.costs import CostModel
from apexbench.engine.deployment import deploy
from apexbench.engine.executors.sim import SimulatedExecutor
from apexbench.engine.plan import PrefillChunk, StepPlan, SubBatch
from apexbench.engine.policies.base import Candidates
from apexbench.engine.policies.base import Row as AnyRow
from apexbench.engine.policies.forecast import Forecast, Ground, Placed
from apexbench.engine.policies.options import hidden_in_one, hidden_in_two, options
from apexbench.engine.sequence import Tier
from apexbench.records import Request

MAX_CANDIDATES = 16
COSTS = {
    "t4": deploy().costs(),
    "a10": deploy(gpu="a10", model="llama-3.1-8b").costs(),
}
FORECASTS = {name: Forecast(costs) for name, costs in COSTS.items()}


@dataclass(frozen=True, slots=True)
class Row:
    id: int
    computed: int
    generated: int = 1
    first_token_ns: int = 0


def work(
    gpu_rows: int, context: int, prompt: int, rows: tuple[Row, ...], tier: Tier = Tier.GPU
) -> Candidates:
    chunks = (PrefillChunk(9000, prompt, 0, tier, True),) if prompt else ()
    read = sum(row.computed + 1 for row in rows)
    return Candidates(chunks, gpu_rows, gpu_rows * context, rows, read, 0, 0, 1)


def on_lanes(costs: CostModel, at: Candidates, placed: Placed) -> int:
    """The second of two equal steps, so that lanes are as full as they get."""
    rows = at.cpu_rows
    second, first = rows[: placed.in_b], rows[placed.in_b : placed.in_b + placed.in_a]
    gpu = tuple(range(5000, 5000 + at.num_gpu_rows))

    def part(rows: tuple[AnyRow, ...]) -> tuple[tuple[int, ...], int]:
        return tuple(r.id for r in rows), sum(r.computed + 1 for r in rows)

    batches = [SubBatch(at.chunks, gpu, at.gpu_kv_tokens, *part(first))]
    if second:
        batches.append(SubBatch((), (), 0, *part(second)))
    executor = SimulatedExecutor(costs)
    for sequence in (*gpu, *(r.id for r in rows), *(c.sequence for c in at.chunks)):
        executor.admit(Request(sequence, 0, 1, 1 << 40))
    start = executor.execute(StepPlan(0, tuple(batches)), 0).end_ns
    return executor.execute(StepPlan(1, tuple(batches)), start).end_ns - start


@settings(max_examples=60, deadline=None)
@given(
    gpu=st.sampled_from(sorted(COSTS)),
    gpu_rows=st.integers(1, 40),
    prompt=st.sampled_from((0, 1, 64, 512, 2048)),
    tier=st.sampled_from(tuple(Tier)),
    contexts=st.lists(st.integers(20, 1500), min_size=1, max_size=40),
    share_b=st.sampled_from((0.0, 0.5, 1.0)),
)
def test_a_forecast_is_what_the_lanes_take(
    gpu: str, gpu_rows: int, prompt: int, tier: Tier, contexts: list[int], share_b: float
) -> None:
    rows = tuple(Row(index, context) for index, context in enumerate(contexts))
    at = work(gpu_rows, 400, prompt, rows, tier)
    in_b = round(share_b * len(rows))
    placed = Placed(len(rows) - in_b, in_b)
    forecast = FORECASTS[gpu]
    predicted = forecast.step_ns(forecast.ground(at, rows, 400), placed)
    assert predicted == pytest.approx(on_lanes(COSTS[gpu], at, placed), rel=0.06)


@pytest.mark.parametrize("prompt", [0, 300])
def test_without_cpu_rows_a_forecast_is_exact(prompt: int) -> None:
    at = work(7, 420, prompt, ())
    forecast = FORECASTS["t4"]
    predicted = forecast.step_ns(forecast.ground(at, (), 400), Placed())
    assert predicted == pytest.approx(on_lanes(COSTS["t4"], at, Placed()), rel=1e-4)


def ground(rows: int = 40, *, gpu_rows: int = 7, prompt: int = 0, **changes: Any) -> Ground:
    free = tuple(Row(index, 400) for index in range(rows))
    found = FORECASTS["t4"].ground(work(gpu_rows, 400, prompt, free), free, 400)
    return found._replace(**changes)


def test_cohorts_cost_their_joins_and_then_the_cpu() -> None:
    forecast = FORECASTS["t4"]
    alone = forecast.step_ns(ground(), Placed())
    few = forecast.step_ns(ground(num_cohorts=8, deferred_rows=4), Placed())
    many = forecast.step_ns(ground(num_cohorts=8, deferred_rows=400), Placed())
    frozen = forecast.step_ns(ground(num_cohorts=8, deferred_rows=400), Placed(joins=False))
    assert alone < few < many
    assert many == pytest.approx(400 * ground().row_ns)  # the CPU is the slower one
    assert frozen == alone


def test_another_number_of_prompt_tokens_scales_what_depends_on_them() -> None:
    before = ground(prompt=300)
    after = before.with_prompt(600)
    assert after.prefill_attention_ns == pytest.approx(2 * before.prefill_attention_ns, abs=1)
    assert after.decode_attention_ns == before.decode_attention_ns
    assert before.with_prompt(0).prefill_attention_ns == 0
    assert ground().with_prompt(128).prefill_tokens == 128


@settings(max_examples=80, deadline=None)
@given(
    rows=st.integers(0, 60),
    gpu_rows=st.integers(1, 40),
    prompt=st.sampled_from((0, 64, 1024)),
    cohorts=st.integers(0, 8),
    entering=st.integers(0, 20),
    most=st.integers(0, 256),
)
def test_candidates_are_few_and_legal(
    rows: int, gpu_rows: int, prompt: int, cohorts: int, entering: int, most: int
) -> None:
    at = ground(
        rows, gpu_rows=gpu_rows, prompt=prompt, num_cohorts=cohorts, deferred_rows=cohorts * 3
    )
    due = min(entering, rows)
    found = list(options(at, FORECASTS["t4"], due, most))
    assert found[0].placed == Placed()  # gpu_only comes first, always
    assert len(found) <= MAX_CANDIDATES
    for _, placed in found:
        assert placed.in_layer <= most
        assert placed.in_layer + placed.entering <= rows
        assert min(placed) >= 0


def test_rows_that_are_hidden_make_nobody_wait() -> None:
    forecast = FORECASTS["t4"]
    at = ground(60, prompt=1024)
    alone = forecast.step_ns(at, Placed())
    hidden = hidden_in_one(at, forecast)
    assert hidden >= 1
    assert forecast.step_ns(at, Placed(hidden)) <= 1.02 * alone
    in_a, in_b = hidden_in_two(at, forecast)
    both = forecast.linear[in_b] * forecast.num_layers
    assert forecast.step_ns(at, Placed(in_a, in_b)) <= 1.03 * (alone + both)
    more = forecast.step_ns(at, Placed(in_a + 20, in_b + 20))
    assert more > 1.2 * (alone + both)
