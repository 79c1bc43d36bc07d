"""Every paired comparison with its interval: how far each hybrid is from gpu-only, and how sure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from apexbench.reports.outcome import GOODPUT, THROUGHPUT, TPOT, TTFT, Outcome, Scenario
from apexbench.reports.palette import MUTED
from apexbench.reports.panels import Chart, Panel, Table, View
from apexbench.reports.plotting import axis, drawn, figure, label, ratio_axis
from apexbench.reports.standing import STANDINGS, Standing, ratio_range, standing, standing_legend
from apexbench.reports.wording import describe, interval, rate, times
from apexbench.result import Comparison, Setting

_FRAME_HEIGHT = 70
_ROW_HEIGHT = 19
_DIRECTIONS = {
    THROUGHPUT: "Right of the line is better.",
    GOODPUT: "Right of the line is better.",
}
_LOWER = "Left of the line is better."
_MARKS = "Bars are 95 % intervals over paired seeds; the frame cuts very long ones."


@dataclass(frozen=True, slots=True)
class _Row:
    """One comparison, under the heading of its rate."""

    where: str
    found: Comparison


def build(outcome: Outcome) -> Iterator[Panel]:
    """Throughput at saturation; goodput, TPOT and TTFT at the finite rates; what exists of it."""
    for position, scenario in enumerate(outcome.scenarios):
        for metric in (THROUGHPUT, GOODPUT, TPOT, "tpot_p90_s", TTFT):
            rows = tuple(_rows(outcome, scenario, metric))
            if rows:
                yield _panel(position, metric, rows)


def _rows(outcome: Outcome, scenario: Scenario, metric: str) -> Iterator[_Row]:
    for setting in _settings(scenario, metric):
        where = rate(setting.rate_label, setting.rate_rps)
        for variant in outcome.variants:
            found = outcome.comparison(setting, variant.id, metric)
            if found is not None:
                yield _Row(where, found)


def _settings(scenario: Scenario, metric: str) -> tuple[Setting, ...]:
    """Below saturation throughput is what was offered; above it latency is what was queued."""
    if metric != THROUGHPUT:
        return scenario.finite
    return () if scenario.saturation is None else (scenario.saturation,)


def _panel(position: int, metric: str, rows: tuple[_Row, ...]) -> Panel:
    name = describe(metric).name
    where = " at saturation" if metric == THROUGHPUT else " over the rates"
    hint = f"{_DIRECTIONS.get(metric, _LOWER)} {_MARKS}"
    return Panel(
        f"forest-{position}-{metric}",
        f"{name[0].upper()}{name[1:]}{where}",
        hint,
        _chart(metric, rows),
        position,
        is_wide=metric == THROUGHPUT,  # the others then fill two columns
    )


def _chart(metric: str, rows: tuple[_Row, ...]) -> Chart:
    texts, places = _lines(rows)
    low, high = ratio_range([row.found for row in rows])
    marks = [standing(row.found) for row in rows]
    traces = [
        _trace(mark, [(y, r) for y, r, m in zip(places, rows, marks, strict=True) if m == mark])
        for mark in STANDINGS
        if mark in marks
    ]
    y = axis(
        "",
        tickmode="array",
        tickvals=list(range(len(texts))),
        ticktext=texts,
        range=[len(texts) - 0.5, -0.5],
        showgrid=False,
        zeroline=False,
        fixedrange=True,
    )
    drawing = figure(traces, ratio_axis("ratio to gpu-only, log scale", low, high), y, **_one())
    height = _FRAME_HEIGHT + _ROW_HEIGHT * len(texts)
    return Chart(drawing, height, _summary(metric, rows), _table(rows), standing_legend(marks))


def _lines(rows: Sequence[_Row]) -> tuple[list[str], list[int]]:
    """Text of every line, rates as headings where there are several, and the place of each row."""
    texts: list[str] = []
    places = []
    has_headings = len({row.where for row in rows}) > 1
    before = None
    for row in rows:
        if has_headings and row.where != before:
            texts.append(f"<b>{label(row.where)}</b>")
            before = row.where
        places.append(len(texts))
        texts.append(label(row.found.candidate))
    return texts, places


def _trace(mark: Standing, rows: Sequence[tuple[int, _Row]]) -> dict[str, Any]:
    found = [row.found for _, row in rows]
    trace: dict[str, Any] = {
        "type": "scatter",
        "mode": "markers",
        "name": mark.words,
        "meta": mark.words,
        "x": drawn(item.ratio for item in found),
        "y": [place for place, _ in rows],
        "marker": {
            "color": mark.color,
            "symbol": mark.symbol,
            "size": 9,
            "line": {"width": 2, "color": mark.color},
        },
        "customdata": [_described(row) for _, row in rows],
        "hovertemplate": "%{customdata}<extra></extra>",
    }
    if all(item.ci_low is not None for item in found):
        trace["error_x"] = {
            "type": "data",
            "array": drawn((item.ci_high or item.ratio) - item.ratio for item in found),
            "arrayminus": drawn(item.ratio - (item.ci_low or item.ratio) for item in found),
            "symmetric": False,
            "thickness": 1.5,
            "width": 3,
            "color": mark.color,
        }
    return trace


def _described(row: _Row) -> str:
    found = row.found
    span = "" if found.ci_low is None else f" ({interval(found.ci_low, found.ci_high)})"
    return f"{label(found.candidate)} at {row.where}: {times(found.ratio)}{span}, n = {found.n}"


def _one() -> dict[str, Any]:
    edge = {"type": "line", "x0": 1, "x1": 1, "yref": "paper", "y0": 0, "y1": 1}
    return {"shapes": [{**edge, "line": {"color": MUTED, "width": 1}}]}


def _table(rows: Sequence[_Row]) -> Table:
    found = [
        (
            row.where,
            row.found.candidate,
            times(row.found.ratio),
            interval(row.found.ci_low, row.found.ci_high),
            str(row.found.n),
            standing(row.found).words,
        )
        for row in rows
    ]
    columns = ("rate", "policy", "ratio", "95 % interval", "n", "verdict")
    return Table(columns, tuple(found), frozenset({2, 3, 4}))


def _summary(metric: str, rows: Sequence[_Row]) -> str:
    marks = [standing(row.found) for row in rows]
    counts = [f"{marks.count(mark)} {mark.words}" for mark in STANDINGS if mark in marks]
    name = describe(metric).name
    return f"{name[0].upper()}{name[1:]} against gpu-only: {', '.join(counts)}."


VIEW = View(
    id="forest",
    title="Differences and how sure they are",
    lead="Ratios to gpu-only, paired by seed; a hollow mark is a single seed and proves nothing.",
    place="more",
    build=build,
)
