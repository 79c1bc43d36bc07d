"""Hardware, model and traffic of a comparison, with what each variant makes of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from apexbench.compare.variants import BASELINE, VariantSpec
from apexbench.config import CompareConfig
from apexbench.engine.capacity import KvCapacity
from apexbench.engine.deployment import Deployment, deploy
from apexbench.engine.hardware import load_host
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
# (gpu, workload): starved and long-output on the small card, real chat on the larger one.
DEFAULT_SCENARIOS = (("t4", "osc"), ("t4", "reasoning"), ("a10", "azure-conv"))

# Backlog runs must outlast the residence of deferred requests; open-loop runs must support a p90.
BACKLOG_REQUESTS = 2400
OPEN_REQUESTS = 160
# Long outputs: fewer, because each takes minutes of a small GPU's time.
LONG_BACKLOG_REQUESTS = 48
LONG_OPEN_REQUESTS = 12  # a median needs 11


@dataclass(frozen=True, slots=True)
class Placement:
    """A variant on a scenario's hardware."""

    variant: VariantSpec
    deployment: Deployment
    belief: Deployment  # what the policy decides with; the deployment itself unless asked
    thresholds: Thresholds
    capacity: KvCapacity

    @property
    def max_request_tokens(self) -> int:
        """The longest request it can serve."""
        on_cpu = self.capacity.cpu_kv_tokens if self.variant.entry.uses_cpu else 0
        return max(self.capacity.gpu_kv_tokens, on_cpu)


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
    if config.gpu is None and config.model is None and config.workload is None:
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
    deployments = {variant.id: _deploy(config, variant, gpu, model) for variant in variants}
    base = deployments[BASELINE]
    limit = _context_limit(config, base)
    placements = _placements(config, variants, deployments, limit.tokens)
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
    if config.requests is not None:
        return config.requests, config.requests
    return backlog, None if config.duration is not None else open_loop


def _deploy(config: CompareConfig, variant: VariantSpec, gpu: str, model: str) -> Deployment:
    return deploy(
        gpu=gpu,
        host=config.host,
        model=model,
        weights=variant.weights or config.weights,
        cpu_kernel=config.cpu_kernel,
        cpu_threads=config.cpu_threads,
        gpu_memory_utilization=config.gpu_memory_utilization,
        gpu_kv_tokens=config.gpu_kv_tokens,
    )


def _context_limit(config: CompareConfig, deployment: Deployment) -> ContextLimit:
    """What was asked for, but never beyond the positions the model knows."""
    longest = deployment.model.max_position
    if config.max_context is None:
        return ContextLimit(longest, "drop")
    asked = ContextLimit.parse(config.max_context)
    return ContextLimit(min(asked.tokens, longest), asked.mode)


def _placements(
    config: CompareConfig,
    variants: Sequence[VariantSpec],
    deployments: Mapping[str, Deployment],
    max_context: int,
) -> tuple[Placement, ...]:
    base = thresholds_for(BASELINE, config.thresholds)
    longest = longest_prompt(deployments[BASELINE], base, max_context)
    placed = []
    for variant in variants:
        policy = variant.entry.name
        thresholds = thresholds_for(policy, {**config.thresholds, **variant.thresholds})
        deployment = deployments[variant.id]
        capacity = capacity_for(deployment, policy, thresholds, longest)
        belief = _believed(deployment, variant)
        placed.append(Placement(variant, deployment, belief, thresholds, capacity))
    return tuple(placed)


def _believed(deployment: Deployment, variant: VariantSpec) -> Deployment:
    """The deployment with the host that the policy takes it for."""
    if variant.belief is None:
        return deployment
    host = load_host(variant.belief)
    return replace(deployment, host=host, cpu_threads=host.default_threads)


def _slo(source: Source, overrides: Mapping[str, float]) -> Slo:
    values = source.default_slo.model_dump() | {f"{k}_s": v for k, v in overrides.items()}
    return Slo(**values)
