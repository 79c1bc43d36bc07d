"""Predictions on a terminal: a waterfall with bars, or one row per strategy."""

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table
from rich.text import Text

from apexbench.engine.predict.layer import OpPrediction, Prediction
from apexbench.engine.predict.sensitivity import Provenance
from apexbench.engine.predict.steady import Optimum, SteadyStates

_BAR_CELLS = 8
# Below this width lanes, bytes, flop and the constants behind a provenance are left to --json.
_WIDE = 120
_BASIS = "Predicted from device profiles; nothing was measured."
_ROOF_NOTE = (
    "roof: share of the time that the datasheet's limits need; flop/B: flop per byte moved;"
    " bound: what most of the time goes to"
)
# Short names of the resources that an op can wait for.
_BOUNDS = {
    "gpu_bandwidth": "memory",
    "gpu_compute": "compute",
    "gpu_latency": "latency",
    "launches": "launches",
    "host": "host",
    "pcie": "PCIe",
    "cpu_attention": "CPU",
}
_TPOT_NOTE = "GPU, CPU: TPOT of the slowest row in seconds; a deferred row takes L + 1 steps."


def print_prediction(prediction: Prediction, gpu_kv_tokens: int, console: Console) -> None:
    """The ops of a layer and of a step, the step's total, and what limits it."""
    layer, step, roofline = prediction.layer, prediction.step, prediction.roofline
    console.print(Text(_BASIS, style="dim"))
    is_narrow = console.width < _WIDE
    console.print(_waterfall(f"one layer of {layer.count}", layer.ops, is_narrow=is_narrow))
    console.print()
    console.print(_waterfall("once per step", step.ops, is_narrow=is_narrow))
    console.print(Text(_ROOF_NOTE, style="dim"))
    known = step.provenance
    _line(
        console,
        f"step {step.seconds * 1e3:.2f} ms ± {known.sigma:.0%}, {step.output_tokens} tokens,"
        f" {step.output_throughput_tok_s:.1f} tokens/s; rests on {_provenance(known)}",
    )
    _line(console, prediction.bottleneck.sentence)
    _line(
        console,
        f"roofline: {roofline.intensity:.1f} flop per byte, ridge at {roofline.ridge:.0f}"
        f" (datasheet), {roofline.reachable_ridge:.0f} (matrix products as they run)",
    )
    if prediction.mix.kv_tokens > gpu_kv_tokens:
        _line(console, f"warning: the GPU holds {gpu_kv_tokens} KV tokens only")


def print_steady(states: SteadyStates, console: Console) -> None:
    """Every strategy at its best, then under the bound."""
    question = states.question
    console.print(Text(_BASIS, style="dim"))
    _line(
        console,
        f"{question.gpu_rows} GPU rows of {question.context} tokens; host memory holds"
        f" {question.max_cpu_rows} CPU rows",
    )
    console.print(_strategies("highest throughput", states.strategies))
    console.print(Text(_TPOT_NOTE, style="dim"))
    _line(console, _winner(states.best, states.strategies[states.best]))
    if states.bounded is None or states.best_bounded is None:
        return
    console.print()
    title = f"highest throughput with TPOT <= {question.tpot_s:g} s for every row"
    console.print(_strategies(title, states.bounded))
    best = states.bounded[states.best_bounded]
    if best is not None:
        _line(console, _winner(states.best_bounded, best))


def _winner(name: str, best: Optimum) -> str:
    return f"best: {name}, {best.output_throughput_tok_s:.1f} tokens/s, bound by {best.bottleneck}"


def _line(console: Console, text: str) -> None:
    console.print(text, markup=False, soft_wrap=True)


def _waterfall(title: str, ops: tuple[OpPrediction, ...], *, is_narrow: bool) -> Table:
    words = ("op", "kind") if is_narrow else ("op", "kind", "lane")
    amounts = () if is_narrow else ("MB", "Gflop")
    table = _table(title, words, ("us", "", "±", *amounts, "flop/B", "roof"))
    table.add_column("bound", no_wrap=True)
    table.add_column("provenance", overflow="fold")
    longest = max(op.seconds for op in ops)
    for op in ops:
        known = op.provenance
        table.add_row(
            *(op.name, op.kind, op.lane)[: len(words)],
            f"{op.seconds * 1e6:.1f}",
            "█" * max(1, round(op.seconds / longest * _BAR_CELLS)),
            f"{known.sigma:.0%}",
            *(_amount(op.bytes / 1e6), _amount(op.flop / 1e9))[: len(amounts)],
            "" if op.intensity is None else f"{op.intensity:.1f}",
            "" if op.roofline_share is None else f"{op.roofline_share:.0%}",
            _BOUNDS[op.bound_by],
            known.kind if is_narrow else _provenance(known),
        )
    return table


def _provenance(provenance: Provenance) -> str:
    """The worst kind and the constant of it that adds most to sigma."""
    if provenance.kind is None:
        return ""
    return f"{provenance.kind}: {provenance.worst[0]}"


def _amount(value: float) -> str:
    return f"{value:.2f}" if value else ""


def _strategies(title: str, found: Mapping[str, Optimum | None]) -> Table:
    numbers = ("tokens/s", "step ms", "in-layer", "deferred", "cohorts", "GPU", "CPU")
    table = _table(title, ("strategy",), numbers)
    table.add_column("bound by")
    for name, best in found.items():
        if best is None:
            table.add_row(name, *([""] * len(numbers)), "out of reach")
            continue
        table.add_row(
            name,
            f"{best.output_throughput_tok_s:.1f}",
            f"{best.step_s * 1e3:.2f}",
            *(str(count or "") for count in (best.in_layer_rows, best.deferred_rows, best.cohorts)),
            f"{best.tpot_gpu_s:.3f}",
            "" if best.tpot_cpu_s is None else f"{best.tpot_cpu_s:.3f}",
            best.bottleneck,
        )
    return table


def _table(title: str, words: tuple[str, ...], numbers: tuple[str, ...]) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for word in words:
        table.add_column(word, no_wrap=True)
    for number in numbers:
        # The one without a heading holds bars.
        table.add_column(number, justify="right" if number else "left", no_wrap=True)
    return table
