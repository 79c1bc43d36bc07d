"""Draws of a comparison: paired, repeatable, and left out where they are incomplete."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from apexbench.compare.cells import Cell, CellResult
from apexbench.compare.comparison import Comparison
from apexbench.compare.draws import DrawStudy
from apexbench.compare.scenarios import Scenario, preset_values, scenarios
from apexbench.compare.variants import parse_variants
from apexbench.config import resolve
from apexbench.engine.constants import constants_of, with_constants
from apexbench.result import Run

MakeRun = Callable[..., Run]
POLICIES = ("gpu-only", "neo", "apex")
SETTING = "t4/llama-2-7b/fixed:30/5/inf"


def only_scenario(policies: tuple[str, ...] = POLICIES, **values: Any) -> Scenario:
    given = {"gpu": "t4", "workload": "fixed:30/5", "requests": 12, "policies": list(policies)}
    config = resolve(given | values, {}, None, preset_values)
    (found,) = scenarios(config, parse_variants(config.policies))
    return found


def truth(cell: Cell) -> dict[str, float]:
    constants = constants_of(cell.placement.deployment)
    return {key: constant.value for key, constant in constants.items()}


def ended(study: DrawStudy, make_run: MakeRun, rates: dict[str, list[float]]) -> DrawStudy:
    """The study with made-up output rates, by variant and draw; missing ones did not end."""
    cells = iter(enumerate(study.batch.cells))
    for name in study.variants:
        for rate in rates.get(name, []):
            index, cell = next(cells)
            assert cell.placement.variant.id == name
            run = make_run(SETTING, name, output_throughput_tok_s=rate)
            study.batch.results[index] = CellResult(run, {}, 1.0)
        for _ in range(study.num_draws - len(rates.get(name, []))):
            next(cells)
    return study


def test_a_draw_is_the_same_for_every_variant() -> None:
    study = DrawStudy.plan(only_scenario(), 3, seed=5)
    cells = study.batch.cells
    assert [c.placement.variant.id for c in cells] == [n for n in POLICIES for _ in range(3)]
    for draw in range(3):
        paired = cells[draw::3]
        assert len({tuple(truth(cell).items()) for cell in paired}) == 1
        assert len({cell.workload.sha256 for cell in paired}) == 1
        assert {cell.seed for cell in paired} == {5}
    assert len({tuple(truth(cell).items()) for cell in cells}) == 3


def test_belief_stays_with_the_profile_and_capacity_follows_the_truth() -> None:
    scenario = only_scenario()
    for cell in DrawStudy.plan(scenario, 3, seed=0).batch.cells:
        placement = cell.placement
        nominal = next(p for p in scenario.placements if p.variant == placement.variant)
        assert placement.belief == nominal.deployment != placement.deployment
        is_larger = truth(cell)["gpu.memory_gib"] > 15 and truth(cell)["gpu.context_gib"] < 0.15
        is_smaller = truth(cell)["gpu.memory_gib"] < 15 and truth(cell)["gpu.context_gib"] > 0.15
        change = placement.capacity.gpu_kv_tokens - nominal.capacity.gpu_kv_tokens
        assert not (is_larger and change < 0)
        assert not (is_smaller and change > 0)
        assert change != 0


def test_neither_other_draws_nor_other_policies_change_a_draw() -> None:
    one = DrawStudy.plan(only_scenario(("gpu-only", "apex")), 1, seed=0)
    many = DrawStudy.plan(only_scenario((*POLICIES, "gpu-only+int4")), 4, seed=0)
    assert truth(one.batch.cells[0]) == truth(many.batch.cells[0])
    other_seed = DrawStudy.plan(only_scenario(("gpu-only",)), 1, seed=1)
    other_scenario = DrawStudy.plan(only_scenario(workload="fixed:31/5"), 1, seed=0)
    for other in (other_seed, other_scenario):
        assert truth(other.batch.cells[0]) != truth(one.batch.cells[0])


def test_summary_is_paired_with_the_baseline(make_run: MakeRun) -> None:
    rates = {"gpu-only": [10.0, 20.0, 40.0], "neo": [11.0, 19.0, 80.0], "apex": [20.0, 40.0, 80.0]}
    found = ended(DrawStudy.plan(only_scenario(), 3, 0), make_run, rates).findings()
    base, neo, apex = (found[name] for name in POLICIES)
    assert (base.ratios, base.wins_fraction, base.median, base.n) == (None, None, 20.0, 3)
    assert neo.ratios == pytest.approx((1.1, 0.95, 2.0))
    assert neo.wins_fraction == pytest.approx(2 / 3)
    assert neo.ratio_median == pytest.approx(1.1)
    assert neo.ratio_band80 == pytest.approx((0.98, 1.82))
    assert neo.band80 == pytest.approx((12.6, 67.8))
    assert (apex.wins_fraction, apex.ratio_band80) == (1.0, (2.0, 2.0))


def test_incomplete_variants_have_no_draws_and_are_named(make_run: MakeRun) -> None:
    rates = {"gpu-only": [10.0, 20.0], "neo": [11.0, 21.0], "apex": [12.0]}
    study = ended(DrawStudy.plan(only_scenario(), 2, 0), make_run, rates)
    assert list(study.findings()) == ["gpu-only", "neo"]
    (note,) = study.notes()
    assert "no draws of apex: not all have ended" in note
    assert study.failures() == ()  # an interrupt, not a failure
    study.batch.failures[5] = "it broke"
    assert study.failures() == (f"{note}; it broke",)
    study.batch.num_lost = 1
    assert "1 of 6 runs are missing" in study.failures()[1]


def test_nothing_is_compared_without_the_baseline(make_run: MakeRun) -> None:
    study = ended(DrawStudy.plan(only_scenario(), 2, 0), make_run, {"neo": [1.0, 2.0]})
    assert study.findings() == {}
    (note,) = study.notes()
    assert "no draws of gpu-only, neo and apex" in note


def test_unequal_served_sets_leave_a_variant_out(make_run: MakeRun) -> None:
    rates = {name: [10.0, 20.0] for name in POLICIES}
    study = ended(DrawStudy.plan(only_scenario(), 2, 0), make_run, rates)
    odd = make_run(SETTING, "apex", served="others", output_throughput_tok_s=20.0)
    study.batch.results[5] = CellResult(odd, {}, 1.0)
    assert list(study.findings()) == ["gpu-only", "neo"]
    (note,) = study.notes()
    assert "no draws of apex: in some, they and the baseline did not complete the same" in note


def test_unsteady_draws_are_counted(make_run: MakeRun) -> None:
    rates = {name: [10.0, 20.0] for name in POLICIES}
    study = ended(DrawStudy.plan(only_scenario(), 2, 0), make_run, rates)
    study.batch.results[2] = CellResult(make_run(SETTING, "neo", reason="short"), {}, 1.0)
    (note,) = study.notes()
    assert "of 2 draws, not steady: neo in 1" in note


def uncertain_memory(scenario: Scenario, sigma: float) -> Scenario:
    """The scenario on a GPU whose memory is known badly."""

    def changed(placement: Any) -> Any:
        gpu = placement.deployment.gpu
        memory = dataclasses.replace(gpu.memory_gib, sigma=sigma)
        unsure = dataclasses.replace(gpu, memory_gib=memory)
        deployment = dataclasses.replace(placement.deployment, gpu=unsure)
        return dataclasses.replace(placement, hardware=deployment)

    placements = tuple(map(changed, scenario.placements))
    return dataclasses.replace(scenario, placements=placements)


def test_draws_in_which_the_model_does_not_fit_are_left_out_for_all(make_run: MakeRun) -> None:
    study = DrawStudy.plan(uncertain_memory(only_scenario(), 0.3), 12, seed=0)
    assert 0 < study.num_draws < 12
    assert len(study.batch.cells) == 3 * study.num_draws
    rates = {name: [10.0] * study.num_draws for name in POLICIES}
    (note,) = ended(study, make_run, rates).notes()
    assert f"{12 - study.num_draws} of 12 draws of the device constants are left out" in note
    assert "llama-2-7b in fp16 needs" in note


def test_no_draw_fits(make_run: MakeRun) -> None:
    tiny = only_scenario()
    memory = {"gpu.memory_gib": 9.0}
    placements = tuple(
        dataclasses.replace(p, hardware=with_constants(p.deployment, memory))
        for p in tiny.placements
    )
    study = DrawStudy.plan(dataclasses.replace(tiny, placements=placements), 2, seed=0)
    assert (study.num_draws, study.findings(), study.failures()) == (0, {}, ())
    (note,) = study.notes()
    assert "2 of 2 draws" in note
    run = make_run(SETTING, "apex")
    assert study.attached_to([run]) == (run,)


def finished(**options: Any) -> Comparison:
    given = {"gpu": "t4", "workload": "fixed:30/5", "requests": 12, "seeds": 2, "jobs": 1,
             "rate": ["2", "inf"], "policies": ["gpu-only", "apex"], "draws": 2}  # fmt: skip
    comparison = Comparison.prepare(resolve(given | options, {}, None, preset_values))
    comparison.run(lambda _: lambda _: None)
    return comparison


def test_only_the_first_seed_at_saturation_carries_draws() -> None:
    result = finished(seed=3).document(wall_s=0)
    carriers = [(r.setting, r.variant, r.seed) for r in result.runs if r.draws is not None]
    assert carriers == [(SETTING, "gpu-only", 3), (SETTING, "apex", 3)]
    assert any("2 draws support no 80 % band" in warning for warning in result.warnings)
    plain = finished(seed=3, draws=0).document(wall_s=0)
    assert [r.model_copy(update={"draws": None}) for r in result.runs] == list(plain.runs)


def test_a_policy_may_believe_another_host_in_every_draw() -> None:
    believer = "apex+belief=xeon-6342x2"
    result = finished(policies=["gpu-only", "apex", believer], seeds=1).document(wall_s=0)
    draws = {run.variant: run.draws for run in result.runs if run.draws is not None}
    assert set(draws) == {"gpu-only", "apex", believer}
    assert result.variants[2].overrides == {"belief": "xeon-6342x2"}
