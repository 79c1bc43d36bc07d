"""Latency distributions of all requests at the rate where latency is judged."""

from collections.abc import Iterator

from apexbench.reports.outcome import Outcome, Scenario
from apexbench.reports.palette import styles
from apexbench.reports.panels import Chart, Panel, Table, View, nothing
from apexbench.reports.plotting import CHART_HEIGHT, axis, figure, line, policy_legend, seconds_axis
from apexbench.reports.wording import rate, seconds
from apexbench.result import Setting

_NAMES = {
    "ttft_s": "TTFT",
    "tpot_s": "TPOT",
    "itl_s": "Inter-token gaps",
    "e2e_s": "End-to-end latency",
    "latency_per_token_s": "Latency per token",
}
_TABLE_QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
_MIN_POINTS = 2
Curves = dict[str, tuple[float, ...]]


def build(outcome: Outcome) -> Iterator[Panel]:
    """One chart per latency and scenario."""
    for position, scenario in enumerate(outcome.scenarios):
        setting = _setting(outcome, scenario)
        metrics = _metrics(outcome, setting)
        if setting is None or not metrics:
            yield nothing("latency", position, scenario.name, "no request has a latency.")
            continue
        for number, metric in enumerate(metrics, start=1):
            is_alone = number == len(metrics) and number % 2 == 1  # leaves no hole in two columns
            yield _panel(outcome, position, setting, metric, is_alone)


def _setting(outcome: Outcome, scenario: Scenario) -> Setting | None:
    candidates = (scenario.online, scenario.saturation)
    return next((s for s in candidates if _metrics(outcome, s)), None)


def _metrics(outcome: Outcome, setting: Setting | None) -> list[str]:
    found = {
        metric
        for variant in outcome.variants
        for run in outcome.runs(setting, variant.id)
        for metric, values in run.latency_cdf.items()
        if len(values) >= _MIN_POINTS
    }
    known = [metric for metric in _NAMES if metric in found]
    return known + sorted(found.difference(known))


def _panel(outcome: Outcome, position: int, setting: Setting, metric: str, is_wide: bool) -> Panel:
    title = f"{_NAMES.get(metric, metric)} at {rate(setting.rate_label, setting.rate_rps)}"
    hint = "Further left is better: the height of a curve is the share of requests at or below."
    chart = _chart(outcome, setting, metric)
    return Panel(f"latency-{position}-{metric}", title, hint, chart, position, is_wide)


def _curves(outcome: Outcome, setting: Setting, metric: str) -> Curves:
    """Per policy the mean over seeds of each quantile."""
    curves: Curves = {}
    for variant in outcome.variants:
        found = [run.latency_cdf.get(metric, ()) for run in outcome.runs(setting, variant.id)]
        found = [values for values in found if len(values) >= _MIN_POINTS]
        if found:
            equal = [values for values in found if len(values) == len(found[0])]
            curves[variant.id] = tuple(sum(q) / len(q) for q in zip(*equal, strict=True))
    return curves


def _chart(outcome: Outcome, setting: Setting, metric: str) -> Chart:
    look = styles(variant.id for variant in outcome.variants)
    curves = _curves(outcome, setting, metric)
    hover = "%{fullData.name}: %{y:.0%} within %{x:.3~g} s<extra></extra>"
    traces = []
    for name, values in curves.items():
        shares = [i / (len(values) - 1) for i in range(len(values))]
        trace = line(name, look[name], [], shares, mode="lines", hovertemplate=hover)
        trace["x"] = [float(f"{value:.5g}") for value in values]
        traces.append(trace)
    drawing = figure(
        traces,
        seconds_axis("log scale", [value for values in curves.values() for value in values]),
        axis("share of requests", range=[0, 1], tickformat=".0%"),
    )
    legend = policy_legend(look, curves)
    return Chart(drawing, CHART_HEIGHT, _summary(curves), _table(curves), legend)


def _at(values: tuple[float, ...], share: float) -> float:
    return values[round(share * (len(values) - 1))]


def _table(curves: Curves) -> Table:
    columns = ("policy", *(f"{share:.0%}" for share in _TABLE_QUANTILES))
    rows = [(n, *(seconds(_at(v, q)) for q in _TABLE_QUANTILES)) for n, v in curves.items()]
    return Table(columns, tuple(rows), frozenset(range(1, len(columns))))


def _summary(curves: Curves) -> str:
    return "Medians: " + ", ".join(f"{n} {seconds(_at(v, 0.5))}" for n, v in curves.items()) + "."


VIEW = View(
    id="latency",
    title="Latency distributions",
    lead="All completed requests, mean over seeds of every quantile.",
    place="more",
    build=build,
)
