"""Cards with the numbers of every policy against gpu-only; the first thing after the verdicts."""

from collections.abc import Iterator

from apexbench.reports.case import best_hybrid
from apexbench.reports.outcome import BASELINE, GOODPUT, THROUGHPUT, TPOT, Outcome, Scenario
from apexbench.reports.palette import styles
from apexbench.reports.panels import Card, Cards, Fact, Panel, View, nothing
from apexbench.reports.plotting import policy_legend
from apexbench.reports.tpot_target import OVER, TPOT_P90, pace, target_check
from apexbench.reports.wording import (
    MISSING,
    count,
    delta,
    describe,
    interval,
    quantity,
    rate,
    seconds,
)
from apexbench.result import Comparison, Setting, Variant


def build(outcome: Outcome) -> Iterator[Panel]:
    """One row of cards per scenario: the best hybrid, then every policy as listed."""
    for position, scenario in enumerate(outcome.scenarios):
        variants = _ordered(outcome, scenario)
        if not variants:
            yield nothing("kpis", position, scenario.name, "no run has finished.")
            continue
        best = best_hybrid(outcome, scenario)
        tags = _tags(outcome, scenario, best)
        cards = tuple(_card(outcome, scenario, v, tags.get(v.id, "")) for v in variants)
        hint = (
            f"Changes are against {BASELINE}; grey ones are not significant. TPOT p90 at "
            "saturation is held against its target, where there is one."
        )
        yield Panel(f"kpis-{position}", scenario.name, hint, Cards(cards), position, is_wide=True)


def _ordered(outcome: Outcome, scenario: Scenario) -> list[Variant]:
    shown = outcome.variants_at(scenario.saturation) or outcome.variants_at(scenario.online)
    best = best_hybrid(outcome, scenario)
    return sorted(shown, key=lambda variant: variant != best)


def _tags(outcome: Outcome, scenario: Scenario, best: Variant | None) -> dict[str, str]:
    """A hybrid above the TPOT target is the fastest, not simply the best."""
    tags = {BASELINE: "baseline"}
    if best is None:
        return tags
    check = target_check(outcome, scenario, best.id)
    if check is None or not check.best.is_over:
        return tags | {best.id: "best hybrid"}
    within = {check.within.variant: "best within target"} if check.within else {}
    return tags | {best.id: "most throughput"} | within


def _card(outcome: Outcome, scenario: Scenario, variant: Variant, tag: str) -> Card:
    mark = policy_legend(styles(v.id for v in outcome.variants), [variant.id])[0]
    facts = [
        *_fact(outcome, scenario.saturation, variant, THROUGHPUT),
        *_target_fact(outcome, scenario, variant),
        *_fact(outcome, scenario.online, variant, TPOT),
        *_fact(outcome, scenario.online, variant, GOODPUT),
        _kv_fact(outcome, scenario, variant),
    ]
    return Card(variant.id, mark, tag, tuple(facts))


def _fact(
    outcome: Outcome, setting: Setting | None, variant: Variant, metric: str
) -> Iterator[Fact]:
    if setting is None:
        return
    words = describe(metric)
    where = rate(setting.rate_label, setting.rate_rps)
    value = quantity(outcome.mean(setting, variant.id, metric), metric)
    found = outcome.comparison(setting, variant.id, metric)
    title = f"{words.name}, {where}"
    if found is None:
        yield Fact(title, value)
    else:
        yield Fact(title, value, delta(found.ratio), _shown_verdict(found), _evidence(found))


def _target_fact(outcome: Outcome, scenario: Scenario, variant: Variant) -> Iterator[Fact]:
    """TPOT p90 where throughput is compared, against the target rather than gpu-only."""
    found = pace(outcome, scenario.saturation, variant.id)
    if found is None:
        return
    title = f"{describe(TPOT_P90).name}, saturation"
    target = seconds(found.target_s)
    if found.status == "unknown":
        yield Fact(title, MISSING, f"target {target}")
    elif found.is_over:
        yield Fact(title, seconds(found.mean_s), f"{OVER} over {target}", "worse")
    else:
        yield Fact(title, seconds(found.mean_s), f"within {target}")


def _shown_verdict(found: Comparison) -> str:
    return "no_significant_difference" if found.ci_low is None else found.verdict


def _evidence(found: Comparison) -> str:
    """Factors rather than percentages: an interval of factors is what the verdict quotes."""
    if found.ci_low is None:
        return f"n = {found.n}, no interval"
    return f"ratio 95 % {interval(found.ci_low, found.ci_high)}, n = {found.n}"


def _kv_fact(outcome: Outcome, scenario: Scenario, variant: Variant) -> Fact:
    setting = scenario.saturation or scenario.online
    run = outcome.first_run(setting, variant.id)
    if run is None:
        return Fact("GPU KV tokens", MISSING)
    host = f"+ {count(run.cpu_kv_tokens)} on the host" if run.cpu_kv_tokens else ""
    return Fact("GPU KV tokens", count(run.gpu_kv_tokens), detail=host)


VIEW = View(
    id="kpis",
    title="At a glance",
    lead="Throughput where the queue never empties; latency and goodput below saturation.",
    place="first",
    build=build,
)
