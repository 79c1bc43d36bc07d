"""Hardware, model and traffic of a comparison, with what each variant makes of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from apexbench.compare.machines.emulated import emulated_capacity, emulated_deployment
from apexbench.compare.machines.hardware import Hardware
from apexbench.compare.machines.memory import available_bytes, whole_host_blocks
from apexbench.compare.machines.real_model import CpuMachine, cpu_machine
from apexbench.compare.variants import BASELINE, VariantSpec
from apexbench.config import CompareConfig
from apexbench.engine.capacity import KvCapacity
from apexbench.engine.deployment import Deployment, believed_on, deploy
from apexbench.engine.simulate import capacity_for, thresholds_for
from apexbench.engine.thresholds import Thresholds
from apexbench.result import Slo
from apexbench.workloads.context import ContextLimit
from apexbench.workloads.presets import PRESETS
from apexbench.workloads.sources import Source, resolve

DEFAULT_GPU = "t4"
# The pairings of the literature: what people run on these cards.
DEFAULT_MODELS = {"t4": "llama-2-7b", "a10": "llama-3.1-8b"}
DEFAULT_MODEL = "llama-3.1-8b"
DEFAULT_WORKLOAD = "osc"
DEFAULT_KV_DTYPE = "fp16"
# (gpu, workload): starved and long-output on the small card, real chat on the larger one.
DEFAULT_SCENARIOS = (("t4", "osc"), ("t4", "reasoning"), ("a10", "azure-conv"))

# Backlog runs must outlast the residence of deferred requests; open-loop runs must support a p90.
BACKLOG_REQUESTS = 2400
OPEN_REQUESTS = 160
# Long outputs: fewer, because each takes minutes of a small GPU's time.
LONG_BACKLOG_REQUESTS = 48
LONG_OPEN_REQUESTS = 12  # a median needs 11
# In real time a T4 serves about 90 tokens/s: a minute per run of chat, and two for long outputs.
REAL_TIME_REQUESTS = 100
LONG_REAL_TIME_REQUESTS = 12


@dataclass(frozen=True, slots=True)
class Placement:
    """A variant on a scenario's hardware."""

    variant: VariantSpec
    hardware: Hardware
    belief: Hardware  # what the policy takes it for; the hardware itself unless asked
    thresholds: Thresholds
    capacity: KvCapacity

    @property
    def deployment(self) -> Deployment:
        """The hardware where it is modelled."""
        return modelled(self.hardware)

    @property
    def max_request_tokens(self) -> int:
        """The longest request it can serve."""
        on_cpu = self.capacity.cpu_kv_tokens if self.variant.entry.uses_cpu else 0
        return max(self.capacity.gpu_kv_tokens, on_cpu)


def modelled(hardware: Hardware) -> Deployment:
    """What only modelled hardware has; nobody asks for it where a real machine runs."""
    assert isinstance(hardware, Deployment)
    return hardware


@dataclass(frozen=True, slots=True, eq=False)
class Scenario:
    """One question before a rate is chosen. Every variant serves the same requests."""

    id: str
    gpu: str  # as it was asked for
    source: Source
    slo: Slo
    max_context: ContextLimit
    placements: tuple[Placement, ...]
    backlog_requests: int
    open_requests: int | None

    @property
    def baseline(self) -> Placement:
        """gpu-only with the scenario's own weights."""
        return next(p for p in self.placements if p.variant.id == BASELINE)

    @property
    def served_tokens(self) -> int:
        """The longest request that every variant can serve: only those are compared."""
        return min(placement.max_request_tokens for placement in self.placements)


def scenarios(config: CompareConfig, variants: Sequence[VariantSpec]) -> tuple[Scenario, ...]:
    """The scenarios a configuration asks for; the default set when it names no hardware, model or
    traffic at all. UsageError or InputError in one sentence.
    """
    is_open = config.gpu is None and config.model is None and config.workload is None
    if is_open and not config.is_real_time:
        pairs: Sequence[tuple[str, str]] = DEFAULT_SCENARIOS
    else:
        pairs = ((config.gpu or DEFAULT_GPU, config.workload or DEFAULT_WORKLOAD),)
    return tuple(_scenario(config, variants, gpu, resolve(workload)) for gpu, workload in pairs)


def varied(scenario: Scenario, config: CompareConfig, variants: Sequence[VariantSpec]) -> Scenario:
    """The same question under another configuration; its traffic is not read again."""
    return _scenario(config, variants, scenario.gpu, scenario.source)


def longest_prompt(baseline: Deployment, thresholds: Thresholds, max_context: int) -> int:
    """Tokens of the longest prompt that will be served; hybrids stage it on the GPU. gpu-only's KV
    pool bounds it, because all variants serve the same requests.
    """
    alone = capacity_for(baseline, BASELINE, thresholds, 0).gpu_kv_tokens
    return min(max_context, alone)


def preset_values(workload: str) -> Mapping[str, object]:
    """Configuration that comes with a preset workload: its targets; nothing for other names."""
    preset = PRESETS.get(workload)
    return {} if preset is None else {"slo": _targets(preset.default_slo)}


