"""One layer and one step of a mix of rows, op by op, with what limits them. Simulates one step."""

from collections.abc import Mapping
from dataclasses import dataclass

from apexbench.engine.executors.sim import SimulatedExecutor
from apexbench.engine.predict.machine import (
    Machine,
    byte_counter,
    flop_counter,
    host_byte_counter,
)
from apexbench.engine.predict.mix import Mix
from apexbench.engine.predict.ops import LAYER, SPECS, STEP, OpSpec, amounts, durations
from apexbench.engine.predict.roofline import Roof, Roofline, binding, intensity, roofs, stand
from apexbench.engine.predict.sensitivity import Provenance, provenances, resource_shares
from apexbench.records import NS_PER_S, Request


@dataclass(frozen=True, slots=True)
class OpPrediction:
    """An op of a layer or of a step. `share` is its part of the summed work of its scope.

    `roofline_share` is the part of its time that the datasheet's bandwidth or peak would need:
    1 means it cannot be faster. None where it moves no byte and computes no flop, or off the GPU.
    `intensity` is flop per byte, None without either; `bound_by` is the resource that answers for
    most of its time.
    """

    name: str
    kind: str
    lane: str
    seconds: float
    bytes: float
    flop: float
    share: float
    roofline_share: float | None
    intensity: float | None
    bound_by: str
    provenance: Provenance

    @property
    def flop_per_s(self) -> float:
        """What it achieves."""
        return self.flop / self.seconds


@dataclass(frozen=True, slots=True)
class Bottleneck:
    """The resource that answers for most of a step, the share of each, and a sentence."""

    resource: str
    share: float
    shares: Mapping[str, float]
    sentence: str


@dataclass(frozen=True, slots=True)
class Step:
    """A whole step. `seconds` comes from the lanes."""

    seconds: float
    provenance: Provenance
    output_tokens: int
    output_throughput_tok_s: float
    ops: tuple[OpPrediction, ...]


