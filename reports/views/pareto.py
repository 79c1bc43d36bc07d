"""What latency each throughput costs: one line per policy over the rates, and the front of all."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from apexbench.reports.outcome import THROUGHPUT, Outcome, Scenario
from apexbench.reports.palette import MUTED, Style, styles
from apexbench.reports.panels import Chart, LegendItem, Panel, Table, View
from apexbench.reports.plotting import axis, drawn, figure, label, line, policy_legend, seconds_axis
from apexbench.reports.wording import describe, number, rate, seconds

_HEIGHT = 340
_FRONT = "best trade-offs"
_HINT = (
    "Up and to the left is better; lines go from low to high rates. Rings: no other policy and "
    "rate gives more tokens at no higher latency. The thin line is the SLO."
)
# TPOT, because it also holds at saturation, where end-to-end latency only tells how many requests
# were queued. The median hides the requests that the CPU serves; they make the p90.
_LATENCIES = ("tpot_p50_s", "tpot_p90_s")


@dataclass(frozen=True, slots=True)
class Point:
    """One policy at one rate, mean over seeds."""

    variant: str
    where: str
    latency_s: float
    tok_s: float


def build(outcome: Outcome) -> Iterator[Panel]:
    """One chart per scenario and percentile; none where a single point is all there is."""
    for position, scenario in enumerate(outcome.scenarios):
        for metric in _LATENCIES:
            points = tuple(_points(outcome, scenario, metric))
            if len(points) > 1:
                name = describe(metric).name
                yield Panel(
                    f"pareto-{position}-{metric}",
                    f"Output throughput against {name}",
                    _HINT,
                    _chart(outcome, scenario, metric, points),
                    position,
                )


def _points(outcome: Outcome, scenario: Scenario, metric: str) -> Iterator[Point]:
    """By policy, then by rising rate, saturation last."""
    for variant in outcome.variants:
        for setting in scenario.settings:
            latency = outcome.mean(setting, variant.id, metric)
            tok_s = outcome.mean(setting, variant.id, THROUGHPUT)
            if latency and tok_s:
                where = rate(setting.rate_label, setting.rate_rps)
                yield Point(variant.id, where, latency, tok_s)


def front(points: Sequence[Point]) -> tuple[Point, ...]:
    """Those that no other beats in throughput at no higher latency, by rising latency."""
    best: list[Point] = []
    for point in sorted(points, key=lambda p: (p.latency_s, -p.tok_s)):
        if not best or point.tok_s > best[-1].tok_s:
            best.append(point)
    return tuple(best)


def _chart(outcome: Outcome, scenario: Scenario, metric: str, points: tuple[Point, ...]) -> Chart:
    look = styles(variant.id for variant in outcome.variants)
    names = list(dict.fromkeys(point.variant for point in points))
    best = front(points)
    traces = [_ring(best), *(_line(points, name, look) for name in names)]
    target = scenario.any_setting.slo.tpot_s
    x = seconds_axis(
        f"{describe(metric).name}, log scale", [p.latency_s for p in points] + [target]
    )
    y = axis("tok/s", rangemode="tozero")
    drawing = figure(traces, x, y, **_target(target))
    legend = (*policy_legend(look, names), LegendItem(_FRONT, MUTED, "dot", "circle-open"))
    return Chart(drawing, _HEIGHT, _summary(best, metric), _table(points, best, metric), legend)


def _line(points: Sequence[Point], name: str, look: Mapping[str, Style]) -> dict[str, Any]:
    own = [point for point in points if point.variant == name]
    hover = "%{fullData.name} at %{customdata}: %{y:.3~g} tok/s, %{x:.3~g} s<extra></extra>"
    return line(
        name,
        look[name],
        drawn(point.latency_s for point in own),
        [point.tok_s for point in own],
        customdata=[label(point.where) for point in own],
        hovertemplate=hover,
    )


def _ring(best: Sequence[Point]) -> dict[str, Any]:
    """Stairs: at a latency in between, what can be had is the point to the left."""
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": _FRONT,
        "meta": _FRONT,
        "x": drawn(point.latency_s for point in best),
        "y": drawn(point.tok_s for point in best),
        "line": {"color": MUTED, "width": 1, "dash": "dot", "shape": "hv"},
        "marker": {"color": MUTED, "symbol": "circle-open", "size": 17, "line": {"width": 2}},
        "hoverinfo": "skip",
    }


def _target(target: float | None) -> dict[str, Any]:
    if target is None:
        return {}
    edge = {"type": "line", "x0": target, "x1": target, "yref": "paper", "y0": 0, "y1": 1}
    return {"shapes": [{**edge, "line": {"color": MUTED, "width": 1}}]}


def _table(points: Sequence[Point], best: Sequence[Point], metric: str) -> Table:
    rows = [
        (p.variant, p.where, number(p.tok_s), seconds(p.latency_s), "yes" if p in best else "")
        for p in points
    ]
    columns = ("policy", "rate", "tok/s", describe(metric).name, "on the front")
    return Table(columns, tuple(rows), frozenset({2, 3}))


def _summary(best: Sequence[Point], metric: str) -> str:
    name = describe(metric).name
    texts = (
        f"{p.variant} at {p.where} with {number(p.tok_s)} tok/s and {seconds(p.latency_s)}"
        for p in best
    )
    return f"Best trade-offs of output throughput and {name}: {'; '.join(texts)}."


VIEW = View(
    id="pareto",
    title="Throughput against latency",
    lead="Every policy at every rate that was run, means over seeds.",
    place="more",
    build=build,
)
