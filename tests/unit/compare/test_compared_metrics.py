"""Pairs, ratios and gaps: what is compared with what, and what is left out."""

from collections.abc import Callable

import pytest

from apexbench.metrics.comparisons import COMPARED_METRICS, Gap, comparisons
from apexbench.result import Quantiles, Run, Setting, TierLatency

MakeRun = Callable[..., Run]
MakeSetting = Callable[..., Setting]

BY_TIER = {name for name in COMPARED_METRICS if "_tier_" in name}
OF_ALL_REQUESTS = [name for name in COMPARED_METRICS if name not in BY_TIER]


def latency(p50: float | None, p90: float | None) -> Quantiles:
    return Quantiles(mean=1.0, p50=p50, p90=p90, p99=None, n=100)


def with_tiers(run: Run, **tiers: Quantiles) -> Run:
    """The run with `gpu` and `cpu` tiers whose every latency is the given one."""
    found = {
        tier: TierLatency(requests=20, ttft_s=of, tpot_s=of, e2e_s=of, latency_per_token_s=of)
        for tier, of in tiers.items()
    }
    return run.model_copy(update={"latency_by_tier": {"gpu": None, "cpu": None} | found})


def test_every_variant_is_compared_with_the_baseline(
    make_run: MakeRun, make_setting: MakeSetting
) -> None:
    settings = [make_setting("1x"), make_setting("1x", "a10/llama-3.1-8b/chat")]
    runs = [
        make_run(setting, variant, seed, output_throughput_tok_s=tok_s * (1 + seed / 100))
        for setting in settings
        for seed in (2, 0, 1)
        for variant, tok_s in (("apex", 200.0), ("gpu-only", 100.0), ("neo", 100.0))
    ]
    found, gaps = comparisons(runs, settings)
    assert gaps == ()
    assert [(c.setting, c.candidate, c.metric) for c in found] == [
        (setting.id, candidate, metric)
        for setting in settings
        for candidate in ("apex", "neo")
        for metric in OF_ALL_REQUESTS
    ]
    best = found[0]
    assert (best.metric, best.baseline, best.n) == ("output_throughput_tok_s", "gpu-only", 3)
    assert best.ratio == pytest.approx(2)
    assert best.verdict == "better"
    assert {c.verdict for c in found if c.candidate == "neo"} == {"no_significant_difference"}


def test_backlog_compares_only_what_the_queue_does_not_decide(
    make_run: MakeRun, make_setting: MakeSetting
) -> None:
    backlog, online = make_setting("inf"), make_setting("0.8x")
    runs = [make_run(s, variant) for s in (backlog, online) for variant in ("gpu-only", "apex")]
    found, _ = comparisons(runs, [backlog, online])
    at_backlog = {c.metric for c in found if c.setting == backlog.id}
    assert at_backlog == {"output_throughput_tok_s", "tpot_p50_s", "tpot_p90_s"}
    assert {c.metric for c in found if c.setting == online.id} == set(OF_ALL_REQUESTS)


def test_unequal_served_sets_are_not_compared(make_run: MakeRun, make_setting: MakeSetting) -> None:
    setting = make_setting("1x")
    runs = [make_run(setting, v, seed) for v in ("gpu-only", "apex") for seed in (0, 1)]
    runs += [make_run(setting, "neo", 0), make_run(setting, "neo", 1, served="other")]
    found, gaps = comparisons(runs, [setting])
    assert {c.candidate for c in found} == {"apex"}
    reason = "they did not complete the same requests (seed 1)"
    assert gaps == (Gap(setting.id, "neo", None, reason),)


def test_missing_baseline_is_a_gap(make_run: MakeRun, make_setting: MakeSetting) -> None:
    setting = make_setting("1x")
    found, gaps = comparisons([make_run(setting, "apex")], [setting])
    assert found == ()
    assert gaps == (Gap(setting.id, "apex", None, "they have no seed in common"),)


def test_one_seed_has_no_interval_and_no_verdict(
    make_run: MakeRun, make_setting: MakeSetting
) -> None:
    setting = make_setting("inf")
    faster = make_run(setting, "apex", output_throughput_tok_s=500.0)
    found, _ = comparisons([make_run(setting), faster], [setting])
    assert (found[0].ratio, found[0].ci_low, found[0].n) == (pytest.approx(5), None, 1)
    assert found[0].verdict == "no_significant_difference"


