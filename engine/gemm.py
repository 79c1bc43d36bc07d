"""Time of dense matrix products with fp16 activations, from four constants. No launch-group logic.

t = t0 + [ (F / (ec·P))^p + (B / (em·W))^p ]^(1/p), with F = 2·m·n·k flop, B the bytes of both
operands and the result, P the peak with fp32 accumulation and W the DRAM bandwidth. On the public
GEMM tables it was fitted to, the median error is 4-7 % per GPU; a plain roofline's is 25-55 %.
"""

import math
from dataclasses import dataclass

from apexbench.engine.hardware import GpuProfile
from apexbench.engine.models import bytes_per_weight

# Softness of the corner between the memory-bound and the compute-bound part, common to all GPUs.
EXPONENT = 3.0
ACTIVATION_BYTES = 2


@dataclass(frozen=True, slots=True)
class Gemm:
    """A weight matrix of `inputs` x `outputs`, ready to be timed for any number of rows."""

    inputs: int
    outputs: int
    weight_bytes: float
    latency_s: float
    flops_per_s: float
    bytes_per_s: float

    def seconds(self, rows: int) -> float:
        """Time of (rows x inputs) @ (inputs x outputs)."""
        compute = 2.0 * rows * self.inputs * self.outputs / self.flops_per_s
        activations = ACTIVATION_BYTES * rows * (self.inputs + self.outputs)
        memory = (self.weight_bytes + activations) / self.bytes_per_s
        total = math.pow(compute, EXPONENT) + math.pow(memory, EXPONENT)
        return self.latency_s + math.pow(total, 1 / EXPONENT)


def gemm(gpu: GpuProfile, inputs: int, outputs: int, weight_dtype: str) -> Gemm:
    """The product on `gpu`; int8 and int4 weights have bytes and efficiencies of their own.

    Weight-only quantisation reads fewer bytes but computes in fp16 after dequantisation, so it
    helps where the weights bind and hurts where the tensor cores do.
    """
    compute, memory = _efficiencies(gpu, weight_dtype)
    return Gemm(
        inputs=inputs,
        outputs=outputs,
        weight_bytes=inputs * outputs * bytes_per_weight(weight_dtype),
        latency_s=gpu.gemm_latency_us.value * 1e-6,
        flops_per_s=compute * gpu.peak_tflops.value * 1e12,
        bytes_per_s=memory * gpu.dram_gb_per_s.value * 1e9,
    )


def _efficiencies(gpu: GpuProfile, weight_dtype: str) -> tuple[float, float]:
    if weight_dtype == "int4":
        return gpu.int4_compute_efficiency.value, gpu.int4_memory_efficiency.value
    if weight_dtype == "int8":
        return gpu.int8_compute_efficiency.value, gpu.int8_memory_efficiency.value
    return gpu.gemm_compute_efficiency.value, gpu.gemm_memory_efficiency.value
