"""The short table of one scenario that terminal and Markdown share; text, no layout."""

from collections.abc import Iterator
from typing import Literal

from apexbench.reports.outcome import GOODPUT, THROUGHPUT, Outcome, Scenario, quantile
from apexbench.reports.panels import Table
from apexbench.reports.wording import MISSING, THIN, count, interval, number, rate, seconds, times
from apexbench.result import Comparison, Setting, Variant


def saturation_note(scenario: Scenario) -> str:
    """Under which load the columns of `saturation_table` hold."""
    online = scenario.online
    if online is None:
        return "tok/s at saturation."
    where = rate(online.rate_label, online.rate_rps)
    return f"tok/s at saturation; median TPOT by tier and goodput at {where}."


def saturation_table(outcome: Outcome, scenario: Scenario) -> Table:
    """Throughput at saturation; TPOT by tier and goodput at the rate where latency is judged."""
    shown = outcome.variants_at(scenario.saturation) or outcome.variants_at(scenario.online)
    columns = (
        "policy", "tok/s", "ratio", f"95{THIN}%", "TPOT gpu", "TPOT cpu", "good/s", "GPU KV",
        "steady",
    )  # fmt: skip
    rows = tuple(tuple(_row(outcome, scenario, variant)) for variant in shown)
    return Table(columns, rows, frozenset(range(1, 8)))


def _row(outcome: Outcome, scenario: Scenario, variant: Variant) -> Iterator[str]:
    saturation, online = scenario.saturation, scenario.online
    run = outcome.first_run(saturation, variant.id) or outcome.first_run(online, variant.id)
    yield variant.id
    yield number(outcome.mean(saturation, variant.id, THROUGHPUT))
    yield from _ratio(outcome.comparison(saturation, variant.id, THROUGHPUT))
    yield seconds(_tier_median(outcome, online, variant, "gpu"))
    yield seconds(_tier_median(outcome, online, variant, "cpu"))
    yield number(outcome.mean(online, variant.id, GOODPUT))
    yield count(run.gpu_kv_tokens) if run else MISSING
    yield _steady(outcome, scenario, variant)


def _ratio(found: Comparison | None) -> tuple[str, str]:
    if found is None:
        return MISSING, MISSING
    if found.ci_low is None:
        return times(found.ratio), f"n = {found.n}"
    return times(found.ratio), interval(found.ci_low, found.ci_high)


def _tier_median(
    outcome: Outcome, setting: Setting | None, variant: Variant, tier: Literal["gpu", "cpu"]
) -> float | None:
    """Mean over seeds of the median TPOT of a tier."""
    tiers = [run.latency_by_tier.get(tier) for run in outcome.runs(setting, variant.id)]
    values = [p50 for t in tiers if t and (p50 := quantile(t.tpot_s, "p50")) is not None]
    return sum(values) / len(values) if values else None


def _steady(outcome: Outcome, scenario: Scenario, variant: Variant) -> str:
    places = (scenario.saturation, scenario.online)
    runs = [run for setting in places for run in outcome.runs(setting, variant.id)]
    return "yes" if all(run.window.is_steady for run in runs) else "no"
