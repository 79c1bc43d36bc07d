"""What each hybrid did step by step in the middle of its run, and what it had weighed."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from math import ceil
from typing import Any

from apexbench.reports.outcome import Outcome, Scenario
from apexbench.reports.palette import CHOSEN_COLOR, INK, MUTED, ROW_COLORS, STRATEGY_COLORS
from apexbench.reports.panels import Chart, LegendItem, Panel, Table, View
from apexbench.reports.plotting import CHART_HEIGHT, axis, drawn, figure, label
from apexbench.reports.wording import count, number, rate, seconds
from apexbench.result import Decision, Prediction, Run, Setting, StepTrace

_MS = 1e3
_HEIGHT = 380
# Bottom and top of the parts of the chart: duration, decoding rows, and prompt tokens if any.
_DOMAINS = ((0.58, 1.0), (0.25, 0.51), (0.0, 0.18))
_DOMAINS_OF_TWO = ((0.46, 1.0), (0.0, 0.38))
_PROMPT = "prompt tokens"
_MAX_STRETCHES = 24  # rows of a table
_MAX_DECISIONS = 64  # columns of a chart
_TAKEN, _KEPT, _BARRED = "taken", "weighed", "beyond a latency target"
_ROWS: Mapping[str, Callable[[StepTrace], int]] = {
    "GPU rows": lambda step: step.gpu_rows,
    "in-layer rows": lambda step: step.in_layer_rows,
    "deferred rows": lambda step: step.deferred_rows,
}
_STEPS = (
    "Top: how long each step took, coloured by strategy. Below: the rows it decoded and the prompt "
    "tokens it computed, if there were any."
)
_WEIGHED = (
    "Each column is one decision, spread over the whole run; height is what a candidate gains over "
    "the first one, in tokens of the step less the price of its time. For the planner the first is "
    "gpu_only. Stars were taken; the table says why."
)


def build(outcome: Outcome) -> Iterator[Panel]:
    """Per hybrid a stretch of consecutive steps, and its decisions if it logs them."""
    for position, scenario in enumerate(outcome.scenarios):
        runs = _runs(outcome, scenario)
        for place, (setting, run) in enumerate(runs):
            if run.steps:
                title = f"{_name(setting, run)}: {len(run.steps)} steps in a row"
                chart = _steps_chart(run)
                yield Panel(f"decisions-{position}-{place}", title, _STEPS, chart, position)
        for place, (setting, run) in enumerate(runs):
            shown = _shown(run)
            if shown:
                panel_id = f"decisions-{position}-{place}-log"
                title = f"{_name(setting, run)}: what it weighed"
                chart = _weighed_chart(run, shown)
                yield Panel(panel_id, title, _WEIGHED, chart, position, is_wide=True)


def _runs(outcome: Outcome, scenario: Scenario) -> list[tuple[Setting, Run]]:
    """The first seed of every hybrid, at saturation or else online."""
    for setting in scenario.judged:
        runs = [outcome.first_run(setting, variant.id) for variant in outcome.hybrids_at(setting)]
        found = [(setting, run) for run in runs if run and (run.steps or run.decision_log)]
        if found:
            return found
    return []


def _name(setting: Setting, run: Run) -> str:
    return f"{run.variant} at {rate(setting.rate_label, setting.rate_rps)}"


def _steps_chart(run: Run) -> Chart:
    steps = run.steps
    strategies = list(dict.fromkeys(step.strategy for step in steps))
    colors = {name: STRATEGY_COLORS.get(name, MUTED) for name in strategies}
    rows = [name for name, read in _ROWS.items() if any(map(read, steps))]
    traces = [_bars(name, colors[name], steps) for name in strategies]
    traces += [_row_line(name, steps) for name in rows]
    legend = [LegendItem(name, color) for name, color in colors.items()]
    legend += [LegendItem(name, ROW_COLORS[name], "solid") for name in rows]
    has_prompts = any(step.prefill_tokens for step in steps)
    if has_prompts:
        traces.append(_prompt_bars(steps))
        legend.append(LegendItem(_PROMPT, INK))
    drawing = _stacked(traces, _DOMAINS if has_prompts else _DOMAINS_OF_TWO)
    return Chart(drawing, _HEIGHT, _steps_summary(run), _steps_table(steps), tuple(legend))


def _stacked(
    traces: Sequence[Mapping[str, Any]], domains: Sequence[tuple[float, float]]
) -> dict[str, Any]:
    """Parts above each other over one axis of steps."""
    first, *others = (
        axis(title, domain=list(domain), rangemode="tozero", nticks=4)
        for title, domain in zip(("ms", "rows", "prompt"), domains, strict=False)
    )
    more = {f"yaxis{place}": part for place, part in enumerate(others, start=2)}
    x = axis("step of the run", anchor=f"y{len(domains)}")
    return figure(traces, x, first, **more, bargap=0, barmode="overlay")


def _bars(strategy: str, color: str, steps: Sequence[StepTrace]) -> dict[str, Any]:
    own = [step for step in steps if step.strategy == strategy]
    return {
        "type": "bar",
        "name": label(strategy),
        "meta": strategy,
        "x": [step.step for step in own],
        "y": drawn(step.step_s * _MS for step in own),
        "marker": {"color": color},
        "hovertemplate": "step %{x}, %{fullData.name}: %{y:.3~g} ms<extra></extra>",
    }


def _row_line(name: str, steps: Sequence[StepTrace]) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "meta": name,
        "yaxis": "y2",
        "x0": steps[0].step,  # the steps are consecutive
        "dx": 1,
        "y": [_ROWS[name](step) for step in steps],
        "line": {"color": ROW_COLORS[name], "width": 1.5, "shape": "hvh"},
        "hovertemplate": "step %{x}: %{y} %{fullData.name}<extra></extra>",
    }


def _prompt_bars(steps: Sequence[StepTrace]) -> dict[str, Any]:
    own = [step for step in steps if step.prefill_tokens]
    return {
        "type": "bar",
        "name": _PROMPT,
        "meta": _PROMPT,
        "yaxis": "y3",
        "x": [step.step for step in own],
        "y": [step.prefill_tokens for step in own],
        "marker": {"color": INK},
        "hovertemplate": "step %{x}: %{y} prompt tokens<extra></extra>",
    }


def _steps_table(steps: Sequence[StepTrace]) -> Table:
    """Steps in a row that did the same kind of work are one line."""
    groups = [list(group) for _, group in groupby(steps, key=_kind_of_work)]
    rows = tuple(_group_row(group) for group in groups[:_MAX_STRETCHES])
    columns = (
        "first step", "steps", "strategy", "mean step", "GPU rows", "in-layer rows",
        "deferred rows", "prompt tokens",
    )  # fmt: skip
    return Table(columns, rows, frozenset({0, 1, 3, 4, 5, 6, 7}))


def _kind_of_work(step: StepTrace) -> tuple[str, bool]:
    return step.strategy, step.prefill_tokens > 0


def _group_row(group: Sequence[StepTrace]) -> tuple[str, ...]:
    return (
        str(group[0].step),
        str(len(group)),
        group[0].strategy,
        seconds(sum(step.step_s for step in group) / len(group)),
        *(number(sum(map(read, group)) / len(group)) for read in _ROWS.values()),
        count(sum(step.prefill_tokens for step in group)),
    )


def _steps_summary(run: Run) -> str:
    steps = run.steps
    texts = []
    for strategy in dict.fromkeys(step.strategy for step in steps):
        own = [step.step_s for step in steps if step.strategy == strategy]
        texts.append(f"{len(own)} {strategy} steps of {seconds(sum(own) / len(own))} on average")
    return f"{run.variant}, seed {run.seed}, from step {steps[0].step}: {', '.join(texts)}."


def _shown(run: Run) -> tuple[Decision, ...]:
    """Evenly spread over the run where there are more than a chart can show."""
    log = run.decision_log
    return log[:: max(1, ceil(len(log) / _MAX_DECISIONS))]


def _weighed_chart(run: Run, shown: Sequence[Decision]) -> Chart:
    groups = _grouped(shown)
    looks = {
        _KEPT: {"color": MUTED, "symbol": "circle-open", "size": 7},
        _BARRED: {"color": STRATEGY_COLORS["two_batch"], "symbol": "x", "size": 6},
        _TAKEN: {"color": CHOSEN_COLOR, "symbol": "star", "size": 12},
    }
    traces = [_candidates(name, look, groups[name]) for name, look in looks.items()]
    drawing = figure(
        [trace for trace in traces if trace["x"]],
        axis("step of the run"),
        axis("tokens gained"),
    )
    legend = tuple(
        LegendItem(name, str(look["color"]), "solid", str(look["symbol"]))
        for name, look in looks.items()
        if groups[name]
    )
    return Chart(drawing, CHART_HEIGHT, _weighed_summary(run, shown), _weighed_table(shown), legend)


def _grouped(shown: Sequence[Decision]) -> dict[str, list[tuple[Decision, Prediction]]]:
    groups: dict[str, list[tuple[Decision, Prediction]]] = {_TAKEN: [], _KEPT: [], _BARRED: []}
    for decision in shown:
        for place, candidate in enumerate(decision.candidates):
            name = _KEPT if candidate.is_within_targets else _BARRED
            group = _TAKEN if place == decision.chosen else name
            groups[group].append((decision, candidate))
    return groups


def _candidates(
    name: str, look: Mapping[str, Any], found: Sequence[tuple[Decision, Prediction]]
) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "meta": name,
        "x": [decision.step for decision, _ in found],
        "y": drawn(_gain(decision, candidate) for decision, candidate in found),
        "marker": dict(look),
        "customdata": [label(candidate.plan) for _, candidate in found],
        "hovertemplate": "step %{x}: %{customdata}, %{y:+.3~g} tokens (%{fullData.name})"
        "<extra></extra>",
    }


def _weighed_table(shown: Sequence[Decision]) -> Table:
    columns = (
        "step",
        "taken",
        "tokens gained",
        "predicted tok/s",
        "predicted step",
        "next best",
        "its gain",
        "why",
    )
    return Table(columns, tuple(map(_decision_row, shown)), frozenset({0, 2, 3, 4, 6}))


def _gain(decision: Decision, candidate: Prediction) -> float:
    """What the policy maximises, less the same of the first candidate."""
    return candidate.gain_tokens - decision.candidates[0].gain_tokens


def _decision_row(decision: Decision) -> tuple[str, ...]:
    taken = decision.candidates[decision.chosen]
    others = [c for place, c in enumerate(decision.candidates) if place != decision.chosen]
    rival = max(others, key=lambda candidate: candidate.gain_tokens, default=None)
    return (
        str(decision.step),
        taken.plan,
        number(_gain(decision, taken)),
        number(taken.rate_tok_s),
        seconds(taken.step_s),
        "" if rival is None else rival.plan,
        number(None if rival is None else _gain(decision, rival)),
        decision.reason,
    )


def _weighed_summary(run: Run, shown: Sequence[Decision]) -> str:
    taken: dict[str, int] = {}
    for decision in shown:
        strategy = decision.candidates[decision.chosen].strategy
        taken[strategy] = taken.get(strategy, 0) + 1
    texts = [f"{strategy} {num} times" for strategy, num in taken.items()]
    return f"{run.variant}, seed {run.seed}, {len(shown)} decisions: took {', '.join(texts)}."


VIEW = View(
    id="decisions",
    title="Step by step",
    lead="Consecutive steps from the middle of the measurement window, first seed.",
    place="more",
    build=build,
)
