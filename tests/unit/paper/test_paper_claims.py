"""Verdicts: what is inside, what is outside, and everything that must not get a verdict."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apexbench.engine.deployment import deploy
from apexbench.paper import wording
from apexbench.paper.claims import Judge, Row, bounds, overall
from apexbench.paper.evidence import Evidence
from apexbench.paper.schema import Claim
from tests.unit.paper.conftest import backlog, make_result, make_run, make_setting

MakeClaim = Callable[..., Claim]
Drawn = Callable[..., Evidence]
DRAWS = st.lists(st.floats(50, 300), min_size=2, max_size=20)


def judged(evidence: Evidence, claim: Claim) -> tuple[Row, ...]:
    return Judge(evidence, {}).rows(claim)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(DRAWS, st.floats(-40, 150), st.floats(0, 100))
def test_inside_means_that_band_and_range_overlap(
    make_claim: MakeClaim, drawn: Drawn, draws: list[float], low: float, width: float
) -> None:
    (row,) = judged(drawn(apex=draws), make_claim(low=low, high=low + width))
    assert row.estimate is not None
    least, most = bounds(row.claim)
    is_apart = row.estimate.high < least or row.estimate.low > most
    assert row.verdict == ("outside" if is_apart else "inside")


@pytest.mark.parametrize(
    ("draws", "verdict", "why"),
    [
        ([115.0] * 5, "inside", "median and band"),
        ([100.0, 100, 105, 130, 130], "inside", "only the band reaches it"),
        ([105.0] * 5, "outside", "below; apex took two_batch in 75"),
        ([140.0] * 5, "outside", "above; apex took two_batch in 75"),
    ],
)
def test_the_reason_says_where_it_lies(
    make_claim: MakeClaim, drawn: Drawn, draws: list[float], verdict: str, why: str
) -> None:
    (row,) = judged(drawn(apex=draws), make_claim())
    assert row.verdict == verdict
    assert row.why.startswith(why)


def test_outside_names_what_another_policy_gains(make_claim: MakeClaim, drawn: Drawn) -> None:
    evidence = drawn(**{"apex": [105.0] * 3, "neo": [95.0] * 3, "static:deferred": [115.0] * 3})
    (row,) = judged(evidence, make_claim())
    assert row.why.endswith("static:deferred has +15\u202f% over gpu-only")
    (row,) = judged(evidence, make_claim(baseline="neo", low=50, high=60))
    assert row.why.endswith("neo has \u22125.0\u202f% over gpu-only")


def test_assumed_lengths_never_get_a_verdict(make_claim: MakeClaim) -> None:
    result = backlog("osc", {"gpu-only": 100, "apex": 115}, is_exploratory=True)
    (row,) = judged(Evidence({"osc": result}), make_claim())
    assert (row.verdict, row.why) == ("exploratory", wording.ASSUMED_LENGTHS)
    assert row.ours == "+15\u202f%"


def test_unequal_requests_and_untestable_claims_get_none(make_claim: MakeClaim) -> None:
    setting = make_setting("osc")
    runs = [make_run(setting, "gpu-only", 1), make_run(setting, "apex", 2, served="fewer")]
    (row,) = judged(Evidence({"osc": make_result([setting], runs)}), make_claim())
    assert (row.verdict, row.why) == ("not testable", wording.UNEQUAL)
    evidence = Evidence({"osc": backlog("osc", {"gpu-only": 100, "apex": 115})})
    (row,) = judged(evidence, make_claim(untestable="who knows"))
    assert (row.verdict, row.why, row.ours) == ("not testable", "who knows", "+15\u202f%")


def test_a_run_that_is_not_steady_says_so(make_claim: MakeClaim) -> None:
    setting = make_setting("osc")
    runs = [make_run(setting, "gpu-only", 100), make_run(setting, "apex", 115, is_steady=False)]
    (row,) = judged(Evidence({"osc": make_result([setting], runs)}), make_claim())
    assert row.verdict == "inside"
    assert wording.UNSTEADY in row.why


@pytest.mark.parametrize(
    ("gains", "verdicts"),
    [
        ((115, 119), ("inside", "inside")),
        ((115, 150), ("not testable", "not testable")),
        ((100, 105), ("outside", "outside")),
        ((100, 150), ("not testable", "not testable")),  # between them it may be inside
    ],
)
def test_prompts_that_contradict_each_other_withhold_the_verdict(
    make_claim: MakeClaim, gains: tuple[float, float], verdicts: tuple[str, str]
) -> None:
    results = {
        name: backlog(name, {"gpu-only": 100, "apex": gain}, workload=f"uniform:{name}/5-9")
        for name, gain in zip(("1-1", "9-9"), gains, strict=True)
    }
    results["other"] = backlog("other", {"gpu-only": 100, "apex": 115}, workload="uniform:1-1/2-3")
    claim = make_claim(runs=("1-1", "9-9", "other"), rows_must_agree=True)
    rows = judged(Evidence(results), claim)
    assert tuple(row.verdict for row in rows) == (*verdicts, "inside")


def under_load(ratios: Sequence[float]) -> Evidence:
    setting = make_setting("osc", "1x")
    runs = [
        make_run(setting, name, 1, seed=seed, p50=p50)
        for seed, ratio in enumerate(ratios)
        for name, p50 in (("gpu-only", 1.0), ("apex", ratio))
    ]
    return Evidence({"osc": make_result([setting], runs)})


PRESERVED: dict[str, Any] = {
    "test": "latency", "low": None, "high": 1.05, "unit": "ratio", "rates": ("1x",)
}  # fmt: skip


@pytest.mark.parametrize(
    ("ratios", "verdict"),
    [
        ((1.049, 1.049, 1.049), "inside"),
        ((1.051, 1.051, 1.051), "outside"),
        ((0.9, 1.0, 1.1), "outside"),  # the mean is fine, the upper end of the interval is not
        ((1.0,), "not testable"),
    ],
)
def test_preserved_needs_the_whole_interval(
    make_claim: MakeClaim, ratios: tuple[float, ...], verdict: str
) -> None:
    (row,) = judged(under_load(ratios), make_claim(**PRESERVED))
    assert row.verdict == verdict


def test_a_latency_range_needs_an_overlap(make_claim: MakeClaim) -> None:
    claim = make_claim(**(PRESERVED | {"low": 0.4, "high": 0.6}))
    assert [row.verdict for row in judged(under_load((0.5, 0.52)), claim)] == ["inside"]
    assert [row.verdict for row in judged(under_load((0.9, 0.901)), claim)] == ["outside"]


def test_the_order_is_that_of_measured_lengths(make_claim: MakeClaim) -> None:
    results = {
        "osc": backlog("osc", {"gpu-only": 100, "apex": 180}),
        "azure": backlog("azure", {"gpu-only": 100, "apex": 150}),
        "chat": backlog("chat", {"gpu-only": 100, "apex": 300}, is_exploratory=True),
    }
    claim = make_claim(test="order", low=None, high=None, runs=("osc", "azure", "chat"))
    (row,) = judged(Evidence(results), claim)
    assert (row.verdict, row.why) == ("inside", "the largest is on t4 osc")
    (row,) = judged(Evidence(results), claim.model_copy(update={"runs": ("azure", "osc")}))
    assert row.verdict == "outside"
    results["osc"] = backlog("osc", {"gpu-only": 100, "apex": 150})
    (row,) = judged(Evidence(results), claim)
    assert (row.verdict, row.why) == ("not testable", wording.BANDS_OVERLAP)
    (row,) = judged(Evidence(results), claim.model_copy(update={"runs": ("osc", "chat")}))
    assert (row.verdict, row.why) == ("not testable", wording.TOO_FEW)


def test_the_kernel_is_compared_across_two_runs(make_claim: MakeClaim) -> None:
    results = {
        "osc": backlog("osc", {"apex": 115}),
        "ispc": backlog("ispc", {"apex": 100}, cpu_kernel="ispc"),
    }
    claim = make_claim(test="kernel", baseline="apex", runs=("osc", "ispc"))
    (row,) = judged(Evidence(results), claim)
    assert (row.ours, row.verdict) == ("+15\u202f%", "inside")


def test_the_rule_is_solved_for_its_share(make_claim: MakeClaim) -> None:
    claim = make_claim(test="share", low=13, high=17, attention_over_linear=(0.5, 1.5))
    (row,) = judged(Evidence({}), claim)
    assert row.verdict == "inside"
    assert row.ours == "13\u202f% to 17\u202f%"
    (row,) = judged(Evidence({}), claim.model_copy(update={"low": 18, "high": 20}))
    assert row.verdict == "outside"


def test_profiles_answer_for_each_gpu(make_claim: MakeClaim) -> None:
    judge = Judge(Evidence({}), {"l4": deploy("l4"), "a10": deploy("a10")})
    claim = make_claim(
        test="sample", gpu="l4, a10", unit="times", low=None, high=1e9, rows=4, cpu_us=500,
        gpu_us=5,
    )  # fmt: skip
    rows = judge.rows(claim)
    assert [row.case for row in rows] == ["l4", "a10"]
    assert all(" against " in row.ours for row in rows)
    rows = judge.rows(make_claim(test="cpu_share", gpu="l4", low=None, high=100))
    assert [row.verdict for row in rows] == ["inside"]


def test_a_claim_is_what_its_testable_cases_agree_on(make_claim: MakeClaim) -> None:
    def rows(*verdicts: str) -> list[Row]:
        return [Row(make_claim(), "", None, "", verdict, "") for verdict in verdicts]

    assert overall(rows("inside", "exploratory")) == "inside"
    assert overall(rows("inside", "outside")) == ""
    assert overall(rows("exploratory", "not testable")) == "not testable"
