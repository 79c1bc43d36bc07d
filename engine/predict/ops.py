"""The ops of one layer and one step, priced one by one by the cost code. Adds up to its durations.

The cost code has the small kernels of a launch group in one sum. They are told apart by asking it
again for a model in which some of them have nothing to do.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from apexbench.engine.gpu_ops import POST_KERNELS, PRE_KERNELS, GpuOps
from apexbench.engine.host_ops import HostOps
from apexbench.engine.predict.machine import Machine
from apexbench.engine.predict.mix import Mix
from apexbench.records import NS_PER_S

GEMM, ATTENTION, ELEMENTWISE, COPY, OVERHEAD = (
    "gemm", "attention", "elementwise", "copy", "overhead",
)  # fmt: skip
LAYER, STEP = "layer", "step"


@dataclass(frozen=True, slots=True)
class OpSpec:
    """What an op is; `scope` says whether it runs once per layer or once per step."""

    name: str
    kind: str
    lane: str
    scope: str
    amount: Callable[[GpuOps, HostOps, Mix], float]


def durations(machine: Machine, mix: Mix) -> dict[str, float]:
    """Seconds of every op on `machine`, per layer or per step, in the order of SPECS."""
    gpu, host = machine.gpu_ops(), machine.host_ops()
    amounts = {spec.name: spec.amount(gpu, host, mix) for spec in SPECS}
    amounts |= _overheads(machine, gpu, mix)
    return amounts


def amounts(gpu: GpuOps, host: HostOps, mix: Mix) -> dict[str, float]:
    """Whatever `gpu` and `host` count (seconds, bytes, flop), op by op, overheads left out."""
    return {spec.name: spec.amount(gpu, host, mix) for spec in SPECS if spec.kind != OVERHEAD}


def _overheads(machine: Machine, gpu: GpuOps, mix: Mix) -> dict[str, float]:
    """Times that no device works: launches slower than the kernels, and the host's part."""
    eager = machine.costs()
    costs = eager.captured if mix.is_captured else eager
    rows = mix.linear_rows
    charged = ((costs.pre_ns(rows), gpu.pre(rows)), (costs.post_ns(rows), gpu.post(rows)))
    # Durations are whole nanoseconds: less than one is rounding, not waiting.
    waits = (max(0.0, ns - seconds * NS_PER_S) for ns, seconds in charged)
    return {
        "launch_wait": sum(wait for wait in waits if wait >= 1) / NS_PER_S,
        "cpu_dispatch": costs.cpu_dispatch_ns() / NS_PER_S if mix.cpu_rows else 0.0,
        "schedule": costs.schedule_ns(mix.sampled_rows, mix.is_captured) / NS_PER_S,
    }


def _projection(index: int) -> Callable[[GpuOps, HostOps, Mix], float]:
    return lambda gpu, _, mix: gpu.projections[index].seconds(mix.linear_rows)


def _small_before(gpu: GpuOps, rows: int) -> float:
    """Norm, rotary positions and KV store."""
    return gpu.pre(rows) - gpu.projections[0].seconds(rows)


def _norm(gpu: GpuOps, _: HostOps, mix: Mix) -> float:
    """With no heads only the norm has elements; its launch is one of the small kernels'."""
    model = replace(gpu.model, num_heads=0, num_kv_heads=0)
    launches = _small_before(gpu, 0)
    work = _small_before(replace(gpu, model=model), mix.linear_rows) - launches
    return work + launches / PRE_KERNELS


def _rope_and_store(gpu: GpuOps, host: HostOps, mix: Mix) -> float:
    return _small_before(gpu, mix.linear_rows) - _norm(gpu, host, mix)


def _small_after(gpu: GpuOps, rows: int) -> float:
    """Norm and gated activation."""
    return gpu.post(rows) - sum(projection.seconds(rows) for projection in gpu.projections[1:])