def _targets(slo: Slo) -> dict[str, float]:
    values = slo.model_dump(exclude_none=True)
    return {name.removesuffix("_s"): value for name, value in values.items()}


def _scenario(
    config: CompareConfig, variants: Sequence[VariantSpec], gpu: str, source: Source
) -> Scenario:
    model = config.model or DEFAULT_MODELS.get(gpu.partition(":")[0], DEFAULT_MODEL)
    free_bytes = available_bytes() if config.is_real_time else 0
    hardware = _Hardware(config, gpu, model, free_bytes)
    machines = {variant.id: hardware.of(variant) for variant in variants}
    base = machines[BASELINE]
    limit = _context_limit(config, base)
    placements = _placements(hardware, variants, machines, limit.tokens)
    backlog_requests, open_requests = _request_counts(config, source)
    return Scenario(
        id=f"{base.gpu.name}/{base.model.name}/{source.name}",
        gpu=gpu,
        source=source,
        slo=_slo(source, config.slo),
        max_context=limit,
        placements=placements,
        backlog_requests=backlog_requests,
        open_requests=open_requests,
    )


def _request_counts(config: CompareConfig, source: Source) -> tuple[int, int | None]:
    """Requests of a backlog run and of an open-loop run; None = as many as the duration holds."""
    backlog, open_loop = BACKLOG_REQUESTS, OPEN_REQUESTS
    if source.is_long_output:
        backlog, open_loop = LONG_BACKLOG_REQUESTS, LONG_OPEN_REQUESTS
    if config.is_real_time:
        backlog = LONG_REAL_TIME_REQUESTS if source.is_long_output else REAL_TIME_REQUESTS
        open_loop = backlog
    if config.requests is not None:
        return config.requests, config.requests
    return backlog, None if config.duration is not None else open_loop


def _context_limit(config: CompareConfig, hardware: Hardware) -> ContextLimit:
    """What was asked for, but never beyond the positions the model knows."""
    longest = hardware.model.max_position
    if config.max_context is None:
        return ContextLimit(longest, "drop")
    asked = ContextLimit.parse(config.max_context)
    return ContextLimit(min(asked.tokens, longest), asked.mode)


@dataclass(frozen=True, slots=True)
class _Hardware:
    """What the variants of a scenario run on; the memory that is free is looked up once for all."""

    config: CompareConfig
    gpu: str
    model: str
    free_bytes: int

    def of(self, variant: VariantSpec) -> Hardware:
        config = self.config
        if config.backend == "cpu":
            return cpu_machine(config, variant.gpu_threads, self.free_bytes)
        if config.backend == "emulated":
            return emulated_deployment(config, self.gpu, self.model, variant.weights)
        return deploy(
            gpu=self.gpu,
            host=config.host,
            model=self.model,
            weights=variant.weights or config.weight_dtype,
            kv_dtype=config.kv_dtype or DEFAULT_KV_DTYPE,
            cpu_kv_dtype=config.cpu_kv_dtype,
            cpu_kernel=config.cpu_kernel,
            cpu_threads=config.cpu_threads,
            gpu_memory_utilization=config.gpu_memory_utilization,
            gpu_kv_tokens=config.gpu_kv_tokens,
        )

    def longest_prompt(self, baseline: Hardware, max_context: int) -> int:
        if isinstance(baseline, CpuMachine):
            return max_context
        thresholds = thresholds_for(BASELINE, self.config.thresholds)
        return longest_prompt(modelled(baseline), thresholds, max_context)

    def capacity(
        self, hardware: Hardware, policy: str, thresholds: Thresholds, longest: int
    ) -> KvCapacity:
        if isinstance(hardware, CpuMachine):
            return hardware.capacity
        asked = self.config.cpu_kv_tokens
        found = capacity_for(modelled(hardware), policy, thresholds, longest)
        if self.config.is_real_time:
            return emulated_capacity(found, modelled(hardware), asked, self.free_bytes)
        return found if asked is None else replace(found, cpu_kv_tokens=whole_host_blocks(asked))


def _placements(
    hardware: _Hardware,
    variants: Sequence[VariantSpec],
    machines: Mapping[str, Hardware],
    max_context: int,
) -> tuple[Placement, ...]:
    longest = hardware.longest_prompt(machines[BASELINE], max_context)
    placed = []
    for variant in variants:
        policy = variant.entry.name
        changes = {**hardware.config.thresholds, **variant.thresholds}
        thresholds = thresholds_for(policy, changes)
        machine = machines[variant.id]
        capacity = hardware.capacity(machine, policy, thresholds, longest)
        belief = machine
        if variant.belief is not None:
            belief = believed_on(modelled(machine), variant.belief)
        placed.append(Placement(variant, machine, belief, thresholds, capacity))
    return tuple(placed)


def _slo(source: Source, overrides: Mapping[str, float]) -> Slo:
    values = source.default_slo.model_dump() | {f"{k}_s": v for k, v in overrides.items()}
    return Slo(**values)
