"""Saturation over one swept value: the gain over gpu-only, the throughput, and who takes over."""

from collections.abc import Iterator, Mapping, Sequence
from math import ceil, log10
from typing import Any

from apexbench.reports.outcome import Outcome
from apexbench.reports.palette import MUTED, Style, styles
from apexbench.reports.panels import Chart, Panel, Table, View
from apexbench.reports.plotting import axis, drawn, figure, label, line, policy_legend, ratio_axis
from apexbench.reports.standing import ONE_SEED, UNDECIDED, ratio_range, standing
from apexbench.reports.swept import own_weights, swept_value, swept_words
from apexbench.reports.takeovers import Takeover, leader_at, takeovers
from apexbench.reports.wording import MISSING, count, interval, number, times
from apexbench.result import Sweep, SweepPoint

_HEIGHT = 340
_TOP = 34  # pixels for what stands above the frame
_GAIN = (
    "Above the line is better than gpu-only at the same value. Hollow marks are not significant or "
    "a single seed; bars are 95 % intervals."
)
_THROUGHPUT = (
    "Higher is better. Dotted lines: where another policy becomes the best one, among those with "
    "the setting's own weights."
)
_MAX_TICKS = 8
_ABOUT = 2  # digits of a value read off between two others
_MARGIN = 0.06  # of the axis, on both sides
_LOWEST_NOTE, _NOTE_STEP = 0.03, 0.07  # of the frame: each note above the one before


def build(outcome: Outcome) -> Iterator[Panel]:
    """Two charts per sweep of one parameter; grids of two are drawn as maps."""
    positions = {scenario.name: place for place, scenario in enumerate(outcome.scenarios)}
    for place, sweep in enumerate(outcome.result.sweeps):
        if len(sweep.parameters) == 1 and sweep.scenario in positions:
            position = positions[sweep.scenario]
            name = swept_words(sweep.parameters[0])
            if any(point.ratio is not None for point in sweep.points):
                gain = _gain_chart(outcome, sweep)
                title = f"Gain over gpu-only against {name}"
                yield Panel(f"sweeps-{position}-{place}-gain", title, _GAIN, gain, position)
            chart = _throughput_chart(outcome, sweep)
            title = f"Output throughput against {name}"
            yield Panel(f"sweeps-{position}-{place}-rate", title, _THROUGHPUT, chart, position)


def _gain_chart(outcome: Outcome, sweep: Sweep) -> Chart:
    look = styles(variant.id for variant in outcome.variants)
    by_name = {
        name: points
        for name, points in _by_variant(sweep).items()
        if any(point.ratio is not None for point in points)
    }
    low, high = ratio_range(sweep.points)
    traces = [_gain_line(name, look[name], points) for name, points in by_name.items()]
    y = ratio_axis("ratio to gpu-only, log scale", low, high)
    drawing = _figure(sweep, traces, y, ())
    drawing["layout"]["shapes"].append(_line_at(y0=1, y1=1, dash="solid"))
    legend = policy_legend(look, by_name)
    return Chart(drawing, _HEIGHT, _gain_summary(sweep, by_name), _table(sweep), legend)


def _gain_line(name: str, style: Style, points: Sequence[SweepPoint]) -> dict[str, Any]:
    known = [point for point in points if point.ratio is not None]
    ratios = [point.ratio or 0.0 for point in known]
    is_open = [standing(point) in (ONE_SEED, UNDECIDED) for point in known]
    trace = line(
        name,
        style,
        [point.values[0] for point in known],
        ratios,
        hovertemplate="%{fullData.name} at %{x}: %{y:.3~g}\u00d7<extra></extra>",
    )
    trace["marker"]["symbol"] = [style.marker + ("-open" if hollow else "") for hollow in is_open]
    if all(point.ci_low is not None for point in known):
        above = [(p.ci_high or r) - r for p, r in zip(known, ratios, strict=True)]
        below = [r - (p.ci_low or r) for p, r in zip(known, ratios, strict=True)]
        bars = {"array": drawn(above), "arrayminus": drawn(below), "symmetric": False}
        trace["error_y"] = {"type": "data", **bars, "thickness": 1, "width": 3}
    return trace


def _throughput_chart(outcome: Outcome, sweep: Sweep) -> Chart:
    look = styles(variant.id for variant in outcome.variants)
    by_name = _by_variant(sweep)
    traces = [
        line(
            name,
            look[name],
            [point.values[0] for point in points],
            [point.output_throughput_tok_s for point in points],
            hovertemplate="%{fullData.name} at %{x}: %{y:.3~g} tok/s<extra></extra>",
        )
        for name, points in by_name.items()
    ]
    curves = _curves(outcome, by_name)
    changes = takeovers(curves)
    drawing = _figure(sweep, traces, axis("tok/s", rangemode="tozero"), changes)
    summary = _takeover_summary(sweep, leader_at(curves), changes)
    return Chart(drawing, _HEIGHT, summary, _table(sweep), policy_legend(look, by_name))


