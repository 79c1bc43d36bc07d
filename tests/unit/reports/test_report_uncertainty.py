"""Draws and tornado in a report: when a verdict holds, and what the view shows."""

from types import ModuleType

import pytest

from apexbench.reports import html, markdown
from apexbench.reports.basis import basis
from apexbench.reports.outcome import index
from apexbench.reports.panels import Chart, Note, Panel
from apexbench.reports.robustness import NOT_ROBUST, is_robust, share
from apexbench.reports.verdicts import Verdict, verdicts
from apexbench.reports.views import uncertainty
from apexbench.result import Draws, Kind, Result, Sensitivity, frames

N = 40
BEST = "static:deferred"


def draws_that_win(wins: int) -> Draws:
    """`wins` of N ratios above 1, the rest below."""
    ratios = (*[0.8] * (N - wins), *[1.5] * wins)
    rates = tuple(100.0 * ratio for ratio in ratios)
    return Draws(
        n=N, band80=(80.0, 150.0), median=150.0, ratio_band80=(0.8, 1.5), ratio_median=1.45,
        wins_fraction=wins / N, throughput_tok_s=rates, ratios=ratios,
    )  # fmt: skip


BASE_DRAWS = Draws(n=N, band80=(90.0, 110.0), median=100.0, throughput_tok_s=(100.0,) * N)


def drawn(result: Result, wins: int) -> Result:
    """The document with draws of every variant at saturation, seed 1."""
    runs = tuple(
        run.model_copy(
            update={"draws": BASE_DRAWS if run.variant == "gpu-only" else draws_that_win(wins)}
        )
        if run.seed == 1 and run.setting.endswith("inf")
        else run
        for run in result.runs
    )
    return result.model_copy(update={"runs": runs})


def verdict_of(result: Result) -> Verdict:
    (found,) = verdicts(result)
    return found


@pytest.fixture
def result(synthetic: ModuleType) -> Result:
    document: Result = synthetic.build(cases=synthetic.CASES[:1])
    return document


@pytest.fixture
def losing(synthetic: ModuleType) -> Result:
    """The only hybrid is slower than gpu-only."""
    document: Result = synthetic.build(
        cases=synthetic.CASES[:1], variants=("gpu-only", "static:two_batch")
    )
    return document


def test_a_win_in_nine_of_ten_draws_stands(result: Result) -> None:
    found = verdict_of(drawn(result, 36))
    assert (found.tone, found.label) == (verdict_of(result).tone, verdict_of(result).label)
    assert found.tone == "win"
    assert NOT_ROBUST not in found.sentence
    assert f"{BEST} wins in 90\u202f% of 40 draws" in found.sentence
    assert "median ratio 1.45\u00d7, 80 % band 0.800\u20131.50)" in found.sentence


def test_a_win_in_fewer_is_not_robust(result: Result) -> None:
    found = verdict_of(drawn(result, 35))
    assert (found.tone, found.label) == ("unclear", "Not robust to the profile's uncertainty")
    assert f"{BEST} wins in 87\u202f% of 40 draws" in found.sentence
    assert f"80 % band 0.800\u20131.50): {NOT_ROBUST}." in found.sentence
    numbers = {number.key: number.value for number in found.numbers}
    assert numbers["draws_wins_fraction"] == 35 / 40
    assert (numbers["draws_ratio_median"], numbers["draws_n"]) == (1.45, 40)


def test_a_loss_needs_as_many_draws_as_a_win(losing: Result) -> None:
    assert verdict_of(losing).tone == "loss"
    assert verdict_of(drawn(losing, 4)).tone == "loss"
    found = verdict_of(drawn(losing, 5))
    assert (found.tone, NOT_ROBUST in found.sentence) == ("unclear", True)


def test_one_seed_still_establishes_nothing(synthetic: ModuleType) -> None:
    document = synthetic.build(seeds=1, cases=synthetic.CASES[:1])
    found = verdict_of(drawn(document, N))
    assert (found.tone, found.label) == ("unclear", "One seed: not established")
    assert "wins in 100\u202f% of 40 draws" in found.sentence


def test_markdown_and_tables_show_the_same_numbers(result: Result) -> None:
    document = drawn(result, 35)
    text = markdown.render(document)
    assert "Not robust to the profile's uncertainty" in text
    assert "wins in 87\u202f% of 40 draws of the device constants (median ratio 1.45\u00d7" in text
    table = frames(document).runs
    row = table[(table.variant == BEST) & (table.draws_n == N)].iloc[0]
    assert row.draws_wins_fraction == 35 / 40
    assert (row.draws_ratio_p10, row.draws_ratio_median, row.draws_ratio_p90) == (0.8, 1.45, 1.5)
    assert "draws_n" not in frames(result).runs.columns


@pytest.mark.parametrize(
    ("wins", "ratio", "is_enough"),
    [(36, 1.2, True), (35, 1.2, False), (4, 0.8, True), (5, 0.8, False), (36, 0.8, False)],
)
def test_the_threshold_is_the_same_on_both_sides(wins: int, ratio: float, is_enough: bool) -> None:
    assert is_robust(draws_that_win(wins), ratio) is is_enough


