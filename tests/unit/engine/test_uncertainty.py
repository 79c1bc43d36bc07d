"""Draws of device constants: their median, their spread, and what moves together."""

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apexbench.engine.constants import constants_of, with_constants
from apexbench.engine.deployment import Deployment, deploy
from apexbench.engine.profile_files import Constant
from apexbench.engine.uncertainty import (
    SHARED_VARIANCE,
    displaced,
    drawn_constants,
    uncertain_constants,
)

NUM_DRAWS = 4000
TOLERANCE = 0.06  # of a correlation or a standard deviation over that many draws: about 4 sigma
RATE = Constant(18.0, "GB/s", "made up", "inferred", 0.35)


@cache
def t4() -> Deployment:
    return deploy("t4")


@pytest.fixture(scope="module")
def deviations() -> dict[str, np.ndarray[tuple[int], np.dtype[np.float64]]]:
    """Standard normal deviations of each constant over many draws."""
    rng = np.random.default_rng(1)
    draws = [drawn_constants(t4(), rng) for _ in range(NUM_DRAWS)]
    found = {}
    for key, constant in uncertain_constants(t4()).items():
        logs = np.log([draw[key] / constant.value for draw in draws])
        found[key] = logs / math.sqrt(math.log1p(constant.sigma**2))
    return found


@given(st.floats(0.01, 0.9), st.floats(-4, 4))
def test_the_profile_is_the_median_and_nothing_changes_its_sign(sigma: float, z: float) -> None:
    constant = replace(RATE, sigma=sigma)
    up, down = displaced(constant, z), displaced(constant, -z)
    assert displaced(constant, 0) == constant.value
    assert min(up, down) > 0
    assert up * down == pytest.approx(constant.value**2)


def test_sigma_is_the_relative_standard_deviation() -> None:
    values = [displaced(RATE, z) for z in np.random.default_rng(0).standard_normal(200_000)]
    mean_over_median = math.sqrt(1 + RATE.sigma**2)
    assert np.mean(values) == pytest.approx(RATE.value * mean_over_median, rel=0.01)
    assert np.std(values) / np.mean(values) == pytest.approx(RATE.sigma, rel=0.02)


def test_a_share_of_a_peak_stays_one() -> None:
    share = Constant(0.9, "1", "made up", "anchored", 0.2)
    assert displaced(share, 3) == 1.0
    assert displaced(share, -3) < 0.9
    assert displaced(replace(share, unit="GB/s"), 3) > 1


@pytest.mark.parametrize("key", ["gpu.dram_gb_per_s", "host.eager_row_us", "gpu.memory_gib"])
def test_every_constant_has_its_own_spread(
    deviations: dict[str, np.ndarray[tuple[int], np.dtype[np.float64]]], key: str
) -> None:
    assert np.median(deviations[key]) == pytest.approx(0, abs=TOLERANCE)
    assert np.std(deviations[key]) == pytest.approx(1, abs=TOLERANCE)


@pytest.mark.parametrize(
    ("one", "other", "correlation"),
    [
        ("gpu.dram_gb_per_s", "gpu.peak_tflops", SHARED_VARIANCE),
        ("gpu.dram_gb_per_s", "gpu.gemm_memory_efficiency", SHARED_VARIANCE),
        ("gpu.dram_gb_per_s", "gpu.gemm_latency_us", -SHARED_VARIANCE),
        ("gpu.dram_gb_per_s", "gpu.prefill_attention_half_tokens", -SHARED_VARIANCE),
        ("gpu.dram_gb_per_s", "gpu.memory_gib", 0),
        ("gpu.dram_gb_per_s", "host.dram_peak_gb_per_s", 0),
        ("host.paper_kernel_gb_per_s", "host.eager_step_us", -SHARED_VARIANCE),
    ],
)
def test_speeds_of_a_device_move_together(
    deviations: dict[str, np.ndarray[tuple[int], np.dtype[np.float64]]],
    one: str,
    other: str,
    correlation: float,
) -> None:
    found = np.corrcoef(deviations[one], deviations[other])[0, 1]
    assert found == pytest.approx(correlation, abs=TOLERANCE)


def test_counts_prices_and_what_is_certain_are_never_drawn() -> None:
    rented = deploy("a10g", host="g5.4xlarge")
    sockets = replace(rented.host.cores, sigma=0.1)
    rented = replace(rented, host=replace(rented.host, cores=sockets))
    drawn = drawn_constants(rented, np.random.default_rng(0))
    assert drawn.keys() == uncertain_constants(rented).keys()
    for key in ("gpu.num_sms", "host.cores", "host.price_usd_per_hour"):
        assert key in constants_of(rented)
        assert key not in drawn


def test_weights_do_not_change_what_is_drawn() -> None:
    draws = [drawn_constants(at, np.random.default_rng(7)) for at in (t4(), deploy(weights="int4"))]
    assert draws[0] == draws[1]
    assert draws[0] != drawn_constants(t4(), np.random.default_rng(8))


def test_a_draw_replaces_values_and_keeps_their_circumstances() -> None:
    values = drawn_constants(t4(), np.random.default_rng(0))
    moved = with_constants(t4(), values)
    now, before = constants_of(moved), constants_of(t4())
    assert {key: now[key].value for key in values} == values
    assert {key: replace(c, value=before[key].value) for key, c in now.items()} == before
    assert moved.cpu_threads == t4().cpu_threads
