"""Where a hybrid is worse."""

from types import ModuleType

from apexbench.reports.verdicts import where_hybrid_loses


def test_losses_are_significant_and_worst_first(synthetic: ModuleType) -> None:
    report = where_hybrid_loses(synthetic.build())
    badness = [cell.badness for cell in report.losses]
    assert badness == sorted(badness, reverse=True)
    assert badness[-1] > 0
    assert 0 < len(report.losses) < report.compared


def test_losses_against_gpu_only_are_those_of_the_document(synthetic: ModuleType) -> None:
    document = synthetic.build(cases=synthetic.CASES[:1])
    expected = {
        (c.setting, c.candidate, c.metric)
        for c in document.comparisons
        if c.verdict == "worse" and c.candidate != "gpu-only+int4"
        if (c.metric == "output_throughput_tok_s") == c.setting.endswith("inf")
    }
    found = {
        (cell.setting, cell.variant, cell.metric)
        for cell in where_hybrid_loses(document).losses
        if cell.against == "gpu-only"
    }
    assert found == expected


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
    assert report.losses == ()
    assert report.sentence.text.startswith("One seed supports no claim")


def test_nothing_compared_is_said(synthetic: ModuleType) -> None:
    report = where_hybrid_loses(synthetic.empty())
    assert (report.losses, report.compared) == ((), 0)
    assert "cannot be told" in report.sentence.text
