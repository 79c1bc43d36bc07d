"""One colour, dash and marker per policy, the same in every chart; from the Okabe-Ito palette."""

from collections.abc import Iterable
from dataclasses import dataclass

INK = "@ink"  # "@…" names a colour of the page's theme; the page's script fills it in
MUTED = "@muted"
POINTS = "points"  # the dash of a legend entry that stands for marks without a line
_ORANGE, _SKY, _GREEN = "#E69F00", "#56B4E9", "#009E73"
_BLUE, _VERMILLION, _PURPLE = "#0072B2", "#D55E00", "#CC79A7"


@dataclass(frozen=True, slots=True)
class Style:
    """How a policy is drawn. `dash` and `marker` are plotly's names."""

    color: str
    dash: str
    marker: str


_KNOWN = {
    "gpu-only": Style(INK, "solid", "circle"),
    "gpu-only+int4": Style(MUTED, "dot", "square"),
    "neo": Style(_ORANGE, "dash", "diamond"),
    "apex": Style(_BLUE, "solid", "triangle-up"),
    "static:deferred": Style(_GREEN, "dashdot", "cross"),
    "static:two_batch": Style(_VERMILLION, "longdash", "x"),
    "static:in_layer": Style(_SKY, "dot", "triangle-down"),
    "planner": Style(_PURPLE, "solid", "star"),
    "fastdecode": Style(_SKY, "longdashdot", "pentagon"),
}
# Variants without a style of their own reuse the colours; dash and marker tell them apart.
_SPARE = tuple(
    Style(color, dash, marker)
    for dash, marker in (("longdashdot", "hexagon"), ("dash", "star-diamond"), ("dot", "hourglass"))
    for color in (_PURPLE, _SKY, _VERMILLION, _GREEN, _BLUE, _ORANGE)
)

# The same marks for legends drawn as SVG in a box of 12 units around the origin.
MARKER_PATHS = {
    "circle": "M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0Z",
    "square": "M-3.5,-3.5h7v7h-7Z",
    "diamond": "M0,-5L5,0L0,5L-5,0Z",
    "triangle-up": "M0,-4.5L4.5,3.5H-4.5Z",
    "triangle-down": "M0,4.5L4.5,-3.5H-4.5Z",
    "cross": "M-1.5,-4.5h3v3h3v3h-3v3h-3v-3h-3v-3h3Z",
    "x": "M-4,-2L-2,-4L0,-2L2,-4L4,-2L2,0L4,2L2,4L0,2L-2,4L-4,2L-2,0Z",
    "star": "M0,-5L1.3,-1.6L5,-1.5L2.1,0.7L3.1,4.2L0,2.2L-3.1,4.2L-2.1,0.7L-5,-1.5L-1.3,-1.6Z",
    "pentagon": "M0,-4.5L4.3,-1.4L2.7,3.6H-2.7L-4.3,-1.4Z",
    "hexagon": "M0,-4.5L3.9,-2.2V2.2L0,4.5L-3.9,2.2V-2.2Z",
    "star-diamond": "M0,-5L1.5,-1.5L5,0L1.5,1.5L0,5L-1.5,1.5L-5,0L-1.5,-1.5Z",
    "hourglass": "M-4,-4H4L-4,4H4Z",
    # The inner circle runs the other way round and so is a hole.
    "circle-open": (
        "M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0ZM-2.4,0a2.4,2.4 0 1,1 4.8,0a2.4,2.4 0 1,1 -4.8,0Z"
    ),
}
DASH_ARRAYS = {
    "solid": "none",
    "dot": "2 3",
    "dash": "7 4",
    "longdash": "11 4",
    "dashdot": "7 3 2 3",
    "longdashdot": "11 3 2 3",
    POINTS: "0 30",
}

STRATEGY_COLORS = {
    "gpu_only": MUTED,
    "in_layer": _SKY,
    "two_batch": _VERMILLION,
    "deferred": _GREEN,
    "fused": _PURPLE,
}
# Kinds on different lanes may share a colour; others fall back to MUTED.
OP_COLORS = {
    "launch": _BLUE,
    "pre": _SKY,
    "post": _SKY,
    "attn_gpu": _ORANGE,
    "attn_cpu": _VERMILLION,
    "send": _GREEN,
    "recv": _PURPLE,
    "embed": _SKY,
    "head": INK,
}
# What predicted work is: of a layer and of a step.
WORK_COLORS = {
    "gemm": _BLUE,
    "attention": _ORANGE,
    "elementwise": _SKY,
    "copy": _GREEN,
    "overhead": _PURPLE,
    "layers": MUTED,
    "waiting": _VERMILLION,
}
# Roofs: colour and dash; marks of the work under them: colour and marker.
ROOF_STYLES = {
    "datasheet": (INK, "solid"),
    "matrix products": (_BLUE, "dash"),
    "decode attention": (_ORANGE, "dashdot"),
    "CPU attention": (_VERMILLION, "dot"),
}
ROOF_MARKS = {
    "qkv": (_BLUE, "circle"),
    "attention_output": (_BLUE, "square"),
    "gate_up": (_BLUE, "triangle-up"),
    "down": (_BLUE, "triangle-down"),
    "gpu_attention": (_ORANGE, "diamond"),
    "prefill_attention": (_ORANGE, "cross"),
    "cpu_attention": (_VERMILLION, "star"),
}
IDLE_COLORS = {
    "cpu_attention": _VERMILLION,
    "copy": _ORANGE,
    "scheduling": _PURPLE,
    "no_work": MUTED,
}
# How a device constant is known; those that are only inferred stand out.
KIND_COLORS = {
    "measured": _GREEN,
    "datasheet": _BLUE,
    "anchored": _SKY,
    "inferred": _VERMILLION,
}
VERDICT_COLORS = {"better": _GREEN, "worse": _VERMILLION, "undecided": MUTED}
# A scale from loss over nothing to gain; blue and vermillion stay apart for all kinds of eyes.
LOSS_COLOR, EVEN_COLOR, GAIN_COLOR = _VERMILLION, "#F0F1F3", _BLUE
ROW_COLORS = {"GPU rows": INK, "in-layer rows": _SKY, "deferred rows": _GREEN}
CHOSEN_COLOR = _PURPLE
LANE_COLORS = {"gpu": _BLUE, "cpu": _ORANGE, "h2d": _GREEN, "d2h": _SKY, "host": _PURPLE}


def styles(variants: Iterable[str]) -> dict[str, Style]:
    """A style for every variant id; unknown ids get spare ones in order of appearance."""
    assigned: dict[str, Style] = {}
    spare_used = 0
    for name in variants:
        if name in _KNOWN:
            assigned[name] = _KNOWN[name]
        elif name not in assigned:
            assigned[name] = _SPARE[spare_used % len(_SPARE)]
            spare_used += 1
    return assigned


def css_color(color: str) -> str:
    """A colour as style sheets take it; "@ink" is the theme's ink."""
    return f"var(--{color[1:]})" if color.startswith("@") else color
