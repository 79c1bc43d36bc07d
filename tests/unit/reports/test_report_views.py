"""Views of trade-offs, differences, sweeps, maps and decisions: what they show, or nothing."""

from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apexbench.reports import html
from apexbench.reports.outcome import index
from apexbench.reports.panels import Chart, Panel
from apexbench.reports.views import decisions, forest, losses_map, pareto, sweeps
from apexbench.reports.views.pareto import front
from apexbench.result import Result

VIEWS = (pareto.VIEW, forest.VIEW, sweeps.VIEW, losses_map.VIEW, decisions.VIEW)


def panels(view: Any, result: Result) -> dict[str, Panel]:
    return {panel.id: panel for panel in view.build(index(result))}


def chart(panel: Panel) -> Chart:
    assert isinstance(panel.body, Chart)
    return panel.body


@pytest.fixture(name="result", scope="module")
def _result(synthetic: ModuleType) -> Result:
    variants = ("gpu-only", "gpu-only+int4", "neo", "static:deferred", "planner")
    found: Result = synthetic.build(cases=synthetic.CASES[:1], variants=variants)
    return found


@pytest.mark.parametrize("name", ["empty", "zero_successes"])
def test_a_view_without_data_shows_nothing_at_all(synthetic: ModuleType, name: str) -> None:
    document = getattr(synthetic, name)()
    for view in VIEWS:
        assert not panels(view, document)
        assert f'id="{view.id}"' not in html.render(document)


# Throughput against latency.


def test_each_policy_has_a_line_over_the_rates_and_the_front_is_ringed(
    result: Result, synthetic: ModuleType
) -> None:
    found = panels(pareto.VIEW, result)
    assert found.keys() == {"pareto-0-tpot_p50_s", "pareto-0-tpot_p90_s"}
    drawn = chart(found["pareto-0-tpot_p50_s"])
    ring, *lines = drawn.figure["data"]
    assert [line["name"] for line in lines] == [variant.id for variant in result.variants]
    assert {len(line["x"]) for line in lines} == {5}
    on_front = [row for row in drawn.table.rows if row[-1] == "yes"]
    assert len(on_front) == len(ring["x"]) > 1
    assert ring["x"] == sorted(ring["x"])
    assert ring["y"] == sorted(ring["y"])
    assert drawn.figure["layout"]["shapes"][0]["x0"] == synthetic.TPOT_TARGET_S


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1))
def test_nothing_beats_the_front_and_it_beats_the_rest(places: list[tuple[int, int]]) -> None:
    points = [pareto.Point("p", "r", float(x), float(y)) for x, y in places]
    best = front(points)
    for point in points:
        beaten = [
            b
            for b in points
            if (b.latency_s <= point.latency_s and b.tok_s > point.tok_s)
            or (b.latency_s < point.latency_s and b.tok_s >= point.tok_s)
        ]
        assert (point in best) == (not beaten)


# Differences.


def test_a_forest_has_a_row_per_policy_and_rate(result: Result) -> None:
    found = panels(forest.VIEW, result)
    assert list(found) == [
        "forest-0-output_throughput_tok_s", "forest-0-goodput_rps", "forest-0-tpot_p50_s",
        "forest-0-tpot_p90_s", "forest-0-ttft_p50_s",
    ]  # fmt: skip
    assert len(chart(found["forest-0-output_throughput_tok_s"]).table.rows) == 4
    tpot = chart(found["forest-0-tpot_p50_s"])
    assert len(tpot.table.rows) == 4 * 4
    texts = tpot.figure["layout"]["yaxis"]["ticktext"]
    assert [text for text in texts if text.startswith("<b>")] == [
        "<b>0.5\u00d7 load</b>", "<b>0.8\u00d7 load</b>", "<b>1\u00d7 load</b>",
        "<b>1.2\u00d7 load</b>",
    ]  # fmt: skip


def test_marks_follow_the_verdict_and_sit_on_their_row(result: Result) -> None:
    body = chart(panels(forest.VIEW, result)["forest-0-tpot_p50_s"])
    texts = body.figure["layout"]["yaxis"]["ticktext"]
    by_name = {trace["name"]: trace for trace in body.figure["data"]}
    assert sum(len(trace["x"]) for trace in by_name.values()) == 16
    worse = {
        c.candidate for c in result.comparisons if (c.metric, c.verdict) == ("tpot_p50_s", "worse")
    }
    assert {texts[place] for place in by_name["worse"]["y"]} == worse
    assert all(trace["error_x"]["arrayminus"] for trace in by_name.values())


def test_one_seed_is_hollow_and_has_no_bar(synthetic: ModuleType) -> None:
    result = synthetic.build(seeds=1, cases=synthetic.CASES[:1])
    for panel in panels(forest.VIEW, result).values():
        [trace] = chart(panel).figure["data"]
        assert trace["marker"]["symbol"] == "circle-open"
        assert "error_x" not in trace


# Sweeps.


def test_a_sweep_of_one_parameter_shows_gain_and_throughput(result: Result) -> None:
    found = panels(sweeps.VIEW, result)
    assert found.keys() == {
        "sweeps-0-0-gain", "sweeps-0-0-rate", "sweeps-0-1-gain", "sweeps-0-1-rate",
    }  # fmt: skip
    gain = chart(found["sweeps-0-0-gain"])
    assert "gpu-only" not in [trace["name"] for trace in gain.figure["data"]]
    assert gain.figure["layout"]["xaxis"]["tickvals"] == [864.0, 3008.0, 12000.0]
    notes = [note["text"] for note in gain.figure["layout"]["annotations"]]
    assert notes == ["as configured: 3\u202f008"]
    assert "1600 requests" in gain.summary


