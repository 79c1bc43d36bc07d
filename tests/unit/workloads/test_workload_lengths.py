"""Length distributions draw what they say, and at least one token."""

import numpy as np
import pytest

from apexbench.workloads.lengths import Distribution, Fixed, LogNormal, Quantiles, Uniform
from apexbench.workloads.streams import Stream, generator

ALL: list[Distribution] = [
    Fixed(9),
    Uniform(3, 8),
    LogNormal(100, 300),
    Quantiles((0.0, 0.5, 1.0), (10, 20, 100)),
]


@pytest.mark.parametrize("distribution", ALL)
def test_more_draws_only_append(distribution: Distribution) -> None:
    few = distribution.draw(np.random.default_rng(1), 13)
    many = distribution.draw(np.random.default_rng(1), 500)
    assert few.dtype == np.int64
    assert few.tolist() == many[:13].tolist()


@pytest.mark.parametrize("distribution", ALL)
def test_the_median_is_the_middle_of_many_draws(distribution: Distribution) -> None:
    drawn = np.median(distribution.draw(np.random.default_rng(1), 50_000))
    assert drawn == pytest.approx(distribution.median, rel=0.1)


def test_uniform_reaches_both_bounds_and_nothing_beyond() -> None:
    assert set(Uniform(3, 6).draw(np.random.default_rng(0), 500)) == {3, 4, 5, 6}


def test_lognormal_has_the_asked_95th_percentile() -> None:
    drawn = LogNormal(100, 400).draw(np.random.default_rng(0), 200_000)
    assert np.quantile(drawn, 0.95) == pytest.approx(400, rel=0.02)


def test_quantiles_are_linear_in_between() -> None:
    drawn = Quantiles((0.0, 0.5, 1.0), (10, 20, 100)).draw(np.random.default_rng(0), 200_000)
    levels = np.quantile(drawn, (0.25, 0.5, 0.75))
    np.testing.assert_allclose(levels, [15, 20, 60], rtol=0.03)
    assert (drawn.min(), drawn.max()) == (10, 100)


def test_a_length_is_never_below_one_token() -> None:
    assert LogNormal(1, 50).draw(np.random.default_rng(0), 5_000).min() == 1
    assert Quantiles((0.0, 1.0), (0, 3)).draw(np.random.default_rng(0), 5_000).min() == 1


def test_streams_of_one_seed_differ_and_repeat() -> None:
    draws = {stream: generator(5, stream).random() for stream in Stream}
    assert len(set(draws.values())) == len(Stream)
    assert draws == {stream: generator(5, stream).random() for stream in Stream}
