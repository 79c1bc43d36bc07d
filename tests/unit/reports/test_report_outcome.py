"""Finding things in a result."""

from types import ModuleType

import pytest

from apexbench.reports.outcome import index, metric_of


def test_scenarios_keep_document_order_and_rates_rise(synthetic: ModuleType) -> None:
    outcome = index(synthetic.build(seeds=1, labels=("inf", "1.2x", "0.5x", "0.8x")))
    assert [s.name for s in outcome.scenarios] == [case.name for case in synthetic.CASES]
    first = outcome.scenarios[0]
    assert [s.rate_label for s in first.settings] == ["0.5x", "0.8x", "1.2x", "inf"]
    assert first.saturation is not None
    assert first.saturation.rate_label == "inf"


@pytest.mark.parametrize(
    ("labels", "online"),
    [
        (("0.5x", "0.8x", "1x", "inf"), "0.8x"),
        (("0.5x", "1x", "inf"), "1x"),
        (("0.2x", "2x"), "2x"),
        (("inf",), None),
    ],
)
def test_latency_is_judged_nearest_to_08(
    synthetic: ModuleType, labels: tuple[str, ...], online: str | None
) -> None:
    document = synthetic.build(seeds=1, cases=synthetic.CASES[:1], labels=labels)
    found = index(document).scenarios[0].online
    assert (found.rate_label if found else None) == online


def test_absolute_rates_are_placed_by_gpu_only_saturation(synthetic: ModuleType) -> None:
    document = synthetic.build(
        seeds=1, cases=synthetic.CASES[:1], labels=("0.5x", "0.8x", "1.2x", "inf")
    )
    settings = tuple(
        s if s.rate_rps is None else s.model_copy(update={"rate_label": f"{s.rate_rps:.3f}"})
        for s in document.settings
    )
    online = index(document.model_copy(update={"settings": settings})).scenarios[0].online
    assert online is not None
    assert online.id.endswith("0.8x")


def test_runs_come_by_rising_seed_and_means_over_all(synthetic: ModuleType) -> None:
    document = synthetic.build(seeds=3, cases=synthetic.CASES[:1])
    shuffled = document.model_copy(update={"runs": tuple(reversed(document.runs))})
    outcome = index(shuffled)
    setting = outcome.scenarios[0].saturation
    runs = outcome.runs(setting, "apex")
    assert [run.seed for run in runs] == [1, 2, 3]
    rates = [run.metrics.output_throughput_tok_s for run in runs]
    mean = outcome.mean(setting, "apex", "output_throughput_tok_s")
    assert mean == pytest.approx(sum(rates) / 3)


def test_hybrids_and_rivals(synthetic: ModuleType) -> None:
    outcome = index(synthetic.build(seeds=1))
    setting = outcome.scenarios[0].saturation
    assert {v.id for v in outcome.rivals_at(setting)} == {"gpu-only+int4"}
    hybrids = {v.id for v in outcome.hybrids_at(setting)}
    assert hybrids == {"neo", "apex", "static:deferred", "static:two_batch"}


def test_metrics_are_found_by_table_name(synthetic: ModuleType) -> None:
    run = synthetic.build(seeds=1).runs[0]
    assert metric_of(run, "goodput_rps") == run.metrics.goodput_rps
    assert metric_of(run, "tpot_p50_s") == run.metrics.tpot_s.p50
    assert metric_of(run, "latency_per_token_mean_s") == run.metrics.latency_per_token_s.mean
    assert metric_of(run, "ttft_p99_s") is None
    assert metric_of(run, "cpu_tier_tpot_p50_s") is None
    deferred = synthetic.build(seeds=1, variants=("static:deferred",)).runs[0]
    by_tier = {tier: metric_of(deferred, f"{tier}_tier_tpot_p90_s") for tier in ("gpu", "cpu")}
    assert by_tier["gpu"] == deferred.metrics.tpot_s.p90
    assert by_tier["cpu"] == pytest.approx(33 * (by_tier["gpu"] or 0.0))
