"""Charts and tables of the page of `apexbench predict`, from its document alone."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from apexbench.reports import predict_sentences as sentences
from apexbench.reports.palette import (
    INK,
    STRATEGY_COLORS,
    WORK_COLORS,
)
from apexbench.reports.panels import Chart, Panel, Table
from apexbench.reports.plotting import axis, drawn, figure, patch_legend
from apexbench.reports.predict_document import (
    Op,
    Prediction,
    SteadyPrediction,
    StepPrediction,
    Strategy,
)
from apexbench.reports.predict_roofline import roofline
from apexbench.reports.wording import MISSING, constant, number, percent, seconds

_BAR_HEIGHT, _FRAME_HEIGHT = 26, 80
_STRATEGIES_HEIGHT = 340
_IN_MS_FROM = 0.01  # seconds; a shorter axis reads better in microseconds
# Below this share of the step the rest is rounding, not waiting.
_NOTICEABLE = 0.005
_FREE, _BOUND = "highest throughput", "within the TPOT bound"


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of a waterfall: from `start_s`, as long as the work takes."""

    name: str
    kind: str
    start_s: float
    seconds: float


def step_panels(prediction: StepPrediction) -> Iterator[Panel]:
    """Both waterfalls, the roofline, and what every number rests on."""
    layer = layer_bars(prediction)
    hint = (
        "The GPU's ops end to end, and beside them the way of the CPU rows to the host and back. "
        "Waiting is not drawn."
    )
    title = f"One layer of {prediction.layer.count}"
    yield Panel("layer", title, hint, _waterfall(layer, prediction.layer.gpu_s))
    hint = "All layers as one bar. What the bars leave is waiting for another lane."
    yield Panel(
        "step", "The whole step", hint, _waterfall(step_bars(prediction), prediction.step.seconds)
    )
    hint = (
        "Higher is faster. Left of a ridge memory binds, right of it compute; a mark well below "
        "its roof is bound by start-up. Ops that compute nothing are not drawn."
    )
    yield Panel("roofline", "Roofline", hint, roofline(prediction), is_wide=True)
    hint = "Sigma is relative; a constant counts by how far the duration follows it."
    ops = (*prediction.layer.ops, *prediction.step.ops)
    yield Panel("provenance", "What each op rests on", hint, _provenance(ops), is_wide=True)
    yield _constants(prediction)


def steady_panels(prediction: SteadyPrediction) -> Iterator[Panel]:
    """Throughput of the strategies, and the constants."""
    hint = sentences.strategies_hint(prediction)
    title = "Throughput at the best rows"
    yield Panel("strategies", title, hint, _strategies(prediction), is_wide=True)
    yield _constants(prediction)


def layer_bars(prediction: StepPrediction) -> tuple[Bar, ...]:
    """GPU ops one after the other; those of the CPU rows from where their q, k and v are ready."""
    bars, on_gpu_s, away_s = [], 0.0, 0.0
    for op in prediction.layer.ops:
        if op.lane == "gpu":
            bars.append(Bar(op.name, op.kind, on_gpu_s, op.seconds))
            on_gpu_s += op.seconds
        else:
            away_s = away_s or on_gpu_s
            bars.append(Bar(op.name, op.kind, away_s, op.seconds))
            away_s += op.seconds
    return tuple(bars)


def step_bars(prediction: StepPrediction) -> tuple[Bar, ...]:
    """Ops before the layers, the layers' GPU work, ops after them, and the rest of the step."""
    layer = prediction.layer
    after = ("lm_head", "sampling")
    first = [(op.name, op.kind, op.seconds) for op in prediction.step.ops if op.name not in after]
    last = [(op.name, op.kind, op.seconds) for op in prediction.step.ops if op.name in after]
    works = [*first, (f"{layer.count} layers", "layers", layer.count * layer.gpu_s), *last]
    rest = prediction.step.seconds - sum(took for _, _, took in works)
    if rest > _NOTICEABLE * prediction.step.seconds:
        works.append(("waiting", "waiting", rest))
    bars, start = [], 0.0
    for name, kind, took in works:
        bars.append(Bar(name, kind, start, took))
        start += took
    return tuple(bars)


def _waterfall(bars: Sequence[Bar], total: float) -> Chart:
    kinds = list(dict.fromkeys(bar.kind for bar in bars))
    unit, scale = ("ms", 1e3) if total >= _IN_MS_FROM else ("µs", 1e6)
    traces = [_bars_of(kind, [bar for bar in bars if bar.kind == kind], scale) for kind in kinds]
    names = [bar.name for bar in bars]
    drawing = figure(
        traces,
        axis(unit, rangemode="tozero"),
        axis("", type="category", categoryorder="array", categoryarray=names, autorange="reversed"),
        barmode="overlay",
        bargap=0.25,
    )
    rows = tuple(
        (b.name, b.kind, seconds(b.start_s), seconds(b.seconds), percent(b.seconds / total))
        for b in bars
    )
    table = Table(("op", "kind", "from", "takes", "share"), rows, frozenset({2, 3, 4}))
    summary = sentences.waterfall(((bar.name, bar.seconds) for bar in bars), total)
    legend = patch_legend({kind: WORK_COLORS[kind] for kind in kinds})
    return Chart(drawing, _FRAME_HEIGHT + _BAR_HEIGHT * len(bars), summary, table, legend)


