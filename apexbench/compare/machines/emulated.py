"""A modelled GPU beside this machine's CPU and memory: what runs where, how much KV it holds."""

from dataclasses import replace

from apexbench.compare.machines.checks import usable_cores
from apexbench.compare.machines.memory import (
    host_tokens,
    host_tokens_limit,
    kv_bytes_per_token,
)
from apexbench.config import CompareConfig
from apexbench.engine.capacity import KvCapacity
from apexbench.engine.deployment import Deployment, deploy
from apexbench.engine.hardware import default_host, load_gpu, load_host

# What is assumed of this project's kernels on a host that nobody has measured.
_OWN_KERNEL = "apexbench"


def emulated_deployment(
    config: CompareConfig, gpu: str, model: str, weights: str | None
) -> Deployment:
    """What policies believe: the GPU's profile and the host's, with as many threads as run here."""
    host = load_host(config.host or default_host(load_gpu(gpu)))
    is_measured = host.attention is not None
    usual = max(1, min(host.default_threads, usable_cores() - 1))
    return deploy(
        gpu=gpu,
        host=config.host,
        model=model,
        weights=weights or config.weight_dtype,
        kv_dtype=config.kv_dtype or "fp16",
        cpu_kv_dtype=config.cpu_kv_dtype,
        cpu_kernel=config.cpu_kernel or (None if is_measured else _OWN_KERNEL),
        cpu_threads=config.cpu_threads or usual,
        gpu_memory_utilization=config.gpu_memory_utilization,
        gpu_kv_tokens=config.gpu_kv_tokens,
    )


def emulated_capacity(
    modelled: KvCapacity, deployment: Deployment, cpu_kv_tokens: int | None, free_bytes: int
) -> KvCapacity:
    """The GPU's tokens are the model's; the host's are real: this machine's memory bounds them."""
    per_token = kv_bytes_per_token(deployment.model, deployment.cpu_kv_dtype)
    limit = host_tokens_limit(free_bytes, per_token)
    tokens = host_tokens(cpu_kv_tokens, modelled.cpu_kv_tokens, limit, per_token)
    return replace(modelled, cpu_kv_tokens=tokens)
