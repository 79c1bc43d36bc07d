"""The table of every latency at every rate, by tier."""

from types import ModuleType

import pytest

from apexbench.reports.evidence import ratio_cell
from apexbench.reports.outcome import index
from apexbench.reports.panels import Note, Panel, Table
from apexbench.reports.views import latency_table
from apexbench.reports.wording import THIN, seconds
from apexbench.result import Result


def panels_of(result: Result) -> list[Panel]:
    return list(latency_table.build(index(result)))


def rows_of(panel: Panel) -> dict[str, dict[str, str]]:
    """First cell -> column -> cell."""
    assert isinstance(panel.body, Table)
    return {row[0]: dict(zip(panel.body.columns, row, strict=True)) for row in panel.body.rows}


@pytest.fixture
def result(synthetic: ModuleType) -> Result:
    document: Result = synthetic.build(
        cases=synthetic.CASES[:1], variants=("gpu-only", "gpu-only+int4", "neo", "fastdecode")
    )
    return document


def test_one_table_per_finite_rate_open_where_latency_is_judged(result: Result) -> None:
    panels = panels_of(result)
    rates = ["0.5\u00d7", "0.8\u00d7", "1\u00d7", "1.2\u00d7"]
    assert [panel.title for panel in panels] == [f"Latency at {rate} load" for rate in rates]
    assert [panel.is_folded for panel in panels] == [True, False, True, True]


def test_rows_are_policies_and_the_tiers_that_served_some(result: Result) -> None:
    rows = rows_of(panels_of(result)[1])
    assert list(rows) == [
        "gpu-only",
        "gpu-only+int4",
        "neo",
        "neo, GPU tier",
        "neo, CPU tier",
        "fastdecode",
        "fastdecode, CPU tier",
    ]
    requests = [row["requests, all seeds"] for row in rows.values()]
    assert requests[2:5] == [f"1{THIN}200", "960", "240"]


def test_cells_hold_mean_and_ratio_of_the_document(result: Result) -> None:
    rows = rows_of(panels_of(result)[2])
    tiers = [
        run.latency_by_tier["cpu"]
        for run in result.runs
        if (run.setting, run.variant) == ("t4-osc-1x", "neo")
    ]
    values = [tier.tpot_s.p90 for tier in tiers if tier and tier.tpot_s.p90]
    key = ("t4-osc-1x", "neo", "cpu_tier_tpot_p90_s")
    found = next(c for c in result.comparisons if (c.setting, c.candidate, c.metric) == key)
    mean = seconds(sum(values) / len(values))
    assert rows["neo, CPU tier"]["TPOT p90"] == f"{mean}\n{ratio_cell(found)}"
    assert "(" in ratio_cell(found)
    assert "\n" not in rows["gpu-only"]["TPOT p90"]


def test_a_percentile_that_one_seed_lacks_is_a_dash(result: Result) -> None:
    first = next(run for run in result.runs if (run.setting, run.variant) == ("t4-osc-1x", "neo"))
    short = first.metrics.model_copy(
        update={"e2e_s": first.metrics.e2e_s.model_copy(update={"p90": None})}
    )
    runs = tuple(r.model_copy(update={"metrics": short}) if r is first else r for r in result.runs)
    rows = rows_of(panels_of(result.model_copy(update={"runs": runs}))[2])
    assert rows["neo"]["E2E p90"] == "\u2013"
    assert rows["neo"]["E2E p50"] != "\u2013"


def test_one_seed_shows_no_interval(synthetic: ModuleType) -> None:
    rows = rows_of(panels_of(synthetic.build(seeds=1, cases=synthetic.CASES[:1]))[0])
    assert rows["neo"]["E2E p50"].endswith("(n = 1)")


@pytest.mark.parametrize("document", ["empty", "zero_successes"])
def test_without_latencies_it_says_so(synthetic: ModuleType, document: str) -> None:
    for panel in panels_of(getattr(synthetic, document)()):
        assert isinstance(panel.body, Note)
