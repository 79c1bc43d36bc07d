"""What planning a step takes on the host, measured; what the planner charges for it, compared."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from apexbench.engine.deployment import deploy
from apexbench.engine.plan import PrefillChunk, StepPlan
from apexbench.engine.policies.base import Candidates, Finished, PolicyContext, Targets, Traffic
from apexbench.engine.policies.planner import Planner
from apexbench.engine.scheduler import Scheduler
from apexbench.engine.sequence import Tier
from apexbench.engine.simulate import simulate
from apexbench.engine.thresholds import Thresholds
from apexbench.records import NS_PER_S
from tests.benchmarks.test_simulator_speed import spec_for, workload

GPU_ROWS, ALL_ROWS = 6, 256
NUM_DECISIONS = 1000


@dataclass(frozen=True, slots=True)
class Row:
    id: int
    computed: int
    generated: int
    first_token_ns: int


def steps(cpu_rows: int) -> list[tuple[Traffic, Candidates]]:
    """Busy steps, no two alike: a prompt on its way, a queue, requests that end."""
    rng = np.random.default_rng(0)
    found = []
    for index in range(NUM_DECISIONS):
        contexts = rng.integers(200, 800, cpu_rows)
        rows = tuple(
            Row(number, int(context), 1 + number % 50, number * 10**6)
            for number, context in enumerate(contexts)
        )
        chunk = PrefillChunk(9000, int(rng.integers(1, 512)), 0, Tier.CPU, True)
        read = int(contexts.sum()) + cpu_rows
        now_ns = index * NS_PER_S // 10
        traffic = Traffic(
            *(now_ns, 100, 32 * 370, 370, NS_PER_S, NS_PER_S // 10, 500, 100, cpu_rows),
            (Finished(370, 40, 0, NS_PER_S),),
        )
        kv_tokens = 400 * GPU_ROWS + index % 50
        found.append((traffic, Candidates((chunk,), GPU_ROWS, kv_tokens, rows, read, 0, 0, 100)))
    return found


@pytest.mark.parametrize("rows", [32, ALL_ROWS])
def test_pace_and_plan_of_a_step(benchmark: BenchmarkFixture, rows: int) -> None:
    """CPU time, because others may be at work beside it; percentiles over single steps."""
    planner = Planner(PolicyContext(deploy().costs(), Thresholds(), Targets(5.0, 0.4)))
    asked = steps(rows - GPU_ROWS)
    taken_ns: list[int] = []
    charged_ns: list[int] = []

    def plan_all() -> None:
        for traffic, work in asked:
            begin = time.thread_time_ns()
            planner.limits(traffic)
            choice = planner.choose(work)
            taken_ns.append(time.thread_time_ns() - begin)
            charged_ns.append(choice.planning_ns)

    benchmark.pedantic(plan_all, rounds=3)
    decision = planner.decision()
    assert decision is not None
    assert len(decision.candidates) > 10
    benchmark.extra_info["p50_us"] = float(np.percentile(taken_ns, 50)) / 1e3
    benchmark.extra_info["p99_us"] = float(np.percentile(taken_ns, 99)) / 1e3
    benchmark.extra_info["charged_p50_us"] = float(np.percentile(charged_ns, 50)) / 1e3


class TimedScheduler(Scheduler):
    """Notes what each call takes, and with how many sequences in flight."""

    taken_ns: ClassVar[list[int]] = []

    def schedule(
        self,
        copied: Iterable[int] = (),
        joinable: frozenset[int] = frozenset(),
        now_ns: int = 0,
    ) -> StepPlan | None:
        begin = time.thread_time_ns()
        plan = super().schedule(copied, joinable, now_ns)
        if len(self.gpu_rows) + len(self.cpu_rows) > ALL_ROWS - GPU_ROWS:
            self.taken_ns.append(time.thread_time_ns() - begin)
        return plan


@pytest.mark.slow
def test_schedule_and_plan_of_whole_steps(benchmark: BenchmarkFixture) -> None:
    """All that the host does before a step, with 250 to 256 sequences in flight."""
    spec = replace(spec_for("planner", workload(600)), targets=Targets())
    TimedScheduler.taken_ns.clear()
    benchmark.pedantic(simulate, (spec,), {"scheduler_type": TimedScheduler}, rounds=2)
    taken_ns = TimedScheduler.taken_ns
    assert len(taken_ns) > 100
    benchmark.extra_info["p50_us"] = float(np.percentile(taken_ns, 50)) / 1e3
    benchmark.extra_info["p99_us"] = float(np.percentile(taken_ns, 99)) / 1e3
