"""Verdict sentences: every number in them stands in the document."""

from types import ModuleType

import pytest

from apexbench.reports.verdicts import Verdict, verdicts
from apexbench.result import Comparison, Result

SATURATION = "t4-osc-inf"
ONLINE = "t4-osc-0.8x"
THROUGHPUT = "output_throughput_tok_s"


def comparison_of(result: Result, setting: str, candidate: str, metric: str) -> Comparison:
    key = (setting, candidate, metric)
    return next(c for c in result.comparisons if (c.setting, c.candidate, c.metric) == key)


def numbers_of(verdict: Verdict) -> dict[str, float]:
    return {number.key: number.value for number in verdict.numbers}


def changed(result: Result, key: tuple[str, str, str], **values: object) -> Result:
    comparisons = tuple(
        c.model_copy(update=values) if (c.setting, c.candidate, c.metric) == key else c
        for c in result.comparisons
    )
    return result.model_copy(update={"comparisons": comparisons})


@pytest.fixture
def result(synthetic: ModuleType) -> Result:
    document: Result = synthetic.build(cases=synthetic.CASES[:1])
    return document


def test_one_verdict_per_scenario_in_order(synthetic: ModuleType) -> None:
    found = verdicts(synthetic.build(seeds=2))
    assert [verdict.scenario for verdict in found] == [case.name for case in synthetic.CASES]


def test_numbers_are_the_documents_own(result: Result) -> None:
    numbers = numbers_of(verdicts(result)[0])
    throughput = comparison_of(result, SATURATION, "static:deferred", THROUGHPUT)
    tpot = comparison_of(result, ONLINE, "static:deferred", "tpot_p50_s")
    assert numbers["throughput_ratio"] == throughput.ratio
    assert numbers["throughput_ci_low"] == throughput.ci_low
    assert numbers["throughput_ci_high"] == throughput.ci_high
    assert numbers["throughput_n"] == 3
    assert numbers["tpot_ratio"] == tpot.ratio
    assert numbers["gpu_kv_tokens"] == 3008
    assert numbers["baseline_gpu_kv_tokens"] == 3008


def test_measured_rates_are_means_over_seeds(result: Result) -> None:
    rates = [
        run.metrics.output_throughput_tok_s
        for run in result.runs
        if (run.setting, run.variant) == (SATURATION, "static:deferred")
    ]
    assert numbers_of(verdicts(result)[0])["throughput_tok_s"] == pytest.approx(sum(rates) / 3)


def test_every_number_is_printed_in_the_sentence(result: Result) -> None:
    verdict = verdicts(result)[0]
    assert all(number.text in verdict.sentence for number in verdict.numbers)


def test_the_slow_tier_is_named(result: Result) -> None:
    numbers = numbers_of(verdicts(result)[0])
    assert numbers["cpu_tier_tpot_s"] == pytest.approx(33 * numbers["tpot_s"])


def test_a_clear_win(result: Result) -> None:
    verdict = verdicts(result)[0]
    assert (verdict.tone, verdict.label) == ("win", "Hybrid wins")
    assert verdict.candidate == "static:deferred"


def test_a_loss(synthetic: ModuleType) -> None:
    document = synthetic.build(cases=synthetic.CASES[:1], variants=("gpu-only", "static:two_batch"))
    verdict = verdicts(document)[0]
    assert (verdict.tone, verdict.label) == ("loss", "Hybrid loses")


def test_no_significant_difference(result: Result) -> None:
    key = (SATURATION, "static:deferred", THROUGHPUT)
    unsure = changed(
        result, key, ratio=1.9, ci_low=0.9, ci_high=4.0, verdict="no_significant_difference"
    )
    verdict = verdicts(unsure)[0]
    assert verdict.tone == "unclear"
    assert "not a significant difference" in verdict.sentence


def test_higher_latency_is_not_a_plain_win(result: Result) -> None:
    key = (ONLINE, "static:deferred", "tpot_p50_s")
    verdict = verdicts(changed(result, key, ratio=30.0, ci_high=32.0, verdict="worse"))[0]
    assert (verdict.tone, verdict.label) == ("unclear", "Mixed: more throughput, higher latency")


def test_int4_beating_every_hybrid_is_said(synthetic: ModuleType) -> None:
    verdict = verdicts(synthetic.build())[2]
    assert verdict.tone == "unclear"
    assert "smaller weights is faster" in verdict.label
    assert "gpu-only+int4 beats every hybrid here" in verdict.sentence


def test_the_same_model_with_other_settings_beating_every_hybrid_is_said(
    synthetic: ModuleType,
) -> None:
    names = ("gpu-only", "gpu-only+int4", "gpu-only+chunk256", "apex")
    verdict = verdicts(synthetic.build(variants=names))[2]
    assert verdict.label.startswith("Mixed: GPU-only with other settings is faster")
    assert "gpu-only+chunk256 beats every hybrid here" in verdict.sentence
    assert verdict.sentence.count("output quality is not compared") == 1


def test_int4_ahead_without_certainty_is_said(result: Result) -> None:
    key = (SATURATION, "gpu-only+int4", THROUGHPUT)
    verdict = verdicts(changed(result, key, ratio=1.9, ci_low=1.5, ci_high=2.4))[0]
    assert verdict.tone == "unclear"
    assert "intervals do not separate them" in verdict.sentence


