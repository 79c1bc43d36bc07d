"""Sweeps outside the HTML report: a line, a small table, tidy frames."""

import csv
import io
from collections.abc import Callable, Mapping
from types import ModuleType

import pytest

from apexbench.reports import csv_tables, markdown
from apexbench.reports.outcome import Outcome, index
from apexbench.reports.sweep_digest import sweep_note, sweep_sentence, sweep_table, sweeps_of
from apexbench.reports.tpot_target import OVER
from apexbench.result import Result, Sensitivity, Sweep, SweepPoint, frames

VARIANTS = ("gpu-only", "gpu-only+int4", "apex", "static:deferred")
UNCHANGED: Mapping[str, object] = {}


@pytest.fixture
def result(synthetic: ModuleType) -> Result:
    document: Result = synthetic.build(cases=synthetic.CASES[:1], variants=VARIANTS)
    return document


@pytest.fixture
def outcome(result: Result) -> Outcome:
    return index(result)


def changed(sweep: Sweep, change: Callable[[SweepPoint], Mapping[str, object]]) -> Sweep:
    points = tuple(point.model_copy(update=change(point)) for point in sweep.points)
    return sweep.model_copy(update={"points": points})


def test_the_best_policy_of_every_value_is_named(outcome: Outcome) -> None:
    sweep = outcome.result.sweeps[0]
    found = sweep_sentence(outcome, sweep)
    assert found.text == (
        "Highest throughput at saturation by GPU KV tokens: "
        "864 static:deferred 1.17\u00d7 (1.13\u20131.20); "
        "3\u202f008 static:deferred 1.06\u00d7 (1.03\u20131.09); 12\u202f000 gpu-only."
    )
    best = [p for p in sweep.points if p.variant == "static:deferred"]
    assert [number.value for number in found.numbers] == [point.ratio for point in best[:2]]


def test_smaller_weights_are_another_model(outcome: Outcome) -> None:
    best = max(outcome.result.sweeps[0].points, key=lambda point: point.ratio or 0)
    assert best.variant == "gpu-only+int4"
    assert "int4" not in sweep_sentence(outcome, outcome.result.sweeps[0]).text
    assert "gpu-only+int4" in sweep_table(outcome, outcome.result.sweeps[0]).columns


def test_many_points_are_counted(outcome: Outcome) -> None:
    text = sweep_sentence(outcome, outcome.result.sweeps[2]).text
    assert text == (
        "Highest throughput at saturation by GPU KV tokens \u00d7 CPU attention GB/s: "
        "gpu-only at 4, static:deferred at 5 of 9 points."
    )


def test_nothing_produced_is_said(outcome: Outcome) -> None:
    still = changed(outcome.result.sweeps[0], lambda _: {"output_throughput_tok_s": 0.0})
    assert sweep_sentence(outcome, still).text.endswith("no policy produced anything.")


def test_the_table_holds_every_ratio(outcome: Outcome) -> None:
    sweep = outcome.result.sweeps[2]
    table = sweep_table(outcome, sweep)
    assert table.columns == (
        "GPU KV tokens", "CPU attention GB/s", "gpu-only tok/s", "gpu-only+int4", "apex",
        "static:deferred",
    )  # fmt: skip
    assert len(table.rows) == 9
    place = table.columns.index("apex")
    ratios = [point.ratio or 0.0 for point in sweep.points if point.variant == "apex"]
    assert [row[place].partition("\u00d7")[0] for row in table.rows] == [
        f"{ratio:#.3g}" for ratio in ratios
    ]


def test_a_missing_ratio_is_a_dash(outcome: Outcome) -> None:
    gone: Mapping[str, object] = {"ratio": None, "ci_low": None, "ci_high": None, "verdict": None}
    sweep = changed(outcome.result.sweeps[0], lambda p: gone if p.variant == "apex" else UNCHANGED)
    table = sweep_table(outcome, sweep)
    assert {row[table.columns.index("apex")] for row in table.rows} == {"\u2013"}


