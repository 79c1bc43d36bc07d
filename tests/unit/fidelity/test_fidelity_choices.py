"""Asking a policy again what it was asked."""

from typing import Any

import pytest

from apexbench.engine.costs import FlatCosts
from apexbench.engine.policies.base import (
    GPU_ONLY,
    Candidates,
    Choice,
    Limits,
    PolicyContext,
    Traffic,
)
from apexbench.engine.policies.entry import PolicyEntry
from apexbench.engine.policies.registry import list_policies
from apexbench.engine.scheduler import Scheduler
from apexbench.engine.simulate import SimulationSpec, simulate
from apexbench.engine.tiers import Pools
from apexbench.records import Request, RunLog, Workload
from tests.fidelity import choices
from tests.fidelity.choices import (
    Agreement,
    Asked,
    FrozenRow,
    Listening,
    ask_again,
    strategy_of,
)

COSTS = FlatCosts(
    num_layers=4,
    linear_s=1e-3,
    gpu_attention_s_per_token=1e-6,
    cpu_attention_s_per_token=2e-6,
    schedule_s=1e-4,
)
REQUESTS = tuple(Request(i, 0, 5 + 7 * i % 40, 3 + 5 * i % 20) for i in range(40))


SLOWER = FlatCosts(
    num_layers=4,
    linear_s=1.2e-3,
    gpu_attention_s_per_token=1e-6,
    cpu_attention_s_per_token=5e-6,
    schedule_s=1e-4,
)


def spec_of(policy: str) -> SimulationSpec:
    return SimulationSpec(
        workload=Workload("", REQUESTS, "", ""),
        policy=policy,
        belief=COSTS,
        pools=Pools(160, 1024, 8, 64),
        truth=SLOWER,
    )


def run_overheard(policy: str) -> tuple[RunLog, Listening]:
    listening = Listening()

    def scheduler(*, policy: Any, **rest: Any) -> Scheduler:
        return Scheduler(policy=listening.to(policy), **rest)

    return simulate(spec_of(policy), scheduler_type=scheduler), listening


@pytest.mark.parametrize("policy", [entry.name for entry in list_policies()])
def test_the_same_questions_get_the_same_answers(policy: str) -> None:
    _, listening = run_overheard(policy)
    agreement = ask_again(spec_of(policy), listening.asked, lambda time_ns: time_ns)
    assert agreement.num_choices > 10
    assert agreement.share == 1


class Hasty:
    """Defers once it is late."""

    name, uses_cpu = "hasty", True

    def __init__(self, _: PolicyContext) -> None:
        self._now_ns = 0

    def limits(self, traffic: Traffic) -> Limits:
        self._now_ns = traffic.now_ns
        return Limits(100, None)

    def choose(self, work: Candidates) -> Choice:
        is_late = self._now_ns - work.cpu_rows[0].first_token_ns > 100
        return Choice(enter=(1,)) if is_late else GPU_ONLY


def test_a_policy_that_is_told_other_times_may_choose_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entry = PolicyEntry("hasty", "", (), (), Hasty)
    monkeypatch.setattr(choices, "find_policy", lambda _: entry)
    work = Candidates((), 1, 5, (FrozenRow(1, 5, 1, 10),), 6, 0, 0, 0)
    traffic = Traffic(50, 0, 0, 0, 0, 0, 0, 0, 0, ())
    asked = []
    for now_ns in (50, 60, 70):
        asked.append(Asked(traffic=traffic._replace(now_ns=now_ns)))
        asked.append(Asked(work=work, choice=GPU_ONLY))
    assert ask_again(spec_of("planner"), asked, lambda time_ns: time_ns) == (3, 3)
    assert ask_again(spec_of("planner"), asked, lambda time_ns: 2 * time_ns) == (3, 2)


def test_overhearing_changes_nothing() -> None:
    plain = simulate(spec_of("planner"))
    heard, listening = run_overheard("planner")
    assert heard.requests == plain.requests
    assert any(isinstance(question.traffic, Traffic) for question in listening.asked)


def test_nothing_asked_is_nothing_missed() -> None:
    assert Agreement(0, 0).share == 1


@pytest.mark.parametrize(
    ("choice", "num_cohorts", "expected"),
    [
        (GPU_ONLY, 3, "gpu_only"),
        (Choice(), 3, "deferred"),
        (Choice(), 0, "gpu_only"),
        (Choice(enter=(1,)), 0, "deferred"),
        (Choice(in_layer_a=(1,)), 0, "in_layer"),
        (Choice(in_layer_a=(1,)), 2, "fused"),
        (Choice(in_layer_b=(1,)), 0, "two_batch"),
    ],
)
def test_the_strategy_of_a_choice(choice: Choice, num_cohorts: int, expected: str) -> None:
    work = Candidates((), 1, 5, (), 0, num_cohorts, 0, 0)
    assert strategy_of(work, choice) == expected
