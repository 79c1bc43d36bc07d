"""The roofline of a predicted layer: its ops as marks under the roofs of their devices."""

from collections.abc import Sequence
from math import log10
from typing import Any

from apexbench.reports import predict_sentences as sentences
from apexbench.reports.palette import INK, POINTS, ROOF_MARKS, ROOF_STYLES
from apexbench.reports.panels import Chart, LegendItem, Table
from apexbench.reports.plotting import axis, drawn, figure, label
from apexbench.reports.predict_document import Op, Roof, StepPrediction
from apexbench.reports.wording import MISSING, number, percent

_HEIGHT = 420
# Room around the marks and the ridges, as a factor; and how far a roof without a peak is drawn.
_MARGIN = 3.0
_BARE_REACH = 10.0


def roofline(prediction: StepPrediction) -> Chart:
    """What the ops of a layer achieve over their intensity, under the roofs of their devices."""
    ops = [op for op in prediction.layer.ops if op.intensity is not None]
    ranges = _ranges(prediction, ops)
    has_cpu = any(op.lane == "cpu" for op in ops)
    shown = [roof for roof in prediction.roofs if has_cpu or roof.lane == "gpu"]
    traces = [*(_roof(roof, ranges, ops) for roof in shown), *(_mark(op) for op in ops)]
    drawing = figure(
        traces,
        axis("flop per byte moved", type="log", range=[log10(x) for x in ranges]),
        axis("TFLOP/s", type="log"),
    )
    legend = (
        *(LegendItem(roof.name, *ROOF_STYLES[roof.name]) for roof in shown),
        *(
            LegendItem(op.name, ROOF_MARKS[op.name][0], POINTS, ROOF_MARKS[op.name][1])
            for op in ops
        ),
    )
    table = _table(ops, shown)
    return Chart(drawing, _HEIGHT, sentences.roofline(ops), table, legend)


def _ranges(prediction: StepPrediction, ops: Sequence[Op]) -> tuple[float, float]:
    """Lowest and highest intensity drawn: the marks and the ridges with some room."""
    known = [op.intensity for op in ops if op.intensity is not None]
    ridges = (prediction.roofline.ridge, prediction.roofline.reachable_ridge)
    return min(*known, *ridges) / _MARGIN, max(*known, *ridges) * _MARGIN


def _roof(roof: Roof, ranges: tuple[float, float], ops: Sequence[Op]) -> dict[str, Any]:
    """Rising with the bytes up to its peak; without a peak up to a little beyond its work."""
    low, high = ranges
    if roof.flops_per_s is None:
        known = [op.intensity for op in ops if op.kind == "attention" and op.intensity is not None]
        x = [low, min(high, _BARE_REACH * max(known, default=1.0))]
    else:
        x = [low, roof.flops_per_s / roof.bytes_per_s, high]
    peak = roof.flops_per_s or float("inf")
    color, dash = ROOF_STYLES[roof.name]
    return {
        "type": "scatter",
        "mode": "lines",
        "name": label(roof.name),
        "meta": roof.name,
        "x": drawn(x),
        "y": drawn(min(peak, at * roof.bytes_per_s) / 1e12 for at in x),
        "line": {"color": color, "dash": dash, "width": 2},
        "hoverinfo": "name",
    }


def _mark(op: Op) -> dict[str, Any]:
    color, marker = ROOF_MARKS[op.name]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": label(op.name),
        "meta": op.name,
        "x": drawn([op.intensity]),
        "y": drawn([op.flop_per_s / 1e12]),
        "marker": {
            "color": color,
            "symbol": marker,
            "size": 12,
            "line": {"color": INK, "width": 1},
        },
        "hovertemplate": f"{op.name}: %{{x}} flop/B, %{{y}} TFLOP/s<extra></extra>",
    }


def _table(ops: Sequence[Op], roofs: Sequence[Roof]) -> Table:
    columns = (
        "work or roof",
        "flop per byte",
        "rate",
        "share of the datasheet's limit",
        "bound by",
    )
    work = tuple(
        (
            op.name,
            number(op.intensity),
            sentences.rate(op.flop_per_s),
            percent(op.roofline_share) if op.roofline_share is not None else MISSING,
            sentences.RESOURCES[op.bound_by],
        )
        for op in ops
    )
    limits = tuple(
        (
            f"roof: {roof.name}",
            MISSING if roof.flops_per_s is None else number(roof.flops_per_s / roof.bytes_per_s),
            MISSING if roof.flops_per_s is None else sentences.rate(roof.flops_per_s),
            "",
            f"{number(roof.bytes_per_s / 1e9)} GB/s",
        )
        for roof in roofs
    )
    return Table(columns, (*work, *limits), frozenset({1, 2, 3}))