@pytest.mark.parametrize(
    "pace",
    [
        {"tpot_p50_s": 0.3, "tpot_p90_s": 0.5},
        {"tpot_p50_s": 0.5, "tpot_p90_s": None},
    ],
)
def test_a_point_above_the_target_is_marked(outcome: Outcome, pace: Mapping[str, object]) -> None:
    meaning = f"{OVER}: TPOT p90 above the target of 400\u202fms."
    sweep = outcome.result.sweeps[0]
    assert OVER not in sweep_note(outcome, sweep) + sweep_sentence(outcome, sweep).text
    slow = changed(sweep, lambda p: pace if p.variant == "static:deferred" else UNCHANGED)
    assert f"1.17\u00d7 (1.13\u20131.20)\u202f{OVER}; " in sweep_sentence(outcome, slow).text
    assert sweep_sentence(outcome, slow).text.endswith(f"gpu-only. {meaning}")
    assert sweep_note(outcome, slow).endswith(meaning)
    rows = sweep_table(outcome, slow).rows
    assert all(row[-1].endswith(OVER) for row in rows)
    assert not any(OVER in cell for row in rows for cell in row[:-1])


def test_an_unsteady_point_is_marked(outcome: Outcome) -> None:
    sweep = outcome.result.sweeps[0]
    short = changed(sweep, lambda p: {"is_steady": p.variant != "gpu-only"})
    assert sweep_sentence(outcome, short).text.endswith("gpu-only\u202f\u2020. \u2020: not steady.")
    assert {row[1][-1] for row in sweep_table(outcome, short).rows} == {"\u2020"}


def test_sweeps_belong_to_their_scenario(synthetic: ModuleType) -> None:
    outcome = index(synthetic.build(seeds=1))
    counts = [len(sweeps_of(outcome, scenario)) for scenario in outcome.scenarios]
    assert counts == [3, 0, 0]


def test_markdown_shows_every_sweep(result: Result, outcome: Outcome) -> None:
    text = markdown.render(result)
    assert text.count("Sweep: output throughput of gpu-only") == 3
    assert "| GPU KV tokens | gpu-only tok/s | gpu-only+int4 | apex | static:deferred |" in text
    assert "| 864 | 67.4 | " in text
    assert markdown.render(result) == text


def test_tidy_sweeps_have_a_column_per_parameter(result: Result) -> None:
    table = frames(result).sweeps
    points = [point for sweep in result.sweeps for point in sweep.points]
    assert len(table) == len(points)
    assert list(table.variant) == [point.variant for point in points]
    by_rate = table[table["sweep"] == "cpu_attention_gbps"]
    assert set(by_rate.swept_cpu_attention_gbps) == {6.0, 18.0, 60.0}
    assert by_rate.swept_gpu_kv_tokens.isna().all()
    assert set(by_rate.gpu_kv_tokens) == {3008}  # what they have, not what is swept
    grid = table[table["sweep"] == "gpu_kv_tokens/cpu_attention_gbps"]
    assert len(grid) == 9 * len(VARIANTS)
    row = grid[(grid.swept_gpu_kv_tokens == 864) & (grid.swept_cpu_attention_gbps == 60)].iloc[2]
    point = result.sweeps[2].points[2 * len(VARIANTS) + 2]
    for name in (
        "variant", "output_throughput_tok_s", "ratio", "ci_low", "ci_high", "verdict", "is_steady",
        "cpu_kv_tokens",
    ):  # fmt: skip
        assert row[name] == getattr(point, name)


def test_tidy_sensitivities_are_the_bars(result: Result) -> None:
    bar = Sensitivity(
        scenario="s", baseline="gpu-only", candidate="apex", device="t4", constant="c",
        kind="inferred", sigma=0.1, nominal=1.2, low=1.1, high=1.3,
    )  # fmt: skip
    document = result.model_copy(update={"sensitivities": (bar,)})
    table = frames(document).sensitivities
    assert table.to_dict("records") == [bar.model_dump()]
    assert frames(result).sensitivities.empty


def test_csv_holds_sweeps_and_sensitivities(result: Result) -> None:
    texts = csv_tables.tables(result)
    rows = list(csv.DictReader(io.StringIO(texts["sweeps.csv"])))
    points = [point for sweep in result.sweeps for point in sweep.points]
    assert [float(row["output_throughput_tok_s"]) for row in rows] == [
        point.output_throughput_tok_s for point in points
    ]
    assert texts["sensitivities.csv"] == ""
    assert csv_tables.tables(result) == texts
