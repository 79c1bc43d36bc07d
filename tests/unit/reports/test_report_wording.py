"""Numbers as people read them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apexbench.reports.wording import (
    MISSING,
    THIN,
    constant,
    count,
    delta,
    describe,
    interval,
    number,
    percent,
    quantity,
    rate,
    rates,
    seconds,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.8749, "1.87"),
        (0.07128, "0.0713"),
        (12345.6, f"12{THIN}300"),
        (999.96, f"1{THIN}000"),
        (0.0, "0"),
        (-2.5, "-2.50"),
        (3.2e11, "3.20e+11"),
        (4e-6, "4.00e-06"),
        (None, MISSING),
        (float("nan"), MISSING),
    ],
)
def test_number(value: float | None, text: str) -> None:
    assert number(value) == text


@given(st.floats(min_value=1e-9, max_value=1e15))
def test_number_keeps_three_digits(value: float) -> None:
    shown = float(number(value).replace(THIN, ""))
    assert shown == pytest.approx(value, rel=0.00501)


@given(st.floats(min_value=1e-9, max_value=1e6))
def test_seconds_keep_the_duration(value: float) -> None:
    amount, unit = seconds(value).rsplit(THIN, 1)
    scale = {"s": 1.0, "ms": 1e-3, "µs": 1e-6}[unit]
    assert float(amount.replace(THIN, "")) * scale == pytest.approx(value, rel=0.00501)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0713, f"71.3{THIN}ms"),
        (2.0, f"2.00{THIN}s"),
        (3.2e-5, f"32.0{THIN}µs"),
        (0.0, f"0{THIN}s"),
        (None, MISSING),
    ],
)
def test_seconds(value: float | None, text: str) -> None:
    assert seconds(value) == text


@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        (1.87, f"+87{THIN}%"),
        (0.82, f"\u221218{THIN}%"),
        (1.0, f"+0{THIN}%"),
        (31.0, "31.0\u00d7"),
        (None, MISSING),
    ],
)
def test_delta(ratio: float | None, text: str) -> None:
    assert delta(ratio) == text


def test_percent_has_a_decimal_only_where_it_matters() -> None:
    assert percent(0.034) == f"3.4{THIN}%"
    assert percent(0.34) == f"34{THIN}%"


def test_interval_says_when_there_is_none() -> None:
    assert interval(1.2, 1.5) == "1.20\u20131.50"
    assert interval(None, None) == "no interval"


@pytest.mark.parametrize(
    ("label", "rps", "text"),
    [
        ("inf", None, "saturation"),
        ("0.8x", 1.9, "0.8\u00d7 load"),
        ("2", 2.0, f"2.00{THIN}req/s"),
    ],
)
def test_rate(label: str, rps: float | None, text: str) -> None:
    assert rate(label, rps) == text


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ([("0.8x", 1.9)], "0.8\u00d7 load"),
        ([("0.8x", 1.9), ("1x", 2.4)], "0.8\u00d7 and 1\u00d7 load"),
        ([("0.5x", 1.2), ("0.8x", 1.9), ("1x", 2.4)], "0.5\u00d7, 0.8\u00d7 and 1\u00d7 load"),
        ([("0.8x", 1.9), ("2", 2.0)], f"0.8\u00d7 load and 2.00{THIN}req/s"),
    ],
)
def test_rates(settings: list[tuple[str, float | None]], text: str) -> None:
    assert rates(settings) == text


def test_metrics_are_named() -> None:
    assert describe("tpot_p50_s").name == "TPOT p50"
    assert describe("latency_per_token_p99_s").unit == "s"
    assert describe("cpu_tier_tpot_p90_s").name == "CPU-tier TPOT p90"
    assert describe("gpu_tier_e2e_p50_s").unit == "s"
    assert describe("new_tier_x").name == "new_tier_x"
    assert describe("something_new").name == "something_new"
    assert quantity(0.5, "slo_attainment") == f"50{THIN}%"
    assert quantity(206.4, "output_throughput_tok_s") == f"206{THIN}tok/s"


def test_constants_carry_their_unit() -> None:
    assert constant(320.0, "GB/s") == f"320{THIN}GB/s"
    assert constant(0.35, "1") == "0.350"
    assert count(3008) == f"3{THIN}008"
