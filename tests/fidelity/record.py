"""One emulated run, recorded: every plan, every CPU job, everything the policy was asked."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apexbench.engine.clock import WallClock
from apexbench.engine.executors.emulated.lateness import Lateness
from apexbench.engine.executors.emulated.opening import open_emulated
from apexbench.engine.executors.profiling.quiet import CpuWatch
from apexbench.engine.plan import StepPlan, StepResult
from apexbench.engine.policies.registry import find_policy
from apexbench.engine.running import RunSpec, run
from apexbench.engine.scheduler import Scheduler
from apexbench.records import RequestStatus, RunLog
from tests.fidelity.cases import CPU_THREADS, SEED, Case
from tests.fidelity.choices import Asked, Listening

ReadLimit = Callable[[], float]  # GB/s of one core, now


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run achieved: tokens per second from first to last, and the median request's TPOT."""

    tokens_per_s: float
    tpot_s: float


@dataclass(slots=True)
class Recorded:
    """An emulated run. `jobs` and `facts` have the fields of CpuJob and StepFact; `limits_gbps` is
    the memory's read limit before and after; `disturbance` what else used the machine, if anything.
    """

    case: Case
    policy: str
    spec: RunSpec
    log: RunLog
    plans: list[StepPlan]
    results: list[StepResult]
    asked: list[Asked]
    jobs: NDArray[np.void]
    facts: NDArray[np.void]
    lateness: Lateness
    limits_gbps: tuple[float, float]
    disturbance: str | None = None

    @property
    def outcome(self) -> Outcome:
        """As the engine's clock saw it."""
        return outcome_of(self.log)

    @property
    def failed(self) -> int:
        """Requests that were not served."""
        return sum(r.status is not RequestStatus.COMPLETED for r in self.log.requests)


@dataclass(slots=True)
class _Steps:
    plans: list[StepPlan] = field(default_factory=list)
    results: list[StepResult] = field(default_factory=list)

    def on_step(self, plan: StepPlan, result: StepResult, _: Scheduler) -> None:
        self.plans.append(plan)
        self.results.append(result)


def record(case: Case, policy: str, host: str, read_limit: ReadLimit) -> Recorded:
    """Run `case` under `policy` on the emulated backend."""
    uses_cpu = find_policy(policy).uses_cpu
    spec = spec_of(case, policy, host)
    deployment, clock = case.deployment(host), WallClock()
    steps, listening = _Steps(), Listening()

    def scheduler(*, policy: Any, **rest: Any) -> Scheduler:
        return Scheduler(policy=listening.to(policy), **rest)

    limit = read_limit()
    with open_emulated(
        *(deployment.costs(), deployment.model, clock),
        host_kv_tokens=case.host_kv_tokens if uses_cpu else 0,
        cpu_threads=CPU_THREADS,
        seed=SEED,
    ) as executor:
        watch = CpuWatch()
        log = run(
            *(spec, executor, clock, deployment.model.num_layers),
            observers=(steps.on_step,),
            scheduler_type=scheduler,
        )
        disturbance = watch.quietness().reason
    return Recorded(
        *(case, policy, spec, log, steps.plans, steps.results, listening.asked),
        *(executor.cpu_jobs, executor.step_facts, executor.lateness, (limit, read_limit())),
        disturbance,
    )


def spec_of(case: Case, policy: str, host: str) -> RunSpec:
    """What is run, on whatever executor: the policy believes in this host's profile."""
    return RunSpec(
        workload=case.workload(),
        policy=policy,
        belief=case.deployment(host).costs(),
        pools=case.pools(uses_cpu=find_policy(policy).uses_cpu),
    )


def outcome_of(log: RunLog) -> Outcome:
    """From the records of the requests that were served."""
    served = [r for r in log.requests if r.status is RequestStatus.COMPLETED]
    spans = [
        (r.end_ns - r.first_token_ns) / (r.output_tokens - 1)
        for r in served
        if r.output_tokens > 1 and r.end_ns is not None and r.first_token_ns is not None
    ]
    last = max(r.end_ns or 0 for r in served)
    tokens = sum(r.output_tokens for r in served)
    return Outcome(tokens / (last * 1e-9), float(np.median(spans)) * 1e-9)
