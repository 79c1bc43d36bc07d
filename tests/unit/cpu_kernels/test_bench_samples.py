"""The bench's own arithmetic: medians, limits around a pass, ratios, and when a run is void."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apexbench.cpu_kernels.bench.samples import (
    VOID_RATIO,
    Pass,
    Probe,
    Rate,
    Repeat,
    ratio_of,
    summarise,
)

positive = st.floats(1e-3, 1e3)


def repeat(gbps: float, before: float, after: float, preemptions: int = 0) -> Repeat:
    measured = Pass(1.0, int(gbps * 1e9))
    return Repeat(measured, Probe({"plain": before}), Probe({"plain": after}), preemptions)


def test_a_summary_of_five_values_has_their_median_and_quartiles() -> None:
    found = summarise([5.0, 1.0, 4.0, 2.0, 3.0])
    assert (found.lower, found.median, found.upper, found.n) == (2.0, 3.0, 4.0, 5)
    assert found.spread == pytest.approx(2 / 3)


def test_the_spread_of_nothing_but_zeros_is_zero() -> None:
    assert summarise([0.0, 0.0]).spread == 0.0


@given(st.lists(positive, min_size=1, max_size=30))
def test_quartiles_surround_the_median_and_lie_within_the_values(values: list[float]) -> None:
    found = summarise(values)
    assert min(values) <= found.lower <= found.median <= found.upper <= max(values)


def test_gb_are_decimal_and_per_second() -> None:
    assert Pass(0.5, 2_000_000_000).gbps == 4.0


def test_the_limit_around_a_pass_is_bytes_over_time_of_both_reads() -> None:
    # As many bytes at 20 as at 60 GB/s: 2 / (1/20 + 1/60) = 30, not 40.
    assert repeat(15, before=20, after=60).limit_gbps == pytest.approx(30)
    assert repeat(15, before=20, after=60).ratio == pytest.approx(0.5)


def test_the_limit_is_that_of_the_best_reader_on_both_sides_together() -> None:
    before, after = Probe({"plain": 40.0, "numpy": 30.0}), Probe({"plain": 10.0, "numpy": 30.0})
    assert Repeat(Pass(1.0, 1), before, after).limit_gbps == pytest.approx(30)


def test_the_ratio_is_of_medians_and_the_paired_ratio_of_pairs() -> None:
    # The limit halves for one repeat, and the kernel with it: pairs see no difference.
    rate = Rate((repeat(20, 40, 40), repeat(10, 20, 20), repeat(20, 40, 40), repeat(36, 40, 40)))
    assert rate.ratio == pytest.approx(20 / 40)
    assert rate.paired_ratio.median == pytest.approx(0.5)
    assert rate.paired_ratio.upper == pytest.approx(0.6)


@given(positive, positive)
def test_a_rate_is_void_exactly_beyond_the_stated_ratio(limit: float, share: float) -> None:
    gbps = limit * share
    rate = Rate((repeat(gbps, limit, limit),) * 5)
    assert math.isclose(rate.ratio, share, rel_tol=1e-3, abs_tol=1e-6)
    assert rate.is_void == (rate.ratio > VOID_RATIO)


@pytest.mark.parametrize(("gbps", "is_void"), [(40.7, False), (40.9, True)])
def test_two_percent_above_the_limit_is_what_a_reader_may_miss(gbps: float, is_void: bool) -> None:
    assert Rate((repeat(gbps, 40, 40),) * 5).is_void == is_void


def test_repeats_that_others_disturbed_are_counted() -> None:
    rate = Rate((repeat(1, 1, 1, 0), repeat(1, 1, 1, 3), repeat(1, 1, 1, 1)))
    assert rate.num_preempted == 2


@given(st.lists(positive, min_size=2, max_size=9), positive)
def test_ratios_are_of_pairs_whatever_both_suffer_together(
    values: list[float], share: float
) -> None:
    found = ratio_of([share * value for value in values], values)
    assert np.allclose([found.lower, found.median, found.upper], share)


def test_ratios_need_as_many_of_one_as_of_the_other() -> None:
    with pytest.raises(ValueError, match="zip"):
        ratio_of([1.0, 2.0], [1.0])