@pytest.mark.parametrize(
    ("rival", "words"),
    [
        ({"ratio": 2.1}, "is ahead of every hybrid, but one seed supports no claim"),
        ({"ratio": 1.1}, "is behind the best hybrid, but one seed supports no claim"),
    ],
)
def test_int4_under_one_seed_is_not_judged_by_intervals(
    synthetic: ModuleType, rival: dict[str, float], words: str
) -> None:
    document = synthetic.build(seeds=1, cases=synthetic.CASES[:1])
    key = (SATURATION, "gpu-only+int4", THROUGHPUT)
    text = verdicts(changed(document, key, **rival))[0].sentence
    assert f"gpu-only+int4 {words}: " in text
    assert "separate" not in text


def test_int4_behind_is_said_by_what_the_intervals_show(result: Result) -> None:
    key = (SATURATION, "gpu-only+int4", THROUGHPUT)
    apart = changed(result, key, ratio=1.2, ci_low=1.1, ci_high=1.3)
    assert "gpu-only+int4 stays below the best hybrid: " in verdicts(apart)[0].sentence
    near = changed(result, key, ratio=1.7, ci_low=1.3, ci_high=2.2)
    words = "gpu-only+int4 is behind the best hybrid, but the intervals do not separate them: "
    assert words in verdicts(near)[0].sentence


def test_one_seed_claims_nothing(synthetic: ModuleType) -> None:
    for verdict in verdicts(synthetic.build(seeds=1)):
        assert verdict.tone == "unclear"
        assert "n = 1" in verdict.sentence
        assert "interval " not in verdict.sentence.replace("no interval ", "")


def test_cautions_make_a_win_provisional(synthetic: ModuleType) -> None:
    verdict = verdicts(synthetic.build())[1]
    assert verdict.label == "Hybrid wins, provisionally"
    assert {caution.flag for caution in verdict.cautions} == {
        "exploratory",
        "too short to be steady",
    }
    assert "Too short to be steady: 12 of the 12 runs" in verdict.sentence


def test_an_idle_cpu_is_said(result: Result) -> None:
    runs = tuple(r.model_copy(update={"decisions": {"gpu_only": 9}}) for r in result.runs)
    verdict = verdicts(result.model_copy(update={"runs": runs}))[0]
    assert [caution.flag for caution in verdict.cautions] == ["CPU never used"]


def test_failed_runs_are_not_an_interruption(synthetic: ModuleType) -> None:
    def cautions(**state: bool) -> list[tuple[str, str]]:
        document = synthetic.build(cases=synthetic.CASES[:1], **state)
        return [(caution.flag, caution.text) for caution in verdicts(document)[0].cautions]

    assert cautions() == []
    failed = ("incomplete", "some runs failed; the warnings say which and why.")
    assert cautions(is_partial=True) == [failed]
    stopped = ("interrupted", "only the runs that finished are in this result.")
    assert cautions(is_partial=True, is_interrupted=True) == [stopped]


def test_unequal_served_sets_are_not_compared(result: Result) -> None:
    other = tuple(
        run.model_copy(update={"served_set_sha256": "0" * 64}) if run.variant == "gpu-only" else run
        for run in result.runs
    )
    verdict = verdicts(result.model_copy(update={"comparisons": (), "runs": other}))[0]
    assert (verdict.tone, verdict.label) == ("unclear", "Not comparable")
    assert "did not both complete the same requests" in verdict.sentence


def test_too_few_requests_are_not_called_unequal(result: Result) -> None:
    verdict = verdicts(result.model_copy(update={"comparisons": ()}))[0]
    assert "load: too few requests." in verdict.sentence
    assert "same requests" not in verdict.sentence


@pytest.mark.parametrize("document", ["empty", "zero_successes"])
def test_nothing_to_compare_is_said(synthetic: ModuleType, document: str) -> None:
    for verdict in verdicts(getattr(synthetic, document)()):
        assert (verdict.tone, verdict.label) == ("unclear", "Nothing to compare")
        assert verdict.numbers == ()


@pytest.mark.parametrize(
    ("variants", "words"),
    [
        (("apex",), "gpu-only did not run"),
        (("gpu-only", "gpu-only+int4"), "No hybrid policy ran"),
    ],
)
def test_missing_sides_are_named(
    synthetic: ModuleType, variants: tuple[str, ...], words: str
) -> None:
    document = synthetic.build(seeds=1, cases=synthetic.CASES[:1], variants=variants)
    assert words in verdicts(document)[0].sentence


def test_lost_latency_without_saturation_is_no_plain_win(synthetic: ModuleType) -> None:
    document = synthetic.build(cases=synthetic.CASES[:1], labels=("0.8x",))
    faster = {"ratio": 0.8, "ci_low": 0.7, "ci_high": 0.9, "verdict": "better"}
    slower = {"ratio": 1.4, "ci_low": 1.2, "ci_high": 1.6, "verdict": "worse"}
    best = str(verdicts(document)[0].candidate)
    won = changed(document, (ONLINE, best, "tpot_p50_s"), **faster)
    assert verdicts(won)[0].label == "Hybrid wins"
    mixed = changed(won, (ONLINE, best, "e2e_p90_s"), **slower)
    assert verdicts(mixed)[0].label == "Mixed: lower median TPOT, higher latency"


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (("inf",), "No finite rate was run, so latency is not compared."),
        (("0.8x",), "Saturation was not run, so throughput is not compared."),
    ],
)
def test_missing_rates_are_named(
    synthetic: ModuleType, labels: tuple[str, ...], words: str
) -> None:
    document = synthetic.build(cases=synthetic.CASES[:1], labels=labels)
    assert words in verdicts(document)[0].sentence
