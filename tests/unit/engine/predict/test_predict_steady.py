"""Steady states against formulas written here, the published table, and impossible questions."""

from functools import cache

import pytest

from apexbench.engine.costs import FlatCosts
from apexbench.engine.deployment import deploy
from apexbench.engine.predict.lanes import Load, Rows, settle
from apexbench.engine.predict.machine import Machine, ideal
from apexbench.engine.predict.steady import STRATEGIES, SteadyStates, ask, solve
from apexbench.errors import ApexbenchError, InputError, UsageError

LAYERS, GPU_ROWS, CONTEXT = 32, 7, 420
T_LIN, T_GATT, T_HEAD, T_ROW = 1.70e-3, 0.23e-3, 1.10e-3, 0.30e-3
FLAT = FlatCosts(
    num_layers=LAYERS,
    linear_s=T_LIN,
    gpu_attention_s=T_GATT,
    head_s=T_HEAD,
    cpu_attention_s_per_row=T_ROW,
)
STEP = LAYERS * (T_LIN + T_GATT) + T_HEAD

# Tokens/s with zero latencies; rows chosen for throughput alone. The table was made without the
# bytes of q, k, v and of small kernels, which --ideal keeps.
COLUMNS = ("gpu_only", "in_layer", "two_batch", "deferred 1", "deferred 33", "fused 33")
TABLE = {
    25: (113, 125, 168, 214, 227, 228),
    60: (113, 238, 324, 331, 388, 389),
    120: (113, 408, 589, 400, 467, 520),
    200: (113, 574, 940, 400, 467, 633),
}
CELLS = [(gbps, column) for gbps in TABLE for column in COLUMNS]


@cache
def solved(gbps: float, cohorts: int) -> SteadyStates:
    return solve(
        ask(
            ideal(Machine(deploy(), gbps * 1e9)),
            context=CONTEXT,
            gpu_rows=GPU_ROWS,
            host_memory_gib=150,
            cohorts=cohorts,
        )
    )


def reached(gbps: float, column: str) -> float:
    name, _, cohorts = column.partition(" ")
    found = solved(gbps, int(cohorts or 33)).strategies[name]
    return found.output_throughput_tok_s


@pytest.mark.slow
@pytest.mark.parametrize(("gbps", "column"), CELLS)
def test_the_lanes_give_the_published_table(gbps: int, column: str) -> None:
    expected = TABLE[gbps][COLUMNS.index(column)]
    assert reached(gbps, column) == pytest.approx(expected, rel=0.03)


@pytest.mark.slow
def test_host_memory_binds_deferred_rows_on_a_fast_cpu_only() -> None:
    slow, fast = (
        solved(60, 33).strategies["deferred"],
        solved(200, 33).strategies["deferred"],
    )
    assert fast.deferred_rows == 731
    assert fast.bottleneck == "host_memory"
    assert slow.deferred_rows < 731
    assert slow.bottleneck == "cpu_attention"
    assert solved(60, 33).best in {"deferred", "fused"}
    assert solved(200, 33).best == "two_batch"


def test_steady_states_follow_their_formulas() -> None:
    load = Load(GPU_ROWS, CONTEXT)
    alone = settle(FLAT, load, Rows())
    assert alone.step_s == pytest.approx(STEP, rel=1e-6)
    assert alone.output_throughput_tok_s == pytest.approx(GPU_ROWS / STEP, rel=1e-6)
    waiting = settle(FLAT, load, Rows(2))
    assert waiting.step_s == pytest.approx(LAYERS * (T_LIN + 2 * T_ROW) + T_HEAD, rel=0.01)
    hidden = settle(FLAT, load, Rows(0, 0, 66, 33))
    assert hidden.step_s == pytest.approx(STEP, rel=0.01)
    assert hidden.output_throughput_tok_s == pytest.approx((GPU_ROWS + 2) / STEP, rel=0.01)
    bound = settle(FLAT, load, Rows(0, 0, 330, 33))
    assert bound.step_s == pytest.approx(330 * T_ROW * LAYERS / (LAYERS + 1), rel=0.01)


def test_two_batches_alternate() -> None:
    seen = settle(FLAT, Load(GPU_ROWS, CONTEXT), Rows(6, 6))
    layer = 2 * T_LIN + T_GATT  # 12 rows are CPU work of 3.60 ms, the GPU's is 3.63 ms
    assert seen.step_s == pytest.approx(LAYERS * layer + T_HEAD, rel=0.03)


@pytest.mark.slow
def test_a_bound_on_tpot_is_kept_and_costs_throughput() -> None:
    bound = 0.15
    question = ask(Machine(deploy(), 60e9), context=CONTEXT, host_memory_gib=10, tpot_s=bound)
    states = solve(question)
    assert states.bounded is not None
    assert list(states.bounded) == list(STRATEGIES)
    assert states.bounded["deferred"] is None  # 33 steps of 60 ms
    kept, free = states.bounded["in_layer"], states.strategies["in_layer"]
    assert kept is not None
    assert kept.tpot_s <= bound < free.tpot_s
    assert kept.output_throughput_tok_s < free.output_throughput_tok_s
    assert kept.bottleneck == "tpot"
    one_more = settle(
        question.machine.costs(), Load(question.gpu_rows, CONTEXT), Rows(kept.in_layer_rows + 1)
    )
    assert one_more.step_s > bound
    assert states.bounded["gpu_only"] == states.strategies["gpu_only"]


def test_a_bound_below_everything_names_the_closest() -> None:
    question = ask(Machine(deploy()), context=CONTEXT, host_memory_gib=0.5, tpot_s=0.01)
    with pytest.raises(InputError, match=r"no strategy keeps tpot=0\.01; the lowest is 0\.06"):
        solve(question)


@pytest.mark.parametrize(
    ("asked", "error", "sentence"),
    [
        ({"context": 0}, UsageError, "--context is 0; expected 1 to 4096"),
        ({"context": 5000}, UsageError, "--context is 5000"),
        ({"gpu_rows": 0}, UsageError, "--gpu-rows is 0"),
        ({"gpu_rows": 70}, InputError, "use at most 7 rows"),
        ({"context": 4000}, InputError, "a context of at most"),
        ({"cohorts": 34}, UsageError, "--cohorts is 34; expected 1 to 33"),
        ({"host_memory_gib": 0.2}, InputError, "host memory holds 0 rows of 420 tokens"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(
    asked: dict[str, int], error: type[ApexbenchError], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        ask(Machine(deploy()), **({"context": CONTEXT} | asked))
