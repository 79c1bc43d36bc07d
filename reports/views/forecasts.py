"""Runs in real time: what each lane took against what was predicted, and the engine's overhead."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from apexbench.records import LANES
from apexbench.reports.outcome import Outcome, Scenario
from apexbench.reports.palette import INK, LANE_COLORS
from apexbench.reports.panels import Chart, LegendItem, Panel, Table, View
from apexbench.reports.plotting import (
    CHART_HEIGHT,
    axis,
    drawn,
    figure,
    label,
    patch_legend,
    seconds_axis,
)
from apexbench.reports.wording import MISSING, percent, seconds, times
from apexbench.result import Measured, Run, Spread, StepTimes, StepTrace

STEP = "step"
_PARTS = (*LANES[:4], STEP)  # what a step program predicts of a step
_COLORS = {**{lane: LANE_COLORS[lane] for lane in LANES[:4]}, STEP: INK}
_FRAME_HEIGHT = 90
_ROW_HEIGHT = 60
_ERRORS = (
    "Mean |predicted / measured - 1|: of busy time over groups of consecutive steps for lanes, of "
    "its duration for the step. The prediction is the belief's, for the very plans that ran."
)
_STEPS = "Solid is measured, dotted predicted; consecutive steps amid the measured part of the run."
_OVERHEAD = (
    "Python: host time between the steps and to begin one. Lateness: how much later than modelled "
    "an emulated GPU operation ended."
)


def build(outcome: Outcome) -> Iterator[Panel]:
    """Per scenario errors by lane, stretches of steps, overhead; nothing for virtual time."""
    for position, scenario in enumerate(outcome.scenarios):
        runs = _runs(outcome, scenario)
        if not runs:
            continue
        yield from _error_panel(position, runs)
        yield from _step_panels(position, runs)
        table = _overhead_table(runs)
        yield Panel(f"forecasts-{position}-overhead", "Overhead and threads", _OVERHEAD, table,
                    position, is_wide=True)  # fmt: skip


Runs = Mapping[str, tuple[Run, ...]]  # by variant, all seeds


def _runs(outcome: Outcome, scenario: Scenario) -> Runs:
    """Of the setting in which policies are compared first."""
    for setting in scenario.judged or scenario.settings:
        found = {v.id: outcome.runs(setting, v.id) for v in outcome.variants_at(setting)}
        real = {name: tuple(r for r in runs if r.measured) for name, runs in found.items()}
        if any(real.values()):
            return {name: runs for name, runs in real.items() if runs}
    return {}


def _measured(runs: Sequence[Run]) -> list[Measured]:
    return [run.measured for run in runs if run.measured is not None]


def _mean(runs: Sequence[Run], name: str, part: str) -> float | None:
    """Mean over seeds of one entry of a dictionary of `Measured`."""
    values = [getattr(measured, name).get(part) for measured in _measured(runs)]
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _error_panel(position: int, runs: Runs) -> Iterator[Panel]:
    errors = {
        part: [_mean(own, "lane_prediction_error", part) for own in runs.values()]
        for part in _PARTS
    }
    used = [part for part in _PARTS if any(value is not None for value in errors[part])]
    if not used:
        return
    traces = [
        {
            "type": "bar",
            "orientation": "h",
            "name": part,
            "meta": part,
            "y": [label(name) for name in runs],
            "x": drawn(errors[part]),
            "marker": {"color": _COLORS[part]},
            "hovertemplate": "%{y}, %{fullData.name}: %{x:.1%}<extra></extra>",
        }
        for part in used
    ]
    drawing = figure(
        traces,
        axis("prediction error", tickformat=".2~%", rangemode="tozero"),
        axis("", type="category", autorange="reversed"),
        barmode="group",
        bargap=0.3,
    )
    height = _FRAME_HEIGHT + _ROW_HEIGHT * len(runs)
    legend = patch_legend({part: _COLORS[part] for part in used})
    chart = Chart(drawing, height, _error_summary(runs), _lane_table(runs, used), legend)
    yield Panel(
        f"forecasts-{position}-errors", "Predicted against measured, by lane", _ERRORS, chart,
        position,
    )  # fmt: skip


def _error_summary(runs: Runs) -> str:
    texts = [
        f"{name}: step {percent(_mean(own, 'lane_prediction_error', STEP))}, CPU lane "
        f"{percent(_mean(own, 'lane_prediction_error', 'cpu'))}"
        for name, own in runs.items()
    ]
    return f"Mean prediction error of {'; '.join(texts)}."


def _lane_table(runs: Runs, parts: Sequence[str]) -> Table:
    rows = []
    for name, own in runs.items():
        for part in parts:
            took, expected = (
                _mean(own, f"lane_{what}_s", part) for what in ("measured", "predicted")
            )
            ratio = expected / took if took and expected is not None else None
            rows.append(
                (name, part, seconds(took), seconds(expected), times(ratio),
                 percent(_mean(own, "lane_prediction_error", part)),
                 seconds(_mean(own, "lane_cpu_s", part)))
            )  # fmt: skip
    columns = (
        "policy",
        "lane",
        "measured",
        "predicted",
        "ratio",
        "error",
        "CPU time of its threads",
    )
    return Table(columns, tuple(rows), frozenset(range(2, len(columns))))


def _step_panels(position: int, runs: Runs) -> Iterator[Panel]:
    for place, (name, own) in enumerate(runs.items()):
        steps = [step for step in own[0].steps if step.predicted and step.measured]
        if steps:
            title = f"{name}: {len(steps)} steps, predicted and measured"
            yield Panel(
                f"forecasts-{position}-{place}-steps", title, _STEPS, _step_chart(steps), position
            )


_LINES = {STEP: "step_s", "gpu": "gpu_s", "cpu": "cpu_s"}
_DASHES = {"measured": "solid", "predicted": "dot"}


def _step_chart(steps: Sequence[StepTrace]) -> Chart:
    shown = [
        (part, kind)
        for part, attribute in _LINES.items()
        if any(getattr(_times(step, kind), attribute) for kind in _DASHES for step in steps)
        for kind in _DASHES
    ]
    traces = [_step_line(part, kind, steps) for part, kind in shown]
    values = [value for trace in traces for value in trace["y"]]
    drawing = figure(traces, axis("step of the run"), seconds_axis("", values))
    legend = tuple(
        LegendItem(f"{part} {kind}", _COLORS[part], _DASHES[kind]) for part, kind in shown
    )
    return Chart(drawing, CHART_HEIGHT, _step_summary(steps), _step_table(steps), legend)


def _step_line(part: str, kind: str, steps: Sequence[StepTrace]) -> dict[str, Any]:
    name = f"{part} {kind}"
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "meta": name,
        "x": [step.step for step in steps],
        "y": drawn(getattr(_times(step, kind), _LINES[part]) or None for step in steps),
        "line": {"color": _COLORS[part], "dash": _DASHES[kind], "width": 1.5},
        "hovertemplate": "step %{x}, %{fullData.name}: %{y:.3~s}s<extra></extra>",
    }


def _step_summary(steps: Sequence[StepTrace]) -> str:
    took, expected = (fmean(_times(step, kind).step_s for step in steps) for kind in _DASHES)
    return (
        f"{len(steps)} consecutive steps took {seconds(took)} each in the mean; predicted were "
        f"{seconds(expected)}."
    )


def _times(step: StepTrace, kind: str) -> StepTimes:
    times_: StepTimes = getattr(step, kind)
    return times_


def _step_table(steps: Sequence[StepTrace]) -> Table:
    rows = tuple(
        (str(step.step), step.strategy,
         *(seconds(getattr(_times(step, kind), f"{part}_s"))
           for part in _PARTS for kind in _DASHES))
        for step in steps
    )  # fmt: skip
    columns = ("step", "strategy", *(f"{part} {kind}" for part in _PARTS for kind in _DASHES))
    return Table(columns, rows, frozenset({0, *range(2, len(columns))}))


def _overhead_table(runs: Runs) -> Table:
    columns = ("policy", "seed", "GPU threads", "CPU threads", "Python per step", "p50", "p99",
               "lateness p50", "p99", "max", "trusted")  # fmt: skip
    rows = tuple(
        (name, str(run.seed), _count(measured.gpu_threads), str(measured.cpu_threads),
         *_spread(measured.python_s_per_step, ("mean", "p50", "p99")),
         *_spread(measured.lateness_s, ("p50", "p99", "max")),
         "yes" if measured.is_trustworthy else f"no: {measured.distrust}")
        for name, own in runs.items()
        for run, measured in zip(own, _measured(own), strict=True)
    )  # fmt: skip
    return Table(columns, rows, frozenset(range(1, len(columns) - 1)))


def _count(value: int | None) -> str:
    return MISSING if value is None else str(value)


def _spread(spread: Spread | None, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(seconds(getattr(spread, name) if spread else None) for name in names)


VIEW = View(
    id="forecasts",
    title="Predicted and measured",
    lead="Runs in real time against what the policies' cost model said, lane by lane.",
    place="first",
    build=build,
)
