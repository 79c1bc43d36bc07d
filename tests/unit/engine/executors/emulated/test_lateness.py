import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apexbench.engine.executors.emulated.lateness import Lateness, LatenessMeter, summarise


def meter_of(*late_ns: int) -> LatenessMeter:
    meter = LatenessMeter()
    for late in late_ns:
        meter.add(late)
    return meter


def test_nothing_has_no_lateness() -> None:
    assert summarise([]) == Lateness(0, 0, 0, 0)


def test_ops_that_were_on_time_count() -> None:
    assert summarise([meter_of(*[0] * 99, 5000)]) == Lateness(100, 0, 0, 5000)


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=200))
def test_percentiles_are_those_of_the_values_within_a_bin(late: list[int]) -> None:
    found = summarise([meter_of(*late)])
    assert (found.num_ops, found.max_ns) == (len(late), max(late))
    for percent, value in ((50, found.p50_ns), (99, found.p99_ns)):
        exact = np.percentile(late, percent, method="inverted_cdf")
        assert value == pytest.approx(exact, rel=0.021, abs=1)


@given(st.lists(st.integers(0, 10**7)), st.lists(st.integers(0, 10**7)))
def test_lanes_together_are_all_their_ops(first: list[int], second: list[int]) -> None:
    together = summarise([meter_of(*first), meter_of(*second)])
    assert together == summarise([meter_of(*first, *second)])
