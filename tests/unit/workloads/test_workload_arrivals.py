"""Arrival processes: rates, shapes and refusals."""

from collections.abc import Callable

import numpy as np
import pytest

from apexbench.errors import UsageError
from apexbench.workloads.arrivals import MAX_REQUESTS, Arrivals, check_count, to_ns


def _rng() -> np.random.Generator:
    return np.random.default_rng(7)


def test_constant_gaps_are_one_over_the_rate() -> None:
    np.testing.assert_allclose(Arrivals.constant(4.0).times_s(4, _rng()), [0, 0.25, 0.5, 0.75])


@pytest.mark.parametrize("arrivals", [Arrivals.all_at_once(), Arrivals.closed_loop(3)])
def test_untimed_processes_start_everything_at_zero(arrivals: Arrivals) -> None:
    assert arrivals.times_s(5, _rng()).tolist() == [0.0] * 5
    assert not arrivals.is_timed


@pytest.mark.parametrize(
    ("arrivals", "cv"),
    [
        (Arrivals.poisson(5.0), 1.0),
        (Arrivals.gamma(5.0, 3.0), 3.0),
        (Arrivals.gamma(5.0, 0.25), 0.25),
    ],
)
def test_random_gaps_have_the_asked_mean_and_variation(arrivals: Arrivals, cv: float) -> None:
    gaps = np.diff(arrivals.times_s(200_000, _rng()))
    assert gaps.mean() == pytest.approx(0.2, rel=0.03)
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.03)


def test_a_rate_only_divides_the_times() -> None:
    slow = Arrivals.gamma(1.0, 2.0).times_s(100, _rng())
    fast = Arrivals.gamma(8.0, 2.0).times_s(100, _rng())
    np.testing.assert_allclose(fast * 8, slow)


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf"), 5e-324])
@pytest.mark.parametrize("make", [Arrivals.constant, Arrivals.poisson, Arrivals.trace])
def test_a_rate_that_is_no_positive_number_is_refused(
    make: Callable[[float], Arrivals], rate: float
) -> None:
    with pytest.raises(UsageError, match="arrival rate must be a positive number"):
        make(rate)


@pytest.mark.parametrize("cv", [0.0, -1.0, float("nan"), 1e9])
def test_a_cv_out_of_range_is_refused(cv: float) -> None:
    with pytest.raises(UsageError, match="cv of gamma arrivals"):
        Arrivals.gamma(1.0, cv)


def test_a_closed_loop_of_nobody_is_refused() -> None:
    with pytest.raises(UsageError, match="concurrency must be 1 or more, not 0"):
        Arrivals.closed_loop(0)


@pytest.mark.parametrize("count", [0, -3, MAX_REQUESTS + 1, float("inf")])
def test_an_unreasonable_number_of_requests_is_refused(count: float) -> None:
    with pytest.raises(UsageError, match="number of requests must be from 1"):
        check_count(count)


def test_nanoseconds_are_rounded_and_must_fit_the_clock() -> None:
    assert to_ns(np.array([0.0, 1.0000000006])).tolist() == [0, 1_000_000_001]
    with pytest.raises(UsageError, match="146 years"):
        to_ns(np.array([0.0, 1e10]))
