"""Where work stands under the roofs of its device, and which of them binds it. Draws nothing."""

from collections.abc import Mapping
from dataclasses import dataclass

from apexbench.engine.predict.machine import Machine, byte_counter
from apexbench.engine.predict.mix import Mix
from apexbench.engine.predict.ops import LAYER, SPECS, durations
from apexbench.engine.predict.sensitivity import resource_shares_by_name


@dataclass(frozen=True, slots=True)
class Roofline:
    """Where the GPU work of a step stands: flop per byte of GPU memory, against the ridge.

    `ridge` is the datasheet's; `reachable_ridge` that of matrix products as they really run.
    """

    flop: float
    bytes: float
    weight_bytes: float
    kv_bytes: float
    intensity: float
    ridge: float
    reachable_ridge: float


@dataclass(frozen=True, slots=True)
class Roof:
    """The limits of some work on a lane: at most `flops_per_s`, and intensity x `bytes_per_s`.

    `flops_per_s` is None where the profiles know a rate of bytes alone.
    """

    name: str
    lane: str
    flops_per_s: float | None
    bytes_per_s: float


def intensity(flop: float, num_bytes: float) -> float | None:
    """Flop per byte; None for work that computes or moves nothing that is counted."""
    return flop / num_bytes if flop and num_bytes else None


def roofs(machine: Machine) -> tuple[Roof, ...]:
    """The datasheet's roof, those of GPU work as it runs, and that of CPU attention."""
    gpu, host = machine.deployment.gpu, machine.host_ops()
    peak, bandwidth = gpu.peak_tflops.value * 1e12, gpu.dram_gb_per_s.value * 1e9
    product = machine.gpu_ops().projections[0]
    decode = gpu.decode_attention_efficiency.value * bandwidth
    on_cpu = min(host.kernel_bytes_per_s, host.dram_bytes_per_s)
    return (
        Roof("datasheet", "gpu", peak, bandwidth),
        Roof("matrix products", "gpu", product.flops_per_s, product.bytes_per_s),
        Roof("decode attention", "gpu", None, decode),
        Roof("CPU attention", "cpu", None, on_cpu),
    )


def binding(machine: Machine, mix: Mix) -> dict[str, str]:
    """The resource that answers for most of the time of each op that takes any."""
    shares = resource_shares_by_name(machine, lambda other: durations(other, mix))
    return {op: max(found, key=lambda name: found[name]) for op, found in shares.items()}


def stand(machine: Machine, num_bytes: Mapping[str, float], flop: Mapping[str, float]) -> Roofline:
    """The GPU work of a whole step from the bytes and flop of its ops."""
    model, gpu = machine.deployment.model, machine.deployment.gpu
    counter = byte_counter(machine)
    on_gpu = [spec for spec in SPECS if spec.lane == "gpu" and spec.name in num_bytes]
    times = {spec.name: model.num_layers if spec.scope == LAYER else 1 for spec in on_gpu}
    all_flop = sum(flop[name] * count for name, count in times.items())
    all_bytes = sum(num_bytes[name] * count for name, count in times.items())
    weights = sum(projection.seconds(0) for projection in counter.projections)
    attention = num_bytes["gpu_attention"] + num_bytes["prefill_attention"]
    product = machine.gpu_ops().projections[0]
    return Roofline(
        flop=all_flop,
        bytes=all_bytes,
        weight_bytes=model.num_layers * weights + counter.lm_head.seconds(0),
        kv_bytes=model.num_layers * attention,
        intensity=all_flop / all_bytes,
        ridge=gpu.peak_tflops.value * 1e12 / (gpu.dram_gb_per_s.value * 1e9),
        reachable_ridge=product.flops_per_s / product.bytes_per_s,
    )
