"""The TPOT target at saturation: what a verdict says of it, and where it is marked."""

from types import ModuleType

import pytest

from apexbench.reports import html, markdown
from apexbench.reports.outcome import index
from apexbench.reports.panels import Cards
from apexbench.reports.summary import saturation_note, saturation_table
from apexbench.reports.tpot_target import OVER, pace
from apexbench.reports.verdicts import Verdict, verdicts
from apexbench.reports.views import kpis, tables
from apexbench.result import Result

SATURATION = "t4-osc-inf"
BEST = "static:deferred"
THROUGHPUT = "output_throughput_tok_s"
HYBRIDS = ("neo", "apex", "static:deferred", "static:two_batch")
NOT_KEPT = f"{BEST} does not keep the TPOT target of 400\u202fms at saturation: p90 2.00\u202fs."


def paced(result: Result, variant: str, *p90s: float | None) -> Result:
    """The document with another TPOT p90 of a variant at saturation, one per seed."""
    by_seed = dict(enumerate(p90s, 1))

    def changed(metrics: object, seed: int) -> dict[str, object]:
        tpot = metrics.tpot_s.model_copy(update={"p90": by_seed[seed]})  # type: ignore[attr-defined]
        return {"metrics": metrics.model_copy(update={"tpot_s": tpot})}  # type: ignore[attr-defined]

    runs = tuple(
        run.model_copy(update=changed(run.metrics, run.seed))
        if (run.setting, run.variant) == (SATURATION, variant)
        else run
        for run in result.runs
    )
    return result.model_copy(update={"runs": runs})


def compared(result: Result, candidate: str, metric: str, **values: object) -> Result:
    key = (SATURATION, candidate, metric)
    comparisons = tuple(
        c.model_copy(update=values) if (c.setting, c.candidate, c.metric) == key else c
        for c in result.comparisons
    )
    return result.model_copy(update={"comparisons": comparisons})


def without_target(result: Result) -> Result:
    settings = tuple(
        s.model_copy(update={"slo": s.slo.model_copy(update={"tpot_s": None})})
        for s in result.settings
    )
    return result.model_copy(update={"settings": settings})


def verdict_of(result: Result) -> Verdict:
    (found,) = verdicts(result)
    return found


def numbers_of(verdict: Verdict) -> dict[str, float]:
    return {number.key: number.value for number in verdict.numbers}


@pytest.fixture
def result(synthetic: ModuleType) -> Result:
    document: Result = synthetic.build(cases=synthetic.CASES[:1])
    return document


@pytest.fixture
def missed(result: Result) -> Result:
    """The fastest hybrid breaks the target in every seed."""
    return paced(result, BEST, 2.1, 2.0, 1.9)


def test_a_kept_target_is_a_clause_after_the_throughput(result: Result) -> None:
    verdict = verdict_of(result)
    values = [
        run.metrics.tpot_s.p90
        for run in result.runs
        if (run.setting, run.variant) == (SATURATION, BEST)
    ]
    text = verdict.sentences[1].text
    assert text == f"{BEST} keeps the TPOT target of 400\u202fms at saturation (p90 256\u202fms)."
    numbers = numbers_of(verdict)
    assert numbers["tpot_target_s"] == 0.4
    assert numbers["saturation_tpot_p90_s"] == pytest.approx(sum(filter(None, values)) / 3)
    assert verdict.label == "Hybrid wins"


def test_the_best_within_the_target_is_named_with_its_gain(missed: Result) -> None:
    verdict = verdict_of(missed)
    apex = next(
        c
        for c in missed.comparisons
        if (c.setting, c.candidate, c.metric) == (SATURATION, "apex", THROUGHPUT)
    )
    text = verdict.sentences[1].text
    assert text.startswith(f"{NOT_KEPT} Within the target (p90, at saturation) the best hybrid is ")
    assert "apex with 1.43\u00d7 the output throughput of gpu-only (95 % interval 1.40" in text
    assert text.endswith("n = 3 seeds), TPOT p90 306\u202fms.")
    numbers = numbers_of(verdict)
    assert numbers["saturation_tpot_p90_s"] == pytest.approx(2.0)
    assert (numbers["within_ratio"], numbers["within_ci_low"]) == (apex.ratio, apex.ci_low)


def test_a_win_that_breaks_the_target_is_mixed(missed: Result) -> None:
    found = verdict_of(missed)
    assert (found.tone, found.label) == ("unclear", "Mixed: smaller gain within the TPOT target")
    unsure = compared(missed, "apex", THROUGHPUT, verdict="no_significant_difference")
    assert verdict_of(unsure).label == "Mixed: more throughput, TPOT target not kept"
    assert "TPOT p90 306\u202fms; not a significant difference." in verdict_of(unsure).sentence


