"""A deployment: one model on one GPU and host, every choice made. Runs nothing."""

from dataclasses import dataclass, replace

from apexbench.engine.capacity import (
    CPU_BLOCK_TOKENS,
    GPU_BLOCK_TOKENS,
    KvCapacity,
    KvDemand,
    kv_capacity,
    whole_blocks,
)
from apexbench.engine.costs import ProfileCosts
from apexbench.engine.gpu_ops import gpu_ops
from apexbench.engine.hardware import (
    CpuKernel,
    GpuProfile,
    HostProfile,
    default_host,
    load_cpu_kernel,
    load_gpu,
    load_host,
)
from apexbench.engine.host_ops import HostOps, at_stated_rate, host_ops
from apexbench.engine.measured_kernel import MEASURED, measured_kernel
from apexbench.engine.models import KV_DTYPES, WEIGHT_DTYPES, ModelShape, shape
from apexbench.errors import UsageError, unknown_name
from apexbench.result import DeviceConstant

# High on purpose: a low value starves the GPU-only baseline of KV and flatters every hybrid.
DEFAULT_GPU_MEMORY_UTILIZATION = 0.95
GPU_KV_DTYPES = ("fp16", "bf16")
# The one whose speed was published for the hosts of the paper.
DEFAULT_CPU_KERNEL = "paper"
# The profile of the kernel that `measured` is, where nobody has measured it.
_OWN_CPU_KERNEL = "apexbench"


@dataclass(frozen=True, slots=True)
class Deployment:
    """Profiles, shapes and choices of one run.

    `gpu_kv_tokens` overrides the capacity model, `cpu_attention_bytes_per_s` the rate that follows
    from host, kernel and threads.
    """

    gpu: GpuProfile
    host: HostProfile
    model: ModelShape
    cpu_kernel: CpuKernel
    cpu_threads: int
    weight_dtype: str = "fp16"
    kv_dtype: str = "fp16"
    cpu_kv_dtype: str = "fp16"
    gpu_memory_utilization: float = DEFAULT_GPU_MEMORY_UTILIZATION
    gpu_kv_tokens: int | None = None
    gpu_count: int = 1
    cpu_attention_bytes_per_s: float | None = None

    @property
    def gpu_block_tokens(self) -> int:
        """Tokens in a KV block of the GPU tier."""
        return GPU_BLOCK_TOKENS

    @property
    def cpu_block_tokens(self) -> int:
        """Tokens in a KV block of the CPU tier."""
        return CPU_BLOCK_TOKENS

    @property
    def price_usd_per_hour(self) -> float | None:
        """What the host costs with its GPU; None where nobody rents it out."""
        price = self.host.price_usd_per_hour
        return None if price is None else price.value

    def costs(self) -> ProfileCosts:
        """The cost model; each call builds one with empty caches."""
        gpu = gpu_ops(self.gpu, self.model, self.weight_dtype, self.kv_dtype)
        return ProfileCosts(gpu, self.host_ops(), self.host)

    def host_ops(self) -> HostOps:
        """Seconds of CPU attention and PCIe transfers."""
        ops = host_ops(
            self.gpu, self.host, self.cpu_kernel, self.model, self.cpu_kv_dtype, self.cpu_threads
        )
        rate = self.cpu_attention_bytes_per_s
        return ops if rate is None else at_stated_rate(ops, rate)

    def capacity(
        self,
        is_hybrid: bool,
        max_batched_tokens: int,
        max_running_rows: int,
        max_deferred_rows: int = 0,
        max_prompt_tokens: int = 0,
    ) -> KvCapacity:
        """KV tokens per tier under these limits; InputError when the model does not fit."""
        demand = KvDemand(
            max_batched_tokens=max_batched_tokens,
            max_running_rows=max_running_rows,
            is_hybrid=is_hybrid,
            max_deferred_rows=max_deferred_rows,
            max_prompt_tokens=max_prompt_tokens,
        )
        return kv_capacity(
            self.gpu,
            self.host,
            self.model,
            demand,
            weight_dtype=self.weight_dtype,
            kv_dtype=self.kv_dtype,
            cpu_kv_dtype=self.cpu_kv_dtype,
            gpu_memory_utilization=self.gpu_memory_utilization,
            gpu_kv_tokens=self.gpu_kv_tokens,
        )

    def constants(self) -> tuple[DeviceConstant, ...]:
        """Every device constant that the costs and the capacity rest on."""
        return (*self.gpu.constants(), *self.host.constants(), *self.cpu_kernel.constants())


