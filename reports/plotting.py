"""Pieces of plotly figures as plain data, so that nothing heavy is imported to draw them."""

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from math import ceil, floor, log10
from typing import Any

from apexbench.reports.palette import INK, MUTED, Style
from apexbench.reports.panels import Figure, LegendItem
from apexbench.reports.wording import TIMES, seconds

GRID = "@grid"
PANEL = "@panel"
CHART_HEIGHT = 290
_DRAWN_DIGITS = 5  # more are invisible and make the file larger
_LABEL_LENGTH = 26  # longer names would leave no room for the plot on a phone
_LOG_STEPS = ((1, 2, 5), (1, 3), (1,))  # ticks per decade, the densest that stays readable
_MAX_LOG_TICKS = 7
_RATIO_STEPS = (0.02, 0.05, 0.1, 0.2, 0.5)
_WIDE_SPAN = 5.0  # equal steps would crowd at one end of a logarithmic axis
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', sans-serif"


def label(text: str, length: int = _LABEL_LENGTH) -> str:
    """A name as plotly may show it: shortened, and its mark-up taken literally."""
    flat = " ".join(text.split())
    short = flat if len(flat) <= length else flat[: length - 1] + "…"
    return escape(short, quote=False)


def drawn(values: Iterable[float | None]) -> list[float | None]:
    """Values rounded to what a chart can show."""
    return [None if value is None else _rounded(value) for value in values]


def _rounded(value: float) -> float:
    if value == 0:
        return 0.0
    return round(value, _DRAWN_DIGITS - 1 - floor(log10(abs(value))))


def policy_legend(styles: Mapping[str, Style], variants: Iterable[str]) -> tuple[LegendItem, ...]:
    """Legend entries of policies."""
    return tuple(
        LegendItem(name, styles[name].color, styles[name].dash, styles[name].marker)
        for name in variants
    )


def patch_legend(colors: Mapping[str, str]) -> tuple[LegendItem, ...]:
    """Legend entries of filled areas."""
    return tuple(LegendItem(name, color) for name, color in colors.items())


def line(
    name: str, style: Style, x: Sequence[Any], y: Sequence[float | None], **more: Any
) -> dict[str, Any]:
    """A line in the style of a policy; `mode` and anything else of plotly may be given."""
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": label(name),
        "meta": name,
        "x": list(x),
        "y": drawn(y),
        "line": {"color": style.color, "dash": style.dash, "width": 2},
        "marker": {"color": style.color, "symbol": style.marker, "size": 8},
        **more,
    }


def reference(y: float, text: str) -> dict[str, Any]:
    """A horizontal line with its name: a target to stay below or above."""
    return {
        "shape": {
            "type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": y, "y1": y,
            "line": {"color": MUTED, "width": 1},
        },
        "annotation": {
            "xref": "paper", "x": 0, "y": y, "text": text, "showarrow": False,
            "xanchor": "left", "yanchor": "bottom", "font": {"color": MUTED, "size": 12},
        },
    }  # fmt: skip


def axis(title: str, **more: Any) -> dict[str, Any]:
    """An axis in the style of the page."""
    return {
        "title": {"text": title, "font": {"size": 12, "color": MUTED}, "standoff": 8},
        "automargin": True,
        "gridcolor": GRID,
        "linecolor": GRID,
        "zerolinecolor": GRID,
        "tickfont": {"color": MUTED, "size": 12},
        **more,
    }


def seconds_axis(title: str, values: Iterable[float | None], **more: Any) -> dict[str, Any]:
    """A logarithmic axis of durations with ticks such as 20 ms, 50 ms, 100 ms."""
    positive = [value for value in values if value is not None and value > 0]
    ticks = _log_ticks(min(positive), max(positive)) if positive else []
    texts = [seconds(tick).replace(".00", "").replace(".0", "") for tick in ticks]
    return axis(title, type="log", tickmode="array", tickvals=ticks, ticktext=texts, **more)


def ratio_axis(title: str, low: float, high: float, **more: Any) -> dict[str, Any]:
    """A logarithmic axis of ratios from `low` to `high` with ticks such as 0.8, 1 and 1.4."""
    ticks = _ratio_ticks(low, high)
    return axis(
        title,
        type="log",
        range=[log10(low), log10(high)],
        tickmode="array",
        tickvals=ticks,
        ticktext=[f"{tick:g}{TIMES}" for tick in ticks],
        tickangle=0,
        **more,
    )


def _ratio_ticks(low: float, high: float) -> list[float]:
    """Multiples of the finest step that stays readable; over a wide span, steps per decade."""
    if high < _WIDE_SPAN * low:
        for step in _RATIO_STEPS:
            counts = range(ceil(low / step), floor(high / step) + 1)
            if len(counts) <= _MAX_LOG_TICKS:
                return [round(count * step, 2) for count in counts]
    return [tick for tick in _log_ticks(low, high) if low <= tick <= high]


def _log_ticks(low: float, high: float) -> list[float]:
    decades = range(floor(log10(low)), ceil(log10(high)) + 1)
    found: list[float] = []
    for steps in _LOG_STEPS:
        ticks = [step * 10.0**decade for decade in decades for step in steps]
        found = [tick for tick in ticks if low / 2 <= tick <= 2 * high]
        if len(found) <= _MAX_LOG_TICKS:
            break
    return found


def figure(
    data: Sequence[Mapping[str, Any]], x: Mapping[str, Any], y: Mapping[str, Any], **more: Any
) -> Figure:
    """A figure with transparent ground and no legend of its own (the page draws one)."""
    layout: dict[str, Any] = {
        "xaxis": dict(x),
        "yaxis": dict(y),
        "showlegend": False,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": _FONT, "size": 13, "color": INK},
        "margin": {"l": 8, "r": 12, "t": 12, "b": 8},
        "hoverlabel": {"bgcolor": PANEL, "bordercolor": GRID, "font": {"color": INK, "size": 13}},
        **more,
    }
    return {"data": [dict(trace) for trace in data], "layout": layout}


def to_script(value: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
