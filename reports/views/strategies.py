"""Which strategy the steps of each hybrid used as the run went on."""

from collections.abc import Iterator
from typing import Any

from apexbench.reports.outcome import Outcome, Scenario
from apexbench.reports.palette import MUTED, STRATEGY_COLORS
from apexbench.reports.panels import Chart, Panel, Table, View, nothing
from apexbench.reports.plotting import axis, drawn, figure, label, patch_legend
from apexbench.reports.wording import percent, rate
from apexbench.result import Run, Series, Setting

_HEIGHT = 220


def build(outcome: Outcome) -> Iterator[Panel]:
    """One small chart per hybrid and scenario, at saturation or else online."""
    for position, scenario in enumerate(outcome.scenarios):
        panels = list(_panels(outcome, position, scenario))
        yield from panels or [
            nothing("strategies", position, scenario.name, "no hybrid run kept its series.")
        ]


def _panels(outcome: Outcome, position: int, scenario: Scenario) -> Iterator[Panel]:
    places = (scenario.saturation, scenario.online)
    setting = next((s for s in places if outcome.hybrids_at(s)), None)
    for number, variant in enumerate(outcome.hybrids_at(setting)):
        run = outcome.first_run(setting, variant.id)
        if setting is not None and run is not None and run.series and run.series.t_s:
            chart = _chart(run, run.series)
            yield Panel(
                f"strategies-{position}-{number}",
                _title(run, setting),
                "Area is the share of steps; a flat picture is a settled policy.",
                chart,
                position,
            )


def _title(run: Run, setting: Setting) -> str:
    return f"{run.variant} at {rate(setting.rate_label, setting.rate_rps)}, seed {run.seed}"


def _chart(run: Run, series: Series) -> Chart:
    colors = {name: STRATEGY_COLORS.get(name, MUTED) for name in series.strategy_share}
    times = drawn(series.t_s)
    traces = [
        _area(name, colors[name], times, shares) for name, shares in series.strategy_share.items()
    ]
    drawing = figure(
        traces,
        axis("seconds"),
        axis("share of steps", range=[0, 1], tickformat=".0%"),
    )
    return Chart(drawing, _HEIGHT, _summary(run), _table(run), patch_legend(colors))


def _area(
    name: str, color: str, times: list[float | None], shares: tuple[float, ...]
) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "stackgroup": "share",
        "name": label(name),
        "meta": name,
        "x": times,
        "y": drawn(shares),
        "line": {"color": color, "width": 0.5},
        "fillcolor": color,
        "hovertemplate": "%{fullData.name}: %{y:.0%} at %{x:.3~g} s<extra></extra>",
    }


def _table(run: Run) -> Table:
    total = sum(run.decisions.values())
    rows = [
        (name, str(steps), percent(steps / total) if total else "")
        for name, steps in run.decisions.items()
    ]
    return Table(("strategy", "steps", "share"), tuple(rows), frozenset({1, 2}))


def _summary(run: Run) -> str:
    steps = ", ".join(f"{name} {num} steps" for name, num in run.decisions.items())
    return f"{run.variant} over the whole run: {steps}."


VIEW = View(
    id="strategies",
    title="Strategy over time",
    lead="The run with the first seed of every hybrid.",
    place="more",
    build=build,
)
