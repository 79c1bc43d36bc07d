"""Fits find the constants that made the jobs, correct what is no line, know how sure they are."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apexbench.errors import InputError
from apexbench.profiling.fitting import MOST_SIGMA, errors_of, fit
from tests.host_measurements import cheap_when_long, grid, point

rates, rows_us, dispatches = st.floats(1, 300), st.floats(0, 200), st.floats(0, 100)


@given(gb_per_s=rates, row_us=rows_us, dispatch_us=dispatches)
def test_jobs_on_a_line_give_the_line_back(
    gb_per_s: float, row_us: float, dispatch_us: float
) -> None:
    jobs = grid(gb_per_s=gb_per_s, row_us=row_us, dispatch_us=dispatch_us)
    found = fit(jobs)
    assert found.line.bytes_per_s == pytest.approx(gb_per_s * 1e9, rel=1e-5)
    assert found.line.row_s == pytest.approx(row_us * 1e-6, rel=1e-4, abs=1e-10)
    assert found.dispatch_s == pytest.approx(dispatch_us * 1e-6, rel=1e-4, abs=1e-10)
    assert not found.is_corrected
    assert set(found.factors) == {1.0}


def test_jobs_off_the_line_are_interpolated_and_the_line_is_not_hidden() -> None:
    jobs = grid(factor=cheap_when_long)
    found = fit(jobs)
    assert found.is_corrected
    seen, by_line = errors_of(found, jobs), errors_of(found.line, jobs)
    assert seen is not None
    assert by_line is not None
    assert seen.largest < 1e-6
    assert by_line.largest > 0.05
    held_out = [point((60,) * 3, factor=cheap_when_long), point((2000,), factor=cheap_when_long)]
    unseen, unseen_by_line = errors_of(found, held_out), errors_of(found.line, held_out)
    assert unseen is not None
    assert unseen_by_line is not None
    assert (unseen.n, unseen.largest < 1e-6, unseen_by_line.largest > 0.05) == (2, True, True)


def test_noise_on_a_line_is_not_taken_for_a_curve() -> None:
    rng = np.random.default_rng(3)
    jobs = [
        dataclasses.replace(job, seconds=job.seconds * noise, spread=0.1)
        for job, noise in zip(grid(), np.exp(0.15 * rng.standard_normal(15)), strict=True)
    ]
    assert not fit(jobs).is_corrected


def test_too_few_jobs_for_a_curve_make_a_line() -> None:
    few = [job for job in grid(factor=cheap_when_long) if job.rows == 4]
    assert not fit(few).is_corrected


def test_rows_of_unequal_length_are_taken_as_equal_ones() -> None:
    found = fit(grid())
    mixed = point((10, 50, 4000, 300))
    assert found.seconds(mixed) == pytest.approx(mixed.seconds)


def test_a_disturbed_job_counts_for_little() -> None:
    jobs = grid()
    jobs[7] = dataclasses.replace(jobs[7], seconds=2 * jobs[7].seconds, spread=1.5)
    found = fit(jobs)
    assert found.line.bytes_per_s == pytest.approx(20e9, rel=0.02)


def test_sigmas_grow_with_the_spread_of_jobs() -> None:
    calm, wild = (fit(grid(spread=spread)) for spread in (0.02, 0.4))
    assert 0 < calm.rate_sigma < 0.1 < wild.rate_sigma
    assert calm.row_sigma < wild.row_sigma
    assert calm.dispatch_sigma < wild.dispatch_sigma


def test_sigmas_grow_with_what_rounds_differ_by() -> None:
    same = fit([*grid(), *grid(round=1)])
    drifted = fit([*grid(), *grid(round=1, gb_per_s=14.0, row_us=30.0 / 0.7, dispatch_us=5 / 0.7)])
    assert drifted.rate_sigma > same.rate_sigma + 0.15
    assert drifted.row_sigma > same.row_sigma + 0.15


def test_the_same_jobs_give_the_same_fit() -> None:
    jobs = grid(factor=cheap_when_long, spread=0.2)
    assert fit(jobs) == fit(list(jobs))


@given(noise=st.lists(st.floats(0.2, 5), min_size=15, max_size=15))
def test_whatever_was_measured_the_curve_is_finite_and_no_sigma_is_absurd(
    noise: list[float],
) -> None:
    jobs = [
        dataclasses.replace(job, seconds=job.seconds * factor)
        for job, factor in zip(grid(), noise, strict=True)
    ]
    try:
        found = fit(jobs)
    except InputError:
        return  # no rate can be told
    assert all(factor > 0 and np.isfinite(factor) for factor in found.factors)
    sigmas = (found.rate_sigma, found.row_sigma, found.dispatch_sigma)
    assert all(0 <= sigma <= MOST_SIGMA for sigma in sigmas)


def test_jobs_that_take_no_longer_for_more_kv_are_refused() -> None:
    jobs = [dataclasses.replace(job, seconds=1e-3) for job in grid()]
    with pytest.raises(InputError, match="took no longer for more KV, so no rate can be told; end"):
        fit(jobs)


def test_errors_of_nothing_are_nothing() -> None:
    assert errors_of(fit(grid()), []) is None
