"""Which runs keep a stretch of consecutive steps, and that it is one."""

from dataclasses import replace
from typing import Any

from apexbench.compare.cells import run_cell
from apexbench.compare.matrix import BACKLOG, setting_cells
from apexbench.compare.run_details import MAX_DECISIONS, decision_log
from apexbench.compare.scenarios import scenarios
from apexbench.compare.variants import parse_variants
from apexbench.config import Rate, resolve
from apexbench.engine.stretches import STRETCH_STEPS
from apexbench.records import Decision, DecisionRecord, PlanForecast
from apexbench.result import Run


def run(rate: Rate, **changes: Any) -> Run:
    values = {"gpu": "t4", "policies": ["static:deferred"], "requests": 60}
    config = resolve(values, {}, None)
    [scenario] = scenarios(config, parse_variants(config.policies))
    part = setting_cells(scenario, rate, None, (0,), scenario.placements[1:], None)
    return run_cell(replace(part.cells[0], **changes)).run


def test_the_detailed_run_at_saturation_keeps_steps_from_its_window() -> None:
    found = run(BACKLOG)
    assert len(found.steps) == STRETCH_STEPS
    assert [step.step for step in found.steps] == list(
        range(found.steps[0].step, found.steps[0].step + STRETCH_STEPS)
    )
    for before, after in zip(found.steps, found.steps[1:], strict=False):
        assert before.start_s + before.step_s <= after.start_s + 1e-9
    window = found.window
    assert window.start_s <= found.steps[0].start_s <= window.end_s
    assert {step.strategy for step in found.steps} <= found.decisions.keys()


def test_other_runs_keep_none() -> None:
    assert run(BACKLOG, keeps_details=False).steps == ()
    assert run(Rate("2", rps=2.0)).steps == ()


def test_a_long_log_of_decisions_is_thinned_evenly() -> None:
    forecast = PlanForecast("p", "deferred", 8, 2, 3, 0.5, 90.0, 1.5, None, True)
    records = [
        DecisionRecord(step, 10 * step, Decision(0, "because", (forecast,)))
        for step in range(2 * MAX_DECISIONS + 1)
    ]
    short, long = decision_log(records[:MAX_DECISIONS]), decision_log(records)
    assert [decision.step for decision in short] == list(range(MAX_DECISIONS))
    assert [decision.step for decision in long] == list(range(0, 2 * MAX_DECISIONS + 1, 3))
    assert long[1].start_s == 30e-9
    [candidate] = long[0].candidates
    assert candidate.model_dump().items() <= forecast._asdict().items()
    assert decision_log(()) == ()