def test_who_takes_over_is_marked_and_other_weights_do_not_count(result: Result) -> None:
    rate = chart(panels(sweeps.VIEW, result)["sweeps-0-1-rate"])
    assert rate.summary.startswith("gpu-only is best at the smallest CPU attention GB/s; ")
    assert "static:deferred takes over at about " in rate.summary
    assert "int4" not in rate.summary
    notes = [note["text"] for note in rate.figure["layout"]["annotations"]]
    assert any(note.startswith("static:deferred from \u2248 ") for note in notes)
    dotted = [s for s in rate.figure["layout"]["shapes"] if s["line"]["dash"] == "dot"]
    assert len(dotted) == len(notes) - 1
    assert 6 < dotted[0]["x0"] < 60


def test_marks_that_prove_nothing_are_hollow(synthetic: ModuleType) -> None:
    result = synthetic.build(seeds=1, cases=synthetic.CASES[:1])
    gain = chart(panels(sweeps.VIEW, result)["sweeps-0-0-gain"])
    for trace in gain.figure["data"]:
        assert all(symbol.endswith("-open") for symbol in trace["marker"]["symbol"])
        assert "error_y" not in trace


def test_a_sweep_of_an_unknown_scenario_is_left_out(result: Result) -> None:
    stray = tuple(s.model_copy(update={"scenario": "elsewhere"}) for s in result.sweeps)
    assert not panels(sweeps.VIEW, result.model_copy(update={"sweeps": stray}))


# Maps.


def test_a_grid_becomes_a_map_of_the_best_hybrid(result: Result) -> None:
    panel = panels(losses_map.VIEW, result)["losses-map-0-2"]
    body = chart(panel)
    assert len(body.table.rows) == 9
    grid = result.sweeps[2]
    for row in body.table.rows:
        assert row[2] not in ("gpu-only", "gpu-only+int4")
    starved = next(p for p in grid.points if p.values == (864.0, 60.0) and p.variant == "neo")
    best = max(
        (p for p in grid.points if p.values == (864.0, 60.0) and p.variant != "gpu-only+int4"),
        key=lambda point: point.ratio or 0.0,
    )
    assert (best.ratio or 0.0) > (starved.ratio or 0.0)
    assert best.variant in [row[2] for row in body.table.rows if row[0] == "864" and row[1] == "60"]
    assert "worse in" in body.summary


def test_rates_of_all_scenarios_share_a_map(synthetic: ModuleType) -> None:
    result = synthetic.build()
    found = panels(losses_map.VIEW, result)
    gain, price = chart(found["losses-map-gain"]), chart(found["losses-map-price"])
    assert gain.figure["layout"]["xaxis"]["categoryarray"] == [
        "0.5\u00d7", "0.8\u00d7", "1\u00d7", "1.2\u00d7", "saturation",
    ]  # fmt: skip
    assert len(gain.table.rows) == 3 * 5
    assert len(price.table.rows) == 3 * 4
    chosen = [row[:3] for row in gain.table.rows if row[1] != "saturation"]
    assert chosen == [row[:3] for row in price.table.rows]


def test_a_single_rate_needs_no_map(synthetic: ModuleType) -> None:
    result = synthetic.build(cases=synthetic.CASES[:1], labels=("inf",))
    alone = result.model_copy(update={"sweeps": ()})
    assert not panels(losses_map.VIEW, alone)


# Decisions.


def test_every_hybrid_shows_its_steps_and_the_planner_what_it_weighed(result: Result) -> None:
    found = panels(decisions.VIEW, result)
    assert [panel.title for panel in found.values()] == [
        "neo at saturation: 200 steps in a row",
        "static:deferred at saturation: 200 steps in a row",
        "planner at saturation: 200 steps in a row",
        "planner at saturation: what it weighed",
    ]
    body = chart(found["decisions-0-1"])
    bars = {t["name"]: t for t in body.figure["data"] if t["type"] == "bar"}
    assert (len(bars["gpu_only"]["x"]), len(bars["deferred"]["x"])) == (25, 175)
    assert len(bars["prompt tokens"]["x"]) == 25
    assert body.table.rows[0][:3] == ("400", "1", "gpu_only")
    assert body.table.rows[1][:3] == ("401", "7", "deferred")
    assert body.summary.startswith("static:deferred, seed 1, from step 400: 25 gpu_only steps")


def test_without_prompts_there_is_no_part_for_them(result: Result) -> None:
    runs = tuple(
        run.model_copy(
            update={"steps": tuple(s.model_copy(update={"prefill_tokens": 0}) for s in run.steps)}
        )
        for run in result.runs
    )
    quiet = panels(decisions.VIEW, result.model_copy(update={"runs": runs}))
    assert "yaxis3" in chart(panels(decisions.VIEW, result)["decisions-0-0"]).figure["layout"]
    assert "yaxis3" not in chart(quiet["decisions-0-0"]).figure["layout"]


def test_of_each_decision_one_candidate_is_starred(result: Result) -> None:
    body = chart(panels(decisions.VIEW, result)["decisions-0-2-log"])
    counts = {trace["name"]: len(trace["x"]) for trace in body.figure["data"]}
    assert counts == {"weighed": 50, "beyond a latency target": 50, "taken": 50}
    assert len(body.table.rows) == 50  # every other one of 100
    first = body.table.rows[0]
    assert (first[1], first[-1]) == ("gpu_only with 0 rows", "keeps the TPOT target")
