"""Seconds of the ops that need the host: CPU attention and PCIe transfers. No GPU compute."""

import math
from dataclasses import dataclass, replace

from apexbench.engine.attention_curve import AttentionCurve
from apexbench.engine.gemm import ACTIVATION_BYTES
from apexbench.engine.hardware import CpuKernel, GpuProfile, HostProfile
from apexbench.engine.models import ModelShape
from apexbench.errors import unknown_name

# Bulk copies go in pieces of at most this size, so that q, k and v never wait long behind them.
PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class HostOps:
    """One model's CPU rows on one host beside one GPU. Per layer unless said otherwise.

    `curve` is a measured kernel's; without one a row takes `row_s` and its bytes at the kernel's
    rate.
    """

    kv_bytes_per_token_layer: int
    query_bytes: int  # q, k, v of one row, to the host
    output_bytes: int  # attention output of one row, to the GPU
    kernel_bytes_per_s: float
    dram_bytes_per_s: float
    row_s: float
    dispatch_s: float
    copy_bytes_per_s: dict[str, float]
    copy_latency_s: float
    piece_s: float
    curve: AttentionCurve | None = None

    def attention(self, rows: int, kv_tokens: int, copy_bytes: int) -> float:
        """One job: bound by the kernel, or by host DRAM, which bulk copies share with it."""
        num_bytes = kv_tokens * self.kv_bytes_per_token_layer
        if self.curve is None:
            kernel = rows * self.row_s + num_bytes / self.kernel_bytes_per_s
        else:
            kernel = self.curve.job_seconds(rows, kv_tokens) if rows else 0.0
        return max(kernel, (num_bytes + copy_bytes) / self.dram_bytes_per_s)

    def send(self, rows: int) -> float:
        """q, k, v of `rows` rows to the host."""
        return self.copy_latency_s + rows * self.query_bytes / self.copy_bytes_per_s["d2h"]

    def recv(self, rows: int) -> float:
        """Attention output of `rows` rows to the GPU."""
        return self.copy_latency_s + rows * self.output_bytes / self.copy_bytes_per_s["h2d"]

    def copy(self, direction: str, num_bytes: int) -> float:
        """Bulk KV in pieces, one direction."""
        if direction not in self.copy_bytes_per_s:
            raise unknown_name("copy direction", direction, self.copy_bytes_per_s)
        pieces = math.ceil(num_bytes / PIECE_BYTES)
        wire = num_bytes / self.copy_bytes_per_s[direction]
        return self.copy_latency_s + pieces * self.piece_s + wire


def host_ops(
    gpu: GpuProfile,
    host: HostProfile,
    kernel: CpuKernel,
    model: ModelShape,
    cpu_kv_dtype: str,
    threads: int,
) -> HostOps:
    """The CPU side of `model` with `threads` worker threads."""
    rate = kernel.bytes_per_s(host, threads, is_gqa=model.is_gqa, dtype=cpu_kv_dtype)
    bytes_per_token = model.kv_bytes_per_token_layer(cpu_kv_dtype)
    return HostOps(
        kv_bytes_per_token_layer=bytes_per_token,
        query_bytes=ACTIVATION_BYTES * (model.q_size + 2 * model.kv_size),
        output_bytes=ACTIVATION_BYTES * model.q_size,
        kernel_bytes_per_s=rate,
        dram_bytes_per_s=host.dram_bytes_per_s(int(host.cores.value)),
        row_s=kernel.row_us.value * 1e-6 / threads,
        dispatch_s=kernel.dispatch_us.value * 1e-6,
        copy_bytes_per_s={
            "h2d": gpu.pcie_h2d_gb_per_s.value * 1e9,
            "d2h": gpu.pcie_d2h_gb_per_s.value * 1e9,
        },
        copy_latency_s=gpu.pcie_latency_us.value * 1e-6,
        piece_s=gpu.pcie_piece_us.value * 1e-6,
        curve=kernel.row_curve(threads, bytes_per_token),
    )


def at_stated_rate(ops: HostOps, bytes_per_s: float) -> HostOps:
    """The same with CPU attention at that rate, which is taken to be within the host's reach."""
    reach = max(bytes_per_s, ops.dram_bytes_per_s)
    return replace(ops, kernel_bytes_per_s=bytes_per_s, dram_bytes_per_s=reach, curve=None)
