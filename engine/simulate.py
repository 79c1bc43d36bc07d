"""One run in virtual time: a policy on a deployment serving a workload."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from apexbench.engine.capacity import KvCapacity
from apexbench.engine.clock import VirtualClock
from apexbench.engine.costs import CostModel
from apexbench.engine.deployment import Deployment
from apexbench.engine.engine import Progress, StepObserver
from apexbench.engine.executors.sim import SimulatedExecutor
from apexbench.engine.policies.registry import find_policy
from apexbench.engine.running import RunSpec, run
from apexbench.engine.scheduler import Scheduler
from apexbench.engine.thresholds import Thresholds, with_overrides
from apexbench.engine.tiers import Pools
from apexbench.records import RunLog


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationSpec(RunSpec):
    """What a simulated run consists of. `belief` is what the policy decides with, `truth` what it
    costs.
    """

    truth: CostModel
    extrapolates: bool = True


def simulate(
    spec: SimulationSpec,
    *,
    on_progress: Progress | None = None,
    observers: tuple[StepObserver, ...] = (),
    scheduler_type: Callable[..., Scheduler] = Scheduler,
) -> RunLog:
    """Run to the end (or to `stop_ns`) and return the log. `scheduler_type` may check itself."""
    executor = SimulatedExecutor(spec.truth, extrapolates=spec.extrapolates)
    return run(
        spec,
        executor,
        VirtualClock(),
        spec.truth.num_layers,
        on_progress=on_progress,
        observers=observers,
        scheduler_type=scheduler_type,
    )


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
