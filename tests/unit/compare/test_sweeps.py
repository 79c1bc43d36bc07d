"""Sweeps: from the flag to points, the same requests at each, and what survives an interrupt."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apexbench.compare.cells import Cell, CellResult, run_cell
from apexbench.compare.command_line import command, config_document, config_from
from apexbench.compare.comparison import Comparison
from apexbench.compare.scenarios import modelled
from apexbench.compare.sweep_grids import PARAMETERS, in_words, parse_grid, parse_grids
from apexbench.compare.sweeps import SWEEP_REQUESTS, Sweeps
from apexbench.config import CompareConfig, resolve
from apexbench.errors import InputError, UsageError
from apexbench.records import Workload
from apexbench.result import Result


def config(**values: Any) -> CompareConfig:
    given = {"gpu": "t4", "policies": ["static:two_batch"], "requests": 40, "seeds": 1, "jobs": 1}
    return resolve({**given, "rate": ["inf"], **values}, {}, None)


def prepared(*sweep: str, **values: Any) -> Sweeps:
    return Comparison.prepare(config(sweep=list(sweep), **values)).sweeps


def document(*sweep: str, **values: Any) -> Result:
    comparison = Comparison.prepare(config(sweep=list(sweep), **values))
    comparison.run(lambda _: lambda _: None)
    return comparison.document(wall_s=0.0)


def ended(cell: Cell) -> CellResult:
    return run_cell(cell)


# Grids.


def test_a_grid_crosses_its_axes_last_one_fastest() -> None:
    grid = parse_grid("gpu_kv_tokens=864,2000/cpu_attention_gbps=12,25.5")
    assert grid.parameters == ("gpu_kv_tokens", "cpu_attention_gbps")
    assert [tuple(point.values()) for point in grid.points()] == [
        (864, 12.0), (864, 25.5), (2000, 12.0), (2000, 25.5),
    ]  # fmt: skip
    assert in_words(grid.points()[1]) == "gpu_kv_tokens=864, cpu_attention_gbps=25.5"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("gpu_kv_token=864", "unknown sweep key 'gpu_kv_token'; did you mean gpu_kv_tokens"),
        ("864,2000", "unknown sweep key '864,2000'; known: "),
        ("gpu_kv_tokens=", "sweep of gpu_kv_tokens has no values"),
        ("gpu_kv_tokens", "sweep of gpu_kv_tokens has no values"),
        ("gpu_kv_tokens=864,many", "value 'many' in the sweep of gpu_kv_tokens is not a positive"),
        ("gpu_kv_tokens=864.5", "'864.5' .* is not a positive whole number"),
        ("gpu_kv_tokens=-864", "'-864' .* is not a positive whole number"),
        ("cpu_attention_gbps=nan", "'nan' .* is not a positive number"),
        ("cpu_attention_gbps=inf", "'inf' .* is not a positive number"),
        ("gpu_kv_tokens=864,2000,864", "has the value 864 twice"),
        ("cpu_attention_gbps=12,12.0", "has the value 12 twice"),
        ("cpu_threads=1/cpu_threads=2", "crosses cpu_threads with itself"),
        ("cpu_threads=1/cpu_attention_gbps=2/output_scale=1", "crosses 3 parameters; at most 2"),
        ("gpu_kv_tokens=864/gpu_memory_utilization=0.9", "changes nothing while gpu_kv_tokens"),
    ],
)
def test_wrong_grids_get_one_sentence(text: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence) as error:
        parse_grids(config(sweep=[text]))
    assert "\n" not in str(error.value)


def test_memory_and_stated_capacity_do_not_go_together() -> None:
    with pytest.raises(UsageError, match="changes nothing"):
        parse_grids(config(sweep=["gpu_memory_utilization=0.9,0.95"], gpu_kv_tokens=2000))


def test_two_sweeps_of_the_same_are_refused() -> None:
    twice = ["gpu_kv_tokens=864", "gpu_kv_tokens=2000"]
    with pytest.raises(UsageError, match="give all values in one"):
        parse_grids(config(sweep=twice))


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=5, unique=True))
def test_values_are_kept_as_typed(values: list[int]) -> None:
    grid = parse_grid("gpu_kv_tokens=" + ",".join(map(str, values)))
    assert [point["gpu_kv_tokens"] for point in grid.points()] == values


# Before anything runs.


@pytest.mark.parametrize(
    ("sweep", "error", "sentence"),
    [
        ("gpu_kv_tokens=8", UsageError, "at least one block"),
        ("gpu_kv_tokens=16", InputError, "gpu_kv_tokens=16: every request .* longer than 16"),
        ("gpu_memory_utilization=0.2", InputError, "0.2: llama-2-7b in fp16 needs 12.9 GiB"),
        ("gpu_memory_utilization=1.5", UsageError, "at most 1"),
        ("cpu_threads=99", UsageError, "expected 1 to 32"),
        ("max_running_rows=4", UsageError, "from 8 to 1024"),
        ("output_scale=900", InputError, "output_scale=900"),
    ],
)
def test_a_point_that_cannot_run_is_found_before_any_does(
    sweep: str, error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=sentence) as found:
        prepared(sweep)
    assert sweep.partition("=")[0] in str(found.value)


def test_every_point_serves_the_same_requests() -> None:
    sweeps = prepared("gpu_kv_tokens=480,2000", seeds=2)
    cells = sweeps.batch.cells
    assert [(cell.placement.capacity.gpu_kv_tokens, cell.seed) for cell in cells] == [
        (480, 0), (480, 1), (480, 0), (480, 1), (2000, 0), (2000, 1), (2000, 0), (2000, 1),
    ]  # fmt: skip
    served: dict[int, set[str]] = {}
    for cell in cells:
        served.setdefault(cell.seed, set()).add(cell.workload.sha256)
    assert [len(digests) for digests in served.values()] == [1, 1]
    longest = max(request.total_tokens for cell in cells for request in cell.workload.requests)
    assert longest <= 480
    [note] = sweeps.notes()
    assert "leaves out" in note


def test_scaled_outputs_are_the_same_requests_with_other_lengths() -> None:
    def lengths(workload: Workload) -> list[tuple[int, int]]:
        return [(request.prompt_tokens, request.output_tokens) for request in workload.requests]

    plain, doubled = prepared("output_scale=1,2").batch.cells[::2]
    once, twice = lengths(plain.workload), lengths(doubled.workload)
    assert [(prompt, 2 * output) for prompt, output in once] == twice
    assert plain.workload.sha256 != doubled.workload.sha256


def test_a_stated_rate_is_what_every_policy_is_charged_and_believes() -> None:
    policies = ["apex", "apex+belief=xeon-6342x2"]
    sweeps = prepared("cpu_attention_gbps=100", policies=policies)
    base, apex, misled = (cell.placement for cell in sweeps.batch.cells)
    for placement in (base, apex, misled):
        assert placement.deployment.host_ops().kernel_bytes_per_s == 100e9
    assert apex.belief == apex.deployment
    assert misled.belief.host.name == "xeon-6342x2"
    assert modelled(misled.belief).host_ops().kernel_bytes_per_s != 100e9


def test_thresholds_and_threads_reach_the_placements() -> None:
    sweeps = prepared("max_running_rows=16/cpu_threads=4")
    placement = sweeps.batch.cells[-1].placement
    assert (placement.thresholds.max_running_rows, placement.deployment.cpu_threads) == (16, 4)


def test_long_backlogs_are_shortened_and_that_is_said() -> None:
    sweeps = prepared("gpu_kv_tokens=3008", requests=SWEEP_REQUESTS + 1)
    assert len(sweeps.batch.cells[0].workload.requests) <= SWEEP_REQUESTS
    assert f"{SWEEP_REQUESTS} requests per run instead of {SWEEP_REQUESTS + 1}" in next(
        sweeps.notes()
    )


def test_every_parameter_has_a_nominal_value_of_the_scenario() -> None:
    scenario = Comparison.prepare(config()).scenarios[0]
    nominal = {name: parameter.nominal(scenario) for name, parameter in PARAMETERS.items()}
    assert nominal["cpu_attention_gbps"] == pytest.approx(18.0)
    assert nominal["gpu_kv_tokens"] == scenario.baseline.capacity.gpu_kv_tokens
    assert (nominal["cpu_threads"], nominal["output_scale"]) == (31, 1.0)
    assert nominal["gpu_memory_utilization"] == 0.95


# What they find.


def test_more_cpu_bandwidth_serves_more_and_ratios_are_paired() -> None:
    result = document("cpu_attention_gbps=10,60", seeds=2, requests=60)
    [sweep] = result.sweeps
    assert (sweep.baseline, sweep.parameters) == ("gpu-only", ("cpu_attention_gbps",))
    assert list(sweep.nominal) == [18.0]
    points = {(point.values, point.variant): point for point in sweep.points}
    slow, fast = points[(10.0,), "static:two_batch"], points[(60.0,), "static:two_batch"]
    alone = [points[(rate,), "gpu-only"] for rate in (10.0, 60.0)]
    assert fast.output_throughput_tok_s > 1.2 * slow.output_throughput_tok_s
    assert alone[0].output_throughput_tok_s == alone[1].output_throughput_tok_s
    assert alone[0].ratio is None
    assert fast.ratio is not None
    assert slow.ratio is not None
    assert fast.ratio > slow.ratio
    assert (fast.n, fast.ci_low is not None) == (2, True)
    assert {run.setting for run in result.runs} == {"t4/llama-2-7b/osc/inf"}


def test_a_point_has_the_pace_of_its_slowest_tenth_only_where_every_seed_does() -> None:
    sweeps = prepared("gpu_kv_tokens=3000", requests=100, seeds=2)
    tenths: list[float | None] = [0.5, 0.3, 0.4, None]  # of gpu-only, then of the hybrid
    for place, (cell, p90) in enumerate(zip(sweeps.batch.cells, tenths, strict=True)):
        found = ended(cell)
        tpot = found.run.metrics.tpot_s.model_copy(update={"p90": p90})
        metrics = found.run.metrics.model_copy(update={"tpot_s": tpot})
        run = found.run.model_copy(update={"metrics": metrics})
        sweeps.batch.keep(place, replace(found, run=run))
    (sweep,) = sweeps.findings()
    assert [point.tpot_p90_s for point in sweep.points] == [0.4, None]


def test_one_seed_has_no_interval() -> None:
    [sweep] = document("gpu_kv_tokens=2000").sweeps
    candidate = next(point for point in sweep.points if point.variant != "gpu-only")
    assert candidate.ratio is not None
    assert (candidate.ci_low, candidate.verdict) == (None, "no_significant_difference")


def test_an_interrupt_keeps_complete_points() -> None:
    sweeps = prepared("gpu_kv_tokens=1008,2000")
    cells = sweeps.batch.cells
    assert len(sweeps.findings()) == 0
    sweeps.batch.results |= {index: ended(cells[index]) for index in (0, 1, 2)}
    [sweep] = sweeps.findings()
    assert {point.values for point in sweep.points} == {(1008.0,)}
    sweeps.batch.failures[3] = "made up"
    [sweep] = sweeps.findings()
    assert [(p.values, p.variant) for p in sweep.points][2:] == [((2000.0,), "gpu-only")]


def test_a_failed_run_is_named_with_its_point() -> None:
    comparison = Comparison.prepare(config(sweep=["gpu_kv_tokens=1008"]))
    comparison.sweeps.batch.failures[1] = "made up"
    [sentence] = comparison.failures
    assert sentence == (
        "t4/llama-2-7b/osc/gpu_kv_tokens=1008: static:two_batch with seed 0 failed: made up"
    )


def test_the_command_repeats_the_sweep() -> None:
    given = config(sweep=["gpu_kv_tokens=864,2000", "cpu_attention_gbps=12/output_scale=1,2"])
    text = command(config_from(config_document(given)))
    assert text.endswith(
        "--sweep gpu_kv_tokens=864,2000 --sweep cpu_attention_gbps=12/output_scale=1,2"
    )


def test_jobs_do_not_change_what_is_found() -> None:
    alone, together = (document("gpu_kv_tokens=1008,2000", jobs=jobs) for jobs in (1, 2))
    assert alone.sweeps == together.sweeps
    assert len(alone.sweeps[0].points) == 4