@pytest.mark.parametrize(
    ("p90s", "words"),
    [
        ((0.2, 0.2, 0.2), " does (p90 200\u202fms)."),
        ((0.6, 0.6, 0.6), " does not either (p90 600\u202fms)."),
        ((0.2, 0.2, 0.8), " does not in every seed (p90 400\u202fms)."),
        ((0.2, 0.2, None), " is not known to (p90 unknown)."),
    ],
)
def test_where_no_hybrid_keeps_it_gpu_only_is_judged(
    missed: Result, p90s: tuple[float | None, ...], words: str
) -> None:
    for name in HYBRIDS:
        missed = paced(missed, name, 2.0, 2.0, 2.0)
    missed = compared(missed, BEST, "tpot_p90_s", ratio=5.0, ci_high=5.5)
    verdict = verdict_of(paced(missed, "gpu-only", *p90s))
    assert verdict.sentences[1].text == f"{NOT_KEPT} No hybrid keeps it; gpu-only{words}"
    assert verdict.label == "Mixed: more throughput, TPOT target not kept"


def test_a_hybrid_that_may_keep_it_is_not_denied(missed: Result) -> None:
    for name in HYBRIDS:
        missed = paced(missed, name, 2.0, 2.0, 2.0)
    text = verdict_of(paced(missed, "neo", 0.2, 0.2, None)).sentence
    assert "No hybrid is known to keep it; gpu-only does (" in text


def test_a_target_that_gpu_only_breaks_too_needs_an_equal_pace(missed: Result) -> None:
    mixed = "Mixed: smaller gain within the TPOT target"
    level = compared(missed, BEST, "tpot_p90_s", ratio=0.9, ci_low=0.8, ci_high=1.05)
    assert verdict_of(level).label == mixed
    assert verdict_of(paced(level, "gpu-only", 0.3, 2.0, 2.0)).label == mixed
    assert verdict_of(paced(level, "gpu-only", 2.0, 2.0, 2.0)).label == "Hybrid wins"
    for high in (1.06, None):
        slower = compared(level, BEST, "tpot_p90_s", ci_high=high)
        assert verdict_of(paced(slower, "gpu-only", 2.0, 2.0, 2.0)).label == mixed


def test_a_noisy_leader_above_the_target_does_not_hide_a_gain_within(missed: Result) -> None:
    unsure = {"ci_low": 0.8, "ci_high": 4.0, "verdict": "no_significant_difference"}
    noisy = compared(missed, BEST, THROUGHPUT, **unsure)
    label = "Mixed: gain established only within the TPOT target"
    assert (verdict_of(noisy).tone, verdict_of(noisy).label) == ("unclear", label)
    neither = compared(noisy, "apex", THROUGHPUT, **unsure)
    assert verdict_of(neither).label == "No significant difference"
    kept = paced(noisy, BEST, 0.3, 0.3, 0.3)
    assert verdict_of(kept).label == "No significant difference"


def test_seeds_on_both_sides_do_not_keep_it(result: Result) -> None:
    verdict = verdict_of(paced(result, BEST, 0.3, 0.3, 0.45))
    assert verdict.sentences[1].text.startswith(
        f"{BEST} does not keep the TPOT target of 400\u202fms at saturation: p90 350\u202fms on "
        "average, above it in 1 of 3 seeds."
    )
    assert verdict.label == "Mixed: smaller gain within the TPOT target"


def test_exactly_the_target_keeps_it(result: Result) -> None:
    assert " keeps the TPOT target" in verdict_of(paced(result, BEST, 0.4, 0.4, 0.4)).sentence


def test_one_seed_gives_values_and_no_claim(synthetic: ModuleType) -> None:
    document = synthetic.build(seeds=1, cases=synthetic.CASES[:1])
    kept = verdict_of(document).sentences[1].text
    assert kept == (
        f"TPOT at saturation: {BEST} p90 259\u202fms, gpu-only p90 244\u202fms; the TPOT target of "
        "400\u202fms is neither kept nor missed by one seed."
    )
    verdict = verdict_of(paced(document, BEST, 2.0))
    assert f"{BEST} p90 2.00\u202fs, apex p90 " in verdict.sentences[1].text
    assert verdict.label == "One seed: not established"
    for word in ("keeps", "does not keep", "best hybrid"):
        assert word not in verdict.sentences[1].text


