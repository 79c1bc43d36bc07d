"""Tornado: one constant at a time, for the hybrid that the report calls the best."""

from typing import Any

import pytest

from apexbench.compare.comparison import Comparison
from apexbench.compare.pool import CellRunner
from apexbench.compare.scenarios import Scenario, preset_values, scenarios
from apexbench.compare.tornado import TornadoStudy, best_hybrid
from apexbench.compare.variants import parse_variants
from apexbench.config import resolve
from apexbench.engine.constants import constants_of
from apexbench.reports import case
from apexbench.reports.outcome import index

REQUESTS = 60
KERNEL = "host.paper_kernel_gb_per_s"


def only_scenario(**values: Any) -> Scenario:
    given = {"gpu": "t4", "workload": "osc", "requests": REQUESTS, "policies": ["apex"]}
    config = resolve(given | values, {}, None, preset_values)
    (found,) = scenarios(config, parse_variants(config.policies))
    return found


@pytest.fixture(scope="module")
def study() -> TornadoStudy:
    """A tornado of four constants that has run."""
    planned = TornadoStudy.plan(only_scenario(), "apex", seed=0)
    kept = ("gpu.memory_gib", KERNEL, "cpu_kernel.core_gb_per_s")
    bars = [bar for bar in planned.bars if bar.key in kept]
    cells = [*planned.batch.cells[:2]]
    for bar in bars:
        cells += planned.batch.cells[bar.first_cell : bar.first_cell + 4]
    moved = tuple(
        type(bar)(bar.key, bar.device, bar.constant, 2 + 4 * i) for i, bar in enumerate(bars)
    )
    small = TornadoStudy(planned.scenario, "apex", moved, {}, type(planned.batch)(cells))
    with CellRunner(1, lambda _: None) as runner:
        runner.run(small.batch)
    return small


def test_each_bar_moves_one_constant_and_no_belief() -> None:
    scenario = only_scenario()
    planned = TornadoStudy.plan(scenario, "apex", seed=0)
    cells, nominal = planned.batch.cells, constants_of(scenario.baseline.deployment)
    assert [c.placement.variant.id for c in cells[:4]] == ["gpu-only", "apex"] * 2
    assert constants_of(cells[0].placement.deployment) == nominal
    assert len(cells) == 2 + 4 * len(planned.bars)
    for bar in planned.bars:
        low, high = (cells[bar.first_cell + side].placement for side in (0, 2))
        for placement in (low, high):
            now = constants_of(placement.deployment)
            assert [key for key in now if now[key] != nominal[key]] == [bar.key]
            assert placement.belief == scenario.baseline.deployment
        assert constants_of(low.deployment)[bar.key].value < nominal[bar.key].value
        assert constants_of(high.deployment)[bar.key].value > nominal[bar.key].value


def test_efficiencies_of_weights_that_nobody_has_are_left_out() -> None:
    both = only_scenario(policies=["apex", "apex+int4"])
    keys = {bar.key for bar in TornadoStudy.plan(both, "apex", 0).bars}
    assert not any("int8" in key or "int4" in key for key in keys)
    keys = {bar.key for bar in TornadoStudy.plan(both, "apex+int4", 0).bars}
    assert "gpu.int4_memory_efficiency" in keys
    assert not any("int8" in key for key in keys)


def test_ends_are_ratios_to_the_baseline_on_the_same_devices(study: TornadoStudy) -> None:
    bars = {bar.constant: bar for bar in study.findings()}
    kernel, memory = bars["paper_kernel_gb_per_s"], bars["memory_gib"]
    assert kernel.low < kernel.nominal  # a slower kernel costs the hybrid only
    assert (kernel.device, kernel.kind, kernel.sigma) == ("xeon-6130x2", "anchored", 0.35)
    assert memory.low > memory.nominal > memory.high  # gpu-only gains more by memory
    idle = bars["core_gb_per_s"]  # this kernel has a rate for the whole host
    assert idle.low == idle.nominal == idle.high


def test_missing_runs_cost_their_bar_only(study: TornadoStudy) -> None:
    gone = study.batch.results.pop(study.bars[0].first_cell)
    try:
        assert len(study.findings()) == len(study.bars) - 1
        missing, unsteady = study.notes()
        assert "1 of 3 bars of the tornado are missing" in missing
        assert "of 13 runs of the tornado are not steady" in unsteady
        assert study.failures() == ()
        nominal = study.batch.results.pop(0)
        assert study.findings() == ()
        study.batch.results[0] = nominal
    finally:
        study.batch.results[study.bars[0].first_cell] = gone


def test_the_best_hybrid_is_the_reports() -> None:
    given = {"gpu": "t4", "workload": "osc", "requests": 100, "seeds": 2, "jobs": 1,
             "rate": ["inf"], "policies": ["neo", "apex", "static:two_batch"]}  # fmt: skip
    comparison = Comparison.prepare(resolve(given, {}, None, preset_values))
    comparison.run(lambda _: lambda _: None)
    result = comparison.document(wall_s=0)
    outcome = index(result)
    named = case.best_hybrid(outcome, outcome.scenarios[0])
    assert named is not None
    assert best_hybrid(comparison.scenarios[0], result.runs) == named.id
    assert best_hybrid(comparison.scenarios[0], result.runs[:2]) is None  # gpu-only alone
