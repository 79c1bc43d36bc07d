"""One run in virtual time: a policy on a deployment serving a workload."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from apexbench.engine.blocks import BlockPool
from apexbench.engine.capacity import KvCapacity
from apexbench.engine.clock import VirtualClock
from apexbench.engine.costs import CostModel
from apexbench.engine.decisions import DecisionKeeper
from apexbench.engine.deployment import Deployment
from apexbench.engine.engine import Engine, Progress, StepObserver
from apexbench.engine.executors.sim import SimulatedExecutor
from apexbench.engine.feeder import Feeder
from apexbench.engine.policies.base import Explaining, PolicyContext, Targets
from apexbench.engine.policies.entry import PolicyEntry
from apexbench.engine.policies.registry import find_policy
from apexbench.engine.recorder import Recorder
from apexbench.engine.scheduler import Scheduler
from apexbench.engine.thresholds import Thresholds, with_overrides
from apexbench.engine.tiers import KvMemory
from apexbench.records import RunLog, Workload


@dataclass(frozen=True, slots=True)
class Pools:
    """KV tokens per tier and how they are cut into blocks. `cpu_tokens` 0 = no host tier."""

    gpu_tokens: int
    cpu_tokens: int
    gpu_block_tokens: int = 16
    cpu_block_tokens: int = 64


@dataclass(frozen=True, slots=True)
class SimulationSpec:
    """What a run consists of. `belief` is what the policy decides with, `truth` what it costs."""

    workload: Workload
    policy: str
    belief: CostModel
    truth: CostModel
    pools: Pools
    thresholds: Thresholds = field(default_factory=Thresholds)
    stop_ns: int | None = None
    extrapolates: bool = True
    targets: Targets = field(default_factory=Targets)
    keeps_steps: bool = False  # stretches of consecutive steps, for a closer look


def simulate(
    spec: SimulationSpec,
    *,
    on_progress: Progress | None = None,
    observers: tuple[StepObserver, ...] = (),
    scheduler_type: Callable[..., Scheduler] = Scheduler,
) -> RunLog:
    """Run to the end (or to `stop_ns`) and return the log. `scheduler_type` may check itself."""
    entry = find_policy(spec.policy)
    policy = entry.make(PolicyContext(spec.belief, spec.thresholds, spec.targets))
    executor = SimulatedExecutor(spec.truth, extrapolates=spec.extrapolates)
    scheduler = scheduler_type(
        policy=policy,
        memory=_memory(spec, entry),
        thresholds=spec.thresholds,
        num_layers=spec.truth.num_layers,
        defers=entry.defers,
        keeps_kv_on_host=entry.keeps_kv_on_host,
    )
    recorder = Recorder(executor, keeps_steps=spec.keeps_steps)
    keeper = DecisionKeeper(policy) if isinstance(policy, Explaining) else None
    if keeper is not None:
        observers = (*observers, keeper.on_step)
    clock = VirtualClock()
    engine = Engine(
        scheduler=scheduler,
        executor=executor,
        clock=clock,
        feeder=Feeder(spec.workload),
        recorder=recorder,
        stop_ns=spec.stop_ns,
        on_progress=on_progress,
        observers=observers,
    )
    engine.run()
    return RunLog(
        requests=recorder.records(),
        checkpoints=recorder.checkpoints(),
        token_gaps=recorder.token_gaps(),
        timelines=executor.timelines,
        gpu_kv_tokens=scheduler.memory.gpu.num_tokens,
        cpu_kv_tokens=scheduler.memory.cpu.num_tokens if scheduler.memory.cpu else 0,
        num_steps=engine.num_steps,
        end_ns=clock.now_ns(),
        stretches=recorder.stretches(),
        decisions=keeper.records if keeper else (),
        prediction_error=keeper.prediction_error if keeper else None,
    )


def _memory(spec: SimulationSpec, entry: PolicyEntry) -> KvMemory:
    pools = spec.pools
    gpu = BlockPool(pools.gpu_tokens // pools.gpu_block_tokens, pools.gpu_block_tokens)
    cpu = None
    if entry.uses_cpu and pools.cpu_tokens >= pools.cpu_block_tokens:
        cpu = BlockPool(pools.cpu_tokens // pools.cpu_block_tokens, pools.cpu_block_tokens)
    return KvMemory(gpu, cpu, spec.thresholds.gpu_kv_watermark)


def thresholds_for(policy: str, overrides: Mapping[str, float | int | str]) -> Thresholds:
    """Defaults with overrides, checked; UsageError in one sentence."""
    find_policy(policy)
    return with_overrides(Thresholds(), overrides)


def capacity_for(
    deployment: Deployment, policy: str, thresholds: Thresholds, max_prompt_tokens: int
) -> KvCapacity:
    """KV tokens of both tiers as this policy needs them: hybrids pay for slots and staging."""
    entry = find_policy(policy)
    slots = (thresholds.max_deferred_rows or thresholds.max_running_rows) if entry.defers else 0
    return deployment.capacity(
        entry.uses_cpu,
        thresholds.max_batched_tokens,
        thresholds.max_running_rows,
        slots,
        max_prompt_tokens,
    )


def pools_of(deployment: Deployment, capacity: KvCapacity, *, uses_cpu: bool) -> Pools:
    """Block pools of a capacity."""
    return Pools(
        capacity.gpu_kv_tokens,
        capacity.cpu_kv_tokens if uses_cpu else 0,
        deployment.gpu_block_tokens,
        deployment.cpu_block_tokens,
    )
