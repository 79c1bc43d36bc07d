"""A deployment whose constants can be moved, to ask the cost code "what if". No formula of its own.

Bytes, flop and sensitivities come from evaluating the cost code itself on a machine with other
constants, so they cannot drift from what the simulator charges.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from apexbench.engine.constants import constants_of, with_constants
from apexbench.engine.costs import ProfileCosts
from apexbench.engine.deployment import Deployment
from apexbench.engine.gpu_ops import GpuOps, gpu_ops
from apexbench.engine.host_ops import HostOps, at_stated_rate
from apexbench.engine.profile_files import Constant

# Rate of the CPU kernel where the caller states one; otherwise it follows from the profiles.
STATED_RATE = "cpu_attention_rate"

_GPU_LATENCIES = ("gpu.gemm_latency_us", "gpu.decode_attention_latency_us", "gpu.kernel_latency_us")
_PCIE_LATENCIES = ("gpu.pcie_latency_us", "gpu.pcie_piece_us")
_LAUNCHES = ("host.eager_layer_us", "host.captured_layer_us")
_HOST_TIME = (
    *("host.eager_step_us", "host.eager_row_us"),
    *("host.captured_step_us", "host.captured_row_us"),
)
_CPU_TIME = ("cpu_kernel.row_us", "cpu_kernel.dispatch_us")
# What an ideal machine lacks: starts, launches, hand-overs and host time. Bytes and flop remain.
OVERHEADS = (*_GPU_LATENCIES, *_PCIE_LATENCIES, *_LAUNCHES, *_HOST_TIME, *_CPU_TIME)

# What a step can wait for: constants that are rates, and those that are times. Together they hold
# every dimension of time once, so that shares of a duration add up to one.
RESOURCES: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "gpu_bandwidth": (("gpu.dram_gb_per_s",), ()),
    "gpu_compute": (("gpu.peak_tflops",), ()),
    "gpu_latency": ((), _GPU_LATENCIES),
    "launches": ((), _LAUNCHES),
    "host": ((), _HOST_TIME),
    "pcie": (("gpu.pcie_h2d_gb_per_s", "gpu.pcie_d2h_gb_per_s"), _PCIE_LATENCIES),
    "cpu_attention": (
        (
            *("host.core_gb_per_s", "host.dram_peak_gb_per_s", "host.paper_kernel_gb_per_s"),
            *("cpu_kernel.core_gb_per_s", "cpu_kernel.gb_per_s", STATED_RATE),
        ),
        _CPU_TIME,
    ),
}

# A machine on which one byte of GPU memory takes one second, or one flop, and nothing else any
# time: durations of GPU work become counts.
_SHARES = (
    *("gpu.gemm_compute_efficiency", "gpu.gemm_memory_efficiency", "gpu.elementwise_efficiency"),
    *("gpu.int8_compute_efficiency", "gpu.int8_memory_efficiency"),
    *("gpu.int4_compute_efficiency", "gpu.int4_memory_efficiency"),
    *("gpu.decode_attention_efficiency", "gpu.prefill_attention_efficiency"),
)
_PERFECT = {
    **dict.fromkeys(OVERHEADS, 0.0),
    **dict.fromkeys(_SHARES, 1.0),
    "gpu.num_sms": 0.0,  # idle SMs of a small batch cost time, not bytes
    "gpu.prefill_attention_half_tokens": 0.0,
}
_BYTE_COUNTER = {**_PERFECT, "gpu.dram_gb_per_s": 1e-9, "gpu.peak_tflops": math.inf}
_FLOP_COUNTER = {**_PERFECT, "gpu.dram_gb_per_s": math.inf, "gpu.peak_tflops": 1e-12}


@dataclass(frozen=True, slots=True)
class Machine:
    """A deployment, and the bytes per second of CPU attention if they are stated."""

    deployment: Deployment
    cpu_bytes_per_s: float | None = None

    def gpu_ops(self) -> GpuOps:
        """Seconds of GPU ops."""
        chosen = self.deployment
        return gpu_ops(chosen.gpu, chosen.model, chosen.weight_dtype, chosen.kv_dtype)

    def host_ops(self) -> HostOps:
        """Seconds of host and PCIe ops. A stated rate is taken to be within the host's reach."""
        ops = self.deployment.host_ops()
        rate = self.cpu_bytes_per_s
        return ops if rate is None else at_stated_rate(ops, rate)

    def costs(self) -> ProfileCosts:
        """The cost model that the simulator would charge."""
        return ProfileCosts(self.gpu_ops(), self.host_ops(), self.deployment.host)

    def constants(self) -> dict[str, Constant]:
        """All constants by role and name, such as "gpu.dram_gb_per_s"."""
        return constants_of(self.deployment)


def moved(machine: Machine, values: Mapping[str, float]) -> Machine:
    """The machine with other values of the named constants; names it does not have are skipped."""
    deployment = with_constants(machine.deployment, values)
    rate = values.get(STATED_RATE, machine.cpu_bytes_per_s)
    return Machine(deployment, None if machine.cpu_bytes_per_s is None else rate)


def scaled(machine: Machine, factors: Mapping[str, float]) -> Machine:
    """The machine with the named constants multiplied."""
    now = {key: constant.value for key, constant in machine.constants().items()}
    if machine.cpu_bytes_per_s is not None:
        now[STATED_RATE] = machine.cpu_bytes_per_s
    return moved(machine, {key: now[key] * by for key, by in factors.items() if key in now})


def faster(machine: Machine, resource: str, factor: float) -> Machine:
    """The machine with one of RESOURCES `factor` times as fast."""
    rates, times = RESOURCES[resource]
    return scaled(machine, dict.fromkeys(rates, factor) | dict.fromkeys(times, 1 / factor))


def ideal(machine: Machine) -> Machine:
    """The machine without latencies, launches and host time."""
    return moved(machine, dict.fromkeys(OVERHEADS, 0.0))


def byte_counter(machine: Machine) -> GpuOps:
    """GPU ops whose "seconds" are the bytes they move."""
    return moved(machine, _BYTE_COUNTER).gpu_ops()


def flop_counter(machine: Machine) -> GpuOps:
    """GPU ops whose "seconds" are the flop they compute."""
    return moved(machine, _FLOP_COUNTER).gpu_ops()


def host_byte_counter(machine: Machine) -> HostOps:
    """Host ops whose "seconds" are the bytes they move."""
    return replace(
        machine.host_ops(),
        kernel_bytes_per_s=1.0,
        dram_bytes_per_s=1.0,
        row_s=0.0,
        dispatch_s=0.0,
        copy_bytes_per_s={"h2d": 1.0, "d2h": 1.0},
        copy_latency_s=0.0,
        piece_s=0.0,
        curve=None,
    )
