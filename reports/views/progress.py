"""Output rate over the run with the measurement window; shows whether it was steady."""

from collections.abc import Iterator
from typing import Any

from apexbench.reports.outcome import Outcome, Scenario
from apexbench.reports.palette import styles
from apexbench.reports.panels import Chart, Panel, Table, View, nothing
from apexbench.reports.plotting import (
    CHART_HEIGHT,
    GRID,
    axis,
    drawn,
    figure,
    line,
    policy_legend,
)
from apexbench.reports.wording import rate, seconds
from apexbench.result import Run, Setting


def build(outcome: Outcome) -> Iterator[Panel]:
    """One chart per scenario, at saturation or else online."""
    for position, scenario in enumerate(outcome.scenarios):
        setting = _setting(outcome, scenario)
        if setting is None:
            yield nothing("progress", position, scenario.name, "no run kept its series.")
            continue
        runs = _runs(outcome, setting)
        yield Panel(
            f"progress-{position}",
            f"Output rate at {rate(setting.rate_label, setting.rate_rps)}, first seed",
            "The shaded span is measured in every run; inside it the curves should be level.",
            _chart(outcome, runs),
            position,
            is_wide=True,
        )


def _setting(outcome: Outcome, scenario: Scenario) -> Setting | None:
    places = (scenario.saturation, scenario.online)
    return next((s for s in places if s is not None and _runs(outcome, s)), None)


def _runs(outcome: Outcome, setting: Setting) -> list[Run]:
    first = [outcome.first_run(setting, variant.id) for variant in outcome.variants]
    return [run for run in first if run is not None and run.series and run.series.t_s]


def _chart(outcome: Outcome, runs: list[Run]) -> Chart:
    look = styles(variant.id for variant in outcome.variants)
    traces = [
        line(
            run.variant, look[run.variant], drawn(run.series.t_s), run.series.output_tok_s,
            mode="lines", hovertemplate="%{fullData.name}: %{y:.3~g} tok/s<extra></extra>",
        )
        for run in runs
        if run.series is not None
    ]  # fmt: skip
    drawing = figure(
        traces,
        axis("seconds"),
        axis("output tok/s", rangemode="tozero"),
        shapes=_common_window(runs),
    )
    legend = policy_legend(look, [run.variant for run in runs])
    return Chart(drawing, CHART_HEIGHT, _summary(runs), _table(runs), legend)


def _common_window(runs: list[Run]) -> list[dict[str, Any]]:
    """The span inside every run's window, if there is one."""
    start = max(run.window.start_s for run in runs)
    end = min(run.window.end_s for run in runs)
    if start >= end:
        return []
    shape = {"type": "rect", "yref": "paper", "y0": 0, "y1": 1, "x0": start, "x1": end}
    return [shape | {"fillcolor": GRID, "opacity": 0.35, "line": {"width": 0}, "layer": "below"}]


def _table(runs: list[Run]) -> Table:
    rows = [
        (
            run.variant,
            seconds(run.window.start_s),
            seconds(run.window.end_s),
            "yes" if run.window.is_steady else run.window.reason or "no",
        )
        for run in runs
    ]
    return Table(("policy", "window from", "to", "steady"), tuple(rows), frozenset({1, 2}))


def _summary(runs: list[Run]) -> str:
    steady = sum(run.window.is_steady for run in runs)
    return f"{steady} of {len(runs)} runs shown have a steady measurement window."


VIEW = View(
    id="progress",
    title="Over the run",
    lead="Only the measurement window counts; what comes before is warm-up.",
    place="more",
    build=build,
)
