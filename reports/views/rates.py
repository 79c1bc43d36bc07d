"""Throughput, goodput and latency as the request rate rises; the headline charts."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import log10
from typing import Any

from apexbench.reports.outcome import GOODPUT, THROUGHPUT, TPOT, TTFT, Outcome, Scenario
from apexbench.reports.palette import MUTED, Style, styles
from apexbench.reports.panels import Chart, Panel, Table, View, nothing
from apexbench.reports.plotting import (
    CHART_HEIGHT,
    axis,
    drawn,
    figure,
    line,
    policy_legend,
    reference,
    seconds_axis,
)
from apexbench.reports.wording import describe, number, percent, quantity, rate, seconds
from apexbench.result import Setting, Slo


@dataclass(frozen=True, slots=True)
class _Subject:
    """What one chart shows, and the SLO that applies to it."""

    metric: str
    hint: str
    has_saturation: bool
    slo: str | None = None


_SUBJECTS = (
    _Subject(
        THROUGHPUT,
        "Higher is better. Below saturation every policy that keeps up delivers what is asked; "
        "the last point is what it can deliver.",
        has_saturation=True,
    ),
    _Subject(
        GOODPUT,
        "Higher is better. The thin line is the offered rate: on it, every request meets the "
        "SLO; below it, some do not.",
        has_saturation=False,
    ),
    _Subject(TPOT, "Lower is better. The thin line is the SLO.", False, "tpot_s"),
    _Subject(TTFT, "Lower is better. The thin line is the SLO.", False, "ttft_s"),
)


def build(outcome: Outcome) -> Iterator[Panel]:
    """Small multiples per scenario, one per metric."""
    for position, scenario in enumerate(outcome.scenarios):
        found = [s for s in _SUBJECTS if _has_data(outcome, scenario, s)]
        if not found:
            yield nothing("rates", position, scenario.name, "no request of it completed.")
        for subject in found:
            yield _panel(outcome, position, scenario, subject)


def _settings(scenario: Scenario, subject: _Subject) -> tuple[Setting, ...]:
    return scenario.settings if subject.has_saturation else scenario.finite


def _has_data(outcome: Outcome, scenario: Scenario, subject: _Subject) -> bool:
    return any(
        any(outcome.values(setting, variant.id, subject.metric))  # all zeros are no picture
        for setting in _settings(scenario, subject)
        for variant in outcome.variants
    )


def _panel(outcome: Outcome, position: int, scenario: Scenario, subject: _Subject) -> Panel:
    words = describe(subject.metric)
    title = f"{words.name[0].upper()}{words.name[1:]} versus rate"
    chart = _chart(outcome, scenario, subject)
    return Panel(f"rates-{position}-{subject.metric}", title, subject.hint, chart, position)


def _chart(outcome: Outcome, scenario: Scenario, subject: _Subject) -> Chart:
    settings = _settings(scenario, subject)
    look = styles(variant.id for variant in outcome.variants)
    names = [v.id for v in outcome.variants if any(outcome.runs(s, v.id) for s in settings)]
    ticks = [_tick(setting) for setting in settings]
    traces = [_trace(outcome, settings, ticks, name, look[name], subject) for name in names]
    more = _targets(scenario.any_setting.slo, subject)
    if subject.metric == GOODPUT:
        traces.insert(0, _offered(settings, ticks))
    y = _value_axis(subject, traces)
    drawing = figure(traces, axis("offered rate", type="category"), y, **more)
    table = _table(outcome, settings, names, subject)
    summary = _summary(outcome, settings, names, subject)
    return Chart(drawing, CHART_HEIGHT, summary, table, policy_legend(look, names))


def _value_axis(subject: _Subject, traces: list[dict[str, Any]]) -> dict[str, Any]:
    unit = describe(subject.metric).unit
    if unit != "s":
        return axis(unit, rangemode="tozero")
    return seconds_axis("log scale", [value for trace in traces for value in trace["y"]])


def _tick(setting: Setting) -> str:
    if setting.rate_rps is None:
        return "saturation"
    if not setting.rate_label.endswith("x"):
        return f"{number(setting.rate_rps)} req/s"
    return (
        f"{rate(setting.rate_label, setting.rate_rps).split()[0]}<br>{number(setting.rate_rps)}/s"
    )


def _trace(
    outcome: Outcome,
    settings: tuple[Setting, ...],
    ticks: list[str],
    name: str,
    style: Style,
    subject: _Subject,
) -> dict[str, Any]:
    unit = describe(subject.metric).unit
    means = [outcome.mean(setting, name, subject.metric) for setting in settings]
    cells = [outcome.values(setting, name, subject.metric) for setting in settings]
    hover = f"%{{fullData.name}}: %{{y:.3~g}} {unit}<extra></extra>"
    return line(name, style, ticks, means, hovertemplate=hover, **_whiskers(cells))


def _whiskers(cells: list[tuple[float, ...]]) -> dict[str, Any]:
    """Smallest and largest seed around the mean; none with a single seed."""
    if max(len(values) for values in cells) < 2:  # noqa: PLR2004 - a spread needs two seeds
        return {}
    means = [sum(v) / len(v) if v else 0.0 for v in cells]
    above = [max(v, default=m) - m for v, m in zip(cells, means, strict=True)]
    below = [m - min(v, default=m) for v, m in zip(cells, means, strict=True)]
    bars = {"array": drawn(above), "arrayminus": drawn(below), "symmetric": False}
    return {"error_y": {"type": "data", **bars, "thickness": 1, "width": 3}}


def _targets(slo: Slo, subject: _Subject) -> dict[str, Any]:
    target = getattr(slo, subject.slo) if subject.slo else None
    if target is None:
        return {}
    mark = reference(target, f"SLO {seconds(target)}")
    mark["annotation"]["y"] = log10(target)  # plotly places annotations on log axes by exponent
    return {"shapes": [mark["shape"]], "annotations": [mark["annotation"]]}


def _offered(settings: tuple[Setting, ...], ticks: list[str]) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "offered",
        "x": ticks,
        "y": drawn(setting.rate_rps for setting in settings),
        "line": {"color": MUTED, "width": 1},
        "hovertemplate": "offered: %{y:.3~g} req/s<extra></extra>",
    }


def _table(
    outcome: Outcome, settings: tuple[Setting, ...], names: list[str], subject: _Subject
) -> Table:
    columns = ("policy", *(rate(s.rate_label, s.rate_rps) for s in settings))
    rows = [
        (name, *(_cell(outcome, setting, name, subject.metric) for setting in settings))
        for name in names
    ]
    return Table(columns, tuple(rows), frozenset(range(1, len(columns))))


def _cell(outcome: Outcome, setting: Setting, name: str, metric: str) -> str:
    text = quantity(outcome.mean(setting, name, metric), metric)
    attainment = outcome.mean(setting, name, "slo_attainment")
    if metric == GOODPUT and attainment is not None:
        text += f" ({percent(attainment)} meet the SLO)"
    return text


def _summary(
    outcome: Outcome, settings: tuple[Setting, ...], names: list[str], subject: _Subject
) -> str:
    last = settings[-1]
    words = describe(subject.metric)
    values = (
        f"{n} {quantity(outcome.mean(last, n, subject.metric), subject.metric)}" for n in names
    )
    return f"{words.name} at {rate(last.rate_label, last.rate_rps)}: {', '.join(values)}."


VIEW = View(
    id="rates",
    title="As the rate rises",
    lead="Points are means over seeds, whiskers the smallest and the largest seed.",
    place="first",
    build=build,
)
