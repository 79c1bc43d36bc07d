"""The planner's choices, its log, and what it makes of a whole run."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from apexbench.engine.decisions import MAX_DECISIONS
from apexbench.engine.deployment import deploy
from apexbench.engine.plan import StepPlan
from apexbench.engine.policies.base import Candidates, Choice, PolicyContext, Targets, Traffic
from apexbench.engine.policies.planner import Planner
from apexbench.engine.simulate import SimulationSpec, capacity_for, pools_of, simulate
from apexbench.engine.thresholds import Thresholds
from apexbench.records import Decision, Request, Workload

T4 = deploy()
QUIET = Traffic(0, 0, 0, 0, 0, 0, 0, 0, 0, ())


@dataclass(frozen=True, slots=True)
class Row:
    id: int
    computed: int
    generated: int = 1
    first_token_ns: int = 0


def planner(targets: Targets | None = None, **thresholds: Any) -> Planner:
    limits = replace(Thresholds(), **thresholds)
    return Planner(PolicyContext(T4.costs(), limits, targets or Targets()))


def work(rows: int = 40, **changes: Any) -> Candidates:
    free = tuple(Row(index, 400) for index in range(rows))
    at = Candidates((), 6, 2400, free, 401 * rows, 0, 0, 1000)
    return at._replace(**changes)


def decision(made: Planner, at: Candidates) -> Decision:
    made.choose(at)
    found = made.decision()
    assert found is not None
    return found


def test_every_candidate_is_in_the_log_and_gpu_only_is_one() -> None:
    found = decision(planner(), work())
    assert found.candidates[0].plan == "gpu_only"
    assert {"in_layer", "two_batch", "deferred", "fused"} <= {c.strategy for c in found.candidates}
    assert found.reason
    best = found.candidates[found.chosen]
    assert best.gain_tokens == max(c.gain_tokens for c in found.candidates)


def test_the_choice_is_the_plan_of_the_log() -> None:
    made = planner()
    choice = made.choose(work())
    found = made.decision()
    assert found is not None
    best = found.candidates[found.chosen]
    assert len(choice.in_layer_a) + len(choice.in_layer_b) == best.in_layer_rows
    assert len(choice.enter) == best.deferred_rows


def test_a_row_has_one_place() -> None:
    choice = planner().choose(work(7))
    placed = (*choice.in_layer_a, *choice.in_layer_b, *choice.enter)
    assert len(set(placed)) == len(placed)


def test_rows_are_deferred_only_where_they_keep_the_target() -> None:
    """A deferred row's token takes L + 1 steps of some 60 ms: two seconds on a T4."""
    strict, loose = planner(Targets(None, 0.4)), planner(Targets(None, 40.0))
    for made in (strict, loose):
        for _ in range(20):  # until the mean step is known
            made.choose(work(39))
            made.choose(work(40))
    assert all(c.deferred_rows == 0 for c in decision(strict, work()).candidates)
    assert any(c.deferred_rows > 0 for c in decision(loose, work()).candidates)


def test_a_target_that_nobody_keeps_leaves_the_gpu_alone() -> None:
    found = decision(planner(Targets(None, 0.001)), work())
    assert found.chosen == 0
    assert "no candidate keeps" in found.reason
    assert not any(c.is_within_targets for c in found.candidates)


@pytest.mark.parametrize(
    ("thresholds", "rows"),
    [({"min_cpu_rows": 20}, 19), ({"max_in_layer_rows": 0, "max_deferred_rows": 1}, 0)],
)
def test_thresholds_are_obeyed(thresholds: dict[str, Any], rows: int) -> None:
    choice = planner(**thresholds).choose(work(rows))
    assert choice == Choice(planning_ns=choice.planning_ns)


def test_in_layer_rows_are_limited() -> None:
    found = decision(planner(max_in_layer_rows=3), work())
    assert max(c.in_layer_rows for c in found.candidates) == 3


def test_a_margin_keeps_small_gains_out() -> None:
    free, fussy = planner(), planner(offload_gain_margin=0.3)
    one_row = work(1)
    for made in (free, fussy):
        made.choose(work(0))
    assert decision(free, one_row).chosen > 0
    found = decision(fussy, one_row)
    assert found.chosen == 0
    assert "offload_gain_margin" in found.reason