@pytest.mark.parametrize(
    ("fraction", "text"), [(0.8999, "89"), (0.9, "90"), (0.29, "29"), (1.0, "100"), (0.0, "0")]
)
def test_shares_are_never_rounded_up(fraction: float, text: str) -> None:
    assert share(fraction) == f"{text}\u202f%"


def test_the_basis_says_what_policies_know(result: Result) -> None:
    assert "model error" in basis(result).text
    assert "repeated with 40 draws" in basis(drawn(result, N)).text
    strange = result.variants[-1].model_copy(
        update={"id": "apex+belief=other", "overrides": {"belief": "other"}}
    )
    mistaken = result.model_copy(update={"variants": (*result.variants, strange)})
    assert "except that apex+belief=other believe another host's" in basis(mistaken).text


# --- the view -------------------------------------------------------------------------------------


def bar(constant: str, low: float, high: float, kind: Kind = "inferred") -> Sensitivity:
    return Sensitivity(
        scenario="t4 · llama-2-7b · osc", baseline="gpu-only", candidate=BEST, device="t4",
        constant=constant, kind=kind, sigma=0.25, nominal=2.0, low=low, high=high,
    )  # fmt: skip


def panels(result: Result) -> dict[str, Panel]:
    return {panel.id: panel for panel in uncertainty.VIEW.build(index(result))}


def chart_of(panel: Panel) -> Chart:
    assert isinstance(panel.body, Chart)
    return panel.body


def test_nothing_is_shown_where_nothing_was_asked(result: Result) -> None:
    assert panels(result) == {}
    assert 'id="uncertainty"' not in html.render(result)


def test_draws_are_drawn_with_their_band(result: Result) -> None:
    found = panels(drawn(result, 35))
    assert list(found) == ["uncertainty-0-draws", "uncertainty-model"]
    chart = chart_of(found["uncertainty-0-draws"])
    traces = [trace for trace in chart.figure["data"] if trace["meta"] == BEST]
    ticks, median = traces
    assert (len(ticks["x"]), median["x"], median["y"]) == (N, [1.45], [BEST])
    error = median["error_x"]
    assert (error["array"], error["arrayminus"]) == ([0.05], [0.65])
    assert f"{BEST} wins in 87\u202f% of 40 draws" in chart.summary
    rows = {row[0]: row for row in chart.table.rows}
    assert rows["gpu-only"][1:] == ("40", "\u2013", "\u2013", "\u2013", "100", "90.0\u2013110")
    assert rows[BEST][2:5] == ("87\u202f%", "1.45\u00d7", "0.800\u20131.50")


def test_bars_are_sorted_by_width_and_small_ones_folded(result: Result) -> None:
    bars = [bar(f"small_{i}", 2.0, 2.009) for i in range(3)]
    bars += [bar("wide", 1.2, 2.1, "measured"), bar("one_sided", 1.9, 1.8), bar("even", 2.06, 1.94)]
    document = result.model_copy(update={"sensitivities": tuple(bars)})
    (panel,) = panels(document).values()
    chart = chart_of(panel)
    names = [trace["y"][0].partition("<br>")[0] for trace in chart.figure["data"]]
    assert names == ["wide", "wide", "one_sided", "one_sided", "even", "even"]
    low, high = chart.figure["data"][:2]
    assert (low["base"], low["x"], high["x"]) == ([2.0], [-0.8], [0.1])
    assert low["marker"]["pattern"]["shape"] != high["marker"]["pattern"]["shape"]
    assert low["y"][0].endswith("t4, measured")
    assert [item.label for item in chart.legend] == ["measured", "inferred"]
    assert "others (3): less than 0.5\u202f% each" in chart.summary
    assert [row[1] for row in chart.table.rows][:3] == ["wide", "one_sided", "even"]
    assert len(chart.table.rows) == 6


def test_at_most_twelve_bars(result: Result) -> None:
    bars = tuple(bar(f"constant_{i}", 1.5 + i / 100, 2.0) for i in range(20))
    (panel,) = panels(result.model_copy(update={"sensitivities": bars})).values()
    chart = chart_of(panel)
    assert len(chart.figure["data"]) == 2 * 12
    assert "others (8): less each" in chart.summary


def test_a_gain_that_rests_on_nothing_is_a_sentence(result: Result) -> None:
    document = result.model_copy(update={"sensitivities": (bar("small", 2.0, 2.001),)})
    (panel,) = panels(document).values()
    assert isinstance(panel.body, Note)
    assert panel.body.text.endswith("others (1): less than 0.5\u202f% each.")


def test_the_page_holds_both(result: Result) -> None:
    document = drawn(result, 35).model_copy(update={"sensitivities": (bar("wide", 1.2, 2.1),)})
    page = html.render(document)
    for part in ("uncertainty-0-draws-plot-data", "uncertainty-0-tornado-plot-data"):
        assert part in page
