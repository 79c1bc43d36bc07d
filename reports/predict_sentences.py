"""Every sentence of the page of `apexbench predict`, with the numbers of its document."""

from collections.abc import Iterable

from apexbench.reports.predict_document import (
    Op,
    Prediction,
    SteadyPrediction,
    StepPrediction,
    Strategy,
)
from apexbench.reports.wording import count, number, percent, seconds

# Names of resources as a reader knows them.
RESOURCES = {
    "gpu_bandwidth": "GPU memory bandwidth",
    "gpu_compute": "GPU compute",
    "gpu_latency": "kernel start-up",
    "launches": "launches",
    "host": "host time",
    "pcie": "PCIe",
    "cpu_attention": "CPU attention",
    "host_memory": "host memory",
    "tpot": "the TPOT bound",
}


def basis(prediction: Prediction) -> str:
    """Where the numbers come from, and of what."""
    said = prediction.config
    where = f"{said['model']} in {said['weights']} on {said['gpu']} with {said['host']}"
    kernel = f"CPU attention kernel {said['cpu_kernel']}, {said['cpu_threads']} threads"
    rate = said["cpu_attention_gbps"]
    stated = "" if rate is None else f", stated to read {number(float(rate))} GB/s"
    ideal = " Ideal: no latencies, launches or host time." if prediction.is_ideal else ""
    return (
        f"{where}; {kernel}{stated}. Predicted from device profiles; nothing was measured.{ideal}"
    )


def step_headline(prediction: StepPrediction) -> str:
    """How long the step takes, how sure that is, and what it yields."""
    step = prediction.step
    return (
        f"One step takes {seconds(step.seconds)} ± {percent(step.sigma)} and gives "
        f"{count(step.output_tokens)} tokens: {number(step.output_throughput_tok_s)} tok/s."
    )


def step_details(prediction: StepPrediction) -> tuple[str, ...]:
    """What limits the step, where it stands under the roofs, and a warning if it cannot be."""
    roofline, mix = prediction.roofline, prediction.mix
    stand = (
        f"The GPU computes {number(roofline.intensity)} flop per byte it moves; the ridge is at "
        f"{number(roofline.ridge)} by the datasheet and at {number(roofline.reachable_ridge)} "
        "for matrix products as they run."
    )
    bottleneck = prediction.bottleneck.sentence
    found = (f"{bottleneck[:1].upper()}{bottleneck[1:]}.", stand)
    if mix.kv_tokens <= prediction.gpu_kv_tokens:
        return found
    return (
        *found,
        f"Warning: the rows need {count(mix.kv_tokens)} KV tokens, the GPU holds "
        f"{count(prediction.gpu_kv_tokens)}.",
    )


def steady_headline(prediction: SteadyPrediction) -> str:
    """The winner on throughput alone."""
    best = prediction.steady[prediction.optimum]
    return f"{prediction.optimum} gives the most: {_reached(best)}."


def steady_details(prediction: SteadyPrediction) -> tuple[str, ...]:
    """The load, and the winner under the bound."""
    load = prediction.load
    asked = (
        f"{count(load.gpu_rows)} GPU rows of {count(load.context)} tokens; host memory holds "
        f"{count(load.max_cpu_rows)} CPU rows. Decode only, at each strategy's best rows."
    )
    bounded = prediction.within_tpot
    if bounded is None or (best := bounded.steady[bounded.optimum]) is None:
        return (asked,)
    bound = f"With at most {seconds(bounded.tpot_s)} per token for every row, "
    return (asked, f"{bound}{bounded.optimum} gives the most: {_reached(best)}.")


def strategies_hint(prediction: SteadyPrediction) -> str:
    """How to read the bars."""
    if prediction.within_tpot is None:
        return "Higher is better; no bound on latency was asked for."
    bound = seconds(prediction.within_tpot.tpot_s)
    return (
        "Higher is better. Solid: throughput alone. Hatched: at most "
        f"{bound} per token for every row; no hatched bar means out of reach."
    )


def waterfall(ops: Iterable[tuple[str, float]], total: float) -> str:
    """The bars of a waterfall in words."""
    parts = (f"{name} {seconds(took)} ({percent(took / total)})" for name, took in ops)
    return ", ".join(parts) + "."


def roofline(ops: Iterable[Op]) -> str:
    """The marks under the roofs in words."""
    parts = (
        f"{op.name} at {number(op.intensity)} flop per byte runs at {rate(op.flop_per_s)}, "
        f"bound by {RESOURCES[op.bound_by]}"
        for op in ops
    )
    return "; ".join(parts) + "."


def strategies(prediction: SteadyPrediction) -> str:
    """The bars of the strategies in words."""
    free = (
        f"{name} {number(at.output_throughput_tok_s)} tok/s"
        for name, at in prediction.steady.items()
    )
    text = f"Highest throughput: {', '.join(free)}."
    if prediction.within_tpot is None:
        return text
    bounded = (
        f"{name} {'out of reach' if at is None else number(at.output_throughput_tok_s) + ' tok/s'}"
        for name, at in prediction.within_tpot.steady.items()
    )
    bound = seconds(prediction.within_tpot.tpot_s)
    return f"{text} With TPOT of at most {bound}: {', '.join(bounded)}."


def rate(flop_per_s: float) -> str:
    """Flop per second in T."""
    return f"{number(flop_per_s / 1e12)} TFLOP/s"


def _reached(best: Strategy) -> str:
    return (
        f"{number(best.output_throughput_tok_s)} tok/s at {seconds(best.step_s)} per step, bound "
        f"by {RESOURCES[best.bottleneck]}"
    )