def _bars_of(kind: str, bars: Sequence[Bar], scale: float) -> dict[str, Any]:
    return {
        "type": "bar",
        "orientation": "h",
        "name": kind,
        "meta": kind,
        "y": [bar.name for bar in bars],
        "base": drawn(bar.start_s * scale for bar in bars),
        "x": drawn(bar.seconds * scale for bar in bars),
        "marker": {"color": WORK_COLORS[kind]},
        "hovertemplate": "%{y}: %{customdata}<extra></extra>",
        "customdata": [seconds(bar.seconds) for bar in bars],
    }


def _provenance(ops: Sequence[Op]) -> Table:
    columns = ("op", "takes", "sigma", "worst kind", "rests on (kind, sigma, elasticity)")
    rows = tuple(
        (op.name, seconds(op.seconds), percent(op.sigma), op.provenance or MISSING, _reliances(op))
        for op in ops
    )
    return Table(columns, rows, frozenset({1, 2}))


def _reliances(op: Op) -> str:
    return "; ".join(
        f"{r.constant} ({r.kind}, {percent(r.sigma)}, {number(r.elasticity)})" for r in op.rests_on
    )


def _strategies(prediction: SteadyPrediction) -> Chart:
    groups: dict[str, Mapping[str, Strategy | None]] = {_FREE: prediction.steady}
    best = {_FREE: prediction.optimum}
    if prediction.within_tpot is not None:
        groups[_BOUND] = prediction.within_tpot.steady
        best[_BOUND] = prediction.within_tpot.optimum
    traces = [
        _strategy_bar(group, name, at, is_best=name == best[group])
        for group, found in groups.items()
        for name, at in found.items()
    ]
    drawing = figure(
        traces,
        axis("", type="category"),
        axis("output tokens per second", rangemode="tozero"),
        barmode="group",
        bargap=0.35,
    )
    summary = sentences.strategies(prediction)
    return Chart(drawing, _STRATEGIES_HEIGHT, summary, _strategy_table(groups))


def _strategy_bar(group: str, name: str, at: Strategy | None, *, is_best: bool) -> dict[str, Any]:
    """Solid for throughput alone, hatched under the bound; one trace a bar, for the theme."""
    value = None if at is None else at.output_throughput_tok_s
    text = "" if value is None else number(value)
    return {
        "type": "bar",
        "name": f"{name}, {group}",
        "meta": name,
        "offsetgroup": group,
        "x": [name],
        "y": drawn([value]),
        "marker": {
            "color": STRATEGY_COLORS[name],
            "pattern": {"shape": "" if group == _FREE else "/", "size": 6},
        },
        "text": [f"<b>best</b><br>{text}" if is_best else text],
        "textposition": "outside",
        "textfont": {"color": INK},
        "cliponaxis": False,
        "hovertemplate": f"%{{x}}, {group}: %{{y}} tok/s<extra></extra>",
    }


def _strategy_table(groups: Mapping[str, Mapping[str, Strategy | None]]) -> Table:
    columns = (
        "asked for", "strategy", "tok/s", "step", "in-layer rows", "deferred rows", "cohorts",
        "TPOT on the GPU", "TPOT on the CPU", "bound by",
    )  # fmt: skip
    rows = tuple(
        _strategy_row(group, name, at)
        for group, found in groups.items()
        for name, at in found.items()
    )
    return Table(columns, rows, frozenset(range(2, 9)))


def _strategy_row(group: str, name: str, at: Strategy | None) -> tuple[str, ...]:
    if at is None:
        return (group, name, *([MISSING] * 7), "out of reach")
    return (
        group,
        name,
        number(at.output_throughput_tok_s),
        seconds(at.step_s),
        str(at.in_layer_rows),
        str(at.deferred_rows),
        str(at.cohorts),
        seconds(at.tpot_gpu_s),
        seconds(at.tpot_cpu_s),
        sentences.RESOURCES[at.bottleneck],
    )


def _constants(prediction: Prediction) -> Panel:
    columns = ("device", "constant", "value", "kind", "sigma", "source")
    rows = tuple(
        (c.device, c.name, constant(c.value, c.unit), c.kind, percent(c.sigma), c.source)
        for c in prediction.constants
    )
    table = Table(columns, rows, frozenset({2, 4}))
    return Panel("constants", "Constants of the devices", "", table, is_wide=True, is_folded=True)