def _by_variant(sweep: Sweep) -> dict[str, list[SweepPoint]]:
    """Points by rising value."""
    found: dict[str, list[SweepPoint]] = {}
    for point in sorted(sweep.points, key=lambda point: point.values):
        found.setdefault(point.variant, []).append(point)
    return found


def _curves(
    outcome: Outcome, by_name: Mapping[str, Sequence[SweepPoint]]
) -> dict[str, dict[float, float]]:
    """Only variants that make the same model faster: with smaller weights it is another one."""
    names = own_weights(outcome)
    return {
        name: {p.values[0]: p.output_throughput_tok_s for p in points}
        for name, points in by_name.items()
        if name in names and all(p.output_throughput_tok_s > 0 for p in points)
    }


def _figure(
    sweep: Sweep,
    traces: Sequence[Mapping[str, Any]],
    y: Mapping[str, Any],
    changes: Sequence[Takeover],
) -> dict[str, Any]:
    """The value axis is logarithmic, its ticks are the values that ran, or some of many."""
    name, nominal = sweep.parameters[0], sweep.nominal[0]
    values = sorted({point.values[0] for point in sweep.points})
    ticks = values[:: ceil(len(values) / _MAX_TICKS)]
    low, high = min(*values, nominal), max(*values, nominal)
    margin = (log10(high / low) or 1.0) * _MARGIN
    x = axis(
        f"{swept_words(name)}, log scale",
        type="log",
        range=[log10(low) - margin, log10(high) + margin],
        tickmode="array",
        tickvals=ticks,
        ticktext=[swept_value(value) for value in ticks],
    )
    shapes = [_line_at(x0=nominal, x1=nominal, dash="solid")]
    middle = (low * high) ** 0.5
    side = "right" if nominal > middle else "left"
    notes = [_note_at(nominal, f"as configured: {swept_value(nominal)}", 1.0, side)]
    for row, change in enumerate(changes):
        shapes.append(_line_at(x0=change.value, x1=change.value, dash="dot"))
        text = f"{label(change.name)} from ≈ {number(change.value, _ABOUT)}"
        side = "right" if change.value > middle else "left"
        notes.append(_note_at(change.value, text, _LOWEST_NOTE + _NOTE_STEP * row, side))
    drawing = figure(traces, x, y, shapes=shapes, annotations=notes)
    drawing["layout"]["margin"]["t"] = _TOP
    return drawing


def _line_at(dash: str, **ends: float) -> dict[str, Any]:
    """A vertical line at x0 = x1 or a horizontal one at y0 = y1, over the whole frame."""
    whole = (
        {"yref": "paper", "y0": 0, "y1": 1} if "x0" in ends else {"xref": "paper", "x0": 0, "x1": 1}
    )
    return {"type": "line", **whole, **ends, "line": {"color": MUTED, "width": 1, "dash": dash}}


def _note_at(value: float, text: str, height: float, side: str) -> dict[str, Any]:
    """Text at a value of the logarithmic axis, which plotly places by exponent."""
    return {
        "x": log10(value), "yref": "paper", "y": height, "text": text, "showarrow": False,
        "xanchor": side, "yanchor": "bottom", "font": {"color": MUTED, "size": 12},
    }  # fmt: skip


def _table(sweep: Sweep) -> Table:
    rows = [
        (
            swept_value(point.values[0]),
            point.variant,
            number(point.output_throughput_tok_s),
            times(point.ratio),
            MISSING if point.ratio is None else interval(point.ci_low, point.ci_high),
            str(point.n),
            count(point.gpu_kv_tokens),
            "yes" if point.is_steady else "no",
        )
        for point in sweep.points
    ]
    columns = (
        swept_words(sweep.parameters[0]), "policy", "tok/s", "ratio", "95 % interval", "seeds",
        "GPU KV tokens", "steady",
    )  # fmt: skip
    return Table(columns, tuple(rows), frozenset({0, 2, 3, 4, 5, 6}))


def _gain_summary(sweep: Sweep, by_name: Mapping[str, Sequence[SweepPoint]]) -> str:
    name = swept_words(sweep.parameters[0])
    texts = []
    for variant, points in by_name.items():
        known = [point for point in points if point.ratio is not None]
        ends = [f"{times(p.ratio)} at {swept_value(p.values[0])}" for p in (known[0], known[-1])]
        texts.append(f"{variant} {' and '.join(dict.fromkeys(ends))}")
    return (
        f"Output throughput at saturation over gpu-only, by {name}, with {sweep.num_requests} "
        f"requests per run: {'; '.join(texts)}."
    )


def _takeover_summary(sweep: Sweep, first: str | None, changes: Sequence[Takeover]) -> str:
    name = swept_words(sweep.parameters[0])
    if first is None:
        return f"Throughput over {name}: no policy ran at every value."
    texts = [f"{first} is best at the smallest {name}"]
    texts += [f"{c.name} takes over at about {number(c.value, _ABOUT)}" for c in changes]
    return f"{'; '.join(texts)}{'' if changes else ', and stays so'}."


VIEW = View(
    id="sweeps",
    title="Sweeps",
    lead="Saturation with one thing varied and everything else held, requests included.",
    place="more",
    build=build,
)
