"""Steady states of the simulated lanes against formulas written here, independent of the engine."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from apexbench.engine.costs import FlatCosts
from apexbench.engine.deployment import deploy
from apexbench.engine.executors.sim import SimulatedExecutor
from apexbench.engine.plan import CohortAction, CohortStep, StepPlan, SubBatch
from apexbench.records import Request

L = 32
T_LIN, T_GATT, T_HEAD, T_ROW = 1.70e-3, 0.23e-3, 1.10e-3, 0.30e-3
GPU_ROWS = 7
NS_PER_S = 1e9


def flat(num_layers: int = L, **changes: float | Callable[[int], float]) -> FlatCosts:
    constants: dict[str, float | Callable[[int], float]] = {
        "linear_s": T_LIN,
        "gpu_attention_s": T_GATT,
        "head_s": T_HEAD,
        "cpu_attention_s_per_row": T_ROW,
    }
    return FlatCosts(num_layers=num_layers, **(constants | changes))  # type: ignore[arg-type]


def ids(count: int, first: int = 0) -> tuple[int, ...]:
    return tuple(range(first, first + count))


def batch(gpu: int = 0, in_layer: int = 0, first: int = 1000) -> SubBatch:
    return SubBatch((), ids(gpu), gpu, ids(in_layer, first), in_layer)


@dataclass
class Steady:
    """Seconds per step and tokens per second over whole token cycles after a warm-up."""

    step_s: float
    tokens_per_s: float
    busy: tuple[float, ...]


class Cohorts:
    """`count` cohorts spread evenly over the layers, all joining one layer per step."""

    def __init__(self, sizes: list[int]) -> None:
        self.sizes = sizes
        self.layers: list[int | None] = [None] * len(sizes)
        self.entries = [index * (L + 1) // len(sizes) for index in range(len(sizes))]

    def steps(self, index: int) -> tuple[CohortStep, ...]:
        steps = []
        for cohort, size in enumerate(self.sizes):
            rows = ids(size, 10_000 * (cohort + 1))
            layer = self.layers[cohort]
            if layer is not None:
                steps.append(CohortStep(cohort, CohortAction.JOIN, layer, rows, size))
                self.layers[cohort] = None if layer == L - 1 else layer + 1
            elif index >= self.entries[cohort]:
                steps.append(CohortStep(cohort, CohortAction.ENTER, 0, rows, size))
                self.layers[cohort] = 0
        return tuple(steps)


def steady(
    costs: FlatCosts, batches: tuple[SubBatch, ...], sizes: list[int] | None = None
) -> Steady:
    """Run whole token cycles: three to warm up, then four that are measured."""
    executor = SimulatedExecutor(costs)
    for row in (
        *ids(2000),
        *ids(200, 5000),
        *(r for c in range(33) for r in ids(600, 10_000 * (c + 1))),
    ):
        executor.admit(Request(row, 0, 1, 10**9))
    cohorts = Cohorts(sizes or [])
    now, start, tokens = 0, 0, 0
    before = executor.busy_ns
    warm, measured = 3 * (L + 1), 4 * (L + 1)
    for index in range(warm + measured):
        if index == warm:
            start, tokens, before = now, 0, executor.busy_ns
        result = executor.execute(StepPlan(index, batches, cohorts.steps(index)), now)
        now = result.end_ns
        tokens += len(result.tokens)
    seconds = (now - start) / NS_PER_S
    busy = tuple((b - a) / (now - start) for a, b in zip(before, executor.busy_ns, strict=True))
    return Steady(seconds / measured, tokens / seconds, busy)


def test_gpu_only_step_is_all_layers_and_the_head() -> None:
    seen = steady(flat(), (batch(GPU_ROWS),))
    assert seen.step_s == pytest.approx(L * (T_LIN + T_GATT) + T_HEAD, rel=1e-6)
    assert seen.busy[0] == pytest.approx(1.0)


@pytest.mark.parametrize(("rows", "latency"), [(0, 0.0), (1, 0.0), (1, 60e-6), (4, 60e-6)])
def test_in_layer_rows_are_free_within_gpu_attention_only(rows: int, latency: float) -> None:
    costs = flat(cpu_attention_s_per_row=0.1e-3, send_s=latency / 2, recv_s=latency / 2)
    away = rows * 0.1e-3 + latency if rows else 0.0
    expected = L * (T_LIN + max(T_GATT, away)) + T_HEAD
    seen = steady(costs, (batch(GPU_ROWS, rows),))
    assert seen.step_s == pytest.approx(expected, rel=0.01)
    assert seen.tokens_per_s == pytest.approx((GPU_ROWS + rows) / expected, rel=0.01)


@pytest.mark.parametrize(
    ("rows_a", "rows_b"), [(0, 3), (2, 4), (5, 5), (6, 9), (0, 14), (12, 1), (30, 30)]
)
def test_two_batches_take_the_longest_of_gpu_cpu_and_each_round_trip(
    rows_a: int, rows_b: int
) -> None:
    linear_a, linear_b, latency = 1.7e-3, 1.2e-3, 0.2e-3
    linear = {GPU_ROWS + rows_a: linear_a, rows_b: linear_b}
    layer = max(
        linear_a + T_GATT + linear_b,
        (rows_a + rows_b) * T_ROW,
        (rows_a * T_ROW + latency if rows_a else 0.0) + linear_a,
        rows_b * T_ROW + latency + linear_b,
    )
    shallow, deep = (
        steady(
            flat(
                num_layers,
                linear_s=lambda rows: linear[rows],
                send_s=latency / 2,
                recv_s=latency / 2,
            ),
            (batch(GPU_ROWS, rows_a), batch(0, rows_b, 5000)),
        )
        for num_layers in (L, 2 * L)
    )
    # The first and the last layer fill and drain the pipeline; the layers between follow the rule.
    assert (deep.step_s - shallow.step_s) / L == pytest.approx(layer, rel=0.01)
    assert L * layer * 0.99 <= shallow.step_s - T_HEAD <= (L + 1) * layer + linear_b
    assert shallow.tokens_per_s == pytest.approx((GPU_ROWS + rows_a + rows_b) / shallow.step_s)


@pytest.mark.parametrize("num_cohorts", [1, 8, 33])
def test_deferred_cohorts_within_their_window_cost_the_gpu_nothing(num_cohorts: int) -> None:
    step = L * (T_LIN + T_GATT) + T_HEAD
    rows = int(0.8 * step / T_ROW)
    sizes = [rows // num_cohorts] * num_cohorts
    seen = steady(flat(), (batch(GPU_ROWS),), sizes)
    # A step in which a cohort enters runs no other launch than gpu_only does.
    assert seen.step_s == pytest.approx(step, rel=0.01)
    assert seen.tokens_per_s == pytest.approx((GPU_ROWS + sum(sizes) / (L + 1)) / step, rel=0.01)
    assert seen.busy[1] == pytest.approx(sum(sizes) * T_ROW * L / (L + 1) / step, rel=0.01)


@pytest.mark.parametrize("num_cohorts", [8, 33])
def test_cpu_bound_cohorts_saturate_the_cpu(num_cohorts: int) -> None:
    rows = int(1.6 * L * (T_LIN + T_GATT) / T_ROW) // num_cohorts
    seen = steady(flat(), (batch(GPU_ROWS),), [rows] * num_cohorts)
    step = num_cohorts * rows * T_ROW * L / (L + 1)
    assert seen.busy[1] == pytest.approx(1.0, rel=0.01)
    assert seen.step_s == pytest.approx(step, rel=0.01)
    expected = GPU_ROWS / step + 1 / (L * T_ROW)
    assert seen.tokens_per_s == pytest.approx(expected, rel=0.01)


def test_one_cpu_bound_cohort_waits_for_its_own_launch_group() -> None:
    rows = int(2.0 * L * (T_LIN + T_GATT) / T_ROW)
    seen = steady(flat(), (batch(GPU_ROWS),), [rows])
    # Between two joins the CPU works and then the GPU runs the launch group of the join; between
    # the last join and the next entry come the head and, in two parts, one launch group.
    token = L * (rows * T_ROW + T_LIN) + T_HEAD
    assert seen.step_s * (L + 1) == pytest.approx(token, rel=0.01)


def test_fused_serves_in_layer_rows_first() -> None:
    in_layer = 0.2e-3
    costs = flat(cpu_attention_s_per_row=in_layer)
    step = L * (T_LIN + T_GATT) + T_HEAD
    left = step - L * in_layer  # the CPU's time for deferred rows
    rows = int(0.8 * left / in_layer / 33)
    seen = steady(costs, (batch(GPU_ROWS, 1),), [rows] * 33)
    assert seen.step_s == pytest.approx(step, rel=0.01)
    expected = (GPU_ROWS + 1 + 33 * rows / (L + 1)) / step
    assert seen.tokens_per_s == pytest.approx(expected, rel=0.01)


# -- T4, 7B with full attention heads, contexts of 420 tokens: public data sheets ------------------

KV_BYTES = 2 * 4096 * 2  # K and V of one token in one layer, fp16
CONTEXT = 420
LAYER_WEIGHTS = 4 * 4096**2 + 3 * 4096 * 11008
WEIGHT_S = 2 * LAYER_WEIGHTS / (0.75 * 320e9)
ROW_S = 2 * LAYER_WEIGHTS / (0.35 * 65e12)


def t4(cpu_bytes_per_s: float) -> FlatCosts:
    return FlatCosts(
        num_layers=L,
        linear_s=lambda rows: ((ROW_S * rows) ** 3 + WEIGHT_S**3) ** (1 / 3),
        gpu_attention_s=GPU_ROWS * CONTEXT * KV_BYTES / (0.70 * 320e9),
        head_s=2 * 32000 * 4096 / (0.75 * 320e9),
        cpu_attention_s_per_row=CONTEXT * KV_BYTES / cpu_bytes_per_s,
    )


def best(runs: list[Steady]) -> float:
    return max(run.tokens_per_s for run in runs)


def test_t4_gpu_only_and_in_layer() -> None:
    assert steady(t4(25e9), (batch(GPU_ROWS),)).tokens_per_s == pytest.approx(113, rel=0.03)
    runs = [steady(t4(25e9), (batch(GPU_ROWS, rows),)) for rows in (1, 2, 3)]
    assert best(runs) == pytest.approx(125, rel=0.03)


@pytest.mark.parametrize(
    ("bandwidth", "rows", "expected"),
    [(25e9, 13, 168), (60e9, 31, 324), (120e9, 63, 589), (200e9, 107, 940)],
)
def test_t4_two_batch(bandwidth: float, rows: int, expected: float) -> None:
    runs = [
        steady(t4(bandwidth), (batch(GPU_ROWS, rows_a), batch(0, total - rows_a, 5000)))
        for total in (rows - 1, rows)
        for rows_a in (total // 2 - 1, total // 2)
    ]
    assert best(runs) == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize(
    ("bandwidth", "rows", "expected"),
    [(25e9, (205, 215, 225, 235), 214), (60e9, (480, 530, 580), 331)],
)
def test_t4_one_deferred_cohort(bandwidth: float, rows: tuple[int, ...], expected: float) -> None:
    runs = [steady(t4(bandwidth), (batch(GPU_ROWS),), [count]) for count in rows]
    assert best(runs) == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize(
    ("bandwidth", "rows", "expected"),
    [(25e9, (231, 241, 251), 227), (60e9, (545, 560, 575), 388), (120e9, (731,), 467)],
)
def test_t4_33_deferred_cohorts(bandwidth: float, rows: tuple[int, ...], expected: float) -> None:
    runs = []
    for total in rows:
        sizes = [total // 33 + (index < total % 33) for index in range(33)]
        runs.append(steady(t4(bandwidth), (batch(GPU_ROWS),), sizes))
    assert best(runs) == pytest.approx(expected, rel=0.03)


def test_t4_one_batch_fused() -> None:
    seen = steady(t4(60e9), (batch(GPU_ROWS, 1),), [17] * 33)
    assert seen.tokens_per_s == pytest.approx(389, rel=0.03)


@pytest.mark.parametrize(("rows", "context"), [(1, 100), (7, 420), (64, 1000)])
def test_gpu_only_never_beats_the_roofline_of_its_profile(rows: int, context: int) -> None:
    deployment = deploy()
    executor = SimulatedExecutor(deployment.costs())
    for row in range(rows):
        executor.admit(Request(row, 0, context, 10))
    plan = StepPlan(0, (SubBatch((), ids(rows), rows * context),))
    step_s = executor.execute(plan, 0).end_ns / NS_PER_S
    weights = 2 * (L * LAYER_WEIGHTS + 32000 * 4096)
    floor_s = (weights + L * rows * context * KV_BYTES) / (320e9)
    assert floor_s < step_s < 3 * floor_s
