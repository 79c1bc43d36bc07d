"""One representative step as lanes over time, gpu-only above the best hybrid."""

from collections.abc import Iterator, Mapping
from typing import Any

from apexbench.records import LANES
from apexbench.reports.case import best_hybrid
from apexbench.reports.outcome import BASELINE, Outcome, Scenario
from apexbench.reports.palette import INK, MUTED, OP_COLORS
from apexbench.reports.panels import Chart, Panel, Table, View, nothing
from apexbench.reports.plotting import axis, figure, label, patch_legend
from apexbench.reports.wording import percent, seconds
from apexbench.result import Run, Span, Timeline

_MS = 1e3
_MICRO_DIGITS = 4  # of a millisecond: a tenth of a microsecond
_HEIGHT_PER_STEP = 205
_CAPTION_HEIGHT = 44
_AXIS_HEIGHT = 60
_ROW_GAP = 0.2  # of the plot, for the caption of the lower step
_HINT = (
    "Each bar is one operation on its lane; gaps on the gpu lane are idle time. A launch is a "
    "layer's output projection and FFN with the next layer's QKV; send and recv carry q, k, v and "
    "results over PCIe. Both steps share one time scale. Drag to zoom, double-click to reset."
)


def build(outcome: Outcome) -> Iterator[Panel]:
    """One chart per scenario, from the saturation setting, else the online one."""
    for position, scenario in enumerate(outcome.scenarios):
        runs = _runs(outcome, scenario)
        if runs:
            yield Panel(
                f"timeline-{position}", _title(runs), _HINT, _chart(runs), position, is_wide=True
            )
        else:
            yield nothing("timeline", position, scenario.name, "no run kept a step timeline.")


def _title(runs: Mapping[str, Timeline]) -> str:
    return "One step: " + ", then ".join(runs)


def _runs(outcome: Outcome, scenario: Scenario) -> dict[str, Timeline]:
    best = best_hybrid(outcome, scenario)
    names = [BASELINE] + ([best.id] if best else [])
    found: dict[str, Timeline] = {}
    for name in names:
        for setting in (scenario.saturation, scenario.online):
            run: Run | None = outcome.first_run(setting, name)
            if run is not None and run.timeline is not None and name not in found:
                found[name] = run.timeline
    return found


def _chart(steps: Mapping[str, Timeline]) -> Chart:
    colors = _colors(steps)
    traces = [
        _bars(kind, color, row, step)
        for row, step in enumerate(steps.values())
        for kind, color in colors.items()
        if any(span.kind == kind for span in step.spans)
    ]
    longest = max(step.step_s for step in steps.values()) * _MS
    layout: dict[str, Any] = {"barmode": "overlay", "bargap": 0.25, "annotations": []}
    for row, (name, step) in enumerate(steps.items()):
        top, bottom = _domain(row, len(steps))
        layout[_axis_key("yaxis", row)] = _lane_axis(bottom, top)
        layout["annotations"].append(_caption(top, name, step))
    x = axis("milliseconds since the step began", range=[0, longest], anchor=_last_axis(steps))
    drawing = figure(traces, x, layout.pop("yaxis"), **layout)
    drawing["layout"]["margin"]["t"] = _CAPTION_HEIGHT
    height = _HEIGHT_PER_STEP * len(steps) + _AXIS_HEIGHT
    return Chart(drawing, height, _summary(steps), _table(steps), patch_legend(colors))


def _colors(steps: Mapping[str, Timeline]) -> dict[str, str]:
    kinds = dict.fromkeys(span.kind for step in steps.values() for span in step.spans)
    return {kind: OP_COLORS.get(kind, MUTED) for kind in kinds}


def _domain(row: int, rows: int) -> tuple[float, float]:
    """Top and bottom of a row of the chart, with room for its caption."""
    gap = _ROW_GAP if rows > 1 else 0.0
    height = (1.0 - gap * (rows - 1)) / rows
    top = 1.0 - row * (height + gap)
    return round(top, 4), round(max(top - height, 0.0), 4)


def _axis_key(name: str, row: int) -> str:
    return name if row == 0 else f"{name}{row + 1}"


def _last_axis(steps: Mapping[str, Timeline]) -> str:
    return _axis_key("y", len(steps) - 1)


def _lane_axis(bottom: float, top: float) -> dict[str, Any]:
    return axis(
        "",
        domain=[bottom, top],
        type="category",
        categoryorder="array",
        categoryarray=list(reversed(LANES)),
        range=[-0.5, len(LANES) - 0.5],
        fixedrange=True,
        showgrid=False,
    )


def _caption(top: float, name: str, step: Timeline) -> dict[str, Any]:
    rows = [
        f"{count} {word}"
        for count, word in (
            (step.gpu_rows, "GPU rows"),
            (step.in_layer_rows, "in-layer rows"),
            (step.deferred_rows, "deferred rows"),
            (step.prefill_tokens, "prefill tokens"),
        )
        if count
    ]
    text = f"<b>{label(name)}</b> · {label(step.strategy)} · {seconds(step.step_s)}"
    return {
        "xref": "paper", "yref": "paper", "x": 0, "y": top, "xanchor": "left",
        "yanchor": "bottom", "showarrow": False, "align": "left",
        "text": "<br>".join([text, " · ".join(rows)]), "font": {"size": 13, "color": INK},
    }  # fmt: skip


def _bars(kind: str, color: str, row: int, step: Timeline) -> dict[str, Any]:
    spans = [span for span in step.spans if span.kind == kind]
    return {
        "type": "bar",
        "orientation": "h",
        "name": label(kind),
        "meta": kind,
        "yaxis": _axis_key("y", row),
        "y": [label(span.lane) for span in spans],
        "base": [round(span.start_s * _MS, _MICRO_DIGITS) for span in spans],
        "x": [round((span.end_s - span.start_s) * _MS, _MICRO_DIGITS) for span in spans],
        "customdata": [_describe(span) for span in spans],
        "marker": {"color": color, "line": {"color": color, "width": 0.5}},
        "hovertemplate": "%{fullData.name} %{customdata}<br>%{x:.3~g} ms<extra></extra>",
    }


def _describe(span: Span) -> str:
    layer = "" if span.layer is None else f"layer {span.layer}, "
    group = f"{span.group}, " if span.group else ""
    return label(f"{layer}{group}{span.rows} rows")


def _busy(step: Timeline) -> dict[tuple[str, str], tuple[int, float]]:
    """(lane, kind) -> number of operations and their total time."""
    busy: dict[tuple[str, str], tuple[int, float]] = {}
    for span in step.spans:
        num, total = busy.get((span.lane, span.kind), (0, 0.0))
        busy[span.lane, span.kind] = (num + 1, total + span.end_s - span.start_s)
    return busy


def _table(steps: Mapping[str, Timeline]) -> Table:
    rows = [
        (name, lane, kind, str(num), seconds(total), percent(total / step.step_s))
        for name, step in steps.items()
        if step.step_s > 0
        for (lane, kind), (num, total) in _busy(step).items()
    ]
    columns = ("policy", "lane", "operation", "count", "total", "of the step")
    return Table(columns, tuple(rows), frozenset({3, 4, 5}))


def _summary(steps: Mapping[str, Timeline]) -> str:
    texts = [
        f"{name}: a {step.strategy} step of {seconds(step.step_s)}" for name, step in steps.items()
    ]
    return "; ".join(texts) + "."


VIEW = View(
    id="timeline",
    title="Inside one step",
    lead="A step of each run's most frequent strategy, at saturation.",
    place="first",
    build=build,
)