def deploy(
    gpu: str = "t4",
    host: str | None = None,
    model: str = "llama-2-7b",
    weights: str = "fp16",
    kv_dtype: str = "fp16",
    cpu_kv_dtype: str | None = None,
    cpu_kernel: str | None = None,
    cpu_threads: int | None = None,
    gpu_memory_utilization: float = DEFAULT_GPU_MEMORY_UTILIZATION,
    gpu_kv_tokens: int | None = None,
) -> Deployment:
    """Resolve names to profiles and check the choices; UsageError or InputError in one sentence.

    Without `cpu_kernel`: `measured` on a host whose profile has it, else DEFAULT_CPU_KERNEL.
    """
    gpu_profile = load_gpu(gpu)
    host_profile = load_host(host if host is not None else default_host(gpu_profile))
    if weights not in WEIGHT_DTYPES:
        raise unknown_name("weight dtype", weights, WEIGHT_DTYPES)
    if not 0 < gpu_memory_utilization <= 1:
        raise UsageError(
            f"GPU memory utilization is {gpu_memory_utilization:g}; expected above 0, at most 1"
        )
    _check_gpu_kv_dtype(kv_dtype, gpu_profile)
    cpu_kv = cpu_kv_dtype or kv_dtype
    model_shape, threads = shape(model), _threads(cpu_threads, host_profile)
    return Deployment(
        gpu=gpu_profile,
        host=host_profile,
        model=model_shape,
        cpu_kernel=_kernel(cpu_kernel, host_profile, model_shape, cpu_kv, threads),
        cpu_threads=threads,
        weight_dtype=weights,
        kv_dtype=kv_dtype,
        cpu_kv_dtype=cpu_kv,
        gpu_memory_utilization=gpu_memory_utilization,
        gpu_kv_tokens=None if gpu_kv_tokens is None else whole_blocks(gpu_kv_tokens),
    )


def believed_on(deployment: Deployment, host: str) -> Deployment:
    """The same on another host, with its default threads: what a policy may take a host for.

    A measured kernel belongs to its host: the other host's own takes its place, or what is assumed
    of the same kernel there.
    """
    other = load_host(host)
    threads, kernel = other.default_threads, deployment.cpu_kernel
    if kernel.name == MEASURED:
        name = MEASURED if other.attention is not None else _OWN_CPU_KERNEL
        kernel = _kernel(name, other, deployment.model, deployment.cpu_kv_dtype, threads)
    return replace(deployment, host=other, cpu_kernel=kernel, cpu_threads=threads)


def _kernel(
    name: str | None, host: HostProfile, model: ModelShape, kv_dtype: str, threads: int
) -> CpuKernel:
    """By name; the default is `measured` where the host's profile has it."""
    if kv_dtype not in KV_DTYPES:
        raise unknown_name("CPU KV dtype", kv_dtype, KV_DTYPES)
    chosen = name or (DEFAULT_CPU_KERNEL if host.attention is None else MEASURED)
    if chosen == MEASURED:
        return measured_kernel(host, model, kv_dtype, threads)
    kernel = load_cpu_kernel(chosen)
    if kv_dtype == "int8" and not kernel.supports_int8:
        raise UsageError(f"CPU kernel '{kernel.name}' has no int8 KV; use apexbench or 16-bit KV")
    return kernel


def _threads(cpu_threads: int | None, host: HostProfile) -> int:
    if cpu_threads is None:
        return host.default_threads
    cores = int(host.cores.value)
    if not 1 <= cpu_threads <= cores:
        raise UsageError(f"{cpu_threads} CPU threads on {host.name}; expected 1 to {cores}")
    return cpu_threads


def _check_gpu_kv_dtype(dtype: str, gpu: GpuProfile) -> None:
    if dtype not in GPU_KV_DTYPES:
        raise unknown_name("GPU KV dtype", dtype, GPU_KV_DTYPES)
    if dtype == "bf16" and not gpu.supports_bf16:
        raise UsageError(f"{gpu.name} has no bf16; use fp16 for its KV cache")
