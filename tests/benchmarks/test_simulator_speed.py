"""How fast the simulator is, measured; and what must stay bounded, counted. No absolute times."""

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from apexbench.engine.deployment import deploy
from apexbench.engine.executors.sim import SimulatedExecutor
from apexbench.engine.plan import StepPlan
from apexbench.engine.policies.registry import find_policy
from apexbench.engine.simulate import (
    SimulationSpec,
    capacity_for,
    pools_of,
    simulate,
    thresholds_for,
)
from apexbench.records import NS_PER_S, Request, Workload

POLICIES = (
    "gpu-only",
    "fastdecode",
    "planner",
    "static:deferred",
    "static:two_batch",
    "static:in_layer",
    "neo",
    "apex",
)
NUM_REQUESTS = 100
GIB = 2**30


def workload(num_requests: int, output_multiplier: int = 1) -> Workload:
    """Summaries of about 350 tokens in and 40 out, everything waiting at the start."""
    rng = np.random.default_rng(0)
    prompts = rng.lognormal(5.8, 0.4, num_requests).astype(int) + 1
    outputs = (rng.lognormal(3.6, 0.3, num_requests).astype(int) + 1) * output_multiplier
    requests = tuple(
        Request(index, 0, int(prompt), int(output))
        for index, (prompt, output) in enumerate(zip(prompts, outputs, strict=True))
    )
    return Workload("summaries", requests, "", "synthetic")


def spec_for(policy: str, work: Workload) -> SimulationSpec:
    """T4 and Llama-2-7B, the defaults."""
    deployment = deploy()
    thresholds = thresholds_for(policy, {})
    capacity = capacity_for(deployment, policy, thresholds, 4096)
    uses_cpu = find_policy(policy).uses_cpu
    pools = pools_of(deployment, capacity, uses_cpu=uses_cpu)
    costs = deployment.costs()
    return SimulationSpec(
        workload=work, policy=policy, belief=costs, truth=costs, pools=pools, thresholds=thresholds
    )


def plans_of(spec: SimulationSpec) -> list[tuple[StepPlan, int]]:
    """What a run asked its executor to do, and when."""
    plans: list[tuple[StepPlan, int]] = []
    simulate(spec, observers=(lambda plan, result, _: plans.append((plan, result.start_ns)),))
    return plans


def replay(spec: SimulationSpec, plans: list[tuple[StepPlan, int]]) -> SimulatedExecutor:
    executor = SimulatedExecutor(spec.truth)
    for request in spec.workload.requests:
        executor.admit(request)
    for plan, start_ns in plans:
        executor.idle_until(start_ns)
        executor.execute(plan, start_ns)
    return executor


@pytest.mark.slow
@pytest.mark.parametrize("output_multiplier", [1, 8], ids=["short", "long"])
@pytest.mark.parametrize("policy", POLICIES)
def test_whole_simulation(benchmark: BenchmarkFixture, policy: str, output_multiplier: int) -> None:
    spec = spec_for(policy, workload(NUM_REQUESTS, output_multiplier))
    log = benchmark.pedantic(simulate, (spec,), rounds=3, warmup_rounds=1)
    assert log.checkpoints[-1].completed == NUM_REQUESTS
    if benchmark.stats is not None:
        wall_s = benchmark.stats.stats.min
        benchmark.extra_info["simulated_s_per_s"] = log.end_ns / NS_PER_S / wall_s
        benchmark.extra_info["steps_per_s"] = log.num_steps / wall_s


@pytest.mark.slow
@pytest.mark.parametrize("policy", POLICIES)
def test_executor_alone(benchmark: BenchmarkFixture, policy: str) -> None:
    spec = spec_for(policy, workload(NUM_REQUESTS, 8))
    plans = plans_of(spec)
    executor = benchmark.pedantic(replay, (spec, plans), rounds=3, warmup_rounds=1)
    assert executor.machine.gpu.free > plans[-1][1]
    if benchmark.stats is not None:
        benchmark.extra_info["us_per_step"] = benchmark.stats.stats.min / len(plans) * 1e6


class OpCounter:
    """Counts the ops that a machine runs one by one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        original = SimulatedExecutor.__init__

        def init(executor: SimulatedExecutor, *args: object, **kwargs: object) -> None:
            original(executor, *args, **kwargs)  # type: ignore[arg-type]
            for lane in executor.machine.side.values():
                self._watch(lane.__class__, monkeypatch)

        monkeypatch.setattr(SimulatedExecutor, "__init__", init)

    def _watch(self, lane_class: type, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("run", "submit"):
            method = getattr(lane_class, name)
            if not hasattr(method, "is_counting"):
                monkeypatch.setattr(lane_class, name, self._counting(method))

    def _counting(self, method: Callable[..., object]) -> Callable[..., object]:
        def counted(*args: object) -> object:
            self.count += 1
            return method(*args)

        counted.is_counting = True  # type: ignore[attr-defined]
        return counted


# Per step at most: two layers of six side ops each until a period shows, the first, the last and
# the host's op; and three ops of each of eight cohorts, in a few steps per run also copies.
MAX_SIDE_OPS_PER_STEP = 64


@pytest.mark.parametrize("policy", POLICIES)
def test_ops_run_one_by_one_are_bounded_per_step(
    policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = OpCounter(monkeypatch)
    per_step = []
    for num_requests in (30, 60):
        counter.count = 0
        log = simulate(spec_for(policy, workload(num_requests, 4)))
        per_step.append(counter.count / log.num_steps)
    assert all(1 <= count <= MAX_SIDE_OPS_PER_STEP for count in per_step)
    assert per_step[1] <= 1.5 * per_step[0]


MEMORY_PROGRAM = """
from pathlib import Path
from apexbench.engine.deployment import deploy
from apexbench.engine.simulate import SimulationSpec, simulate
from apexbench.engine.tiers import Pools
from apexbench.records import Request, Workload

requests = tuple(Request(i, 0, 24, 3) for i in range(100_000))
costs = deploy().costs()
spec = SimulationSpec(
    workload=Workload("many", requests, "", ""),
    policy="gpu-only",
    belief=costs,
    truth=costs,
    pools=Pools(16_000, 0),
)
log = simulate(spec)
assert log.checkpoints[-1].completed == len(log.requests) == 100_000
# Not getrusage: that remembers the process which started this one.
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(int(status["VmHWM"].split()[0]) * 1024)
"""


@pytest.mark.slow
def test_a_hundred_thousand_requests_stay_under_two_gib() -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEMORY_PROGRAM], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 2 * GIB