def test_zero_under_one_seed_leaves_the_metric_out_as_a_whole(
    make_run: MakeRun, make_setting: MakeSetting
) -> None:
    """The seeds that have a ratio would be the ones the candidate coped with."""
    setting = make_setting("1x")
    runs = [make_run(setting, seed=seed) for seed in (0, 1)]
    runs += [make_run(setting, "apex", 0), make_run(setting, "apex", 1, goodput_rps=0.0)]
    found, gaps = comparisons(runs, [setting])
    assert {c.metric for c in found} == set(OF_ALL_REQUESTS) - {"goodput_rps"}
    assert [(gap.candidate, gap.metric) for gap in gaps] == [("apex", "goodput_rps")]


def test_refused_percentile_is_neither_compared_nor_a_gap(
    make_run: MakeRun, make_setting: MakeSetting
) -> None:
    setting = make_setting("1x")
    small = Quantiles(mean=1, p50=1, p90=None, p99=None, n=20)
    runs = [make_run(setting, variant, tpot_s=small) for variant in ("gpu-only", "apex")]
    found, gaps = comparisons(runs, [setting])
    assert gaps == ()
    assert {c.metric for c in found} == set(OF_ALL_REQUESTS) - {"tpot_p90_s"}


def test_percentile_refused_under_one_seed_is_not_compared(
    make_run: MakeRun, make_setting: MakeSetting
) -> None:
    """The seeds that have it would be the ones with more requests on that tier."""
    setting = make_setting("1x")
    runs = [make_run(setting, seed=seed) for seed in (0, 1)]
    tiers = (latency(0.4, 0.8), latency(0.4, None))
    runs += [
        with_tiers(make_run(setting, "apex", seed), gpu=latency(0.4, 0.8), cpu=cpu)
        for seed, cpu in enumerate(tiers)
    ]
    found, gaps = comparisons(runs, [setting])
    assert gaps == ()
    missing = {name for name in BY_TIER if name.startswith("cpu") and "_p90_" in name}
    assert len(missing) == 4
    assert {c.metric for c in found} == set(COMPARED_METRICS) - missing


def test_tiers_are_compared_with_all_requests_of_the_baseline(
    make_run: MakeRun, make_setting: MakeSetting
) -> None:
    backlog, online = make_setting("inf"), make_setting("1x")
    overall, gpu, cpu = latency(0.5, 1.0), latency(0.4, 0.9), latency(5.0, 9.0)
    names = ("ttft_s", "tpot_s", "e2e_s", "latency_per_token_s")
    runs = [
        with_tiers(make_run(s, variant, **dict.fromkeys(names, overall)), gpu=gpu, cpu=cpu)
        for s in (backlog, online)
        for variant in ("gpu-only", "apex")
    ]
    found = {(c.setting, c.metric): c.ratio for c in comparisons(runs, [backlog, online])[0]}
    assert found[online.id, "cpu_tier_tpot_p90_s"] == pytest.approx(9.0)
    assert found[online.id, "cpu_tier_latency_per_token_p50_s"] == pytest.approx(10.0)
    assert found[online.id, "gpu_tier_e2e_p50_s"] == pytest.approx(0.8)
    assert found[online.id, "e2e_p50_s"] == pytest.approx(1.0)
    at_backlog = {metric for setting, metric in found if setting == backlog.id}
    assert at_backlog & BY_TIER == {name for name in BY_TIER if "_tier_tpot_" in name}


def test_without_a_cpu_tier_the_gpu_tier_is_not_compared_again(
    make_run: MakeRun, make_setting: MakeSetting
) -> None:
    setting = make_setting("1x")
    runs = [
        with_tiers(make_run(setting, variant), gpu=latency(0.5, 1.0))
        for variant in ("gpu-only", "gpu-only+int4")
    ]
    assert [c.metric for c in comparisons(runs, [setting])[0]] == OF_ALL_REQUESTS


def test_lower_latency_is_better(make_run: MakeRun, make_setting: MakeSetting) -> None:
    def ttft(p50: float) -> Quantiles:
        return Quantiles(mean=p50, p50=p50, p90=p50, p99=None, n=100)

    setting = make_setting("1x")
    runs = [make_run(setting, "gpu-only", seed, ttft_s=ttft(1.0)) for seed in (0, 1, 2)]
    runs += [make_run(setting, "apex", seed, ttft_s=ttft(0.5 + seed / 1_000)) for seed in (0, 1, 2)]
    found = {c.metric: c.verdict for c in comparisons(runs, [setting])[0]}
    assert found["ttft_p50_s"] == "better"
    assert found["tpot_p50_s"] == "no_significant_difference"