def test_the_same_mix_is_not_decided_again_for_a_while() -> None:
    made, at = planner(), work()
    first = made.choose(at)
    again = made.choose(at)
    assert made.decision() is None
    assert again._replace(planning_ns=0) == first._replace(planning_ns=0)
    assert 0 < again.planning_ns < first.planning_ns
    assert made.predicted_step_ns is not None
    for _ in range(8):
        made.choose(at)
    made.choose(work(41))
    assert made.decision() is not None


def test_without_gpu_work_cohorts_come_home() -> None:
    made = planner()
    choice = made.choose(work(5, num_gpu_rows=0, gpu_kv_tokens=0, num_cohorts=2, deferred_rows=8))
    assert choice.promotes_cohorts
    assert made.predicted_step_ns is None


def spec(policy: str, targets: Targets, num_requests: int = 150) -> SimulationSpec:
    rng = np.random.default_rng(0)
    lengths = zip(
        rng.integers(100, 600, num_requests), rng.integers(10, 80, num_requests), strict=True
    )
    requests = tuple(
        Request(index, 0, int(prompt), int(output))
        for index, (prompt, output) in enumerate(lengths)
    )
    thresholds, costs = Thresholds(), T4.costs()
    capacity = capacity_for(T4, policy, thresholds, 700)
    pools = pools_of(T4, capacity, uses_cpu=policy != "gpu-only")
    workload = Workload("mixed", requests, "", "synthetic")
    return SimulationSpec(
        workload=workload,
        policy=policy,
        belief=costs,
        truth=costs,
        pools=pools,
        thresholds=thresholds,
        targets=targets,
    )


def test_a_run_keeps_a_bounded_log_with_small_errors() -> None:
    log = simulate(spec("planner", Targets(None, 0.4)))
    assert 0 < len(log.decisions) <= MAX_DECISIONS
    steps = [record.step for record in log.decisions]
    assert steps == sorted(steps)
    assert log.prediction_error is not None
    assert log.prediction_error < 0.05


def test_other_policies_keep_no_log() -> None:
    log = simulate(spec("gpu-only", Targets(), 5))
    assert (log.decisions, log.prediction_error) == ((), None)


def test_planning_is_charged() -> None:
    seen: list[StepPlan] = []
    simulate(spec("planner", Targets(), 20), observers=(lambda plan, *_: seen.append(plan),))
    chosen = [plan for plan in seen if plan.was_chosen]
    assert chosen
    assert all(plan.planning_ns > 0 for plan in chosen if plan.batches[0].gpu_rows)


def test_the_target_limits_who_is_sent_to_the_host() -> None:
    """With the whole queue waiting, who is admitted waits for its tokens, not for its turn."""
    assert peak_on_host(0.3) < peak_on_host(None) / 2


def peak_on_host(tpot_s: float | None) -> int:
    on_host: list[int] = []
    simulate(
        spec("planner", Targets(None, tpot_s)),
        observers=(lambda _plan, _result, scheduler: on_host.append(len(scheduler.cpu_rows)),),
    )
    return max(on_host)


def test_a_row_that_nobody_serves_is_deferred_in_the_end() -> None:
    """Where L + 1 steps per token miss the target, and no step is worth its GPU time."""
    made = planner(Targets(None, 0.1), max_in_layer_rows=0)
    made.choose(work(0))  # so that it knows how long steps are
    entered = []
    for step in range(120):
        now_ns = step * 70_000_000
        made.limits(QUIET._replace(now_ns=now_ns))
        young = Row(0, 400, 1, now_ns)  # never late itself
        entered.append(bool(made.choose(work(1, cpu_rows=(young,))).enter))
    assert not any(entered[:50])
    assert any(entered[50:])


def test_a_belief_that_is_wrong_is_corrected() -> None:
    """The CPU of the truth is half as fast: predictions get better as the run goes on."""
    slow = replace(T4, cpu_attention_bytes_per_s=0.5 * 18e9)
    wrong = replace(spec("planner", Targets(None, 0.4)), truth=slow.costs())
    log = simulate(wrong)
    assert log.prediction_error is not None
    assert log.prediction_error < 0.1
    assert simulate(wrong).prediction_error == log.prediction_error
