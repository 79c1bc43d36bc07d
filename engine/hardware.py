"""Device profiles: what is known of a GPU, a host or a CPU kernel. Loads and checks; no measuring.

A profile is a TOML file of constants, each `{ value, unit, kind, sigma, source }`. Its `variants`
are named versions of the same device that override some constants: the power states of a GPU, the
sizes of a cloud instance family.
"""

from dataclasses import MISSING, dataclass, fields, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, TypeVar, get_type_hints

from apexbench.engine.attention_curve import AttentionCurve
from apexbench.engine.measured_attention import MeasuredAttention, parse_attention
from apexbench.engine.profile_files import Constant, ProfileTable, Unit, read_tables, user_table
from apexbench.errors import UsageError, unknown_name
from apexbench.result import DeviceConstant

_ROLE_NAMES = {"gpu": "gpu", "host": "host", "kernel": "CPU kernel"}

Rate = Annotated[Constant, Unit("GB/s")]
Fraction = Annotated[Constant, Unit("1", most=1.0)]
Micros = Annotated[Constant, Unit("us", is_zero_allowed=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What all device profiles share."""

    name: str
    title: str

    def constants(self) -> tuple[DeviceConstant, ...]:
        """Every constant with its provenance, in the order of the class, for the report."""
        return tuple(
            DeviceConstant(
                device=self.name,
                name=spec.name,
                value=constant.value,
                unit=constant.unit,
                source=constant.source,
                kind=constant.kind,
                sigma=constant.sigma,
            )
            for spec in fields(self)
            if isinstance(constant := getattr(self, spec.name), Constant)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuProfile(Profile):
    """A GPU. Compute is dense fp16 with fp32 accumulation; efficiencies are shares of a peak.

    `gemm_latency_us` is paid by each matrix product, `kernel_latency_us` by each small kernel,
    `pcie_latency_us` by each hand-over of a small transfer including its synchronisation, and
    `pcie_piece_us` by each further piece of a bulk copy.
    """

    architecture: str
    supports_bf16: bool
    default_host: str = ""
    num_sms: Annotated[Constant, Unit("SM")]
    peak_tflops: Annotated[Constant, Unit("TFLOP/s")]
    dram_gb_per_s: Rate
    memory_gib: Annotated[Constant, Unit("GiB")]
    context_gib: Annotated[Constant, Unit("GiB", is_zero_allowed=True)]
    gemm_compute_efficiency: Fraction
    gemm_memory_efficiency: Fraction
    gemm_latency_us: Micros
    int8_compute_efficiency: Fraction
    int8_memory_efficiency: Fraction
    int4_compute_efficiency: Fraction
    int4_memory_efficiency: Fraction
    decode_attention_efficiency: Fraction
    decode_attention_latency_us: Micros
    prefill_attention_efficiency: Fraction
    prefill_attention_half_tokens: Annotated[Constant, Unit("tokens", is_zero_allowed=True)]
    elementwise_efficiency: Fraction
    kernel_latency_us: Micros
    pcie_h2d_gb_per_s: Rate
    pcie_d2h_gb_per_s: Rate
    pcie_latency_us: Micros
    pcie_piece_us: Micros


@dataclass(frozen=True, slots=True, kw_only=True)
class HostProfile(Profile):
    """A host: its memory system, how fast it launches GPU work, and what it costs.

    `eager_*` and `captured_*` are the engine's host time per step, per row and per layer without
    and with captured graphs. The price includes the GPU where the host is a cloud instance.
    `attention` is what `apexbench profile` measured of this project's CPU kernels there.
    """

    cores: Annotated[Constant, Unit("cores")]
    memory_gib: Annotated[Constant, Unit("GiB")]
    dram_peak_gb_per_s: Rate
    dram_sustained_fraction: Fraction
    core_gb_per_s: Rate
    eager_step_us: Micros
    eager_row_us: Micros
    eager_layer_us: Micros
    captured_step_us: Micros
    captured_row_us: Micros
    captured_layer_us: Micros
    paper_kernel_gb_per_s: Annotated[Constant | None, Unit("GB/s")] = None
    price_usd_per_hour: Annotated[Constant | None, Unit("USD/h")] = None
    attention: MeasuredAttention | None = None

    @property
    def default_threads(self) -> int:
        """All cores but one, which is left to the engine; no more than were measured."""
        threads = max(1, int(self.cores.value) - 1)
        return threads if self.attention is None else min(threads, self.attention.most_threads)

    def dram_bytes_per_s(self, threads: int) -> float:
        """Sustained read bandwidth of `threads` cores: min(n·bw_core, bw_socket)."""
        socket = self.dram_peak_gb_per_s.value * self.dram_sustained_fraction.value
        return min(threads * self.core_gb_per_s.value, socket) * 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuKernel(Profile):
    """A CPU decode-attention kernel.

    Either `*_efficiency`, shares of the host's sustained bandwidth with one query head per KV head
    (mha) or several (gqa), or `core_gb_per_s`, a rate per core that knows no memory limit of its
    own. `row_us` is work per row on one core, `dispatch_us` starts a job and joins it.
    """

    supports_int8: bool
    mha_efficiency: Annotated[Constant | None, Unit("1", most=1.0)] = None
    gqa_efficiency: Annotated[Constant | None, Unit("1", most=1.0)] = None
    mha_int8_efficiency: Annotated[Constant | None, Unit("1", most=1.0)] = None
    gqa_int8_efficiency: Annotated[Constant | None, Unit("1", most=1.0)] = None
    core_gb_per_s: Annotated[Constant | None, Unit("GB/s")] = None
    row_us: Micros
    dispatch_us: Micros

    def bytes_per_s(self, host: HostProfile, threads: int, *, is_gqa: bool, dtype: str) -> float:
        """KV bytes the kernel reads per second with `threads` threads on `host`.

        A rate reported for a whole host belongs to that host's default number of threads.
        """
        limit = host.dram_bytes_per_s(threads)
        share = threads / host.default_threads
        if self.name == "paper" and host.paper_kernel_gb_per_s is not None:
            return min(host.paper_kernel_gb_per_s.value * min(1.0, share) * 1e9, limit)
        if self.core_gb_per_s is not None:
            return min(self.core_gb_per_s.value * threads * 1e9, limit)
        name = f"{'gqa' if is_gqa else 'mha'}{'_int8' if dtype == 'int8' else ''}_efficiency"
        efficiency = getattr(self, name)
        if efficiency is None:
            raise UsageError(f"CPU kernel '{self.name}' has no {name}: use another kernel or dtype")
        return float(efficiency.value) * limit

    def row_curve(self, threads: int, bytes_per_token: int) -> AttentionCurve | None:  # noqa: ARG002 - for kernels that have one
        """Seconds per row by its length, where the kernel knows more than a rate and `row_us`."""
        return None


AnyProfile = TypeVar("AnyProfile", GpuProfile, HostProfile, CpuKernel)


def load_gpu(name_or_path: str) -> GpuProfile:
    """A GPU by name ("t4", or "t4:burst" for a variant) or from a profile file of your own."""
    return _construct(GpuProfile, _table("gpu", name_or_path))


def load_host(name_or_path: str) -> HostProfile:
    """A host by name ("xeon-6130x2", "g4dn.4xlarge") or from a profile file of your own."""
    table = _table("host", name_or_path)
    host = _construct(HostProfile, table)
    if table.attention is None:
        return host
    return replace(host, attention=parse_attention(host.name, table.path, table.attention))


def load_cpu_kernel(name_or_path: str) -> CpuKernel:
    """A CPU attention kernel by name ("paper", "ispc", "apexbench") or from a profile file."""
    return _construct(CpuKernel, _table("kernel", name_or_path))


def list_gpus() -> tuple[GpuProfile, ...]:
    """All built-in GPUs, variants included, sorted by name."""
    return tuple(load_gpu(name) for name in _built_in("gpu"))


def list_hosts() -> tuple[HostProfile, ...]:
    """All built-in hosts, by family and size."""
    return tuple(load_host(name) for name in _built_in("host"))


def list_cpu_kernels() -> tuple[CpuKernel, ...]:
    """All built-in CPU attention kernels, sorted by name."""
    return tuple(load_cpu_kernel(name) for name in _built_in("kernel"))


def default_host(gpu: GpuProfile) -> str:
    """Name of the host that `gpu` pairs with; a UsageError where there is no natural one."""
    if not gpu.default_host:
        hosts = ", ".join(_built_in("host"))
        raise UsageError(f"gpu '{gpu.name}' has no default host; name one with --host: {hosts}")
    return gpu.default_host


def _table(role: str, name_or_path: str) -> ProfileTable:
    built_in = _built_in(role)
    if name_or_path in built_in:
        return built_in[name_or_path]
    if ".toml" not in name_or_path:
        raise unknown_name(_ROLE_NAMES[role], name_or_path, built_in)
    return user_table(role, name_or_path)


@cache
def _built_in(role: str) -> dict[str, ProfileTable]:
    """Names of all built-in profiles of a role, each with its raw table."""
    folder = resources.files("apexbench.engine.profiles")
    files = sorted(folder.iterdir(), key=lambda file: file.name)
    tables: dict[str, ProfileTable] = {}
    for file in files:
        if file.name.startswith(f"{role}-") and file.name.endswith(".toml"):
            tables |= read_tables(role, file, Path(file.name))
    return tables


def _construct(cls: type[AnyProfile], table: ProfileTable) -> AnyProfile:
    hints = get_type_hints(cls, include_extras=True)
    required = {spec.name for spec in fields(cls) if spec.default is MISSING}
    profile: AnyProfile = cls(**table.values(hints, required))
    return profile
