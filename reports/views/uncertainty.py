"""What the profiles' uncertainty does to the gain: draws of the constants, and the tornado."""

from collections.abc import Iterator
from typing import Any

from apexbench.reports.outcome import BASELINE, Outcome, Scenario
from apexbench.reports.palette import INK, KIND_COLORS, MUTED, Style, styles
from apexbench.reports.panels import Chart, Note, Panel, Table, View
from apexbench.reports.plotting import (
    axis,
    drawn,
    figure,
    label,
    patch_legend,
    policy_legend,
    ratio_axis,
)
from apexbench.reports.robustness import WINS_NEEDED, draws_of, robustness_sentence, share
from apexbench.reports.wording import MISSING, count, interval, number, percent, times
from apexbench.result import Draws, Sensitivity

_FRAME_HEIGHT = 80
_DRAWS_ROW = 44
_BAR_ROW = 38
_MAX_BARS = 12
_CONSTANT_LENGTH = 29  # of the longest name
_ROOM = 1.03  # around the outermost mark
_MIN_WIDTH = 0.005  # of the nominal ratio; a bar below that is no finding
_MODEL = (
    "Each constant that has a sigma is drawn log-normally with its profile's value as the median; "
    "sigma is the relative standard deviation, and a share of a peak is capped at 1. Half of the "
    "variance is common to the device: speeds go up and times go down together. Memory sizes are "
    "drawn on their own. Draw i has the same constants and the same requests for every policy; "
    "policies go on deciding with the profile, and KV capacity follows the drawn memory."
)

_Gains = dict[str, Draws]


def build(outcome: Outcome) -> Iterator[Panel]:
    """Per scenario the draws and the tornado; nothing where neither was asked for."""
    is_any_drawn = False
    for position, scenario in enumerate(outcome.scenarios):
        gains = _gains(outcome, scenario)
        if gains:
            is_any_drawn = True
            yield _draws_panel(outcome, position, scenario, gains)
        bars = [b for b in outcome.result.sensitivities if b.scenario == scenario.name]
        if bars:
            yield _tornado_panel(position, bars)
    if is_any_drawn:
        yield Panel("uncertainty-model", "How constants are drawn", "", Note(_MODEL), is_wide=True)


def _gains(outcome: Outcome, scenario: Scenario) -> _Gains:
    found = ((v.id, draws_of(outcome, scenario, v.id)) for v in outcome.variants)
    return {name: draws for name, draws in found if draws is not None}


def _draws_panel(outcome: Outcome, position: int, scenario: Scenario, gains: _Gains) -> Panel:
    look = styles(variant.id for variant in outcome.variants)
    base = outcome.first_run(scenario.saturation, BASELINE)
    names = {name: look[name] for name in gains}
    traces = [trace for name in gains for trace in _traces(name, gains[name], look[name])]
    drawing = figure(
        traces,
        ratio_axis(f"ratio to {BASELINE}, log scale", *_range(gains)),
        axis("", type="category", autorange="reversed"),
        shapes=[_upright(1.0, INK)],
    )
    summary = " ".join(robustness_sentence(n, draws, None).text for n, draws in gains.items())
    table = _draws_table(gains, base.draws if base else None)
    height = _FRAME_HEIGHT + _DRAWS_ROW * len(gains)
    chart = Chart(drawing, height, summary, table, policy_legend(names, gains))
    hint = (
        "Dot: median; line: 80 % band; ticks: single draws; upright line: no difference. A policy "
        f"is called better only if it wins in at least {percent(WINS_NEEDED)} of the draws."
    )
    title = "Gain at saturation under draws"
    return Panel(f"uncertainty-{position}-draws", title, hint, chart, position, is_wide=True)


def _range(gains: _Gains) -> tuple[float, float]:
    """From the smallest to the largest draw, with 1 among them."""
    ratios = [ratio for draws in gains.values() for ratio in draws.ratios or ()]
    return min([1.0, *ratios]) / _ROOM, max([1.0, *ratios]) * _ROOM


def _traces(name: str, draws: Draws, style: Style) -> Iterator[dict[str, Any]]:
    """Single draws as faint ticks, then the median with its band."""
    ratios, row = draws.ratios or (), label(name).replace("+", "<br>+", 1)
    shared = {"type": "scatter", "mode": "markers", "name": row, "meta": name}
    yield {
        **shared,
        "x": drawn(ratios),
        "y": [row] * len(ratios),
        "marker": {"color": style.color, "symbol": "line-ns-open", "size": 9, "opacity": 0.4},
        "hoverinfo": "skip",
    }
    median, (low, high) = draws.ratio_median or 0.0, draws.ratio_band80 or (0.0, 0.0)
    reach = {"array": drawn([high - median]), "arrayminus": drawn([median - low])}
    yield {
        **shared,
        "x": drawn([median]),
        "y": [row],
        "error_x": {"type": "data", "symmetric": False, **reach, "thickness": 2, "width": 6},
        "marker": {"color": style.color, "symbol": style.marker, "size": 12},
        "hovertemplate": f"%{{y}}: median %{{x:.3~g}}, {interval(low, high)}<extra></extra>",
    }