@dataclass(frozen=True, slots=True)
class Layer:
    """One of `count` equal layers: its GPU work, and the CPU rows' way to the host and back."""

    count: int
    gpu_s: float
    cpu_path_s: float
    ops: tuple[OpPrediction, ...]


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a machine makes of a mix."""

    mix: Mix
    layer: Layer
    step: Step
    bottleneck: Bottleneck
    roofline: Roofline
    roofs: tuple[Roof, ...]


def predict(machine: Machine, mix: Mix) -> Prediction:
    """Price every op of `mix` and find what limits its step."""
    priced = _price(machine, mix)
    seconds = priced.seconds
    roofline = stand(machine, priced.bytes, priced.flop)
    shares = resource_shares(machine, lambda other: step_seconds(other, mix))
    return Prediction(
        mix=mix,
        layer=Layer(
            count=machine.deployment.model.num_layers,
            gpu_s=_layer_seconds(seconds, is_gpu=True),
            cpu_path_s=_layer_seconds(seconds, is_gpu=False),
            ops=_ops(machine, priced, LAYER),
        ),
        step=Step(
            seconds=seconds[STEP],
            provenance=priced.provenances[STEP],
            output_tokens=mix.sampled_rows,
            output_throughput_tok_s=mix.sampled_rows / seconds[STEP],
            ops=_ops(machine, priced, STEP),
        ),
        bottleneck=_bottleneck(shares, roofline),
        roofline=roofline,
        roofs=roofs(machine),
    )


def step_seconds(machine: Machine, mix: Mix) -> float:
    """How long the simulator takes for one step of the mix, from idle lanes."""
    executor = SimulatedExecutor(machine.costs())
    plan = mix.plan()
    for sequence in range(mix.rows + mix.cpu_rows + 1):
        executor.admit(Request(sequence, 0, 1, 1))
    return executor.execute(plan, 0).end_ns / NS_PER_S


@dataclass(frozen=True, slots=True)
class _Priced:
    """By op name; `seconds` and `provenances` also hold the whole step."""

    seconds: Mapping[str, float]
    bytes: Mapping[str, float]
    flop: Mapping[str, float]
    provenances: Mapping[str, Provenance]
    bound_by: Mapping[str, str]


def _price(machine: Machine, mix: Mix) -> _Priced:
    def seconds_on(other: Machine) -> dict[str, float]:
        return durations(other, mix) | {STEP: step_seconds(other, mix)}

    host_bytes = host_byte_counter(machine)
    flop_of = flop_counter(machine)
    flop = amounts(flop_of, host_bytes, mix)
    # Decode attention is priced by its bytes alone; its flop are those of one new token that
    # attends to everything.
    for name, tokens in (("gpu_attention", mix.kv_tokens), ("cpu_attention", mix.cpu_kv_tokens)):
        flop[name] = flop_of.prefill_attention(1, tokens - 1) if tokens else 0.0
    flop |= dict.fromkeys(("send", "recv"), 0.0)
    return _Priced(
        seconds=seconds_on(machine),
        bytes=amounts(byte_counter(machine), host_bytes, mix),
        flop=flop,
        provenances=provenances(machine, seconds_on),
        bound_by=binding(machine, mix),
    )


def _ops(machine: Machine, priced: _Priced, scope: str) -> tuple[OpPrediction, ...]:
    chosen = [spec for spec in SPECS if spec.scope == scope and priced.seconds[spec.name] > 0]
    total = sum(priced.seconds[spec.name] for spec in chosen)
    return tuple(
        OpPrediction(
            *(spec.name, spec.kind, spec.lane, priced.seconds[spec.name]),
            bytes=priced.bytes.get(spec.name, 0.0),
            flop=priced.flop.get(spec.name, 0.0),
            share=priced.seconds[spec.name] / total,
            roofline_share=_roofline_share(machine, priced, spec),
            intensity=intensity(priced.flop.get(spec.name, 0.0), priced.bytes.get(spec.name, 0.0)),
            bound_by=priced.bound_by[spec.name],
            provenance=priced.provenances[spec.name],
        )
        for spec in chosen
    )


def _roofline_share(machine: Machine, priced: _Priced, spec: OpSpec) -> float | None:
    if spec.lane != "gpu" or spec.name not in priced.bytes:
        return None
    gpu = machine.deployment.gpu
    memory = priced.bytes[spec.name] / (gpu.dram_gb_per_s.value * 1e9)
    compute = priced.flop[spec.name] / (gpu.peak_tflops.value * 1e12)
    return max(memory, compute) / priced.seconds[spec.name]


def _layer_seconds(seconds: Mapping[str, float], *, is_gpu: bool) -> float:
    layer = (spec for spec in SPECS if spec.scope == LAYER)
    return sum(seconds[spec.name] for spec in layer if (spec.lane == "gpu") is is_gpu)


_NAMES = {
    "gpu_bandwidth": "memory-bandwidth-bound",
    "gpu_compute": "compute-bound",
    "gpu_latency": "latency-bound",
    "launches": "launch-bound",
    "host": "host-bound",
    "pcie": "PCIe-bound",
    "cpu_attention": "CPU-attention-bound",
}
_REASONS = {
    "gpu_compute": "the GPU computes at {intensity:.0f} flop per byte, ridge at {ridge:.0f}",
    "gpu_latency": "starting kernels takes longer than their work",
    "launches": "the host launches a layer more slowly than the GPU runs it",
    "host": "scheduling and input preparation outside the GPU",
    "pcie": "hand-overs of CPU rows in every layer",
    "cpu_attention": "the GPU waits in every layer for the CPU rows",
}


def _bottleneck(shares: Mapping[str, float], roofline: Roofline) -> Bottleneck:
    resource = max(shares, key=lambda name: shares[name])
    share = shares[resource]
    if resource == "gpu_bandwidth":
        weights, kv = roofline.weight_bytes / roofline.bytes, roofline.kv_bytes / roofline.bytes
        reason = f"weights are {weights:.0%} and KV {kv:.0%} of the bytes a step reads"
    else:
        reason = _REASONS[resource].format(
            intensity=roofline.intensity, ridge=roofline.reachable_ridge
        )
    sentence = f"{_NAMES[resource]} ({share:.0%} of the step): {reason}"
    return Bottleneck(resource, share, shares, sentence)
