"""Costs from measured times: the laws of all cost models, for any times at all."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apexbench.engine.costs import CostModel, FlatCosts
from apexbench.engine.measured_costs import MeasuredCosts, MeasuredTimes

TIMES = MeasuredTimes(
    num_layers=4,
    kv_bytes_gpu=512,
    kv_bytes_cpu=256,
    linear_s=((1, 1e-3), (8, 1.7e-3), (64, 9e-3)),
    pre_share=0.3,
    head_s=((1, 2e-4), (8, 9e-4)),
    embed_s=((1, 3e-6),),
    gpu_attention_s=((32, 1e-5), (512, 1e-4)),
    gpu_attention_fixed_s=2e-5,
    prefill_fixed_s=1e-5,
    prefill_s_per_token=1e-6,
    prefill_s_per_pair=1e-9,
    cpu_attention_s=((32, 2e-6), (512, 2e-5)),
    cpu_dispatch_s=4.3214e-6,
    send_s=((1, 1e-6), (8, 3e-6)),
    recv_s=((1, 5e-7), (8, 9e-7)),
    copy_bytes_per_s=1e10,
    copy_fixed_s=7e-7,
    schedule_s=5e-6,
    schedule_s_per_row=2.5e-7,
)
COSTS = MeasuredCosts(TIMES)

sizes = st.integers(1, 5000)
seconds = st.floats(1e-7, 1.0)


@st.composite
def points(draw: st.DrawFn) -> tuple[tuple[float, float], ...]:
    places = sorted(draw(st.sets(st.integers(1, 4096), min_size=1, max_size=6)))
    return tuple((float(place), draw(seconds)) for place in places)


any_times = st.builds(
    MeasuredTimes,
    num_layers=st.just(2),
    kv_bytes_gpu=st.just(512),
    kv_bytes_cpu=st.just(512),
    linear_s=points(),
    pre_share=st.floats(0, 1),
    head_s=points(),
    embed_s=points(),
    gpu_attention_s=points(),
    gpu_attention_fixed_s=seconds,
    prefill_fixed_s=seconds,
    prefill_s_per_token=seconds,
    prefill_s_per_pair=seconds,
    cpu_attention_s=points(),
    cpu_dispatch_s=seconds,
    send_s=points(),
    recv_s=points(),
    copy_bytes_per_s=st.floats(1e6, 1e12),
    copy_fixed_s=seconds,
    schedule_s=seconds,
    schedule_s_per_row=seconds,
)


def ops(costs: CostModel) -> dict[str, Any]:
    """Every duration as a function of one size."""
    return {
        "pre": costs.pre_ns,
        "post": costs.post_ns,
        "linear": costs.linear_ns,
        "decode": lambda n: costs.gpu_decode_attention_ns(n, 100 * n),
        "prefill": lambda n: costs.gpu_prefill_attention_ns(((n, n),) if n else ()),
        "head": costs.head_ns,
        "embed": costs.embed_ns,
        "cpu": lambda n: costs.cpu_attention_ns(n, 100 * n),
        "send": costs.send_ns,
        "recv": costs.recv_ns,
        "h2d": lambda n: costs.copy_ns("h2d", n),
        "d2h": lambda n: costs.copy_ns("d2h", n),
    }


@given(times=any_times, small=sizes, more=st.integers(0, 500))
def test_more_work_never_takes_less_and_no_work_takes_nothing(
    times: MeasuredTimes, small: int, more: int
) -> None:
    costs = MeasuredCosts(times)
    for name, op in ops(costs).items():
        assert op(0) == 0, name
        assert type(op(small)) is int, name
        assert 0 <= op(small) <= op(small + more) + 1, name  # a rounded nanosecond
    assert costs.linear_ns(small) == costs.pre_ns(small) + costs.post_ns(small)
    assert costs.schedule_ns(small, captured=False) <= costs.schedule_ns(small + more, True)
    assert costs.cpu_attention_ns(0, 0, 1 << 20) == costs.gpu_prefill_attention_ns(()) == 0


@given(times=any_times, n=st.integers(1, 64), kv=st.integers(1, 10**5), more=st.integers(0, 999))
def test_attention_is_monotone_in_rows_and_in_tokens(
    times: MeasuredTimes, n: int, kv: int, more: int
) -> None:
    costs = MeasuredCosts(times)
    for op in (costs.gpu_decode_attention_ns, costs.cpu_attention_ns):
        assert op(n, kv) <= op(n, kv + more) + 1
        assert op(n, kv) <= op(n + more, kv) + 1
    assert costs.cpu_attention_ns(n, kv) <= costs.cpu_attention_ns(n, kv, copy_bytes=more << 20)


@given(parts=st.lists(st.tuples(sizes, st.integers(0, 999)), min_size=1, max_size=4), more=sizes)
def test_prefill_grows_with_chunks_and_with_context(
    parts: list[tuple[int, int]], more: int
) -> None:
    whole = COSTS.gpu_prefill_attention_ns(tuple(parts))
    (new, before), rest = parts[0], tuple(parts[1:])
    assert whole <= COSTS.gpu_prefill_attention_ns(((new, before + more), *rest))
    assert COSTS.gpu_prefill_attention_ns(rest) < whole


def test_points_are_met_and_joined_by_lines() -> None:
    assert [COSTS.linear_ns(rows) for rows in (1, 8, 64)] == [1_000_000, 1_700_000, 9_000_000]
    assert COSTS.linear_ns(36) == 1_700_000 + 3_650_000
    assert COSTS.linear_ns(120) == 9_000_000 + 7_300_000  # the last piece goes on
    assert (COSTS.pre_ns(8), COSTS.post_ns(8)) == (510_000, 1_190_000)
    assert COSTS.embed_ns(9) == 3_000
    assert COSTS.gpu_decode_attention_ns(2, 1024) == 20_000 + 2 * 100_000
    assert COSTS.gpu_decode_attention_ns(1, 272) == 20_000 + 55_000
    assert COSTS.gpu_prefill_attention_ns(((10, 100),)) == 10_000 + 10_000 + 1_055
    assert COSTS.cpu_attention_ns(3, 96) == 6_000
    assert COSTS.cpu_dispatch_ns() == 4_321
    assert COSTS.copy_ns("d2h", 5_000_000) == 500_700
    assert COSTS.schedule_ns(4, captured=True) == 6_000
    assert (COSTS.num_layers, COSTS.captured) == (4, COSTS)
    assert (COSTS.kv_bytes_per_token_layer_gpu, COSTS.kv_bytes_per_token_layer_cpu) == (512, 256)


def test_it_is_a_cost_model_like_the_others() -> None:
    models: tuple[CostModel, ...] = (COSTS, FlatCosts(num_layers=4))
    assert [model.num_layers for model in models] == [4, 4]
    assert pytest.approx(0.3) == COSTS.pre_ns(8) / COSTS.linear_ns(8)