def test_too_few_requests_leave_it_open(result: Result) -> None:
    verdict = verdict_of(paced(result, BEST, 0.3, None, 0.3))
    words = "keeps the TPOT target of 400\u202fms at saturation is not known: too few requests"
    assert f"Whether {BEST} {words}" in verdict.sentence
    assert "the best hybrid is apex" in verdict.sentence
    assert verdict.label == "Hybrid wins"


@pytest.mark.parametrize("labels", [("0.8x", "inf"), ("0.8x",)])
def test_no_target_or_no_saturation_no_sentence(
    synthetic: ModuleType, labels: tuple[str, ...]
) -> None:
    document = synthetic.build(cases=synthetic.CASES[:1], labels=labels)
    if "inf" in labels:
        document = without_target(document)
    assert "TPOT target" not in verdict_of(document).sentence
    outcome = index(document)
    assert OVER not in saturation_note(outcome, outcome.scenarios[0])
    assert "target" not in saturation_note(outcome, outcome.scenarios[0])


def test_unsteady_runs_of_the_hybrid_within_are_counted(missed: Result) -> None:
    assert not verdict_of(missed).cautions
    runs = tuple(
        run.model_copy(update={"window": run.window.model_copy(update={"is_steady": False})})
        if (run.setting, run.variant) == (SATURATION, "apex")
        else run
        for run in missed.runs
    )
    (caution,) = verdict_of(missed.model_copy(update={"runs": runs})).cautions
    assert caution.text == "3 of the 15 runs used here."


def test_the_short_table_marks_what_is_above(missed: Result) -> None:
    outcome = index(missed)
    (scenario,) = outcome.scenarios
    table = saturation_table(outcome, scenario)
    place = table.columns.index("TPOT p90")
    cells = {row[0]: row[place] for row in table.rows}
    assert cells[BEST] == f"2.00\u202fs\u202f{OVER}"
    assert cells["apex"] == "306\u202fms"
    assert {name for name, cell in cells.items() if OVER in cell} == {BEST, "static:two_batch"}
    note = f"{OVER}: above the TPOT target of 400\u202fms in some seed."
    assert note in saturation_note(outcome, scenario)
    assert note in markdown.render(missed)


def test_a_table_without_marks_says_so(synthetic: ModuleType) -> None:
    document = synthetic.build(cases=synthetic.CASES[:1], variants=("gpu-only", "apex"))
    outcome = index(document)
    note = saturation_note(outcome, outcome.scenarios[0])
    assert note.endswith("None is above the TPOT target of 400\u202fms.")


def test_cards_name_the_fastest_and_the_best_within(missed: Result) -> None:
    (panel,) = kpis.VIEW.build(index(missed))
    assert isinstance(panel.body, Cards)
    cards = {card.title: card for card in panel.body.cards}
    assert (cards[BEST].tag, cards["apex"].tag) == ("most throughput", "best within target")
    over, within = (cards[name].facts[1] for name in (BEST, "apex"))
    assert (over.value, over.change) == ("2.00\u202fs", f"{OVER} over 400\u202fms")
    assert (within.value, within.change) == ("306\u202fms", "within 400\u202fms")
    assert f"{OVER} over 400\u202fms" in html.render(missed)


def test_cards_of_a_kept_target_have_one_best_hybrid(result: Result) -> None:
    (panel,) = kpis.VIEW.build(index(result))
    assert isinstance(panel.body, Cards)
    tags = {card.title: card.tag for card in panel.body.cards if card.tag}
    assert tags == {"gpu-only": "baseline", BEST: "best hybrid"}


def test_the_table_of_runs_marks_each_seed(result: Result) -> None:
    document = paced(result, BEST, 0.3, None, 0.5)
    (runs,) = (p.body for p in tables.VIEW.build(index(document)) if p.id == "tables-runs")
    place = runs.columns.index("TPOT p90 s")  # type: ignore[union-attr]
    rows = [row for row in runs.rows if row[1:3] == ("inf", BEST)]  # type: ignore[union-attr]
    assert [row[place] for row in rows] == ["0.300", "\u2013", f"0.500\u202f{OVER}"]
    bare = without_target(document)
    (plain,) = (p.body for p in tables.VIEW.build(index(bare)) if p.id == "tables-runs")
    assert not any(OVER in cell for row in plain.rows for cell in row)  # type: ignore[union-attr]


def test_a_pace_needs_every_seed(result: Result) -> None:
    outcome = index(paced(result, BEST, 0.3, None, 0.5))
    found = pace(outcome, outcome.scenarios[0].saturation, BEST)
    assert found is not None
    assert (found.status, found.mean_s, found.is_over) == ("unknown", None, False)
    assert pace(outcome, outcome.scenarios[0].saturation, "nobody") is None
    assert pace(outcome, None, BEST) is None
