"""How many KV tokens fit: the GPU's memory and the host's, item by item. Allocates nothing.

The number of KV blocks decides the batch and with it most of the throughput, so every item is kept
for the report, and a run can state the number instead (`gpu_kv_tokens`).
"""

from dataclasses import dataclass

from apexbench.engine.hardware import GpuProfile, HostProfile
from apexbench.engine.models import ModelShape
from apexbench.errors import InputError, UsageError

GPU_BLOCK_TOKENS = 16
CPU_BLOCK_TOKENS = 64  # long contiguous runs decide the speed of CPU attention

GIB = 1 << 30
_FP16_BYTES = 2
_FP32_BYTES = 4
# cuBLAS keeps 8 MiB (32 MiB on Hopper) per handle and stream; split-KV attention a partial result
# per split.
_WORKSPACE_BYTES = 32 << 20
# Layers whose earlier chunks are in flight when a CPU-bound prompt re-reads its own KV.
_STAGED_LAYERS = 2
# What the OS, page cache, runtime and pinned buffers keep of the host: the reference T4 host leaves
# 150 of its 180 GiB to the KV cache; small hosts need a floor.
HOST_RESERVE_FRACTION = 1 / 6
_HOST_RESERVE_MIN_BYTES = 4 * GIB


@dataclass(frozen=True, slots=True)
class KvDemand:
    """What a run asks of the memory beside its KV cache; all counts are limits, not means."""

    max_batched_tokens: int
    max_running_rows: int
    is_hybrid: bool = False
    max_deferred_rows: int = 0
    max_prompt_tokens: int = 0


@dataclass(frozen=True, slots=True)
class KvCapacity:
    """KV tokens per tier, whole blocks, and where the GPU's memory goes (item, bytes).

    The items of `breakdown` add up to `budget_bytes`; `is_overridden` says that the GPU's number
    was given, not derived, in which case the items do not add up.
    """

    gpu_kv_tokens: int
    cpu_kv_tokens: int
    budget_bytes: int
    breakdown: tuple[tuple[str, int], ...]
    is_overridden: bool


def kv_capacity(
    gpu: GpuProfile,
    host: HostProfile,
    model: ModelShape,
    demand: KvDemand,
    *,
    weight_dtype: str,
    kv_dtype: str,
    cpu_kv_dtype: str,
    gpu_memory_utilization: float,
    gpu_kv_tokens: int | None = None,
) -> KvCapacity:
    """floor((memory·utilization - weights - activations - context - workspace) / block bytes).

    Hybrid runs also give up a residual slot per deferred row and a staging buffer of two layers of
    the longest prompt. InputError when the weights, or one block of KV, do not fit.
    """
    budget = int(gpu.memory_gib.value * gpu_memory_utilization * GIB)
    items = _items(gpu, model, demand, weight_dtype, kv_dtype)
    block_bytes = GPU_BLOCK_TOKENS * model.kv_bytes_per_token(kv_dtype)
    left = budget - sum(num_bytes for _, num_bytes in items)
    if left < block_bytes:
        needed = budget - left + block_bytes
        fits_as_int4 = needed - items[0][1] + model.weight_bytes("int4") <= budget
        cure = "int4, " if fits_as_int4 else ""
        raise InputError(
            f"{model.name} in {weight_dtype} needs {needed / GIB:.1f} GiB, weights "
            f"{items[0][1] / GIB:.1f} GiB of it; {gpu.name} has {gpu.memory_gib.value:.1f} GiB "
            f"usable at {gpu_memory_utilization:g}: use {cure}a smaller model or a larger GPU"
        )
    tokens = left // block_bytes * GPU_BLOCK_TOKENS
    kv_bytes = tokens * model.kv_bytes_per_token(kv_dtype)
    return KvCapacity(
        gpu_kv_tokens=tokens if gpu_kv_tokens is None else whole_blocks(gpu_kv_tokens),
        cpu_kv_tokens=_cpu_tokens(host, model, cpu_kv_dtype),
        budget_bytes=budget,
        breakdown=(*items, ("kv_cache", kv_bytes), ("unused", left - kv_bytes)),
        is_overridden=gpu_kv_tokens is not None,
    )


def whole_blocks(gpu_kv_tokens: int) -> int:
    """A stated number of GPU KV tokens rounded down to blocks; UsageError below one block."""
    if gpu_kv_tokens < GPU_BLOCK_TOKENS:
        raise UsageError(
            f"--gpu-kv-tokens is {gpu_kv_tokens}; expected at least one block of {GPU_BLOCK_TOKENS}"
        )
    return gpu_kv_tokens // GPU_BLOCK_TOKENS * GPU_BLOCK_TOKENS


def _items(
    gpu: GpuProfile, model: ModelShape, demand: KvDemand, weight_dtype: str, kv_dtype: str
) -> tuple[tuple[str, int], ...]:
    items = (
        ("weights", model.weight_bytes(weight_dtype)),
        ("activations", _activation_peak(model, demand)),
        ("context", int(gpu.context_gib.value * GIB)),
        ("workspace", _WORKSPACE_BYTES),
    )
    if not demand.is_hybrid:
        return items
    layer_bytes = model.kv_bytes_per_token_layer(kv_dtype)
    return (
        *items,
        ("residual_slots", demand.max_deferred_rows * model.hidden_size * _FP16_BYTES),
        ("kv_staging", _STAGED_LAYERS * demand.max_prompt_tokens * layer_bytes),
    )


def _activation_peak(model: ModelShape, demand: KvDemand) -> int:
    """The larger of the FFN's moment (input, residual, gate, up, product) and the sampler's.

    The sampler holds fp16 logits, their fp32 copy and the probabilities of every running row.
    """
    ffn = demand.max_batched_tokens * (2 * model.hidden_size + 3 * model.intermediate_size)
    hidden = demand.max_batched_tokens * model.hidden_size
    logits = demand.max_running_rows * model.vocab_size
    sampler = logits * (_FP16_BYTES + 2 * _FP32_BYTES) + hidden * _FP16_BYTES
    return max(ffn * _FP16_BYTES, sampler)


def _cpu_tokens(host: HostProfile, model: ModelShape, cpu_kv_dtype: str) -> int:
    memory = int(host.memory_gib.value * GIB)
    reserve = max(int(memory * HOST_RESERVE_FRACTION), _HOST_RESERVE_MIN_BYTES)
    block_bytes = CPU_BLOCK_TOKENS * model.kv_bytes_per_token(cpu_kv_dtype)
    return max(0, memory - reserve) // block_bytes * CPU_BLOCK_TOKENS
