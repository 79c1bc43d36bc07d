"""Ratios from results: draws pair by draw, seeds by seed, and unlike things refuse."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apexbench.paper.evidence import Evidence, strategy_shares, unsteady
from tests.unit.paper.conftest import backlog, make_result, make_run, make_setting

RATES = st.lists(st.tuples(st.floats(1, 1000), st.floats(1, 1000)), min_size=1, max_size=40)


@settings(deadline=None)
@given(RATES)
def test_draws_are_paired_one_by_one(pairs: list[tuple[float, float]]) -> None:
    setting = make_setting("osc")
    ours, theirs = zip(*pairs, strict=True)
    runs = [make_run(setting, "apex", 1, draws=ours), make_run(setting, "neo", 1, draws=theirs)]
    found = Evidence({"osc": make_result([setting], runs)}).gain("osc", "apex", "neo")
    ratios = np.array(ours) / np.array(theirs)
    assert found is not None
    assert (found.basis, found.n) == ("draws", len(pairs))
    assert found.value == pytest.approx(np.quantile(ratios, 0.5))
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(ratios, (0.1, 0.9))))


def test_without_draws_the_seeds_give_the_interval() -> None:
    setting = make_setting("osc")
    runs = [
        make_run(setting, name, tok_s * factor, seed=seed)
        for seed, tok_s in enumerate((100.0, 120.0, 90.0))
        for name, factor in (("gpu-only", 1.0), ("apex", 1.5 + seed / 10))
    ]
    found = Evidence({"osc": make_result([setting], runs)}).gain("osc", "apex")
    assert found is not None
    assert (found.basis, found.n) == ("seeds", 3)
    assert found.value == pytest.approx((1.5 * 1.6 * 1.7) ** (1 / 3))
    assert found.low < found.value < found.high


def test_one_seed_has_no_band() -> None:
    evidence = Evidence({"osc": backlog("osc", {"gpu-only": 100, "apex": 150})})
    found = evidence.gain("osc", "apex")
    assert found is not None
    assert (found.low, found.high, found.n, found.basis) == (found.value, found.value, 1, "one run")
    assert found.value == pytest.approx(1.5)


def test_unequal_requests_give_nothing() -> None:
    setting = make_setting("osc")
    runs = [make_run(setting, "gpu-only", 1), make_run(setting, "apex", 2, served="fewer")]
    evidence = Evidence({"osc": make_result([setting], runs)})
    assert evidence.gain("osc", "apex") is None


def test_across_runs_the_requests_must_be_equal() -> None:
    other = make_setting("ispc")
    alike = make_result([other], [make_run(other, "apex", 80)])
    unlike = make_result([other], [make_run(other, "apex", 80, served="fewer")])
    ours = backlog("osc", {"apex": 100})
    found = Evidence({"osc": ours, "ispc": alike}).across(("osc", "apex"), ("ispc", "apex"))
    assert found is not None
    assert found.value == pytest.approx(1.25)
    assert Evidence({"osc": ours, "ispc": unlike}).across(("osc", "apex"), ("ispc", "apex")) is None


def test_a_case_names_what_is_not_usual() -> None:
    setting = make_setting("osc", "1x", cpu_kernel="ispc")
    result = make_result([setting], [make_run(setting, "apex", 1)], gpu_kv_tokens=864)
    case = Evidence({"osc": result}).case("osc", "1x")
    assert case == "t4 osc with ispc with 864 GPU KV tokens at 1x"
    assert Evidence({"osc": backlog("osc", {"apex": 1})}).case("osc") == "t4 osc"


def test_shares_of_steps_lead_with_the_most_frequent_and_leave_out_the_rare() -> None:
    run = make_run(
        make_setting("osc"), "apex", 1, decisions={"gpu_only": 2500, "deferred": 7499, "a": 1}
    )
    assert strategy_shares(run) == [("deferred", 0.7499), ("gpu_only", 0.25)]


def test_unsteady_runs_are_counted(drawn: Callable[..., Evidence]) -> None:
    setting = make_setting("osc")
    runs = [make_run(setting, "apex", 1, is_steady=False), make_run(setting, "neo", 1)]
    evidence = Evidence({"osc": make_result([setting], runs)})
    assert unsteady(list(evidence.results.values())) == 1
    assert not evidence.is_steady("osc", ("apex", "neo"))
    assert evidence.is_steady("osc", ("neo",))
