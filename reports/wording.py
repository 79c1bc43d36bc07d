"""Numbers and metric names as people read them; no sentences."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import floor, isfinite, log10

EN_DASH = "\u2013"
TIMES = "\u00d7"
MINUS = "\u2212"
MISSING = EN_DASH
THIN = "\u202f"  # narrow no-break space: groups digits, joins number and unit
_DIGITS = 3
_SI_STEPS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))
_SMALLEST_PLAIN = 1e-4  # below this a decimal fraction is harder to read than an exponent
_LARGEST_PLAIN = 1e7
_WHOLE_PERCENT_FROM = 0.0995  # what rounds to 10 % needs no decimal
_FACTOR_FROM = 3.0  # a factor of 31 reads better than +3000 %
_LOAD = " load"  # ends a rate that is a multiple of gpu-only's saturation


@dataclass(frozen=True, slots=True)
class MetricWords:
    """How a metric is called and in which unit its values are shown."""

    name: str
    unit: str


_METRICS = {
    "output_throughput_tok_s": MetricWords("output throughput", "tok/s"),
    "total_throughput_tok_s": MetricWords("total throughput", "tok/s"),
    "request_throughput_rps": MetricWords("request throughput", "req/s"),
    "goodput_rps": MetricWords("goodput", "req/s"),
    "slo_attainment": MetricWords("SLO attainment", "share"),
}
_LATENCIES = {
    "ttft": "TTFT",
    "tpot": "TPOT",
    "itl": "ITL",
    "e2e": "end-to-end latency",
    "latency_per_token": "latency per token",
}
_TIERS = {"gpu": "GPU-tier", "cpu": "CPU-tier"}


def describe(metric: str) -> MetricWords:
    """Name and unit of a metric; an unknown one is shown as it is called in the document."""
    if metric in _METRICS:
        return _METRICS[metric]
    tier, _, of_tier = metric.partition("_tier_")
    if of_tier and tier in _TIERS:
        words = describe(of_tier)
        return MetricWords(f"{_TIERS[tier]} {words.name}", words.unit)
    stem, _, percentile = metric.removesuffix("_s").rpartition("_")
    if metric.endswith("_s") and stem in _LATENCIES:
        return MetricWords(f"{_LATENCIES[stem]} {percentile}", "s")
    return MetricWords(metric, "")


def number(value: float | None, digits: int = _DIGITS) -> str:
    """Three significant digits, thousands grouped: 1.87, 0.0713, 12 300."""
    if value is None or not isfinite(value):
        return MISSING
    if value == 0:
        return "0"
    if not _SMALLEST_PLAIN <= abs(value) < _LARGEST_PLAIN:
        return f"{value:.{digits - 1}e}"
    decimals = digits - 1 - floor(log10(abs(value)))
    rounded = round(value, decimals)
    return f"{rounded:,.{max(decimals, 0)}f}".replace(",", THIN)


def count(value: float | None) -> str:
    """A whole number in full, thousands grouped."""
    return MISSING if value is None else f"{value:,.0f}".replace(",", THIN)


def seconds(value: float | None) -> str:
    """A duration in the unit that keeps it between 1 and 1000: 71.3 ms."""
    if value is None or not isfinite(value):
        return MISSING
    if value == 0:
        return f"0{THIN}s"
    for scale, unit in _SI_STEPS:
        if abs(value) >= scale:
            return f"{number(value / scale)}{THIN}{unit}"
    return f"{number(value / _SI_STEPS[-1][0])}{THIN}{_SI_STEPS[-1][1]}"


def quantity(value: float | None, metric: str) -> str:
    """A metric's value with its unit."""
    unit = describe(metric).unit
    if value is None:
        return MISSING
    if unit == "s":
        return seconds(value)
    if unit == "share":
        return percent(value)
    return f"{number(value)}{THIN}{unit}" if unit else number(value)


def constant(value: float, unit: str) -> str:
    """A device constant with its unit; "1" marks a plain fraction."""
    return number(value) if unit == "1" else f"{number(value)}{THIN}{unit}"


def percent(share: float | None) -> str:
    """A fraction of one as a percentage, one decimal below ten per cent."""
    if share is None:
        return MISSING
    decimals = 0 if abs(share) >= _WHOLE_PERCENT_FROM or share == 0 else 1
    return f"{100 * share:.{decimals}f}{THIN}%"


def times(ratio: float | None) -> str:
    """A ratio followed by a multiplication sign."""
    return MISSING if ratio is None else f"{number(ratio)}{TIMES}"


def delta(ratio: float | None) -> str:
    """A ratio as a signed change such as +87 %; large ones stay factors."""
    if ratio is None:
        return MISSING
    if ratio >= _FACTOR_FROM:
        return times(ratio)
    change = percent(ratio - 1.0)
    return f"+{change}" if ratio >= 1.0 else change.replace("-", MINUS)


def interval(low: float | None, high: float | None) -> str:
    """A confidence interval; says so where there is none."""
    if low is None or high is None:
        return "no interval"
    return f"{number(low)}{EN_DASH}{number(high)}"


def rate(label: str, rps: float | None) -> str:
    """The rate of a setting: "saturation", "0.8x load", "2 req/s"."""
    if rps is None:
        return "saturation"
    if label.endswith("x"):
        return f"{label.removesuffix('x')}{TIMES}{_LOAD}"
    return f"{number(rps)}{THIN}req/s"


def rates(settings: Iterable[tuple[str, float | None]]) -> str:
    """Several rates, each a label and requests/s, with what they share said once at the end."""
    *most, last = (rate(label, rps) for label, rps in settings)
    if all(text.endswith(_LOAD) for text in (*most, last)):
        most = [text.removesuffix(_LOAD) for text in most]
    return f"{', '.join(most)} and {last}" if most else last
