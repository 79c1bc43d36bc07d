"""Warnings: each matter once, with its numbers, and nothing when there is nothing to say."""

from collections.abc import Callable

import pytest

from apexbench.compare.caveats import caveats, listed
from apexbench.metrics.comparisons import Gap
from apexbench.metrics.window import OVERLOAD
from apexbench.result import Quantiles, Run, Setting, TierLatency

MakeRun = Callable[..., Run]
MakeSetting = Callable[..., Setting]

SHORT = "only {} completed after warm-up while others waited; serve more requests"
QUEUE = f"{OVERLOAD}: 9 wait when the last one arrives"


@pytest.mark.parametrize(
    ("names", "text"), [(["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")]
)
def test_names_are_listed_as_people_do(names: list[str], text: str) -> None:
    assert listed(names) == text


def test_steady_runs_have_no_caveats(make_run: MakeRun, make_setting: MakeSetting) -> None:
    settings = [make_setting("inf"), make_setting("1x")]
    assert list(caveats(settings, [make_run(s) for s in settings], (), "gpu-only")) == []


def test_saturation_is_one_sentence_with_the_usual_reason(
    make_run: MakeRun, make_setting: MakeSetting
) -> None:
    setting = make_setting("inf")
    runs = [
        make_run(setting, "gpu-only", 0, reason="the output rate still changes: 3 to 5 tokens/s"),
        make_run(setting, "gpu-only", 1, reason=SHORT.format(7)),
        make_run(setting, "apex", 0),
        make_run(setting, "apex", 1, reason=SHORT.format(12)),
        make_run(setting, "neo", 0),
    ]
    (sentence,) = caveats([setting], runs, (), "gpu-only")
    assert sentence == (
        "t4/llama-2-7b/osc at saturation: not steady: gpu-only and apex (1 of 2 seeds); "
        f"gpu-only with seed 1, for example: {SHORT.format(7)}"
    )


def test_overload_names_who_cannot_keep_up_where(
    make_run: MakeRun, make_setting: MakeSetting
) -> None:
    settings = [make_setting(label) for label in ("0.8x", "1x", "1.2x")]
    low, full, high = settings
    overloaded = [(full, "gpu-only"), (full, "neo"), (high, "gpu-only"), (high, "neo")]
    runs = [make_run(low, name) for name in ("gpu-only", "neo", "apex")]
    runs += [
        make_run(s, name, seed, reason=QUEUE)
        for s, name in (*overloaded, (high, "apex"))
        for seed in (0, 1)
    ]
    (sentence,) = caveats(settings, runs, (), "gpu-only")
    assert "gpu-only and neo at 1x and 1.2x, apex at 1.2x cannot keep up" in sentence
    assert "grows with the length of the run" in sentence


def test_short_open_loop_runs_are_said_unless_overloaded(
    make_run: MakeRun, make_setting: MakeSetting
) -> None:
    settings = [make_setting("0.5x"), make_setting("1.2x", rate_label="2.5")]
    runs = [
        make_run(settings[0], "apex", reason=SHORT.format(3)),
        make_run(settings[1], "apex", 0, reason=QUEUE),
        make_run(settings[1], "apex", 1, reason=SHORT.format(4)),
    ]
    overload, short = caveats(settings, runs, (), "gpu-only")
    assert "apex at 2.5 requests/s cannot keep up" in overload
    assert "too short to be steady: apex at 0.5x; apex at 0.5x with seed 0" in short


def test_refused_percentiles_are_one_sentence_for_everything(
    make_run: MakeRun, make_setting: MakeSetting
) -> None:
    settings = [make_setting("1x"), make_setting("1x", "a10/llama-3.1-8b/chat")]
    runs = [
        make_run(setting, ttft_s=Quantiles(mean=1, p50=1, p90=p90, p99=None, n=n))
        for setting, n, p90 in zip(settings, (40, 300), (None, 1.0), strict=True)
    ]
    tier = Quantiles(mean=1, p50=None, p90=None, p99=None, n=5)
    slow = TierLatency(requests=5, ttft_s=tier, tpot_s=tier, e2e_s=tier, latency_per_token_s=tier)
    runs[0] = runs[0].model_copy(update={"latency_by_tier": {"gpu": None, "cpu": slow}})
    (sentence,) = caveats(settings, runs, (), "gpu-only")
    for part in (
        "p50 needs 11 values and had at most 5",
        "p90 needs 64 values and had at most 40",
        "p99 needs 662 values and had at most 300",
    ):
        assert part in sentence


def test_nothing_completed_is_not_a_small_sample(
    make_run: MakeRun, make_setting: MakeSetting
) -> None:
    nothing = Quantiles(mean=None, p50=None, p90=None, p99=None, n=0)
    run = make_run(make_setting("1x"), ttft_s=nothing)
    assert list(caveats([make_setting("1x")], [run], (), "gpu-only")) == []


def test_gaps_are_grouped_by_reason_and_cells(make_setting: MakeSetting) -> None:
    settings = [make_setting("inf"), make_setting("1x")]
    unequal = "they did not complete the same requests (seed 0)"
    gaps = [Gap(s.id, name, None, unequal) for s in settings for name in ("neo", "apex")]
    zeros = [Gap(settings[1].id, "x", name, "zero") for name in ("goodput_rps", "ttft_p50_s")]
    whole, single = caveats(settings, [], [*gaps, *zeros], "gpu-only")
    assert whole == (
        "t4/llama-2-7b/osc: not compared with gpu-only: neo and apex at saturation and 1x: "
        + unequal
    )
    assert "in goodput_rps and ttft_p50_s: x at 1x: zero" in single


def test_scenarios_are_kept_apart(make_run: MakeRun, make_setting: MakeSetting) -> None:
    settings = [make_setting("inf"), make_setting("inf", "a10/llama-3.1-8b/chat")]
    runs = [make_run(s, reason=SHORT.format(1)) for s in settings]
    assert [s.partition(" ")[0] for s in caveats(settings, runs, (), "gpu-only")] == [
        "t4/llama-2-7b/osc",
        "a10/llama-3.1-8b/chat",
    ]