def _draws_table(gains: _Gains, base: Draws | None) -> Table:
    columns = (
        "policy", "draws", "wins in", "median ratio", "80 % band", "median tok/s", "80 % tok/s",
    )  # fmt: skip
    rows = [] if base is None else [(BASELINE, count(base.n), *[MISSING] * 3, *_rates(base))]
    for name, draws in gains.items():
        gain = (times(draws.ratio_median), interval(*(draws.ratio_band80 or (None, None))))
        wins = share(draws.wins_fraction or 0.0)
        rows.append((name, count(draws.n), wins, *gain, *_rates(draws)))
    return Table(columns, tuple(rows), frozenset(range(1, len(columns))))


def _rates(draws: Draws) -> tuple[str, str]:
    return number(draws.median), interval(*draws.band80)


def _tornado_panel(position: int, bars: list[Sensitivity]) -> Panel:
    ordered = sorted(bars, key=lambda bar: -_width(bar))
    shown = [bar for bar in ordered if _width(bar) >= _MIN_WIDTH][:_MAX_BARS]
    candidate, nominal = bars[0].candidate, bars[0].nominal
    summary = _tornado_summary(ordered, shown)
    traces = [trace for bar in shown for trace in _ends(bar)]
    drawing = figure(
        traces,
        axis(f"{label(candidate)} / {bars[0].baseline}"),
        axis("", type="category", autorange="reversed"),
        barmode="overlay",
        shapes=[_upright(nominal, MUTED)],
    )
    legend = patch_legend({b.kind: KIND_COLORS[b.kind] for b in shown})
    height = _FRAME_HEIGHT + _BAR_ROW * len(shown)
    chart = Chart(drawing, height, summary, _tornado_table(ordered), legend)
    body = chart if shown else Note(summary)
    hint = (
        "One constant at a time one sigma up (solid) and down (hatched), everything else and every "
        "belief held; coloured by how the constant is known."
    )
    title = f"What the gain of {candidate} rests on"
    return Panel(f"uncertainty-{position}-tornado", title, hint, body, position, is_wide=True)


def _width(bar: Sensitivity) -> float:
    """How far the ratio goes, relative to the nominal one, which need not lie between the ends."""
    ends = (bar.low, bar.high, bar.nominal)
    return (max(ends) - min(ends)) / bar.nominal


def _ends(bar: Sensitivity) -> Iterator[dict[str, Any]]:
    origin = label(f"{bar.device}, {bar.kind}")
    sides = ((bar.low, "one sigma lower", "/"), (bar.high, "one sigma higher", ""))
    for ratio, words, pattern in sides:
        yield {
            "type": "bar",
            "orientation": "h",
            "name": bar.kind,
            "meta": bar.kind,
            "base": drawn([bar.nominal]),
            "x": drawn([ratio - bar.nominal]),
            "y": [f"{label(bar.constant, _CONSTANT_LENGTH)}<br>{origin}"],
            "width": 0.7,
            "marker": {
                "color": KIND_COLORS[bar.kind],
                "opacity": 0.85,
                "pattern": {"shape": pattern, "size": 6, "solidity": 0.4},
            },
            "hovertemplate": f"{label(bar.constant)} {words}: {times(ratio)}<extra></extra>",
        }


def _tornado_summary(ordered: list[Sensitivity], shown: list[Sensitivity]) -> str:
    first = ordered[0]
    opening = f"{first.candidate} gives {times(first.nominal)} {first.baseline} at the profile"
    ends = [
        f"{b.device} {b.constant} ({b.kind}, sigma {percent(b.sigma)}): "
        f"{number(b.low)} when lower, {number(b.high)} when higher"
        for b in shown
    ]
    rest = len(ordered) - len(shown)
    small = all(_width(bar) < _MIN_WIDTH for bar in ordered[len(shown) :])
    limit = f"less than {percent(_MIN_WIDTH)} each" if small else "less each"
    others = f"; others ({count(rest)}): {limit}" if rest else ""
    return "; ".join([opening, *ends]) + others + "."


def _tornado_table(ordered: list[Sensitivity]) -> Table:
    columns = ("device", "constant", "kind", "sigma", "lower", "nominal", "higher", "width")
    rows = tuple(
        (
            bar.device, bar.constant, bar.kind, f"± {percent(bar.sigma)}",
            times(bar.low), times(bar.nominal), times(bar.high), percent(_width(bar)),
        )
        for bar in ordered
    )  # fmt: skip
    return Table(columns, rows, frozenset(range(3, len(columns))))


def _upright(x: float, color: str) -> dict[str, Any]:
    return {
        "type": "line", "yref": "paper", "x0": x, "x1": x, "y0": 0, "y1": 1,
        "line": {"color": color, "width": 1},
    }  # fmt: skip


VIEW = View(
    id="uncertainty",
    title="If the device constants are otherwise",
    lead="Intervals elsewhere cover traffic; this covers what is not known of the devices.",
    place="more",
    build=build,
)
