"""One run of the engine: a policy serving a workload on any executor, by that executor's clock."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from apexbench.engine.blocks import BlockPool
from apexbench.engine.clock import Clock
from apexbench.engine.costs import CostModel
from apexbench.engine.decisions import DecisionKeeper
from apexbench.engine.engine import Engine, Progress, StepObserver
from apexbench.engine.executors.base import Executor, Meter
from apexbench.engine.feeder import Feeder
from apexbench.engine.policies.base import Explaining, Policy, PolicyContext, Targets
from apexbench.engine.policies.entry import PolicyEntry
from apexbench.engine.policies.registry import find_policy
from apexbench.engine.recorder import Recorder
from apexbench.engine.scheduler import Scheduler
from apexbench.engine.thresholds import Thresholds
from apexbench.engine.tiers import KvMemory, Pools
from apexbench.records import RunLog, Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """What a run consists of, on whatever executor. `belief` is what the policy decides with."""

    workload: Workload
    policy: str
    belief: CostModel
    pools: Pools
    thresholds: Thresholds = field(default_factory=Thresholds)
    stop_ns: int | None = None
    targets: Targets = field(default_factory=Targets)
    keeps_steps: bool = False  # stretches of consecutive steps, for a closer look


class MeteredExecutor(Executor, Meter, Protocol):
    """An executor that says what its lanes did."""


@runtime_checkable
class ReadsBlocks(Protocol):
    """An executor with real KV memory: it must know which blocks a sequence has."""

    def read_blocks(self, blocks_of: Callable[[int], Sequence[int]]) -> None:
        """`blocks_of(sequence)` is asked while a step is begun, never in between."""


def run(
    spec: RunSpec,
    executor: MeteredExecutor,
    clock: Clock,
    num_layers: int,
    *,
    on_progress: Progress | None = None,
    observers: tuple[StepObserver, ...] = (),
    scheduler_type: Callable[..., Scheduler] = Scheduler,
    should_stop: Callable[[], bool] | None = None,
) -> RunLog:
    """Run to the end, to `stop_ns` or until `should_stop`, and return the log."""
    entry = find_policy(spec.policy)
    policy = entry.make(PolicyContext(spec.belief, spec.thresholds, spec.targets))
    scheduler = _scheduler(spec, entry, policy, num_layers, scheduler_type)
    if isinstance(executor, ReadsBlocks):
        executor.read_blocks(lambda sequence: scheduler.sequences[sequence].blocks)
    recorder = Recorder(executor, keeps_steps=spec.keeps_steps)
    keeper = DecisionKeeper(policy) if isinstance(policy, Explaining) else None
    if keeper is not None:
        observers = (*observers, keeper.on_step)
    engine = Engine(
        scheduler=scheduler,
        executor=executor,
        clock=clock,
        feeder=Feeder(spec.workload),
        recorder=recorder,
        stop_ns=spec.stop_ns,
        on_progress=on_progress,
        observers=observers,
        should_stop=should_stop,
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


def _scheduler(
    spec: RunSpec,
    entry: PolicyEntry,
    policy: Policy,
    num_layers: int,
    scheduler_type: Callable[..., Scheduler],
) -> Scheduler:
    return scheduler_type(
        policy=policy,
        memory=_memory(spec, entry),
        thresholds=spec.thresholds,
        num_layers=num_layers,
        defers=entry.defers,
        keeps_kv_on_host=entry.keeps_kv_on_host,
    )


def _memory(spec: RunSpec, entry: PolicyEntry) -> KvMemory:
    pools = spec.pools
    gpu = BlockPool(pools.gpu_tokens // pools.gpu_block_tokens, pools.gpu_block_tokens)
    cpu = None
    if entry.uses_cpu and pools.cpu_tokens >= pools.cpu_block_tokens:
        cpu = BlockPool(pools.cpu_tokens // pools.cpu_block_tokens, pools.cpu_block_tokens)
    return KvMemory(gpu, cpu, spec.thresholds.gpu_kv_watermark)