def _ffn_norm(gpu: GpuOps, _: HostOps, mix: Mix) -> float:
    """With an FFN of no width only the norm has elements."""
    model = replace(gpu.model, intermediate_size=0)
    launches = _small_after(gpu, 0)
    work = _small_after(replace(gpu, model=model), mix.linear_rows) - launches
    return work + launches / POST_KERNELS


def _silu(gpu: GpuOps, host: HostOps, mix: Mix) -> float:
    return _small_after(gpu, mix.linear_rows) - _ffn_norm(gpu, host, mix)


def _decode_attention(gpu: GpuOps, _: HostOps, mix: Mix) -> float:
    return gpu.decode_attention(mix.kv_tokens) if mix.rows else 0.0


def _prefill_attention(gpu: GpuOps, _: HostOps, mix: Mix) -> float:
    if not mix.prefill_tokens:
        return 0.0
    return gpu.prefill_attention_latency + gpu.prefill_attention(mix.prefill_tokens, 0)


def _cpu_attention(_: GpuOps, host: HostOps, mix: Mix) -> float:
    return host.attention(mix.cpu_rows, mix.cpu_kv_tokens, 0) if mix.cpu_rows else 0.0


def _send(_: GpuOps, host: HostOps, mix: Mix) -> float:
    return host.send(mix.cpu_rows) if mix.cpu_rows else 0.0


def _recv(_: GpuOps, host: HostOps, mix: Mix) -> float:
    return host.recv(mix.cpu_rows) if mix.cpu_rows else 0.0


def _embed(gpu: GpuOps, _: HostOps, mix: Mix) -> float:
    return gpu.embed(mix.linear_rows)


def _lm_head(gpu: GpuOps, _: HostOps, mix: Mix) -> float:
    return gpu.lm_head.seconds(mix.sampled_rows)


def _sampling(gpu: GpuOps, host: HostOps, mix: Mix) -> float:
    return gpu.head(mix.sampled_rows) - _lm_head(gpu, host, mix)


def _no_device(_gpu: GpuOps, _host: HostOps, _mix: Mix) -> float:
    """Overheads come from the cost model, not from a device's work."""
    return 0.0


SPECS = (
    OpSpec("schedule", OVERHEAD, "host", STEP, _no_device),
    OpSpec("embed", ELEMENTWISE, "gpu", STEP, _embed),
    OpSpec("norm", ELEMENTWISE, "gpu", LAYER, _norm),
    OpSpec("qkv", GEMM, "gpu", LAYER, _projection(0)),
    OpSpec("rope_kv_store", ELEMENTWISE, "gpu", LAYER, _rope_and_store),
    OpSpec("send", COPY, "d2h", LAYER, _send),
    OpSpec("cpu_dispatch", OVERHEAD, "cpu", LAYER, _no_device),
    OpSpec("cpu_attention", ATTENTION, "cpu", LAYER, _cpu_attention),
    OpSpec("recv", COPY, "h2d", LAYER, _recv),
    OpSpec("gpu_attention", ATTENTION, "gpu", LAYER, _decode_attention),
    OpSpec("prefill_attention", ATTENTION, "gpu", LAYER, _prefill_attention),
    OpSpec("attention_output", GEMM, "gpu", LAYER, _projection(1)),
    OpSpec("ffn_norm", ELEMENTWISE, "gpu", LAYER, _ffn_norm),
    OpSpec("gate_up", GEMM, "gpu", LAYER, _projection(2)),
    OpSpec("silu", ELEMENTWISE, "gpu", LAYER, _silu),
    OpSpec("down", GEMM, "gpu", LAYER, _projection(3)),
    OpSpec("launch_wait", OVERHEAD, "gpu", LAYER, _no_device),
    OpSpec("lm_head", GEMM, "gpu", STEP, _lm_head),
    OpSpec("sampling", ELEMENTWISE, "gpu", STEP, _sampling),
)
