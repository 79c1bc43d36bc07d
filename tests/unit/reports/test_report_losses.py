"""Where a hybrid is worse."""

from types import ModuleType

from apexbench.reports.losses import CPU_TIER_METRICS, ONLINE_METRICS
from apexbench.reports.verdicts import where_hybrid_loses


def test_losses_are_significant_and_worst_first(synthetic: ModuleType) -> None:
    report = where_hybrid_loses(synthetic.build())
    badness = [cell.badness for cell in report.losses]
    assert badness == sorted(badness, reverse=True)
    assert badness[-1] > 0
    assert 0 < len(report.losses) < report.compared


def metrics_at(setting: str) -> tuple[str, ...]:
    return ("output_throughput_tok_s",) if setting.endswith("inf") else ONLINE_METRICS


def test_losses_against_gpu_only_are_those_of_the_document(synthetic: ModuleType) -> None:
    document = synthetic.build(cases=synthetic.CASES[:1])
    expected = {
        (c.setting, c.candidate, c.metric)
        for c in document.comparisons
        if c.verdict == "worse" and c.candidate != "gpu-only+int4"
        if c.metric in metrics_at(c.setting)
    }
    found = {
        (cell.setting, cell.variant, cell.metric)
        for cell in where_hybrid_loses(document).losses
        if cell.against == "gpu-only"
    }
    assert found == expected


def test_requests_on_the_cpu_are_told_apart(synthetic: ModuleType) -> None:
    """A deferred request is slow by design; among the others it would always be the worst cell."""
    document = synthetic.build(cases=synthetic.CASES[:1], variants=("gpu-only", "static:deferred"))
    expected = {
        (c.setting, c.metric)
        for c in document.comparisons
        if c.verdict == "worse" and c.metric in CPU_TIER_METRICS
        if not c.setting.endswith("inf")
    }
    report = where_hybrid_loses(document)
    assert expected
    assert {(cell.setting, cell.metric) for cell in report.tier_losses} == expected
    assert all("_tier_" not in cell.metric for cell in report.losses)
    worst = report.tier_losses[0]
    assert worst.badness == max(cell.badness for cell in report.tier_losses)
    assert report.sentence.numbers[-1].value == worst.ratio
    compared = len(CPU_TIER_METRICS) * len(synthetic.FINITE_LABELS)
    assert f" of {compared} comparisons with all of gpu-only's" in report.sentence.text
    assert " the TPOT p50 of gpu-only" in report.sentence.text
    assert "CPU-tier" not in report.sentence.text


def test_a_rival_counts_only_where_intervals_lie_apart(synthetic: ModuleType) -> None:
    document = synthetic.build(cases=synthetic.CASES[2:], labels=("inf",))
    ratios = {c.candidate: c for c in document.comparisons if "output" in c.metric}
    rival = ratios["gpu-only+int4"]
    cells = [c for c in where_hybrid_loses(document).losses if c.against == "gpu-only+int4"]
    assert {cell.variant for cell in cells} == {
        "neo",
        "apex",
        "static:deferred",
        "static:two_batch",
    }
    for cell in cells:
        own = ratios[cell.variant]
        assert own.ci_high < rival.ci_low
        assert cell.ratio == own.ratio / rival.ratio
    wide = tuple(
        c.model_copy(update={"ci_low": 0.1}) if c is rival else c for c in document.comparisons
    )
    unsure = where_hybrid_loses(document.model_copy(update={"comparisons": wide}))
    assert not [cell for cell in unsure.losses if cell.against == "gpu-only+int4"]


def test_without_losses_the_nearest_cell_is_named(synthetic: ModuleType) -> None:
    document = synthetic.build(
        cases=synthetic.CASES[:1], variants=("gpu-only", "static:deferred"), labels=("inf",)
    )
    report = where_hybrid_loses(document)
    assert report.losses == ()
    assert report.sentence.text.startswith("No hybrid is significantly worse in any of 1 ")
    assert "static:deferred" in report.sentence.text


def test_one_seed_supports_no_loss(synthetic: ModuleType) -> None:
    report = where_hybrid_loses(synthetic.build(seeds=1))
    assert report.losses == report.tier_losses == ()
    assert report.sentence.text.startswith("One seed supports no claim")
    assert "taken alone" not in report.sentence.text


def test_nothing_compared_is_said(synthetic: ModuleType) -> None:
    report = where_hybrid_loses(synthetic.empty())
    assert (report.losses, report.compared) == ((), 0)
    assert "cannot be told" in report.sentence.text
