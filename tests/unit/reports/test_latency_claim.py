"""When a report may say that latency is preserved, and what it prints otherwise."""

import re
from functools import cache
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apexbench.metrics.comparisons import comparisons
from apexbench.reports import html, markdown
from apexbench.reports.latency_claim import (
    JUDGED,
    PRESERVED_UP_TO,
    LatencyClaim,
    claim_sentence,
    latency_claim,
)
from apexbench.reports.outcome import index
from apexbench.reports.verdicts import verdicts
from apexbench.reports.wording import EN_DASH, TIMES
from apexbench.result import Comparison, Quantiles, Result
from tests import synthetic_result

CANDIDATE = "apex"
RATES = len(synthetic_result.FINITE_LABELS)
ALL = len(JUDGED) * RATES
WORD = "preserved"

Key = tuple[str, str]  # rate label and metric
Values = dict[str, object]
WITHIN: Values = {
    "ratio": 1.01, "ci_low": 0.99, "ci_high": 1.03, "n": 3, "verdict": "no_significant_difference",
}  # fmt: skip


def key_of(comparison: Comparison) -> Key:
    return comparison.setting.rpartition("-")[2], comparison.metric


@cache
def unchanged() -> Result:
    return synthetic_result.build(
        seeds=2, cases=synthetic_result.CASES[:1], variants=("gpu-only", CANDIDATE)
    )


def document(changes: dict[Key, Values | None]) -> Result:
    """Every latency within the bound but for `changes`; None removes a comparison."""
    result = unchanged()
    comparisons = tuple(
        c.model_copy(update={**WITHIN, **(changes.get(key_of(c)) or {})})
        if c.metric in JUDGED or c.metric.startswith("cpu_tier")
        else c
        for c in result.comparisons
        if changes.get(key_of(c), {}) is not None
    )
    return result.model_copy(update={"comparisons": comparisons})


def claim_of(result: Result) -> tuple[LatencyClaim, str]:
    """The claim on the first scenario and its sentence, which the verdict holds, in plain signs."""
    outcome = index(result)
    claim = latency_claim(outcome, outcome.scenarios[0], CANDIDATE)
    assert claim is not None
    text = claim_sentence(outcome, claim).text
    assert text in verdicts(result)[0].sentence
    return claim, text.replace(TIMES, "x").replace(EN_DASH, "-")


def test_within_everywhere_is_preserved_and_names_the_rates() -> None:
    claim, text = claim_of(document({}))
    assert (claim.status, claim.compared, claim.worse, claim.missing) == ("preserved", ALL, 0, 0)
    assert "latency is preserved at 0.5x, 0.8x, 1x and 1.2x load" in text
    assert "TPOT and E2E, p50 and p90" in text
    assert "the highest ratio is 1.01x" in text


@pytest.mark.parametrize("label", synthetic_result.FINITE_LABELS)
@pytest.mark.parametrize("metric", JUDGED)
@pytest.mark.parametrize(
    ("ci_high", "status"), [(1.0499, "preserved"), (1.05, "preserved"), (1.0501, "open")]
)
def test_the_bound_holds_for_every_latency_at_every_rate(
    label: str, metric: str, ci_high: float, status: str
) -> None:
    claim, text = claim_of(document({(label, metric): {"ci_high": ci_high}}))
    assert claim.status == status
    assert (WORD in text) == (status == "preserved")


def test_metrics_that_are_not_judged_decide_nothing() -> None:
    changes: dict[Key, Values | None] = {("1x", "ttft_p90_s"): {"ratio": 9.0, "ci_high": 9.5}}
    assert claim_of(document(changes))[0].status == "preserved"


def test_one_seed_has_no_interval_and_claims_nothing() -> None:
    changes: dict[Key, Values | None] = {
        (label, metric): {"ci_low": None, "ci_high": None, "n": 1}
        for label in synthetic_result.FINITE_LABELS
        for metric in JUDGED
    }
    claim, text = claim_of(document(changes))
    assert claim.status == "open"
    assert WORD not in text
    assert "is not established; the highest ratio is 1.01x" in text
    assert "one seed, n = 1, no interval" in text


def test_a_missing_percentile_forbids_the_word() -> None:
    claim, text = claim_of(document({("0.8x", "tpot_p90_s"): None}))
    assert (claim.status, claim.missing) == ("open", 1)
    assert WORD not in text
    assert f"1 of {ALL} comparisons could not be made" in text


