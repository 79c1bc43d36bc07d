"""Seconds per row by length: the laws hold for any knots, and lawful knots are kept."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apexbench.engine.attention_curve import AttentionCurve, curve_through

lengths = st.lists(st.integers(1, 20_000), min_size=1, max_size=7, unique=True).map(sorted)
seconds = st.floats(1e-7, 1e-1)
ROUNDING = 1 + 1e-9


@st.composite
def curves(draw: st.DrawFn) -> AttentionCurve:
    tokens = draw(lengths)
    return curve_through(tokens, [draw(seconds) for _ in tokens])


@given(curve=curves(), rows=st.integers(1, 300), kv=st.integers(1, 10**6), more=st.integers(1, 999))
def test_more_work_never_takes_less_time(
    curve: AttentionCurve, rows: int, kv: int, more: int
) -> None:
    now = curve.job_seconds(rows, kv)
    assert now >= 0
    assert now <= curve.job_seconds(rows, kv + more) * ROUNDING + 1e-15
    assert now <= curve.job_seconds(rows + more, kv) * ROUNDING + 1e-15


def test_lawful_knots_are_kept_and_joined_by_lines() -> None:
    curve = curve_through((10, 100, 1000), (2.0, 11.0, 101.0))
    assert curve.seconds == (2.0, 11.0, 101.0)
    assert curve.row_seconds(55) == pytest.approx(6.5)
    assert curve.row_seconds(2000) == pytest.approx(201.0)  # the last piece goes on
    assert curve.row_seconds(0) == pytest.approx(1.0)  # and the first one
    assert curve.job_seconds(3, 300) == pytest.approx(33.0)


def test_knots_that_break_a_law_are_pooled_or_lifted() -> None:
    dearer = curve_through((10, 20), (1.0, 4.0))  # per token: 0.1, then 0.2
    assert dearer.seconds == pytest.approx((1.5, 3.0))
    falling = curve_through((10, 20), (3.0, 2.0))
    assert falling.seconds == (3.0, 3.0)


def test_a_single_knot_is_a_floor_and_a_rate() -> None:
    curve = curve_through((100,), (5.0,))
    assert [curve.row_seconds(length) for length in (1, 100, 200)] == [5.0, 5.0, 10.0]