def test_a_loss_is_printed_with_its_rate_and_interval() -> None:
    worse: Values = {"ratio": 1.4, "ci_low": 1.2, "ci_high": 1.7, "verdict": "worse"}
    higher: Values = {"ratio": 3.2, "ci_low": 2.4, "ci_high": 4.3, "verdict": "worse"}
    unsure: Values = {"ratio": 5.0, "ci_low": 0.5, "ci_high": 50.0}
    claim, text = claim_of(
        document(
            {
                ("0.8x", "tpot_p50_s"): worse,
                ("1x", "e2e_p50_s"): unsure,
                ("1.2x", "tpot_p90_s"): higher,
            }
        )
    )
    assert (claim.status, claim.worse) == ("lost", 2)
    assert WORD not in text
    assert text.startswith(
        "Latency is lost: TPOT p90 at 1.2x load is 3.20x that of gpu-only "
        "(95 % interval 2.40-4.30, n = 3 seeds); significantly worse in 2 of 16 "
    )


def test_significantly_worse_within_the_bound_is_no_loss() -> None:
    slight: Values = {"ratio": 1.03, "ci_low": 1.02, "ci_high": 1.04, "verdict": "worse"}
    assert claim_of(document({("1x", "e2e_p90_s"): slight}))[0].status == "preserved"


def test_the_cpu_tier_is_said_beside_the_claim() -> None:
    slow: Values = {"ratio": 31.0, "ci_low": 30.0, "ci_high": 32.0, "verdict": "worse"}
    claim, text = claim_of(document({("1x", "cpu_tier_tpot_p50_s"): slow}))
    assert claim.status == "preserved"
    assert text.endswith(
        "; not so for requests served mostly by the CPU: at worst 31.0x, TPOT p50 at 1x load "
        "(95 % interval 30.0-32.0, n = 3 seeds)."
    )
    fine = claim_of(document({}))[1]
    assert "; for requests served mostly by the CPU: at worst 1.01x" in fine


def test_a_cpu_tier_too_small_to_compare_is_said() -> None:
    gone: dict[Key, Values | None] = {
        (label, f"cpu_tier_{metric}"): None
        for label in synthetic_result.FINITE_LABELS
        for metric in JUDGED
    }
    assert "the CPU served too few requests" in claim_of(document(gone))[1]


def test_without_a_finite_rate_nothing_is_claimed(synthetic: ModuleType) -> None:
    outcome = index(synthetic.build(seeds=2, cases=synthetic.CASES[:1], labels=("inf",)))
    assert latency_claim(outcome, outcome.scenarios[0], CANDIDATE) is None


@settings(deadline=None)  # nothing is timed here
@given(st.lists(st.floats(0.9, 1.2), min_size=ALL, max_size=ALL))
def test_the_word_needs_every_interval(ends: list[float]) -> None:
    keys = [(label, metric) for label in synthetic_result.FINITE_LABELS for metric in JUDGED]
    changes: dict[Key, Values | None] = {
        key: {"ratio": min(end, 1.0), "ci_low": 0.8, "ci_high": end}
        for key, end in zip(keys, ends, strict=True)
    }
    text = claim_of(document(changes))[1]
    assert (WORD in text) == all(end <= PRESERVED_UP_TO for end in ends)


def test_no_other_part_of_a_report_uses_the_word() -> None:
    result = document({("0.8x", "e2e_p50_s"): {"ratio": 1.2, "ci_high": 1.4}})
    page = re.sub(r"<script>.*?</script>", "", html.render(result), flags=re.DOTALL)
    assert WORD not in page + markdown.render(result)
    assert WORD in markdown.render(document({}))


def test_a_lost_latency_is_no_plain_win() -> None:
    slow: Values = {"ratio": 3.2, "ci_low": 2.4, "ci_high": 4.3, "verdict": "worse"}
    assert verdicts(document({}))[0].label == "Hybrid wins"
    label = verdicts(document({("1.2x", "tpot_p90_s"): slow}))[0].label
    assert label == "Mixed: more throughput, higher latency"


def test_refused_percentiles_leave_the_claim_open() -> None:
    """As the comparison code gives it: p90 of a small sample is refused, so it is not compared."""
    result = unchanged()
    small = Quantiles(mean=1.0, p50=1.0, p90=None, p99=None, n=30)
    runs = tuple(
        run.model_copy(
            update={"metrics": run.metrics.model_copy(update={"tpot_s": small, "e2e_s": small})}
        )
        for run in result.runs
    )
    found, _ = comparisons(runs, result.settings)
    claim, text = claim_of(result.model_copy(update={"runs": runs, "comparisons": found}))
    assert (claim.status, claim.missing) == ("open", 2 * RATES)
    assert WORD not in text
